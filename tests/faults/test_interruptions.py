"""A stage that is killed, terminated or meets a full disk leaves whole outputs or none, and ends well the next time."""

import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.stages_in_processes import (
    STAGES,
    TRAINING,
    Answer,
    Fault,
    digests,
    outputs,
    remove_outputs,
    run_stage_process,
    write_params,
)

pytestmark = pytest.mark.faults

Reference = tuple[Path, dict[str, Answer]]
SEED = 7
PAGE = 4096


def seeded_shares(stage: str, n: int, fault: str) -> list[float]:
    """Shares of a stage's moments, one drawn from each n-th of them."""
    draw = random.Random(f"{SEED} {fault} {stage}")
    return [(turn + draw.random()) / n for turn in range(n)]


def cases(fault: str, n: int, n_training: int, n_etegrec: int) -> list[object]:
    numbers = {stage: n_training if stage in TRAINING else n for stage in STAGES} | {"train_etegrec": n_etegrec}
    return [
        pytest.param(stage, share, marks=pytest.mark.fault(f"{fault} {stage}"), id=f"{stage} {share:.2f}")
        for stage in STAGES
        for share in seeded_shares(stage, numbers[stage], fault)
    ]


class Try:
    """A copy of the reference in which one stage is to be run again."""

    def __init__(self, reference: Reference, folder: Path, stage: str) -> None:
        self.whole, answers = reference
        self.answer = answers[stage]
        self.stage = stage
        self.folder = folder / "project"
        shutil.copytree(self.whole, self.folder)
        remove_outputs(self.folder, stage)

    def moment(self, share: float) -> int:
        return 1 + int(share * self.answer.moments)

    def strike(self, fault: Fault) -> Answer:
        answer = run_stage_process(self.folder, self.stage, fault)
        whole, found = digests(self.whole), digests(self.folder)
        halves = [path for path, digest in found.items() if digest != whole[path]]
        assert halves == [], "an output is neither absent nor whole"
        others = digests(self.whole, [stage for stage in STAGES if stage != self.stage])
        assert others.items() <= found.items(), "an earlier stage's output is gone"
        return answer

    def strike_behind(self, checkpoint: str, share: float) -> list[Path]:
        """Kill near a share of the stage, where its scratch holds such files; between two trainings it holds none."""
        for offset in (0.0, -0.1, 0.1, -0.2, 0.2):
            self.strike(Fault(self.moment(share + offset)))
            files = [file for file in self.folder.glob(".genrec/scratch/*/**/*") if file.name.startswith(checkpoint)]
            if files:
                return files
            remove_outputs(self.folder, self.stage)
        raise AssertionError(f"no {checkpoint} around {share:.0%} of {self.stage}")

    def run_again(self) -> Answer:
        answer = run_stage_process(self.folder, self.stage)
        assert answer.status == 0, answer.said
        assert digests(self.folder) == digests(self.whole), "other bytes than without the fault"
        assert [file for file in self.folder.rglob(".*") if "partial" in file.name or file.name.endswith(".old")] == []
        assert not list((self.folder / ".genrec/scratch").glob("*"))
        return answer


@pytest.mark.parametrize(("stage", "share"), cases("kill -9 in", 3, 6, 12))
def test_a_killed_stage_ends_with_the_same_bytes(
    reference: Reference, tmp_path: Path, stage: str, share: float
) -> None:
    attempt = Try(reference, tmp_path, stage)
    assert attempt.strike(Fault(attempt.moment(share))).status == -signal.SIGKILL
    has_checkpoint = any(attempt.folder.glob(f".genrec/scratch/{stage}-*/**/last.ckpt"))
    again = attempt.run_again()
    assert ("resuming" in again.said) == has_checkpoint
    assert not has_checkpoint or again.moments < attempt.answer.moments, "it began from the beginning"


@pytest.mark.fault("kill -9 in a phase of ETEGRec")
@pytest.mark.parametrize("turn", ["first", "last"])
@pytest.mark.parametrize("phase", ["tokenizer", "recommender", "final"])
def test_etegrec_killed_within_a_phase_ends_with_the_same_bytes(
    reference: Reference, tmp_path: Path, phase: str, turn: str
) -> None:
    attempt = Try(reference, tmp_path, "train_etegrec")
    # an epoch's batches stand together, and two epochs of a phase are never neighbours but in the final stage
    epochs = list(re.finditer(f"{phase[0]}{{2,}}", attempt.answer.trace))
    chosen = epochs[0 if turn == "first" else -1]
    # moments count from 1: this is the epoch's second batch
    assert attempt.strike(Fault(chosen.start() + 2)).status == -signal.SIGKILL
    assert any(attempt.folder.glob(".genrec/scratch/*/joint.pt")) == (phase == "final")
    again = attempt.run_again()
    assert ("resuming" in again.said) == (chosen is not epochs[0] or phase != "tokenizer")


@pytest.mark.parametrize(("stage", "share"), cases("killed in the middle of a write in", 2, 2, 2))
def test_a_kill_in_the_middle_of_a_write_leaves_no_half_file(
    reference: Reference, tmp_path: Path, stage: str, share: float
) -> None:
    attempt = Try(reference, tmp_path, stage)
    limit = max(1, int(share * largest_output(attempt)))
    assert attempt.strike(Fault(largest_file=limit, kills_at_the_limit=True)).status == -signal.SIGXFSZ
    attempt.run_again()


