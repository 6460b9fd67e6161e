"""What every training stage's scratch is named by, beside the sections that the stage itself names."""

from dataclasses import replace

import pytest

from genrec.params.runtime import Runtime
from genrec.params.trainer import Trainer
from genrec.training.stage import TrainingStage

TRAINER = Trainer(gpus=0, precision="32-true", num_threads=1, portable=True)


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
