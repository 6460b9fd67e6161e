"""The trials of a search: optuna proposes values, a runner measures them, and what was told stays in a file.

The loop never waits for more than it has to: as many trials as there are jobs are on their way at once, and each that
ends is told before the next is asked for. Stopped at any moment, it goes on with what was on its way.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from genrec.errors import UserError
from genrec.search.space import Choice, Range, Space, Value, rounded

if TYPE_CHECKING:
    import optuna

SPACE, EXPERIMENT, VALUES = "space", "experiment", "values"


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: with a number, or with a problem."""

    value: float | None
    problem: str = ""


class Runner(Protocol):
    """What measures trials, by the names of their experiments."""

    def submit(self, name: str, values: Mapping[str, Value]) -> None:
        """Put a trial on its way; a UserError is its problem."""

    def on_its_way(self, name: str) -> bool:
        """Whether a trial of an earlier call still is, or has ended."""

    def outcome(self, name: str) -> Outcome | None:
        """How a trial ended; None while it goes on."""

    def record(self, name: str, values: Mapping[str, Value], outcome: Outcome) -> None:
        """Show a trial that has ended to people."""


@dataclass(frozen=True)
class Best:
    """The trial that is best so far."""

    experiment: str
    value: float
    values: Mapping[str, Value]


class Search:
    """A space, and the file of its trials.

    Args:
        start: values to begin with, such as the ones that stand in params.yaml; {} for none.

    Raises:
        UserError: the file holds the trials of another space.
    """

    def __init__(self, space: Space, file: Path, seed: int, start: Mapping[str, Value]) -> None:
        import optuna  # a second, and an extra: `pip install genrec[search]`
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.space = space
        self.study = optuna.create_study(
            study_name=space.name,
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(file))),
            direction=space.direction,
            load_if_exists=True,
        )
        known = self.study.user_attrs.get(SPACE)
        if known not in (None, space.digest):
            raise UserError(
                f"{file} holds {len(self.study.trials)} trials of another space of this name; delete it to begin anew, "
                "or give the search's file another name"
            )
        # a sampler draws from its seed on: one that resumes must not draw the same again
        self.study.sampler = optuna.samplers.TPESampler(seed=seed + len(self.study.trials))
        if known is None:
            self.study.set_user_attr(SPACE, space.digest)
            if start:
                self.study.enqueue_trial(dict(start))

    def run(
        self,
        runner: Runner,
        n_trials: int,
        n_jobs: int,
        refuse: Callable[[Mapping[str, Value]], None],
        tell: Callable[[str], None],
        seconds: float = 2.0,
    ) -> None:
        """Measure until there are so many trials in all, those of earlier calls counted.

        Args:
            refuse: raises a UserError for values that do not go together; such a trial has failed.
            tell: is given a line for each trial that ended.
            seconds: between two looks.
        """
        waiting = self._resumed(runner)
        while waiting or len(self._ended()) < n_trials:
            while len(waiting) < n_jobs and len(waiting) + len(self._ended()) < n_trials:
                trial = self._asked()
                if self._submitted(runner, trial, refuse, tell):
                    waiting.append(trial.number)
            ended = [(number, outcome) for number in waiting if (outcome := runner.outcome(self._name(number)))]
            for number, outcome in ended:
                waiting.remove(number)
                self._tell(runner, number, outcome, tell)
            if waiting and not ended:
                time.sleep(seconds)

    def best(self) -> Best | None:
        """None while no trial has ended well."""
        import optuna

        done = [trial for trial in self.study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
        if not done:
            return None
        trial = self.study.best_trial
        assert trial.value is not None
        return Best(trial.user_attrs[EXPERIMENT], trial.value, trial.user_attrs[VALUES])

    def counted(self) -> str:
        """Such as "12 trials, 1 of them failed"."""
        failed = [trial for trial in self._ended() if trial.value is None]
        return f"{len(self._ended())} trials" + (f", {len(failed)} of them failed" if failed else "")

    def _ended(self) -> Sequence["optuna.trial.FrozenTrial"]:
        return [trial for trial in self.study.trials if trial.state.is_finished()]

    def _asked(self) -> "optuna.trial.Trial":
        """A new trial, with its values and the name of its experiment in the file."""
        trial = self.study.ask()
        values = {name: rounded(_suggested(trial, name, each)) for name, each in self.space.params.items()}
        trial.set_user_attr(VALUES, values)
        trial.set_user_attr(EXPERIMENT, f"{self.space.name}-{trial.number:04d}")
        return trial

    def _submitted(
        self,
        runner: Runner,
        trial: "optuna.trial.Trial",
        refuse: Callable[[Mapping[str, Value]], None],
        tell: Callable[[str], None],
    ) -> bool:
        values = trial.user_attrs[VALUES]
        try:
            refuse(values)
            runner.submit(trial.user_attrs[EXPERIMENT], values)
        except UserError as problem:
            self._tell(runner, trial.number, Outcome(None, str(problem)), tell)
            return False
        return True

    def _resumed(self, runner: Runner) -> list[int]:
        """The trials that an earlier call left on their way; what the runner does not know is put there again."""
        import optuna

        left = [trial for trial in self.study.trials if trial.state == optuna.trial.TrialState.RUNNING]
        for trial in left:
            if EXPERIMENT not in trial.user_attrs:  # it was asked for, and then all ended
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            elif not runner.on_its_way(trial.user_attrs[EXPERIMENT]):
                runner.submit(trial.user_attrs[EXPERIMENT], trial.user_attrs[VALUES])
        return [trial.number for trial in left if EXPERIMENT in trial.user_attrs]

    def _name(self, number: int) -> str:
        name: str = self.study.trials[number].user_attrs[EXPERIMENT]
        return name

    def _tell(self, runner: Runner, number: int, outcome: Outcome, tell: Callable[[str], None]) -> None:
        import optuna

        trial = self.study.trials[number]
        name, values = trial.user_attrs[EXPERIMENT], trial.user_attrs[VALUES]
        if outcome.value is None:
            self.study.tell(number, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(number, outcome.value)
        runner.record(name, values, outcome)
        shown = "failed: " + outcome.problem if outcome.value is None else f"{outcome.value:.6g}"
        tell(f"{name}  {shown}  {', '.join(f'{key}={value}' for key, value in values.items())}")


def _suggested(trial: "optuna.trial.Trial", name: str, dimension: Choice | Range) -> Value:
    if isinstance(dimension, Choice):
        chosen: Value = trial.suggest_categorical(name, dimension.values)  # type: ignore[assignment]
        return chosen
    low, high, step, log = dimension.low, dimension.high, dimension.step, dimension.log
    if dimension.is_whole:
        return trial.suggest_int(name, int(low), int(high), step=int(step or 1), log=log)
    return trial.suggest_float(name, low, high, step=step, log=log)
