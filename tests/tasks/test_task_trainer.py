"""What CTRTrainer, MatchTrainer and MTLTrainer have in common."""

import shutil
import struct
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from mlflow import MlflowClient
from pytorch_lightning.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
from tensorboardX.proto.event_pb2 import Event
from torch.utils.data import DataLoader

from genrec.errors import UserError
from genrec.networks.generating.two_tower import DSSM
from genrec.ranking.ctr import DeepFM
from genrec.ranking.ctr_trainer import CTRTrainer
from genrec.ranking.feature_batches import FeatureRows, feature_loader
from genrec.ranking.mtl_trainer import MTLTrainer
from genrec.ranking.multi_task import MMOE
from genrec.tasks.features import SparseFeature
from genrec.towers.match_trainer import MatchTrainer
from genrec.training.base import BaseTrainer
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger

pytestmark = pytest.mark.slow

A, B = SparseFeature("a", 10, 4), SparseFeature("b", 10, 4)
TYPES = ["classification", "regression"]
KINDS = ("ctr", "match", "match in batch", "mtl")


def trainer(kind, folder, **options):
    torch.manual_seed(0)
    settings = {"n_epoch": 3, "model_path": str(folder), "model_logger": CurveLogger(), "progress_bar": False}
    settings |= options
    if kind == "ctr":
        return CTRTrainer(DeepFM([A, B], [A, B], (8,), dropout=0.2), **settings)
    if kind == "mtl":
        settings |= {"adaptive_params": {"method": "gradnorm"}}
        return MTLTrainer(MMOE([A, B], TYPES, 2, (8,), (4,), dropout=0.2), TYPES, **settings)
    if kind == "match in batch":
        settings |= {"in_batch_neg": True, "in_batch_neg_ratio": 4, "sampler_seed": 1}
    return MatchTrainer(DSSM([A], [B], (8,), 4, 0.1, dropout=0.2), 0, **settings)


def rows(kind, seed=0, n=64):
    generator = torch.Generator().manual_seed(seed)
    x = {name: torch.randint(0, 10, (n,), generator=generator) for name in "ab"}
    click = (torch.rand(n, generator=generator) < (x["a"] + 1) / 11).float()
    return FeatureRows(x, torch.stack([click, x["b"] / 3], dim=1) if kind == "mtl" else click)


def loader(kind):
    return DataLoader(rows(kind), batch_size=16, shuffle=True)


def val_loader(kind):
    val = rows(kind, seed=5)
    return feature_loader(val.features, val.labels, 16)


def assert_equal(first, second):
    first, second = first.model.state_dict(), second.model.state_dict()
    assert [name for name, value in first.items() if not torch.equal(value, second[name])] == []


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_a_base_trainer_of_a_lightning_module(tmp_path, kind):
    made = trainer(kind, tmp_path, model_logger=None)
    assert isinstance(made, BaseTrainer)
    assert isinstance(made.model, pl.LightningModule)
    assert isinstance(made.config, TrainingConfig)
    assert isinstance(made.logger, TensorBoardLogger)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_figures_and_the_same_weights(tmp_path, kind):
    first, second = (trainer(kind, tmp_path / name) for name in "ab")
    for each in (first, second):
        each.fit(loader(kind), val_loader(kind))
    assert first.logger.rows == second.logger.rows
    assert_equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_as_if_it_never_was(tmp_path, kind, fit_killed_in_epoch_2):
    whole, killed = (trainer(kind, tmp_path / name, n_epoch=4) for name in "ab")
    whole.fit(loader(kind), val_loader(kind))
    fit_killed_in_epoch_2(killed, loader(kind), val_loader(kind))
    resumed = trainer(kind, tmp_path / "b", n_epoch=4, resume=True)
    resumed.fit(loader(kind), val_loader(kind))
    assert whole.logger.rows == resumed.logger.rows
    assert_equal(whole, resumed)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_validation_set_all_epochs_run_and_the_last_weights_are_saved(tmp_path, kind):
    fitted = trainer(kind, tmp_path, earlystop_patience=1)
    fitted.fit(loader(kind))
    (file,) = tmp_path.glob("model*.pth")
    assert len(fitted.logger.rows) == 3
    saved = torch.load(file, weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in fitted.model.network.state_dict().items())


# A run that had ended and is resumed.


