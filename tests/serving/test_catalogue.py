"""Keys, titles, likeness and search, without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packages import N_ITEMS, World, make_world

from genrec.serving.package import Package


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def catalogue(world):
    return Package.open(world.package).catalogue


def test_similar_items_share_the_longest_prefix_and_of_these_the_nearest_come_first(catalogue):
    found = catalogue.similar(5, 10)
    assert len(found) == 10
    assert "i5" not in [each["item"] for each in found]
    order = [(each["shared_levels"], each["cosine"]) for each in found]
    assert order == sorted(order, reverse=True)
    shared = (catalogue.codes[1:] == catalogue.codes[5]).cumprod(1).sum(1)
    best = sorted([*shared[:4], *shared[5:]], reverse=True)[:10]
    assert [each["shared_levels"] for each in found] == best
    assert best[0] > 0


def test_titles_are_found_by_words_without_case_and_accents_the_popular_first(catalogue):
    assert [each["item"] for each in catalogue.find("AMELIE film", 5)] == ["i7"]
    assert catalogue.find("no such film", 5) == []
    popularity = [each["popularity"] for each in catalogue.find("film", N_ITEMS)]
    assert len(popularity) == N_ITEMS
    assert popularity == sorted(popularity, reverse=True)


def test_the_nearest_item_of_a_history_is_by_cosine(catalogue):
    vectors = catalogue.embeddings.astype(np.float32)
    history = np.array([3, 4, 5])
    for item, near in zip([1, 4], catalogue.nearest(np.array([1, 4]), history), strict=True):
        assert near == history[(vectors[history] @ vectors[item]).argmax()]


def test_it_is_read_without_torch_and_without_pandas(world: World):
    program = (
        "import sys; from pathlib import Path; from genrec.serving.package import Package; "
        "Package.open(Path(sys.argv[1])).catalogue; print([m for m in ('torch', 'pandas') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(world.package)], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "[]"
