"""A stage that is killed, terminated or meets a full disk leaves whole outputs or none, and ends well the next time."""

import random
import re
import shutil
import signal
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


def largest_output(attempt: Try) -> int:
    paths = [attempt.whole / output for output in outputs(attempt.stage)]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return max(file.stat().st_size for file in files if file.is_file())


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
    attempt.strike(Fault(attempt.moment(0.6)))
    assert any(attempt.folder.glob(".genrec/scratch/*/**/last.ckpt"))
    write_params(attempt.folder, {stage: {"learning_rate": 0.0123}})
    changed = run_stage_process(attempt.folder, stage)
    assert changed.status == 0, changed.said
    assert "resuming" not in changed.said
    write_params(attempt.folder)
    remove_outputs(attempt.folder, stage)
    assert "resuming" in attempt.run_again().said