def states(folder, kind, *val, network_seed, **options):
    """Train or resume; what stands in the model's file afterwards, and the network."""
    torch.manual_seed(network_seed)
    made = trainer(kind, folder, **options)
    torch.manual_seed(network_seed)
    for parameter in made.model.network.parameters():
        torch.nn.init.normal_(parameter)
    found = made.fit(loader(kind), *val)
    (file,) = Path(folder).glob("model*.pth")
    return file.read_bytes(), made, found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("validates_first", [False, True])
@pytest.mark.parametrize("validates_again", [False, True])
def test_a_finished_run_that_is_resumed_gives_its_own_weights(tmp_path, kind, validates_first, validates_again):
    # Without validation the network kept its random start, and that took the place of the good model.pth.
    first, again = ([val_loader(kind)] if given else [] for given in (validates_first, validates_again))
    written, fitted, rows_of_epochs = states(tmp_path, kind, *first, network_seed=0)
    written_again, resumed, rows_again = states(tmp_path, kind, *again, network_seed=9, resume=True)
    assert written_again == written
    assert_equal(fitted, resumed)
    assert rows_again == rows_of_epochs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_epoch", [3, 5], ids=["finished", "to go on"])
def test_resuming_the_run_of_another_network_is_refused_in_one_line(tmp_path, kind, n_epoch):
    written, *_ = states(tmp_path, kind, network_seed=0)
    made = trainer(kind, tmp_path, resume=True, n_epoch=n_epoch)
    made.model.network.embedding.tables["b"] = torch.nn.Embedding(11, 4)
    with pytest.raises(UserError) as refused:
        made.fit(loader(kind))
    assert str(refused.value) == (
        f"{tmp_path / 'checkpoints' / 'last.ckpt'} is the run of another network, 1 of its tensors differ: "
        "network.embedding.tables.b.weight is (10, 4) there and (11, 4) here; start anew with resume=False, or in "
        "another folder"
    )
    (file,) = tmp_path.glob("model*.pth")
    assert file.read_bytes() == written


def test_a_finished_run_without_any_finite_score_is_resumed_with_its_last_weights(tmp_path):
    # Resumed, it took the first epoch's: what was never finite was remembered as minus infinity by Lightning alone.
    one_class = feature_loader(rows("ctr").features, torch.ones(64), 16)
    written, fitted, _ = states(tmp_path, "ctr", one_class, network_seed=0)
    written_again, resumed, _ = states(tmp_path, "ctr", one_class, network_seed=9, resume=True)
    assert written_again == written
    assert_equal(fitted, resumed)


# Names of figures.

NAMES = {
    "ctr": {"train/loss", "learning_rate", "val/auc"},
    "match": {"train/loss", "learning_rate", "val/auc", "val/recall_at_10", "val/ndcg_at_10"},
    "mtl": {"train/loss", "learning_rate", "val/task_0_score", "val/task_1_score", "train/task_0_loss",
            "loss_weight/task_0", "loss_weight/task_1"},
}  # fmt: skip


def names_in_tensorboard(folder):
    """The tags of an event file, whose records are a length, its checksum, an event, and its checksum."""
    (file,) = Path(folder).rglob("events.*")
    content, names = file.read_bytes(), set()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        names |= {value.tag for value in event.summary.value}
        content = content[16 + length :]
    return names


def names_in_csv(folder):
    (file,) = Path(folder).rglob("metrics.csv")
    return set(file.read_text().splitlines()[0].split(","))


def names_in_mlflow(logger):
    (run,) = MlflowClient(logger._tracking_uri).search_runs([logger.experiment_id])
    return set(run.data.metrics)


@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")
@pytest.mark.parametrize("kind", NAMES)
def test_tensorboard_csv_and_mlflow_get_the_same_names(tmp_path, kind, empty_database):
    uri = f"sqlite:///{shutil.copy(empty_database, tmp_path)}"
    loggers = [TensorBoardLogger(tmp_path / "tb"), CSVLogger(tmp_path / "csv"), MLFlowLogger(kind, tracking_uri=uri)]
    for logger in loggers:
        fitted = trainer(kind, tmp_path / type(logger).__name__, n_epoch=1, model_logger=logger)
        fitted.fit(loader(kind), val_loader(kind))
    found = [names_in_tensorboard(tmp_path / "tb"), names_in_csv(tmp_path / "csv"), names_in_mlflow(loggers[2])]
    shown = [names - {"epoch", "step"} for names in found]
    assert shown[0] == shown[1] == shown[2]
    assert shown[0] >= NAMES[kind]
