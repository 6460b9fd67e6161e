"""What a search's file may say, and what is said of a wrong one before anything runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from genrec.errors import UserError
from genrec.params.reading import check_params, read_yaml
from genrec.search.space import Choice, Range, Space, changed, overrides, read_space

PROJECT = Path(__file__).parents[2]
CONTENT = read_yaml(PROJECT / "params.yaml")
STAGES = ("train_sasrec", "train_parallel")
GOOD: dict[str, Any] = {
    "objective": "train_sasrec/best_val_ndcg_at_10",
    "params": {
        "train_sasrec.embedding_dim": [32, 64],
        "train_sasrec.dropout": {"low": 0.1, "high": 0.5, "step": 0.1},
        "train_sasrec.batch_size": {"low": 64, "high": 256, "log": True},
    },
}


def read(folder: Path, content: Any) -> Space:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    return read_space(file, CONTENT, STAGES)


def test_a_space_is_read(tmp_path: Path) -> None:
    space = read(tmp_path, GOOD)
    assert (space.name, space.stage, space.figure) == ("mine", "train_sasrec", "best_val_ndcg_at_10")
    assert space.direction == "maximize"
    assert space.params == {
        "train_sasrec.embedding_dim": Choice((32, 64)),
        "train_sasrec.dropout": Range(0.1, 0.5, 0.1, False),
        "train_sasrec.batch_size": Range(64, 256, None, True),
    }


@pytest.mark.parametrize("file", sorted((PROJECT / "searches").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_searches_of_the_project_fit_its_params(file: Path) -> None:
    assert read_space(file, CONTENT, read_yaml(PROJECT / "dvc.yaml")["stages"]).params


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "train_sasrec/recall_test"}, "objective must be a figure of validation"),
        ({"objective": "train_tiger/best_val_loss"}, "objective must be a figure of validation"),
        ({"objective": "best_val_ndcg_at_10"}, "objective must be a figure of validation"),
        ({"direction": "up"}, "direction must be one of maximize, minimize, got 'up'"),
        ({"params": {}}, "params must name what varies"),
        ({"trials": 3}, "must hold objective, params and"),
        ({"params": {"train_sasrec.drop": [0.1, 0.2]}}, "did you mean 'train_sasrec.dropout'?"),
        ({"params": {"train_sasrec.dropout": [0.1]}}, "must be a list of two values and more or"),
        ({"params": {"train_sasrec.dropout": {"low": 0.1}}}, "must be a list of two values and more or"),
        ({"params": {"train_sasrec.dropout": {"low": "1e-4", "high": 0.1}}}, "must be numbers"),
        ({"params": {"train_sasrec.dropout": {"low": 0.3, "high": 0.1}}}, "low must be below high"),
        ({"params": {"train_sasrec.dropout": {"low": 0.0, "high": 0.1, "log": True}}}, "low of log above 0"),
        ({"params": {"train_sasrec.dropout": [0.1, 1.5]}}, "train_sasrec.dropout: input should be less than 1"),
        ({"params": {"train_sasrec.num_heads": [2, 3]}}, "train_sasrec.num_heads: must divide embedding_dim=64"),
    ],
)
def test_a_wrong_one_is_refused_with_the_rule(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml.*") as refused:
        read(tmp_path, {**GOOD, **changes})
    assert message in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no search .*such as searches/sasrec.yaml"):
        read_space(tmp_path / "none.yaml", CONTENT, STAGES)


def test_values_of_params_are_those_to_begin_with_where_the_space_holds_them(tmp_path: Path) -> None:
    space = read(tmp_path, GOOD)
    inside = {"train_sasrec.embedding_dim": 64, "train_sasrec.dropout": 0.3, "train_sasrec.batch_size": 128, "seed": 1}
    assert space.held_of(inside) == {name: inside[name] for name in space.params}
    for name, outside in {"train_sasrec.embedding_dim": 48, "train_sasrec.dropout": 0.35}.items():
        assert space.held_of({**inside, name: outside}) == {}


def test_spaces_that_differ_in_what_is_compared_have_other_digests(tmp_path: Path) -> None:
    same, other = read(tmp_path, GOOD), read(tmp_path, {**GOOD, "params": {"train_sasrec.embedding_dim": [32, 64]}})
    assert read(tmp_path, dict(GOOD)).digest == same.digest != other.digest


def test_changed_values_are_those_that_the_overrides_say() -> None:
    values = {"train_sasrec.learning_rate": 3e-5, "train_sasrec.input_norm": False, "train_sasrec.schedule": "constant"}
    told = dict(override.split("=") for override in overrides(values)[1::2])
    parsed = changed(CONTENT, {name: yaml.safe_load(text) for name, text in told.items()})
    assert check_params(parsed, "told") == check_params(changed(CONTENT, values), "changed")
    assert CONTENT["train_sasrec"]["input_norm"] is True
