"""The command, its answers and its mistakes, with trials that end at once; a pipeline test has a real one."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from genrec.errors import UserError
from genrec.params.reading import read_params
from genrec.search import __main__ as command
from genrec.search.space import Value
from genrec.search.study import Outcome

PROJECT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "objective": "train_sasrec/best_val_ndcg_at_10",
    "params": {"train_sasrec.max_epochs": [1, 2], "train_sasrec.dropout": {"low": 0.1, "high": 0.5}},
}


class AtOnce:
    """`Experiments` that answer with the dropout itself."""

    def __init__(self, folder: Path, space: object, group: str, logs: Path) -> None:
        self.values: dict[str, Mapping[str, Value]] = {}

    def submit(self, name: str, values: Mapping[str, Value]) -> None:
        self.values[name] = values

    def outcome(self, name: str) -> Outcome:
        return Outcome(float(self.values[name]["train_sasrec.dropout"]))

    def stop(self) -> None: ...

    def record(self, name: str, values: Mapping[str, Value], outcome: Outcome) -> None: ...


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((PROJECT / name).read_bytes())
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "Experiments", AtOnce)
    read_params.cache_clear()
    yield tmp_path
    read_params.cache_clear()


def test_the_best_is_printed_as_overrides(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.search(folder / "tiny.yaml", 4, 2, 0)
    *trials, last, best = capsys.readouterr().out.splitlines()
    assert len(trials) == 4
    highest = max(float(line.split()[1]) for line in trials)
    assert last.startswith(f"4 trials; best train_sasrec/best_val_ndcg_at_10 {highest:g}, experiment tiny-")
    assert best.startswith(f"dvc exp run -S train_sasrec.dropout={highest:g} -S train_sasrec.max_epochs=")
    command.search(folder / "tiny.yaml", 0, 1, 0)
    assert capsys.readouterr().out.splitlines() == [last, best]


def test_without_a_trial_there_is_no_best(folder: Path) -> None:
    with pytest.raises(UserError, match="0 trials, none with a figure yet"):
        command.search(folder / "tiny.yaml", 0, 1, 0)


def test_without_optuna_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs optuna; `pip install genrec\[search\]`"):
        command.search(folder / "tiny.yaml", 1, 1, 0)


def test_no_job_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["search", "tiny.yaml", "-j", "0"])
    with pytest.raises(SystemExit):
        command.main()
    assert "--jobs must be at least 1" in capsys.readouterr().err
