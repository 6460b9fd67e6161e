"""Where Ray is asked: for places on machines, and for the processes there that start a stage's own."""

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec.cluster import machine as machine_code
from genrec.cluster.machine import GRACE, MARK, Machine
from genrec.cluster.plan import Ended, Plan, check_room, told
from genrec.errors import UserError

HANDED_OVER = ("MLFLOW_", "DO_NOT_TRACK", "GLOO_", "NCCL_")  # variables of the command that its processes get too
SECONDS_BETWEEN = 1.0  # looks at what the first process says
PATIENCE = 10.0  # seconds for an answer at the address, and after which it is told that there is no free place


@dataclass(frozen=True)
class Place:
    """A process of Ray on a machine, and the machine's address."""

    actor: Any
    address: str


def run_on_cluster(plan: Plan, project: Path, address: str, tell: Callable[[str], None]) -> None:
    """Run a stage by processes on the machines of a cluster, which meet as those of torchrun do.

    Args:
        project: its folder, which all machines see at the same path.
        address: of the cluster, `auto` for the one that this machine is part of.
        tell: is given what the first process says; it must not look up `sys.stdout`, which is Ray's meanwhile.

    Raises:
        UserError: there is no cluster, it has no room, a machine does not see the folder, or the stage failed.
    """
    logs = project / ".genrec" / "cluster" / plan.stage
    logs.mkdir(parents=True, exist_ok=True)
    for left in logs.glob("*.log"):
        left.unlink()
    mark = secrets.token_hex(8)
    (logs / MARK).write_text(mark, encoding="utf-8")
    # Ray prints there what nodes say of themselves, pages of it where one is lost
    with (
        (logs / "ray.log").open("w") as own,
        redirect_stdout(own),
        joined(address) as ray,
        placed(ray, plan, tell) as places,
    ):
        problems = ray.get([place.actor.problem.remote(str(logs), mark) for place in places])
        refuse_blind([f"{place.address} {each}" for place, each in zip(places, problems, strict=True) if each])
        meeting = {"MASTER_ADDR": places[0].address, "MASTER_PORT": str(ray.get(places[0].actor.free_port.remote()))}
        runs = {}
        for number, place in enumerate(places):
            environments = environments_of(plan, number, meeting)
            runs[place.actor.run.remote(str(project), plan.command, environments, str(logs))] = number
        ended = wait(ray, plan, places, runs, Followed(logs / "0.log", tell))
    if not all(each.is_well for each in ended):
        raise UserError(told(plan, ended))


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """Ray, while this process is part of a cluster; it tells nobody of its use, and writes no log lines here.

    Raises:
        UserError: there is no cluster, or one of another release of Ray or Python.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    try:
        knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError) as trouble:
        raise UserError(
            f"no Ray cluster can be joined at {address!r}: {' '.join(str(trouble).split())}; start one on this machine "
            "by `ray start --head`, and on the others by `ray start --address <this machine>:6379`"
        ) from trouble
    try:
        yield ray
    finally:
        ray.shutdown()


def knock(address: str) -> None:
    """Raise an OSError where nobody listens, which Ray would try again for minutes; `auto` it looks up itself."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), PATIENCE).close()


@contextmanager
def placed(ray: Any, plan: Plan, tell: Callable[[str], None]) -> Iterator[list[Place]]:
    """A process of Ray on each place of the plan, until the block ends.

    Raises:
        UserError: the cluster will never have room for all.
    """
    from ray.util import placement_group, placement_group_table, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    machines = {each["NodeID"]: each for each in ray.nodes() if each["Alive"]}
    check_room(plan, [each["Resources"] for each in machines.values()])
    needs = {"CPU": plan.cpus, **({"GPU": plan.gpus} if plan.gpus else {})}
    group = placement_group([needs] * plan.places, strategy="STRICT_SPREAD" if plan.apart else "SPREAD")
    # machines that do not see the project's folder have to say so, so they cannot import this from there
    ray.cloudpickle.register_pickle_by_value(machine_code)
    try:
        if not group.wait(PATIENCE):
            tell("waiting for other work on the cluster to end")
            while not group.wait(PATIENCE):
                pass
        nodes = placement_group_table(group)["bundles_to_node_id"]
        kind, places = ray.remote(num_cpus=plan.cpus, num_gpus=plan.gpus, max_restarts=0)(Machine), []
        for number in range(plan.places):
            there = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)
            actor = kind.options(scheduling_strategy=there).remote()
            places.append(Place(actor, machines[nodes[number]]["NodeManagerAddress"]))
        yield places
    finally:
        ray.cloudpickle.unregister_pickle_by_value(machine_code)
        remove_placement_group(group)  # which ends the processes in it


def refuse_blind(problems: Sequence[str]) -> None:
    """Refuse machines that do not see the project's folder.

    Raises:
        UserError: there are some.
    """
    if problems:
        raise UserError(
            f"all machines must share the project's folder, at the same path, but {'; '.join(problems)}; mount it there"
        )


def environments_of(plan: Plan, number: int, meeting: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """The variables of torchrun for each process of a place, by its number.

    Args:
        number: of the place, from 0.
        meeting: the address and the port at which the first process waits for all.
    """
    handed = {name: value for name, value in os.environ.items() if name.startswith(HANDED_OVER)}
    first = number * plan.per_place
    return {
        first + local: {
            **handed,
            **meeting,
            "RANK": str(first + local),
            "LOCAL_RANK": str(local),
            "GROUP_RANK": str(number),
            "WORLD_SIZE": str(plan.n_processes),
            "LOCAL_WORLD_SIZE": str(plan.per_place),
            "TORCHELASTIC_RUN_ID": "genrec.cluster",  # by which Lightning knows them
            "PYTHONUNBUFFERED": "1",
        }
        for local in range(plan.per_place)
    }


def wait(ray: Any, plan: Plan, places: Sequence[Place], runs: dict[Any, int], followed: "Followed") -> list[Ended]:
    """How all processes ended; some seconds after one has failed of those that have ended alone.

    Args:
        runs: what Ray promises of each place, to the place's number.
    """
    ended: list[Ended] = []
    failed_at = None
    while runs and (failed_at is None or time.monotonic() < failed_at + GRACE):
        done, _ = ray.wait(list(runs), timeout=SECONDS_BETWEEN)
        followed.tell_new()
        for run in done:
            number = runs.pop(run)
            address = places[number].address
            try:
                ended += [Ended(rank, address, *others) for rank, *others in ray.get(run)]
            except ray.exceptions.RayActorError:
                first = number * plan.per_place
                ended += [Ended(rank, address, None, "", "") for rank in range(first, first + plan.per_place)]
        if failed_at is None and not all(each.is_well for each in ended):
            failed_at = time.monotonic()
    return ended


class Followed:
    """A file that grows, whose new lines are told; not the mistake that it ends with, which the command tells."""

    def __init__(self, file: Path, tell: Callable[[str], None]) -> None:
        self._file, self._tell, self._read = file, tell, 0

    def tell_new(self) -> None:
        """Tell the whole lines that came since the last time."""
        if not self._file.exists():
            return
        with self._file.open("rb") as stream:
            stream.seek(self._read)
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode("utf-8", errors="replace").splitlines():
            if not line.startswith("error: "):
                self._tell(line)
