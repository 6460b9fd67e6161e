"""Items that come after training: who knows them, what stays as it was, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from packages import N_ITEMS, N_USERS, World, make_world

from genrec.add_items.command import main
from genrec.serving.live import Live
from genrec.serving.package import Package
from genrec.serving.recommender import Recommender, Request

MODELS = [f"{name}{kind}" for name in ("tiger", "parallel", "sasrec") for kind in ("", "_with_memory", "_ranked")]
KNOWING = ("tiger", "tiger_with_memory", "parallel", "parallel_with_memory")
NEW = pd.DataFrame(
    {
        "item_key": ["n1", "n2", "n3"],
        "movie_title": ["The Film of tomorrow", "Another", "The Film again"],
        "genres": ["genre1 kind3", "genre2 kind2", "genre1 kind3"],
    }
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("world"))
    world.repackage(*MODELS)
    return world


@pytest.fixture(scope="module")
def packages(world: World) -> Path:
    """A folder of packages, of which the newest has the new items."""
    folder = world.folder / "packages"
    add(world.package, folder, NEW)
    return folder


def add(package: Path, folder: Path, items: pd.DataFrame, *options: str) -> None:
    file = folder.parent / "new.csv"
    items.to_csv(file, index=False)
    main(["--items", str(file), "--package", str(package), "--into", str(folder), *options])


def keys(folder: Path, **settings) -> list[str]:
    (answer,) = Recommender.load(folder).recommend([Request(**settings)])
    return [each.item for each in answer.recommendations]


@pytest.mark.parametrize("model", MODELS)
def test_models_that_know_items_by_their_codes_recommend_the_new_ones_and_no_others_do(packages, model):
    found = keys(packages, user="u2", model=model, k=N_ITEMS + 3, exclude_history=False)
    assert len(found) == len({*found})
    if model in KNOWING:
        assert {*found} == {f"i{item}" for item in range(1, N_ITEMS + 1)} | {"n1", "n2", "n3"}
    elif model.endswith("_ranked"):  # behind its candidates, 20 with the new ones, the model alone goes on
        assert not {*found[:17]} & {"n1", "n2", "n3"}
    else:
        assert {*found} == {f"i{item}" for item in range(1, N_ITEMS + 1)}


@pytest.mark.parametrize("model", ["tiger", "parallel", "sasrec", "sasrec_with_memory", "sasrec_ranked"])
def test_among_known_items_nothing_changes(world, packages, model):
    allow = [f"i{item}" for item in range(1, N_ITEMS + 1)]
    for user in range(1, N_USERS + 1, 7):
        asked = {"user": f"u{user}", "model": model, "allow": allow, "k": 60}
        assert keys(packages, **asked) == keys(world.package, **asked)


def test_semantic_ids_stay_unique_and_those_of_known_items_as_they_are(world, packages):
    before, after = Package.open(world.package).catalogue, Package.open(packages).catalogue
    assert (after.codes[: N_ITEMS + 1] == before.codes).all()
    assert len({tuple(row) for row in after.codes.tolist()}) == N_ITEMS + 4
    # the first and the third have the same words of known items, so the same codes but for the last
    assert (after.codes[N_ITEMS + 1, :-1] == after.codes[N_ITEMS + 3, :-1]).all()
    assert after.codes[N_ITEMS + 3, -1] > after.codes[N_ITEMS + 1, -1]
    assert after.titles[N_ITEMS + 1] == "The Film of tomorrow"


def test_an_item_with_the_vector_of_a_known_one_gets_its_codes_under_all_models(world, tmp_path):
    vectors = np.load(world.folder / "embeddings.npy")[9]
    frame = pd.DataFrame([vectors], columns=[f"d{i}" for i in range(8)]).assign(item_key="twin")
    frame.to_parquet(tmp_path / "vectors.parquet")
    known = pd.read_parquet(world.folder / "items.parquet").iloc[8]
    twin = pd.DataFrame({"item_key": ["twin"], "movie_title": [known["movie_title"]], "genres": [known["genres"]]})
    add(world.package, tmp_path / "packages", twin, "--vectors", str(tmp_path / "vectors.parquet"))
    package = Package.open(tmp_path / "packages")
    codes = package.catalogue.codes
    assert (codes[N_ITEMS + 1, :-1] == codes[9, :-1]).all()
    digits = package.load_network("parallel").digits
    assert torch.equal(digits[N_ITEMS + 1], digits[9])


def test_a_boost_brings_new_items_to_the_top_and_none_leaves_the_list_as_it_is(packages):
    for model in ("tiger", "parallel", "parallel_with_memory"):
        plain = keys(packages, user="u3", model=model)
        assert keys(packages, user="u3", model=model, boost=1e-9) == plain
        boosted = keys(packages, user="u3", model=model, boost=100.0)
        assert {*boosted[:3]} == {"n1", "n2", "n3"}
        assert boosted[3:] == [key for key in plain if key not in boosted[:3]][:7]


def test_new_items_of_a_history_are_read_by_models_that_know_them_and_others_say_so(packages):
    known, unknown, popular = Recommender.load(packages).recommend(
        [
            Request(items=["i1", "n1"], model="tiger"),
            Request(items=["i1", "n1"], model="sasrec"),
            Request(items=["n1"], model="sasrec"),
        ]
    )
    assert (known.note, known.source) == ("", "tiger")
    assert unknown.note == "1 items of the history came after the training of sasrec, which reads the others"
    assert keys(packages, items=["i1"], model="sasrec") == [each.item for each in unknown.recommendations]
    assert popular.source == "popularity"


def test_the_old_package_is_untouched_and_the_newest_of_a_folder_is_taken_up(world, tmp_path):
    package, folder = tmp_path / "package", tmp_path / "packages"
    shutil.copytree(world.package, package)
    content = {file: file.read_bytes() for file in package.rglob("*") if file.is_file()}
    add(package, folder, NEW.head(1))
    live = Live(folder, Package.open)
    first = live.current()
    add(folder, folder, NEW.tail(1))
    second = live.current()
    assert [each.catalogue.n_items for each in (first, second)] == [N_ITEMS + 1, N_ITEMS + 2]
    assert second.n_trained == N_ITEMS
    assert len([each for each in folder.iterdir() if each.is_dir()]) == 2
    assert {file: file.read_bytes() for file in package.rglob("*") if file.is_file()} == content


@pytest.mark.parametrize(
    ("items", "line"),
    [
        (NEW.assign(item_key=["i1", "n2", "n3"]), "item 'i1' is in the package already or stands twice"),
        (NEW.assign(item_key=["n1", "n1", "n3"]), "item 'n1' is in the package already or stands twice"),
        (NEW.drop(columns="item_key"), "new items need a column item_key"),
        (NEW.assign(colour="red"), "new items have a column 'colour', but the table has item_key, movie_title, genres"),
        (NEW.head(0), "new.csv has no items"),
    ],
)
def test_what_cannot_be_added_is_refused_in_one_line_and_nothing_is_written(world, tmp_path, items, line):
    with pytest.raises(SystemExit, match="error: ") as mistake:
        add(world.package, tmp_path / "packages", items)
    assert line in str(mistake.value)
    assert not (tmp_path / "packages").exists()
