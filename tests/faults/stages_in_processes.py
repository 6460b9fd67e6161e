"""Stages of a tiny project, each in a process of its own that a fault can strike at an exact moment.

Importing torch and Lightning takes seconds, so a server that has them imported forks one process a stage.

A moment is the start of a training batch, or an operation on a file of the project: opening it to write, renaming,
deleting it, making a folder. Moments are the same in each run, so that a seed names a moment whatever the machine does.
"""

import hashlib
import importlib
import multiprocessing
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
PIPELINE: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
STAGES = [stage for stage in PIPELINE if stage != "track"]
TRAINING = [stage for stage in STAGES if stage.startswith("train_")]
_GENERATOR = {
    "embedding_dim": 8, "num_heads": 2, "head_dim": 4, "attn_dim": 8, "num_layers": 1, "max_history": 6,
}  # fmt: skip
TINY: dict[str, Any] = {
    "fetch_data": {"name": "synthetic", "synthetic": {"n_users": 30, "n_items": 16, "n_clusters": 4}},
    "prepare_data": {"min_item_interactions": 1},
    "model": {"code_num": 8, "num_levels": 2},
    "train_sasrec": {"embedding_dim": 8, "num_layers": 1, "max_history": 6, "max_epochs": 3, "batch_size": 16},
    "train_rqvae": {
        "hidden_dims": [8], "latent_dim": 4, "batch_size": 8, "max_epochs": 4, "validate_every": 2,
        "gates": {"min_usage": 0.0, "min_entropy": 0.0, "max_collision_rate": 1.0},
    },
    "build_digits": {
        "embedding_digits": 4, "word_digits": 0, "code_num": 8, "iterations": 2,
        "gates": {"min_usage": 0.0, "min_entropy": 0.0, "max_collision_rate": 1.0},
    },
    "train_parallel": {
        "embedding_dim": 8, "num_layers": 1, "max_history": 6, "max_epochs": 3, "batch_size": 16, "warmup_steps": 2,
    },
    "train_tiger": {"generator": _GENERATOR, "batch_size": 16, "max_epochs": 3, "n_beams": 10, "warmup_steps": 2},
    "train_etegrec": {
        "generator": _GENERATOR, "batch_size": 16, "n_beams": 10, "warmup_steps": 2, "cycle": 2, "max_epochs": 4,
        "warmup_epochs": 1, "tokenizer_learning_rate": 0.01, "final_stage": {"max_epochs": 2},
    },
    "evaluate": {"ks": [3, 5], "n_beams": 10, "bootstrap_samples": 5},
    "track": {"enabled": False},
    "runtime": {"progress_bar": False},
}  # fmt: skip


def module_of(stage: str) -> str:
    """The module that a stage's command runs."""
    name: str = PIPELINE[stage]["cmd"].split()[2]
    return name


def arguments_of(stage: str) -> list[str]:
    """What the command hands to it: for the stages of generators their names."""
    names: list[str] = PIPELINE[stage]["cmd"].split()[3:]
    return names


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings with some values replaced."""
    together = dict(base)
    for key, value in changes.items():
        together[key] = (
            merged(base[key], value) if isinstance(value, Mapping) and isinstance(base.get(key), Mapping) else value
        )
    return together


def write_params(folder: Path, *changes: Mapping[str, Any]) -> None:
    """params.yaml of the default, of the tiny project and of some changes, and the pipeline, which `report` draws."""
    content = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    for change in (TINY, *changes):
        content = merged(content, change)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    shutil.copyfile(PROJECT / "dvc.yaml", folder / "dvc.yaml")


def outputs(stage: str) -> list[str]:
    """The paths that DVC knows as a stage's outputs."""
    named = (out for kind in ("outs", "metrics", "plots") for out in PIPELINE[stage].get(kind, []))
    return [next(iter(out)) if isinstance(out, dict) else out for out in named]


