"""Search settings that rank validation best:

python -m genrec.search searches/sasrec.yaml --trials 20 -j 2

The file names what varies and the figure that decides. optuna proposes values, beginning with those of params.yaml;
each trial is an experiment `<search>-<number>` of DVC, and MLflow shows all of them as the runs of one experiment.
Stopped at any moment, the same command goes on; `--trials 0` prints the best so far.
"""

import argparse
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from genrec.errors import UserError
from genrec.params.reading import PARAMS_FILE, check_params, flatten, read_params, read_yaml
from genrec.pipeline.command import run_command
from genrec.search.experiments import Experiments
from genrec.search.space import Value, changed, overrides, read_space
from genrec.search.study import Search

FOLDER = Path(".genrec/searches")


def search(file: Path, n_trials: int, n_jobs: int, seed: int) -> None:
    """Run a search and print its best.

    Raises:
        UserError: the file or params.yaml is wrong, optuna is missing, or the file of trials is another search's.
    """
    if find_spec("optuna") is None:
        raise UserError("a search needs optuna; `pip install genrec[search]`")
    params = read_params()
    content = read_yaml(PARAMS_FILE)
    space = read_space(file, content, read_yaml(Path("dvc.yaml"))["stages"])
    journal = FOLDER / f"{space.name}.journal"
    found = Search(space, journal, seed, space.held_of(flatten(params)))
    runner = Experiments(Path.cwd(), space, f"{params.track.experiment}-search-{space.name}", FOLDER)

    def refuse(values: Mapping[str, Value]) -> None:
        check_params(changed(content, values), "these values")

    try:
        found.run(runner, n_trials, n_jobs, refuse, tell=lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on, each training after its last whole epoch")
    finally:
        runner.stop()
    best = found.best()
    if best is None:
        raise UserError(f"{found.counted()}, none with a figure yet")
    print(f"{found.counted()}; best {space.objective} {best.value:.6g}, experiment {best.experiment}")
    print(" ".join(["dvc exp run", *overrides(best.values)]))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m genrec.search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="the search, such as searches/sasrec.yaml")
    parser.add_argument("--trials", type=int, default=20, help="in all, those of earlier calls counted; by default 20")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="trials at once; by default 1")
    parser.add_argument("--seed", type=int, default=0, help="of what optuna draws")
    arguments = parser.parse_args()
    if arguments.jobs < 1 or arguments.trials < 0:
        parser.error("--jobs must be at least 1 and --trials at least 0")
    run_command(lambda: search(arguments.file, arguments.trials, arguments.jobs, arguments.seed))


if __name__ == "__main__":
    main()
