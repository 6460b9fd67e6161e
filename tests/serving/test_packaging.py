"""A package is complete, small, without pickles, and refuses what does not fit."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packages import N_ITEMS, World, make_world

from genrec.errors import UserError
from genrec.serving.package import Package
from genrec.serving.recommender import Recommender, Request
from genrec.storage.files import save_array


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def test_it_answers_in_another_place_without_what_it_was_made_of(world, tmp_path):
    moved = tmp_path / "elsewhere" / "package"
    shutil.copytree(world.package, moved)
    for left in world.folder.glob("*.*"):
        left.unlink()
    (answer,) = Recommender.load(moved).recommend([Request(user="u1", model="tiger", k=3)])
    assert len(answer.recommendations) == 3


def test_the_same_inputs_give_the_same_bytes(world):
    def content() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in sorted(world.package.rglob("*")) if file.is_file()}

    before = content()
    world.repackage()
    assert content() == before


def test_another_order_of_models_is_another_version(world):
    first = Package.open(world.package)
    world.repackage("tiger", "sasrec")
    second = Package.open(world.package)
    assert (first.default, second.default) == ("sasrec", "tiger")
    assert first.version != second.version
    assert first.data == second.data


def test_no_file_of_it_is_a_pickle(world):
    for file in world.package.rglob("*"):
        if file.is_file():
            members = zipfile.ZipFile(file).namelist() if zipfile.is_zipfile(file) else []
            assert not [name for name in members if not name.endswith(".npy")], file
            assert file.suffix in (".json", ".safetensors", ".npz", ".parquet", ".md"), file


def test_its_card_names_models_figures_and_signature(world):
    card = (world.package / "README.md").read_text()
    assert "| TIGER | `tiger` | 0.250 | 0.125 | 0.250 | 0.125 |" in card
    assert "- `items` (list of strings)" in card
    assert Package.open(world.package).version in card


def test_a_table_of_another_catalogue_is_refused_and_the_old_package_stays(world):
    before = Package.open(world.package).version
    save_array(np.zeros((N_ITEMS, 8), np.float32), world.folder / "embeddings.npy")
    with pytest.raises(UserError, match="must have a row for each of 60 items"):
        world.repackage()
    assert Package.open(world.package).version == before


@pytest.mark.parametrize("name", ["sasrec/model.safetensors", "tables.npz", "items.parquet", "histories.npz"])
@pytest.mark.parametrize("content", [None, b"spoiled"])
def test_a_missing_or_damaged_file_is_said_in_one_line(world, name, content):
    (world.package / name).unlink()
    if content is not None:
        (world.package / name).write_bytes(content)
    with pytest.raises(UserError, match="dvc repro"):
        Recommender.load(world.package).recommend([Request(user="u1")])


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [("format", 99, "has format 99, but this version reads 3"), ("models", 3, "is no manifest of a package")],
)
def test_another_manifest_is_refused(world, key, value, rule):
    file = world.package / "package.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(UserError, match=rule):
        Package.open(world.package)


def test_a_package_cannot_name_code_of_others(world):
    file = world.package / "package.json"
    file.write_text(file.read_text().replace("genrec.networks.sequential.sasrec.SASRecNetwork", "os.system"))
    with pytest.raises(UserError, match="a network must be of genrec.networks"):
        Recommender.load(world.package).recommend([Request(user="u1")])


def test_a_folder_that_is_no_package_says_which_stage_makes_one(tmp_path):
    with pytest.raises(UserError, match="run `dvc repro package`"):
        Package.open(tmp_path / "nothing")


def test_models_beside_one_another_share_their_weights(world):
    world.repackage("tiger_with_memory", "tiger")
    assert sorted(each.name for each in world.package.iterdir() if each.is_dir()) == ["tiger", "tokenizer"]
    assert (world.package / "transitions.npz").is_file()


def test_a_ranked_model_brings_its_ranker_and_the_sequence_model_that_the_ranker_asks(world):
    world.repackage("tiger", "tiger_ranked")
    folders = sorted(each.name for each in world.package.iterdir() if each.is_dir())
    assert folders == ["sasrec", "tiger", "tiger_ranked", "tokenizer"]
    assert "| TIGER, ranked | `tiger_ranked` | - | - | 0.250 | 0.125 |" in (world.package / "README.md").read_text()


def test_a_ranked_model_cannot_stand_first_since_validation_cannot_measure_it(world):
    with pytest.raises(UserError, match="must be one that validation measures, got tiger_ranked"):
        world.repackage("tiger_ranked", "tiger")