@pytest.mark.parametrize(("stage", "share"), cases("full disk in", 2, 3, 3))
def test_a_full_disk_is_said_in_one_line(reference: Reference, tmp_path: Path, stage: str, share: float) -> None:
    attempt = Try(reference, tmp_path, stage)
    answer = attempt.strike(Fault(largest_file=max(1, int(share * largest_output(attempt)))))
    assert answer.status == 1
    assert "Traceback" not in answer.said
    assert answer.said.splitlines()[-1].startswith("error: ")
    assert "File too large" in answer.said or "requested and" in answer.said
    attempt.run_again()


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of its own, that a test can fill; only root may mount one."""
    disk = tmp_path_factory.mktemp("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("no disk could be mounted: the other tests of a full disk limit the size of a file")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize(("stage", "share"), cases("disk with no space left in", 1, 2, 2))
def test_no_space_left_is_said_in_one_line(reference: Reference, small_disk: Path, stage: str, share: float) -> None:
    attempt = Try(reference, small_disk / "try", stage)
    pages = sum(-(-file.stat().st_size // PAGE) for file in output_files(attempt))
    filler = small_disk / "filler"
    left = os.statvfs(small_disk)
    filler.write_bytes(b"." * (left.f_bavail * left.f_frsize - int(share * pages) * PAGE))
    answer = attempt.strike(Fault())
    filler.unlink()
    assert answer.status == 1, answer.said
    assert "Traceback" not in answer.said
    assert answer.said.splitlines()[-1].startswith("error: ")
    assert "No space left on device" in answer.said
    attempt.run_again()
    shutil.rmtree(small_disk / "try")


def largest_output(attempt: Try) -> int:
    return max(file.stat().st_size for file in output_files(attempt))


def output_files(attempt: Try) -> list[Path]:
    paths = [attempt.whole / output for output in outputs(attempt.stage)]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return [file for file in files if file.is_file()]


@pytest.mark.parametrize(("stage", "share"), cases("SIGTERM in", 1, 3, 4))
def test_a_terminated_stage_does_not_end_as_if_all_were_done(
    reference: Reference, tmp_path: Path, stage: str, share: float
) -> None:
    attempt = Try(reference, tmp_path, stage)
    answer = attempt.strike(Fault(attempt.moment(share), signal.SIGTERM))
    # Lightning finishes the step; the last one of all may finish the stage
    assert answer.status in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert "Traceback" not in answer.said
    attempt.run_again()


@pytest.mark.fault("scratch of other parameters")
@pytest.mark.parametrize("stage", TRAINING)
def test_another_parameters_scratch_is_never_resumed(reference: Reference, tmp_path: Path, stage: str) -> None:
    attempt = Try(reference, tmp_path, stage)
    attempt.strike_behind("last.ckpt", 0.6)
    write_params(attempt.folder, {stage: {"learning_rate": 0.0123}})
    changed = run_stage_process(attempt.folder, stage)
    assert changed.status == 0, changed.said
    assert "resuming" not in changed.said
    write_params(attempt.folder)
    remove_outputs(attempt.folder, stage)
    assert "resuming" in attempt.run_again().said


@pytest.mark.fault("damaged checkpoint of an interrupted training")
@pytest.mark.parametrize(
    ("stage", "name", "share"),
    [
        *((stage, "last.ckpt", 0.6) for stage in TRAINING if stage != "train_etegrec"),
        ("train_sasrec", "epoch=", 0.6),
        ("train_etegrec", "last.ckpt", 0.3),
        ("train_etegrec", "joint.pt", 0.7),
    ],
)
def test_a_damaged_checkpoint_is_not_gone_on_from(
    reference: Reference, tmp_path: Path, stage: str, name: str, share: float
) -> None:
    # as a power cut leaves a file whose name reached the disk before its content did
    attempt = Try(reference, tmp_path, stage)
    for file in attempt.strike_behind(name, share):
        file.write_bytes(file.read_bytes()[:100] if name == "last.ckpt" else b"")
    assert "is damaged" in attempt.run_again().said


@pytest.mark.fault("project moved between a kill and the next run")
@pytest.mark.parametrize("stage", ["train_sasrec", "train_etegrec"])
def test_a_moved_project_ends_with_the_same_bytes(reference: Reference, tmp_path: Path, stage: str) -> None:
    # a checkpoint names its folder, and Lightning forgets the best score when that is another
    attempt = Try(reference, tmp_path, stage)
    attempt.strike(Fault(attempt.moment(0.7)))
    moved = tmp_path / "elsewhere"
    attempt.folder.rename(moved)
    attempt.folder = moved
    (scratch,) = (moved / ".genrec/scratch").glob("*")
    assert "resuming" not in run_stage_process(moved, stage).said
    shutil.rmtree(scratch)
    assert digests(moved) == digests(attempt.whole)


@pytest.mark.fault("learning rate of 1e30 in every training")
@pytest.mark.parametrize("stage", TRAINING)
def test_a_training_that_explodes_is_told_with_its_place(reference: Reference, tmp_path: Path, stage: str) -> None:
    attempt = Try(reference, tmp_path, stage)
    write_params(attempt.folder, {stage: {"learning_rate": 1e30}})
    answer = attempt.strike(Fault())
    assert answer.status == 1
    assert "Traceback" not in answer.said
    (line,) = [line for line in answer.said.splitlines() if line.startswith("error: ")]
    assert re.match(rf"error: {stage}(/\w+)?: in epoch \d+, batch \d+, step \d+: .*lower the learning rate", line)
    write_params(attempt.folder)
    assert "resuming" not in run_stage_process(attempt.folder, stage).said
    assert digests(attempt.folder) == digests(attempt.whole)
