"""Run a stage by processes on the machines of a Ray cluster:

python -m genrec.cluster train_sasrec
python -m genrec.cluster evaluate_sasrec --processes 4

A training has trainer.devices processes on each of trainer.num_nodes machines; of evaluations and candidates each
process has some of the users, and what is found is the same to the last bit. All machines must see the project's folder
at the same path. Inputs must be there: `dvc repro --downstream` or `dvc repro` of the stages before, first.
"""

import argparse
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from genrec.cluster.plan import plan_of
from genrec.cluster.ray_cluster import run_on_cluster
from genrec.errors import UserError
from genrec.params.reading import read_section, read_yaml
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_command


def run(stage: str, processes: int | None, address: str) -> None:
    """Run a stage, and say how DVC hears of it.

    Raises:
        UserError: Ray is missing, or what `run_on_cluster` says.
    """
    if find_spec("ray") is None:
        raise UserError("a cluster needs Ray; `pip install genrec[cluster]`")
    trainer = read_section(Trainer)  # which says first where the project's folder is not the current one
    plan = plan_of(stage, read_yaml(Path("dvc.yaml"))["stages"], trainer, processes)
    try:
        run_on_cluster(plan, Path.cwd(), address, tell=partial(print, file=sys.stdout, flush=True))
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on, a training after its last whole epoch")
    print(f"{stage} is done; now `dvc commit {stage}`")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m genrec.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", help="such as train_sasrec, evaluate_tiger, generate_candidates")
    parser.add_argument("--processes", type=int, help="that share the users; trainings have those of params.yaml")
    parser.add_argument("--address", default="auto", help="of the cluster; by default the one of this machine")
    arguments = parser.parse_args()
    if arguments.processes is not None and arguments.processes < 1:
        parser.error("--processes must be at least 1")
    run_command(lambda: run(arguments.stage, arguments.processes, arguments.address))


if __name__ == "__main__":
    main()