def remove_outputs(folder: Path, stage: str) -> None:
    """What DVC does before it runs a stage."""
    for output in outputs(stage):
        path = folder / output
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def digests(folder: Path, stages: Iterable[str] = STAGES) -> dict[str, str]:
    """The content of every output that is there, by its path; of a folder that of each file."""
    found = {}
    for output in (folder / output for stage in stages for output in outputs(stage)):
        for file in sorted(output.rglob("*")) if output.is_dir() else [output]:
            if file.is_file():
                found[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


@dataclass(frozen=True)
class Fault:
    """What strikes a stage.

    Attributes:
        at_moment: when the process sends itself `signal`; 0 never.
        largest_file: no file grows beyond so many bytes, as on a full disk; 0 any size.
        kills_at_the_limit: whether the attempt kills the process in the middle of the write.
    """

    at_moment: int = 0
    signal: int = signal.SIGKILL
    largest_file: int = 0
    kills_at_the_limit: bool = False


@dataclass(frozen=True)
class Answer:
    """How a stage ended.

    Attributes:
        status: 0, an exit status, or minus the signal that ended it.
        said: all that it wrote to stdout and stderr.
        trace: a letter for each moment up to its end: the first of the phase whose batch starts (`b` of a model without
            phases), `.` for an operation on a file.
    """

    status: int
    said: str
    trace: str

    @property
    def moments(self) -> int:
        return len(self.trace)


def run_stage_process(folder: Path, stage: str, fault: Fault = Fault()) -> Answer:
    """Run a stage in the folder as `python -m stages.<stage>` does, and wait for its end."""
    with TemporaryDirectory() as notes:  # not in the project, whose disk may be full
        return _run_and_wait(folder, stage, fault, Path(notes))


def _run_and_wait(folder: Path, stage: str, fault: Fault, notes: Path) -> Answer:
    context = multiprocessing.get_context("forkserver")
    os.environ["PYTHONPATH"] = f"{PROJECT}{os.pathsep}{PROJECT / 'tests'}"
    modules = sorted({module_of(each) for each in STAGES})
    context.set_forkserver_preload(["faults.stages_in_processes", *modules])
    process = context.Process(target=_run, args=(folder, stage, fault, notes))
    process.start()
    process.join(120)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"{stage} took more than two minutes")
    assert process.exitcode is not None
    said, trace = ((notes / name).read_text(encoding="utf-8") for name in ("said", "moments"))
    return Answer(process.exitcode, said, trace)


def _run(folder: Path, stage: str, fault: Fault, notes: Path) -> None:
    os.chdir(folder)
    stream = os.open(notes / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    for name in [name for name in os.environ if name.startswith(("DVC_", "MLFLOW_", "GENREC_"))]:
        del os.environ[name]
    names = arguments_of(stage)
    sys.argv = [stage, *names]
    from genrec.pipeline.command import run_stage

    module = importlib.import_module(module_of(stage))
    _count_moments(folder, os.open(notes / "moments", os.O_WRONLY | os.O_CREAT), fault)
    if fault.largest_file:
        if fault.kills_at_the_limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.largest_file, resource.RLIM_INFINITY))
    run_stage(module.main, module.__doc__, names)


def _count_moments(folder: Path, counter: int, fault: Fault) -> None:
    """A letter a moment, so that the trace outlives a kill."""
    from genrec.training.callbacks import EpochSeed

    root, passed = f"{folder}{os.sep}", 0

    def moment(letter: str = ".") -> None:
        nonlocal passed
        passed += 1
        os.write(counter, letter.encode("ascii"))
        if passed == fault.at_moment:
            os.kill(os.getpid(), fault.signal)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) and _is_within(path, root):
                moment()
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") and _is_within(arguments[0], root):
            moment()

    def counted(step: Callable[..., None]) -> Callable[..., None]:
        def start_batch(callback: Any, trainer: Any, model: Any, *arguments: Any) -> None:
            moment(getattr(model, "phase", "batch")[0])
            step(callback, trainer, model, *arguments)

        return start_batch

    sys.addaudithook(watch)
    EpochSeed.on_train_batch_start = counted(EpochSeed.on_train_batch_start)  # type: ignore[method-assign]


def _is_within(path: Any, root: str) -> bool:
    return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(root)
