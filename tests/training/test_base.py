"""The training loop: which weights are kept, when it stops, and that an interrupted run ends as if it never was."""

import hashlib
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from genrec.codes.code_table import build_code_table
from genrec.errors import UserError
from genrec.models.rqvae import RqVae
from genrec.models.sasrec import SASRec
from genrec.models.tiger import Tiger
from genrec.sequences.batches import BatchSampler, Rows, Windows, row_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.training.base import BaseTrainer, check_gpus
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`.*"),
]


def config(folder, **options):
    settings = {
        "max_epochs": 4, "gpus": 0, "early_stopping_patience": 0, "save_top_k": 1, "progress_bar": False,
        "checkpoint_dir": str(folder),
    }  # fmt: skip
    return TrainingConfig(**(settings | options))


class Scripted(pl.LightningModule):
    """Its weight counts its steps; after the n-th step validation measures the n-th value of a list."""

    def __init__(self, values, name="val_loss"):
        super().__init__()
        self.values, self.name_of_metric = values, name
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.drawn = []

    def training_step(self, batch, batch_idx):
        self.drawn.append((self.current_epoch, float(torch.rand(()))))
        self.log("train_loss", self.weight.detach(), on_step=False, on_epoch=True)
        return -self.weight

    def validation_step(self, batch, batch_idx):
        self.log(self.name_of_metric, self.values[int(self.weight) - 1])

    def test_step(self, batch, batch_idx):
        self.log("test_weight", self.weight.detach())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def batches(n=1):
    return DataLoader(torch.zeros(n, 1), batch_size=1)


def fit(folder, values, name="val_loss", n_batches=1, logger=None, **options):
    """Train a scripted model; the model, whose weight tells which state it has, and the trainer."""
    model = Scripted(values, name)
    settings = config(folder, **({"max_epochs": len(values) // n_batches, "gradient_clip_val": 0.0} | options))
    trainer = BaseTrainer(model, settings, logger or CurveLogger())
    trainer.train(batches(n_batches), batches())
    return model, trainer


def test_the_best_weights_are_restored_also_when_all_epochs_run(tmp_path):
    # torch-rechub restores them only after an early stop.
    model, trainer = fit(tmp_path, [3.0, 1.0, 2.0, 2.5])
    assert model.weight == 2
    assert trainer.trainer.current_epoch == 4


def test_the_best_weights_are_restored_after_an_early_stop(tmp_path):
    model, trainer = fit(tmp_path, [3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0], early_stopping_patience=3)
    assert model.weight == 2
    assert trainer.trainer.current_epoch == 2 + 3


def test_a_last_epoch_that_is_best_is_kept(tmp_path):
    assert fit(tmp_path, [3.0, 2.0, 1.0])[0].weight == 3


def test_of_equal_epochs_the_first_is_kept(tmp_path):
    assert fit(tmp_path, [3.0, 1.0, 1.0, 2.0])[0].weight == 2


def test_a_metric_to_maximise_keeps_its_largest_value(tmp_path):
    model, _ = fit(tmp_path, [0.1, 0.3, 0.2], name="val_ndcg", monitor="val_ndcg", monitor_mode="max")
    assert model.weight == 2


def test_early_stopping_follows_the_metric_and_its_mode(tmp_path):
    _, trainer = fit(
        tmp_path, [0.1, 0.3, 0.2, 0.2, 0.2, 0.2], name="val_ndcg", monitor="val_ndcg", monitor_mode="max",
        early_stopping_patience=2,
    )  # fmt: skip
    assert trainer.trainer.current_epoch == 4


def test_without_patience_no_run_stops_early(tmp_path):
    assert fit(tmp_path, [1.0] + [2.0] * 14)[1].trainer.current_epoch == 15


def test_validation_every_other_epoch_chooses_among_those_epochs(tmp_path):
    # the third epoch would be best, but is not validated
    model, _ = fit(tmp_path, [3.0, 2.0, 1.0, 2.5, 3.0, 4.0], val_check_interval=2)
    assert model.weight == 2


def test_validation_twice_an_epoch_may_choose_its_middle(tmp_path):
    model, _ = fit(tmp_path, [4.0, 3.0, 1.0, 2.0], n_batches=2, val_check_interval=0.5)
    assert model.weight == 3


def test_a_run_that_ends_before_its_first_validation_keeps_its_last_weights(tmp_path):
    model, _ = fit(tmp_path, [3.0, 2.0], val_check_interval=5)
    assert model.weight == 2


def test_without_a_validation_set_the_last_weights_stay(tmp_path):
    model = Scripted([])
    BaseTrainer(model, config(tmp_path, max_epochs=3, gradient_clip_val=0.0), CurveLogger()).train(batches())
    assert model.weight == 3


def test_steps_are_clipped_to_the_norm_of_the_config(tmp_path):
    assert fit(tmp_path, [1.0], gradient_clip_val=0.25)[0].weight.item() == pytest.approx(0.25)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_fused_optimizer_is_clipped_in_either_precision(tmp_path, precision):
    """In bfloat16 every stage stopped at its first step: Lightning takes a fused optimizer to unscale gradients."""

    class Fused(Scripted):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0, fused=True)

    model = Fused([1.0])
    settings = config(tmp_path, max_epochs=1, gradient_clip_val=0.25, precision=precision)
    BaseTrainer(model, settings, CurveLogger()).train(batches(), batches())
    assert model.weight.item() == pytest.approx(0.25)


def test_the_restored_model_is_tested(tmp_path):
    _, trainer = fit(tmp_path, [3.0, 1.0, 2.0])
    assert trainer.test(batches()) == {"test_weight": 2}


def test_a_bare_trainer_logs_for_tensorboard(tmp_path):
    settings = config(tmp_path, log_dir=str(tmp_path / "logs"), experiment_name="first", version="v1")
    trainer = BaseTrainer(Scripted([]), settings)
    assert isinstance(trainer.logger, TensorBoardLogger)
    assert trainer.logger.log_dir == str(tmp_path / "logs" / "first" / "v1")


def test_a_logger_that_is_empty_is_still_the_users_own(tmp_path):
    # `logger or default` would replace it
    class Empty(CurveLogger):
        def __len__(self):
            return 0

    logger = Empty()
    assert BaseTrainer(Scripted([]), config(tmp_path), logger).logger is logger


def test_checkpoints_are_named_by_epoch_and_metric(tmp_path):
    fit(tmp_path, [3.0, 1.0, 2.0, 2.5], save_top_k=2)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["epoch=1-val_loss=1.00.ckpt", "epoch=2-val_loss=2.00.ckpt", "last.ckpt"]


def test_no_trainer_is_there_before_it_is_needed(tmp_path):
    trainer = BaseTrainer(Scripted([]), config(tmp_path), CurveLogger())
    assert trainer.trainer is None
    assert trainer.test(batches()) == {"test_weight": 0}
    assert trainer.trainer is not None


def test_a_test_that_logs_nothing_gives_nothing(tmp_path):
    class Silent(Scripted):
        def test_step(self, batch, batch_idx):
            pass

    assert BaseTrainer(Silent([]), config(tmp_path), CurveLogger()).test(batches()) == {}


def test_a_trainer_that_was_set_up_and_changed_is_the_one_that_trains(tmp_path):
    class Count(pl.Callback):
        epochs = 0

        def on_train_epoch_end(self, trainer, pl_module):
            self.epochs += 1

    trainer = BaseTrainer(Scripted([1.0] * 2), config(tmp_path, max_epochs=2), CurveLogger())
    trainer.setup_trainer()
    mine, counting = trainer.trainer, Count()
    mine.callbacks.append(counting)
    trainer.train(batches(), batches())
    assert trainer.trainer is mine
    assert counting.epochs == 2


def test_a_second_training_goes_on_from_the_weights_of_the_first(tmp_path):
    # Lightning's own trainer has reached its last epoch and would do nothing, without a word
    model, trainer = fit(tmp_path, [3.0, 2.0, 1.0, 0.9, 0.8, 0.7], max_epochs=3)
    assert model.weight == 3
    trainer.train(batches(), batches())
    assert model.weight == 6


def test_a_test_does_not_use_the_training_up(tmp_path):
    model = Scripted([2.0, 1.0])
    trainer = BaseTrainer(model, config(tmp_path, max_epochs=2, gradient_clip_val=0.0), CurveLogger())
    trainer.test(batches())
    trainer.train(batches(), batches())
    assert model.weight == 2


def test_without_a_validation_set_patience_stops_nothing(tmp_path):
    # Lightning's early stopping raises where its metric is never logged
    model = Scripted([])
    settings = config(tmp_path, max_epochs=3, gradient_clip_val=0.0, early_stopping_patience=1)
    BaseTrainer(model, settings, CurveLogger()).train(batches())
    assert model.weight == 3


def test_a_metric_that_validation_does_not_log_is_refused(tmp_path):
    with pytest.raises(MisconfigurationException, match="val_lsos"):
        fit(tmp_path, [1.0, 1.0], monitor="val_lsos", early_stopping_patience=2)


@pytest.fixture
def _determinism_of_the_process():
    mode = torch.get_deterministic_debug_mode()
    yield
    torch.set_deterministic_debug_mode(mode)


class Undetermined(Scripted):
    """Uses an operation without a deterministic algorithm, as some are on a GPU."""

    def training_step(self, batch, batch_idx):
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))
        return super().training_step(batch, batch_idx)


@pytest.mark.usefixtures("_determinism_of_the_process")
def test_operations_without_a_deterministic_algorithm_are_refused_or_named(tmp_path):
    settings = {"max_epochs": 1, "gradient_clip_val": 0.0}
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        BaseTrainer(Undetermined([]), config(tmp_path, **settings), CurveLogger()).train(batches())
    model = Undetermined([])
    trainer = BaseTrainer(model, config(tmp_path, deterministic="warn", **settings), CurveLogger())
    with pytest.warns(UserWarning, match="does not have a deterministic implementation"):
        trainer.train(batches())
    assert model.weight == 1


@pytest.mark.parametrize(
    ("gpus", "accelerator", "devices"), [(0, "cpu", 1), ([], "cpu", 1), (1, "gpu", 1), ([3], "gpu", [3])]
)
def test_gpus_are_lightnings_accelerator_and_devices(tmp_path, monkeypatch, gpus, accelerator, devices):
    # Lightning 2 knows no `gpus` any more
    given = {}
    monkeypatch.setattr(pl, "Trainer", lambda **options: given.update(options) or pl_trainer(logger=False))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    pl_trainer = Trainer
    BaseTrainer(Scripted([]), config(tmp_path, gpus=gpus), CurveLogger()).setup_trainer()
    assert (given["accelerator"], given["devices"]) == (accelerator, devices)
    assert "gpus" not in given


def test_setting_up_seeds_all_random_numbers(tmp_path):
    def drawn(seed):
        BaseTrainer(Scripted([]), config(tmp_path, random_seed=seed), CurveLogger()).setup_trainer()
        return torch.rand(()).item(), np.random.rand(), random.random()  # noqa: NPY002 (seeded for whoever uses it)

    assert drawn(1) == drawn(1)
    assert all(one != other for one, other in zip(drawn(1), drawn(2), strict=True))


def test_a_bare_trainer_draws_the_bar_that_it_is_told_to(tmp_path):
    settings = {"log_dir": str(tmp_path / "logs")}
    for progress_bar in (True, False):
        trainer = BaseTrainer(Scripted([]), config(tmp_path, progress_bar=progress_bar, **settings))
        trainer.setup_trainer()
        assert (trainer.trainer.progress_bar_callback is not None) is progress_bar


def test_curves_have_a_row_an_epoch(tmp_path):
    logger = CurveLogger()
    fit(tmp_path, [3.0, 1.0, 2.0], logger=logger)
    assert logger.rows == {
        0: {"train_loss": 0, "val_loss": 3},
        1: {"train_loss": 1, "val_loss": 1},
        2: {"train_loss": 2, "val_loss": 2},
    }


def test_each_epoch_writes_a_line_where_no_bar_can_be_drawn(tmp_path, capsys):
    fit(tmp_path, [3.0, 1.5], progress_bar=True)
    assert capsys.readouterr().err == "epoch 1/2  train_loss 0  val_loss 3\nepoch 2/2  train_loss 1  val_loss 1.5\n"


def test_an_epochs_line_shows_nothing_of_earlier_epochs(tmp_path, capsys):
    # Lightning's `callback_metrics` keep the last value of each name, also of epochs ago.
    fit(tmp_path, [4.0, 3.0, 2.0, 1.0], progress_bar=True, val_check_interval=2)
    shown = ["val_loss" in line for line in capsys.readouterr().err.splitlines()]
    assert shown == [False, True, False, True]


def test_a_long_run_writes_twenty_lines(tmp_path, capsys):
    fit(tmp_path, [1.0] * 60, progress_bar=True)
    assert len(capsys.readouterr().err.splitlines()) == 20


def test_a_run_without_a_bar_is_silent(tmp_path, capsys):
    fit(tmp_path, [3.0, 1.5])
    assert capsys.readouterr() == ("", "")


def test_each_epoch_has_randomness_of_its_own_that_follows_from_the_seed(tmp_path):
    first, second = (fit(tmp_path / name, [1.0] * 3)[0].drawn for name in ("a", "b"))
    other = fit(tmp_path / "c", [1.0] * 3, random_seed=1)[0].drawn
    assert first == second
    assert len({value for _, value in first + other}) == 6


# Interruptions. Lightning's own handling of Ctrl-C ends the process, so these raise an exception of their own.


class InterruptionError(Exception):
    pass


class Interrupting(BatchSampler):
    """Raises in the given epoch before the given batch."""

    def __init__(self, *arguments, epoch, batch=0):
        super().__init__(*arguments)
        self.stop = epoch, batch

    def __iter__(self):
        for number, rows in enumerate(super().__iter__()):
            if (self.epoch, number) == self.stop:
                raise InterruptionError
            yield rows


def ring_histories():
    """24 users who walk around a ring of 10 items from different places, one item in four from anywhere."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 12, 24)
    walks = [(start + np.arange(length)) % 10 for start, length in zip(rng.integers(0, 10, 24), lengths, strict=True)]
    items = np.where(rng.random(lengths.sum()) < 0.25, rng.integers(0, 10, lengths.sum()), np.concatenate(walks)) + 1
    return Histories(items.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]), n_items=10)


HISTORIES = ring_histories()
FEATURES = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


def sasrec():
    torch.manual_seed(0)
    return SASRec(n_items=10, embedding_dim=8, num_layers=1, num_heads=2, dropout=0.3, max_history=6)


def tiger():
    torch.manual_seed(0)
    model = Tiger(
        1 + 3 * 4, embedding_dim=8, num_heads=2, num_layers=1, attn_dim=16, dropout=0.2, max_seq_length=18,
        code_length=3, n_items=10, warmup_steps=7, schedule="cosine", learning_rate=5e-3, n_beams=10,
    )  # fmt: skip
    model.set_code_table(build_code_table(torch.cartesian_prod(torch.arange(4), torch.arange(4))[:10], 4))
    return model


def rqvae():
    """Learning rates so large that validation gets worse: the plateau scheduler has something to do."""
    torch.manual_seed(0)
    model = RqVae(input_dim=6, hidden_dim=8, latent_dim=4, num_embeddings=6, num_levels=2, learning_rate=0.3)
    model.initialize_codebooks(FEATURES, 5, seed=0)
    return model


def train_part(batch_size, **interruption):
    """Windows of 6 items in batches, or with an interruption."""
    if not interruption:
        return window_loader(HISTORIES, "train", 6, batch_size, seed=3)
    examples = HISTORIES.examples("train").cut(6)
    sampler = Interrupting(len(examples), batch_size, 3, examples.lengths, **interruption)
    return DataLoader(Windows(HISTORIES, examples), sampler=sampler, batch_size=None)


class LastItem(torch.utils.data.Dataset):
    """Windows with the target of their last position only, as SASRec takes them."""

    def __init__(self, windows):
        self.windows = windows

    def __getitem__(self, rows):
        batch = self.windows[rows]
        target = torch.zeros_like(batch["history"])
        target[torch.arange(len(rows)), (batch["history"] > 0).sum(1) - 1] = batch["target"]
        return {"history": batch["history"], "target": target}


def sasrec_part(**interruption):
    loader = train_part(32, **interruption)
    return DataLoader(LastItem(loader.dataset), sampler=loader.sampler, batch_size=None)


def rows_part(**interruption):
    if not interruption:
        return row_loader(FEATURES, 16, seed=3)
    return DataLoader(Rows(FEATURES), sampler=Interrupting(40, 16, 3, **interruption), batch_size=None)


def validation_windows():
    return window_loader(HISTORIES, "validation", 6, 32, seed=3)


CASES = {
    "sasrec": (sasrec, sasrec_part, validation_windows, {"monitor": "val_ndcg_at_10", "monitor_mode": "max"}),
    "tiger": (tiger, lambda **stop: train_part(32, **stop), validation_windows, {}),
    "rqvae": (
        rqvae,
        rows_part,
        lambda: row_loader(FEATURES, 40, seed=3),
        {"monitor": "val_selection", "max_epochs": 12},
    ),
}


def run(case, folder, *, validates=True, resume=False, interruption=None, **options):
    """Train as a stage does; the model's state, the last checkpoint's state, the curves."""
    build, train, validate, settings = CASES[case]
    model, logger = build(), CurveLogger()
    trainer = BaseTrainer(model, config(folder, **(settings | options | {"resume": resume})), logger)
    trainer.train(train(**(interruption or {})), validate() if validates else None)
    last = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    return {name: value.clone() for name, value in model.state_dict().items()}, last, logger.rows


def assert_equal_weights(first, second):
    for states, others in zip(first[:2], second[:2], strict=True):
        assert [name for name in states if not torch.equal(states[name], others[name])] == []


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
    """Uninterrupted runs, made once a case."""
    made = {}

    def whole(case, **options):
        key = (case, *options.items())
        if key not in made:
            made[key] = run(case, tmp_path_factory.mktemp(case), **options)
        return made[key]

    return whole


@pytest.mark.parametrize("batch", [0, 1], ids=["between epochs", "within an epoch"])
@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("case", ["sasrec", "tiger", "rqvae"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(whole_runs, tmp_path, case, epoch, batch):
    # its iterator is made, not when the first batch is asked for, then repeats the order of epoch 0
    with pytest.raises(InterruptionError):
        run(case, tmp_path, interruption={"epoch": epoch, "batch": batch})
    assert_equal_weights(run(case, tmp_path, resume=True), whole_runs(case))


def test_an_interrupted_run_without_validation_ends_as_an_uninterrupted_one(whole_runs, tmp_path):
    with pytest.raises(InterruptionError):
        run("sasrec", tmp_path, validates=False, interruption={"epoch": 2, "batch": 1})
    resumed = run("sasrec", tmp_path, validates=False, resume=True)
    assert_equal_weights(resumed, whole_runs("sasrec", validates=False))


def test_an_interrupted_run_that_validates_every_other_epoch_ends_as_an_uninterrupted_one(whole_runs, tmp_path):
    with pytest.raises(InterruptionError):
        run("tiger", tmp_path, val_check_interval=2, interruption={"epoch": 3})
    resumed = run("tiger", tmp_path, val_check_interval=2, resume=True)
    assert_equal_weights(resumed, whole_runs("tiger", val_check_interval=2))


def test_a_run_may_be_interrupted_more_than_once(whole_runs, tmp_path):
    for epoch in (1, 2, 3):
        with pytest.raises(InterruptionError):
            run("tiger", tmp_path, resume=True, interruption={"epoch": epoch, "batch": 1})
    assert_equal_weights(run("tiger", tmp_path, resume=True), whole_runs("tiger"))


class Plateau(Scripted):
    """Halves its steps after every second epoch without gain."""

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", 1.0)

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


def test_an_interrupted_run_remembers_how_long_validation_did_not_improve(tmp_path):
    # the epoch's end does not know of that step, and the rate is halved an epoch late
    def last_weight(folder, resume=False, **interruption):
        sampler = Interrupting(1, 1, 0, **({"epoch": -1} | interruption))
        loader = DataLoader(Rows(torch.zeros(1, 1)), sampler=sampler, batch_size=None)
        settings = config(folder, max_epochs=8, gradient_clip_val=0.0, resume=resume)
        BaseTrainer(Plateau([]), settings, CurveLogger()).train(loader, batches())
        return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]["weight"].item()

    whole = last_weight(tmp_path / "whole")
    # bad epochs are counted from the second one: the rate is halved after the third and after the fifth and seventh
    assert whole == 3 * 1 + 2 / 2 + 2 / 4 + 1 / 8
    with pytest.raises(InterruptionError):
        last_weight(tmp_path / "interrupted", epoch=2)
    assert last_weight(tmp_path / "interrupted", resume=True) == whole


@pytest.mark.parametrize("case", ["sasrec", "tiger", "rqvae"])
def test_the_curves_of_a_resumed_run_are_those_of_an_uninterrupted_one(whole_runs, tmp_path, case):
    with pytest.raises(InterruptionError):
        run(case, tmp_path, interruption={"epoch": 2})
    assert run(case, tmp_path, resume=True)[2] == whole_runs(case)[2]


def test_a_finished_run_ends_with_the_same_model_again(whole_runs, tmp_path):
    # the process may end between the last checkpoint and the stage's outputs
    run("tiger", tmp_path)
    assert_equal_weights(run("tiger", tmp_path, resume=True), whole_runs("tiger"))


def test_a_finished_run_ends_with_the_same_curves_again(whole_runs, tmp_path):
    run("tiger", tmp_path)
    assert run("tiger", tmp_path, resume=True)[2] == whole_runs("tiger")[2]


def test_a_finished_run_without_validation_ends_with_its_last_weights_again(tmp_path):
    # the model kept its start
    def train(**options):
        model = Scripted([])
        BaseTrainer(model, config(tmp_path, **options), CurveLogger()).train(batches())
        return model

    assert train(gradient_clip_val=0.0).weight == 4
    again = train(gradient_clip_val=0.0, resume=True)
    assert again.drawn == []
    assert again.weight == 4


def test_a_run_that_stopped_early_is_not_trained_again(tmp_path):
    values = [3.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    fit(tmp_path, values, early_stopping_patience=2)
    model, _ = fit(tmp_path, values, early_stopping_patience=2, resume=True)
    assert model.drawn == []
    assert model.weight == 2


def test_its_folders_may_begin_at_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    BaseTrainer(Scripted([]), config("~/models", log_dir="~/logs", max_epochs=1)).train(batches())
    assert (tmp_path / "home" / "models" / "last.ckpt").exists()
    assert (tmp_path / "home" / "logs").exists()
    assert not (tmp_path / "~").exists()


def test_an_empty_loader_is_refused_and_not_taken_for_a_training(tmp_path):
    for loaders, name in (([batches(0)], "train_dataloader"), ([batches(), batches(0)], "val_dataloader")):
        with pytest.raises(ValueError, match=f"{name} must hold batches, but it is empty"):
            BaseTrainer(Scripted([]), config(tmp_path), CurveLogger()).train(*loaders)
    assert not (tmp_path / "last.ckpt").exists()


def test_the_run_of_another_network_is_refused_in_one_line(tmp_path):
    fit(tmp_path, [3.0, 1.0])
    other = Scripted([3.0, 1.0])
    other.weight = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(
        UserError, match=r"last.ckpt is the run of another network, 1 .* weight is \(\) there and \(2,\) "
    ):
        BaseTrainer(other, config(tmp_path, resume=True), CurveLogger()).train(batches(), batches())


def test_without_resuming_an_old_checkpoint_is_ignored(tmp_path):
    fit(tmp_path, [3.0, 1.0])
    model, _ = fit(tmp_path, [3.0, 1.0, 2.0])
    assert [epoch for epoch, _ in model.drawn] == [0, 1, 2]
    assert model.weight == 2


def test_resuming_without_a_checkpoint_starts_from_the_beginning(tmp_path):
    assert [epoch for epoch, _ in fit(tmp_path, [3.0, 1.0], resume=True)[0].drawn] == [0, 1]


def test_a_resumed_run_says_where_it_goes_on(tmp_path, capsys):
    with pytest.raises(InterruptionError):
        run("tiger", tmp_path, interruption={"epoch": 2})
    run("tiger", tmp_path, resume=True, experiment_name="train_tiger")
    assert capsys.readouterr().err == "resuming train_tiger after epoch 2\n"


PROGRAM = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from tests.training.test_base import CASES, config
from genrec.storage.checkpoint import save_model
from genrec.training.base import BaseTrainer
from genrec.training.curves import CurveLogger, write_curves
folder = Path(sys.argv[2])
build, train, validate, settings = CASES["tiger"]
model, logger = build(), CurveLogger()
BaseTrainer(model, config(folder, **settings), logger).train(train(), validate())
save_model(model, folder / "model.ckpt")
write_curves(logger.rows, folder / "history.csv")
"""


def test_two_processes_train_the_same_bytes(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, root, str(folder)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            stderr=subprocess.PIPE,
        )
        for folder, seed in zip(folders, ("1", "2"), strict=True)
    ]
    for process in processes:
        assert process.communicate()[1] == b""
    for name in ("model.ckpt", "history.csv"):
        first, second = (hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in folders)
        assert first == second


@pytest.mark.parametrize("gpus", [1, [99]])
def test_gpus_that_are_not_there_are_refused(gpus):
    check_gpus(0)
    check_gpus([])
    with pytest.raises(UserError, match=r"^gpus is .*, but torch finds \d+ GPUs on this machine; choose one of them"):
        check_gpus(gpus)
    with pytest.raises(UserError, match=r"^trainer\.gpus is .*, but torch finds"):
        check_gpus(gpus, "trainer.gpus")


@pytest.mark.parametrize("gpus", [2, [0, 1]])
def test_several_gpus_are_refused_for_each_process_would_train_the_same_batches(gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(UserError, match=r"gpus is .*, but a training runs on one GPU: .*; choose one, or none for the"):
        check_gpus(gpus)
