"""What every training stage's scratch is named by, beside what the stage itself names, and what it reports."""

from dataclasses import replace
from pathlib import Path

import pytest

from genrec.errors import UserError
from genrec.layers.processes import n_processes
from genrec.networks.generating.history_towers import HistoryTowers
from genrec.params.runtime import Runtime
from genrec.params.trainer import Trainer
from genrec.towers.match_trainer import MatchTrainer
from genrec.training.config import RankingConfig
from genrec.training.stage import TrainingStage, check_machine

STAGES = Path(__file__).resolve().parents[2] / "stages"

TRAINER = Trainer(gpus=0, devices=1, strategy="auto", num_nodes=1, precision="32-true", num_threads=1, portable=True)


def folder(trainer=TRAINER, seed=1, settings=(), name="train", part="", progress_bar=False):
    stage = TrainingStage(name, trainer, Runtime(progress_bar=progress_bar, memory_gb=1), seed, lambda *_: None)
    with stage.scratch(settings, [], part) as found:
        return found.name


@pytest.mark.parametrize(
    "change",
    [
        {"trainer": replace(TRAINER, num_threads=2)},
        {"trainer": replace(TRAINER, portable=False)},
        {"trainer": replace(TRAINER, precision="bf16-mixed", portable=False)},
        {"seed": 2},
        {"settings": [5]},
        {"name": "train_other"},
        {"part": "tiger"},
    ],
)
def test_what_can_change_a_result_makes_another_folder(tmp_path, monkeypatch, change):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert folder(**change) != folder()


def test_what_cannot_change_a_result_goes_on_in_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert folder(progress_bar=True) == folder()


def stage_of(trainer):
    return TrainingStage("train_sasrec", trainer, Runtime(progress_bar=False, memory_gb=1), 1, lambda *_: None)


def test_a_portable_training_is_done_by_one_process_whatever_the_number_that_evaluate(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    stage = stage_of(replace(TRAINER, devices=2))
    with stage.scratch([], []) as found:  # which would start the others
        assert (stage.config(RankingConfig, found).devices, n_processes()) == (1, 1)
    assert stage_of(replace(TRAINER, devices=2, portable=False)).config(RankingConfig, found).devices == 2


def test_processes_that_were_started_for_a_portable_training_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"^2 processes have been started .* set trainer.portable to false to train by"):
        stage_of(replace(TRAINER, devices=2))
    check_machine("train_sasrec", replace(TRAINER, devices=2, portable=False))


@pytest.mark.parametrize("stage", ["train_sasrec", "train_tiger", "train_parallel", "train_two_tower"])
def test_the_state_that_is_reported_is_the_one_that_was_kept(stage, tmp_path):
    # ETEGRec reported the best of two stages and kept another; it has a test of its own
    chosen = RankingConfig(gpus=0) if stage != "train_two_tower" else MatchTrainer(
        HistoryTowers(5, embedding_dim=4, hidden_dims=(4,)), model_path=str(tmp_path)
    ).config  # fmt: skip
    source = (STAGES / f"{stage}.py").read_text(encoding="utf-8")
    assert f'stage.logger.summary("{chosen.monitor}", "{chosen.monitor_mode}")' in source
