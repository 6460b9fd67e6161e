"""What a stage needs of a cluster, and what is told of the processes in which it ended."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genrec.errors import UserError
from genrec.params.trainer import Trainer

# The stages that go over batches of users, each process over its own; the first alone writes.
SHARE_USERS = ("stages.evaluate", "stages.evaluate_baselines", "stages.generate_candidates")
OTHERS_WORD = " has ended; run again"  # of a process that only noticed that another one ended


@dataclass(frozen=True)
class Plan:
    """A stage's processes.

    Attributes:
        stage: its name.
        command: what `python -m` is told to start it.
        places: how many groups of processes there are, each on one machine.
        per_place: how many processes a group has.
        cpus, gpus: that a group needs.
        apart: whether each group needs a machine of its own.
    """

    stage: str
    command: tuple[str, ...]
    places: int
    per_place: int
    cpus: int
    gpus: int
    apart: bool

    @property
    def n_processes(self) -> int:
        return self.places * self.per_place


def plan_of(stage: str, pipeline: Mapping[str, Any], trainer: Trainer, processes: int | None) -> Plan:
    """The processes of a stage.

    A training has those of params.yaml, which shape its last digits and which DVC compares. What is found for users
    does not depend on how many search, so there the command says it.

    Args:
        pipeline: the stages of dvc.yaml.
        processes: that go over users together; None for a training.

    Raises:
        UserError: the stage is none that several processes share, or their number is said in the wrong place.
    """
    if stage not in pipeline:
        raise UserError(f"no stage named {stage!r}; known: {', '.join(map(str, shareable(pipeline)))}")
    command = tuple(str(pipeline[stage]["cmd"]).removeprefix("python -m ").split())
    if stage not in shareable(pipeline):
        raise UserError(
            f"{stage} is done by one process, so a cluster is no use to it; run `dvc repro {stage}`. Several share "
            f"{', '.join(shareable(pipeline))}"
        )
    if command[0] in SHARE_USERS:
        if processes is None:
            raise UserError(f"say how many processes share the users of {stage}, such as --processes 4")
        return Plan(stage, command, processes, 1, trainer.num_threads, min(trainer.gpus, 1), apart=False)
    if processes is not None:
        raise UserError(
            f"--processes is for evaluations; {stage} is trained by trainer.devices x trainer.num_nodes processes of "
            f"params.yaml, now {trainer.devices} x {trainer.num_nodes}: set them there"
        )
    devices, machines = trainer.devices, trainer.num_nodes
    return Plan(stage, command, machines, devices, devices * trainer.num_threads, trainer.gpus, apart=machines > 1)


def shareable(pipeline: Mapping[str, Any]) -> list[str]:
    """The stages that several processes can share, of trainings as far as their models are fit for it."""
    modules = {stage: str(each["cmd"]).split()[2] for stage, each in pipeline.items()}
    return [stage for stage, module in modules.items() if stage.startswith("train_") or module in SHARE_USERS]


def check_room(plan: Plan, machines: Sequence[Mapping[str, float]]) -> None:
    """Refuse a plan for which the cluster will never have room.

    Args:
        machines: of each what it has in all, `CPU` and `GPU`.

    Raises:
        UserError: there are too few machines, or too small ones.
    """
    needs = {"CPU": plan.cpus, **({"GPU": plan.gpus} if plan.gpus else {})}
    rooms = [min(int(has.get(name, 0) // needed) for name, needed in needs.items()) for has in machines]
    found = sum(min(room, 1) if plan.apart else room for room in rooms)
    if found < plan.places:
        wanted = " and ".join(f"{needed} {name}" for name, needed in needs.items())
        there = "; ".join(f"{has.get('CPU', 0):g} CPU, {has.get('GPU', 0):g} GPU" for has in machines)
        raise UserError(
            f"{plan.stage} needs {plan.places} {'machines' if plan.apart else 'places'} with {wanted} each, and the "
            f"cluster has {found} ({len(machines)} machines: {there}); add machines, or ask for less"
        )


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        rank: its number, from 0.
        machine: its address.
        status: 0, an exit status, or minus the signal that ended it; None where its machine was lost.
        said: its last line, and of a mistake the line that names it.
        log: the file of all that it said.
    """

    rank: int
    machine: str
    status: int | None
    said: str
    log: str

    @property
    def is_well(self) -> bool:
        return self.status == 0

    @property
    def names_a_mistake(self) -> bool:
        return self.said.startswith("error: ") and OTHERS_WORD not in self.said

    @property
    def was_struck(self) -> bool:
        return self.status is None or self.status < 0


def told(plan: Plan, ended: Sequence[Ended]) -> str:
    """In one line why a stage failed: the mistake that a process names, else who was killed, else who failed first."""
    failed = [each for each in ended if not each.is_well]
    mistakes = [each for each in failed if each.names_a_mistake]
    struck = [each for each in failed if each.was_struck]
    if mistakes:
        return mistakes[0].said.removeprefix("error: ")
    again = "it goes on after its last whole epoch" if plan.stage.startswith("train_") else "nothing was written"
    if struck:
        first = struck[0]
        name = "lost with its machine" if first.status is None else f"ended by {signal.Signals(-first.status).name}"
        return f"process {first.rank} of {plan.stage}, on {first.machine}, was {name}; run again: {again}"
    first = next((each for each in failed if each.said and OTHERS_WORD not in each.said), failed[0])
    return f"process {first.rank} of {plan.stage}, on {first.machine}, failed: {first.said} (all of it: {first.log})"
