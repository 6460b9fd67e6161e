"""The trials of a search, with a runner that measures a known function."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from genrec.errors import UserError
from genrec.search.space import Choice, Range, Space, Value
from genrec.search.study import Outcome, Search

WIDTH, RATE = "train_sasrec.embedding_dim", "train_sasrec.dropout"
SPACE = Space(
    "mine", "train_sasrec", "best_val", "maximize", {WIDTH: Choice((32, 64)), RATE: Range(0, 0.9, None, False)}
)
START: dict[str, Value] = {WIDTH: 32, RATE: 0.5}


def figure(values: Mapping[str, Value]) -> float:
    """Best at 64 and .3."""
    rate = values[RATE]
    assert isinstance(rate, float | int)
    return (values[WIDTH] == 64) - (rate - 0.3) ** 2


class Fake:
    """A runner whose trials end one look after they were submitted; it notes all that it is told."""

    def __init__(self, failing: int = -1) -> None:
        self.failing = failing
        self.submitted: dict[str, Mapping[str, Value]] = {}
        self.seen: set[str] = set()
        self.at_once = 0
        self.recorded: dict[str, Outcome] = {}

    def submit(self, name: str, values: Mapping[str, Value]) -> None:
        if len(self.submitted) == self.failing:
            self.failing = -1
            raise UserError("no room")
        self.submitted[name] = values
        self.at_once = max(self.at_once, len(self.submitted) - len(self.recorded))

    def on_its_way(self, name: str) -> bool:
        return name in self.submitted

    def outcome(self, name: str) -> Outcome | None:
        if name not in self.seen:
            self.seen.add(name)
            return None
        return Outcome(figure(self.submitted[name]))

    def record(self, name: str, values: Mapping[str, Value], outcome: Outcome) -> None:
        assert name not in self.recorded
        self.recorded[name] = outcome


def run(search: Search, runner: Fake, n_trials: int, n_jobs: int = 1, refuse=lambda values: None) -> list[str]:
    lines: list[str] = []
    search.run(runner, n_trials, n_jobs, refuse, lines.append, seconds=0.0)
    return lines


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "searches" / "mine.journal"


def test_it_begins_with_what_stands_in_params_and_finds_better(file: Path) -> None:
    search, runner = Search(SPACE, file, 0, START), Fake()
    lines = run(search, runner, 25)
    best = search.best()
    assert best is not None
    assert runner.submitted["mine-0000"] == START
    assert len(lines) == len(runner.recorded) == 25
    assert best.value == max(figure(values) for values in runner.submitted.values()) > figure(START)
    assert dict(best.values) == runner.submitted[best.experiment]
    assert lines[0].startswith("mine-0000  -0.04  train_sasrec.embedding_dim=32")


def test_as_many_trials_as_jobs_are_on_their_way_at_once(file: Path) -> None:
    runner = Fake()
    run(Search(SPACE, file, 0, START), runner, 7, n_jobs=3)
    assert runner.at_once == 3
    assert len(runner.submitted) == 7


def test_what_a_search_tries_follows_from_its_seed(tmp_path: Path) -> None:
    def tried(seed: int, name: str) -> list[Mapping[str, Value]]:
        runner = Fake()
        run(Search(SPACE, tmp_path / name, seed, {}), runner, 4)
        return list(runner.submitted.values())

    assert tried(0, "a") == tried(0, "b") != tried(1, "c")


def test_a_search_that_was_stopped_goes_on_with_what_was_on_its_way(file: Path) -> None:
    class Stopping(Fake):
        def outcome(self, name: str) -> Outcome | None:
            if len(self.recorded) == 2:
                raise KeyboardInterrupt
            return super().outcome(name)

    runner = Stopping()
    with pytest.raises(KeyboardInterrupt):
        run(Search(SPACE, file, 0, START), runner, 5, n_jobs=2)
    later = Fake()
    later.submitted = dict(runner.submitted)
    lost = max(later.submitted)
    del later.submitted[lost]  # the queue no longer knows it
    search = Search(SPACE, file, 0, START)
    run(search, later, 5, n_jobs=2)
    assert search.counted() == "5 trials"
    assert {*runner.recorded, *later.recorded} == {f"mine-{number:04d}" for number in range(5)}
    assert not {*runner.recorded} & {*later.recorded}
    assert later.submitted[lost] == runner.submitted[lost]
    tried = [str(sorted(values.items())) for values in later.submitted.values()]
    assert len({*tried}) == len(tried)  # a sampler that began anew would draw the same again


def test_a_search_with_enough_trials_runs_none(file: Path) -> None:
    run(Search(SPACE, file, 0, START), Fake(), 3)
    runner, search = Fake(), Search(SPACE, file, 0, START)
    assert run(search, runner, 3) == []
    assert runner.submitted == {}
    assert search.best() is not None


def test_a_trial_that_cannot_start_has_failed_and_the_others_go_on(file: Path) -> None:
    search, runner = Search(SPACE, file, 0, START), Fake(failing=1)
    lines = run(search, runner, 4)
    assert search.counted() == "4 trials, 1 of them failed"
    assert sum("failed: no room" in line for line in lines) == 1
    assert len(runner.recorded) == 4


def test_values_that_do_not_go_together_are_not_run(file: Path) -> None:
    def refuse(values: Mapping[str, Value]) -> None:
        if values[WIDTH] == 64:
            raise UserError("64 is too wide")

    runner, search = Fake(), Search(SPACE, file, 0, START)
    lines = run(search, runner, 8, refuse=refuse)
    assert {values[WIDTH] for values in runner.submitted.values()} == {32}
    assert any("failed: 64 is too wide" in line for line in lines)


def test_no_trial_no_best(file: Path) -> None:
    assert Search(SPACE, file, 0, START).best() is None


def test_another_space_of_the_same_name_is_refused_with_the_way_out(file: Path) -> None:
    run(Search(SPACE, file, 0, START), Fake(), 1)
    other = Space("mine", "train_sasrec", "best_val", "maximize", {WIDTH: Choice((32, 128))})
    with pytest.raises(UserError, match=r"holds 1 trials of another space of this name; delete it"):
        Search(other, file, 0, {})
