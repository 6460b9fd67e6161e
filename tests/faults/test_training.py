"""Training that goes wrong is refused at once: with its place and its term, before the damage reaches a checkpoint."""

import re

import pytest
import pytorch_lightning as pl
import torch
from models.etegrec.test_trainer import built, train
from torch.utils.data import DataLoader

from genrec.codes.tokenizer.code_health import refuse_collapse
from genrec.codes.tokenizer.rqvae import RqVaeNetwork
from genrec.errors import UserError
from genrec.models.rqvae import RqVae
from genrec.training.base import BaseTrainer
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger

pytestmark = pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`.*")
BATCHES = 3


class Spoiled(pl.LightningModule):
    """Learns nothing; at one step a term, the gradient or a validated metric takes a bad value."""

    def __init__(self, where: str, step: int, value: float, manual: bool = False) -> None:
        super().__init__()
        self.automatic_optimization = not manual
        self.weight = torch.nn.Parameter(torch.ones(4))
        self.where, self.step, self.value, self.seen = where, step, value, 0

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor | None:
        self.seen += 1
        spoils = self.seen == self.step
        loss = (self.weight * 0.5).sum()
        if spoils and self.where == "gradient":
            # finite itself, as where a square root meets zero
            loss = loss + torch.sqrt(self.weight - self.weight.detach()).sum()
        term = loss.detach() * (self.value if spoils and self.where == "term" else 1.0)
        if spoils and self.where == "term":
            loss = loss * self.value
        self.log("train_recon_loss", term, on_step=False, on_epoch=True)
        self.log("train_other_loss", torch.tensor(1.0), on_step=False, on_epoch=True)
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return None

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        spoils = self.where == "metric" and self.seen >= self.step
        self.log("val_loss", torch.tensor(self.value if spoils else float(self.weight.sum())))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def refusal(folder, model, resume=False):
    settings = TrainingConfig(
        experiment_name="train_thing", max_epochs=3, gpus=0, early_stopping_patience=2, save_top_k=1,
        progress_bar=False, checkpoint_dir=str(folder), resume=resume,
    )  # fmt: skip
    trainer = BaseTrainer(model, settings, CurveLogger())
    with pytest.raises(UserError) as refused:
        trainer.train(DataLoader(torch.zeros(BATCHES, 1), batch_size=1), DataLoader(torch.zeros(1, 1), batch_size=1))
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.fault("NaN or infinite loss, exploded gradient, NaN metric")
@pytest.mark.parametrize("manual", [False, True], ids=["automatic", "manual"])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 6, 9])
@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("term", float("nan"), "train_recon_loss is nan"),
        ("term", float("inf"), "train_recon_loss is inf"),
        ("gradient", 0.0, "the gradient exploded, its norm is inf, mostly in weight"),
    ],
)
def test_a_bad_step_is_told_with_its_place_and_changes_no_weight(tmp_path, where, value, said, step, manual):
    model = Spoiled(where, step, value, manual)
    message = refusal(tmp_path, model)
    epoch = (step - 1) // BATCHES
    assert f"train_thing: in epoch {epoch + 1}, batch {(step - 1) % BATCHES + 1}, step {step}: {said}; " in message
    assert torch.isfinite(model.weight).all()


@pytest.mark.fault("NaN or infinite loss, exploded gradient, NaN metric")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_validation_is_refused_and_not_taken_for_an_early_stop(tmp_path, value):
    message = refusal(tmp_path, Spoiled("metric", 4, value))
    assert f"in epoch 2, batch 3, step 7: val_loss is {value}" in message


@pytest.mark.fault("what is good is kept when training goes wrong")
@pytest.mark.parametrize("where", ["term", "gradient", "metric"])
def test_the_last_good_checkpoint_is_named_and_is_good(tmp_path, where):
    message = refusal(tmp_path, Spoiled(where, 8, float("nan")))
    (file,) = re.findall(r"the last good checkpoint is (\S+),", message)
    content = torch.load(file, weights_only=True)
    assert content["epoch"] == 1
    assert torch.isfinite(content["state_dict"]["weight"]).all()


@pytest.mark.fault("what is good is kept when training goes wrong")
def test_without_a_whole_epoch_it_says_that_there_is_no_checkpoint(tmp_path):
    assert "no epoch was finished, so there is no checkpoint" in refusal(tmp_path, Spoiled("term", 2, float("nan")))


@pytest.mark.fault("what is good is kept when training goes wrong")
def test_the_next_run_is_refused_again_and_not_taken_for_a_finished_one(tmp_path):
    # Lightning's early stop on NaN in epoch 0 left stopped_epoch = 0, which reads as "did not stop".
    refusal(tmp_path, Spoiled("metric", 1, float("nan")))
    assert "val_loss is nan" in refusal(tmp_path, Spoiled("metric", 1, float("nan")), resume=True)


@pytest.mark.fault("collapsed codebook")
def test_a_tokenizer_that_gives_all_items_the_same_codes_is_stopped_in_its_first_validation(tmp_path):
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    model = RqVae(4, 8, 2, 4, num_levels=2)
    # an encoder that has died: all its outputs are its last bias
    with torch.no_grad():
        model.encoder[-1].weight.zero_()
    model.encoder[-1].weight.requires_grad_(False)
    settings = TrainingConfig(
        experiment_name="train_rqvae", max_epochs=3, gpus=0, save_top_k=1, progress_bar=False,
        early_stopping_patience=0, checkpoint_dir=str(tmp_path), monitor="val_selection",
    )  # fmt: skip
    loader = DataLoader(features, batch_size=6)
    with pytest.raises(UserError, match=r"train_rqvae: in epoch 1, .* the codebooks have collapsed, all 12 items have"):
        BaseTrainer(model, settings, CurveLogger()).train(loader, loader)


@pytest.mark.fault("collapsed codebook")
def test_one_item_or_two_rows_of_codes_are_no_collapse():
    refuse_collapse(torch.tensor([[1, 2]]))
    refuse_collapse(torch.tensor([[1, 2], [1, 2], [1, 3]]))


@pytest.mark.fault("collision overflow after a tokenizer epoch")
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_tokenizer_epoch_after_which_too_many_items_collide_is_told_with_its_epoch(tmp_path, monkeypatch, epoch):
    model = built()
    coded = RqVaeNetwork.semantic_codes

    def collapsed(tokenizer, features):
        codes = coded(tokenizer, features)
        return codes if model.trainer.current_epoch < epoch - 1 else torch.zeros_like(codes)

    monkeypatch.setattr(RqVaeNetwork, "semantic_codes", collapsed)
    with pytest.raises(UserError) as refused:
        train(tmp_path, model, resume=True)
    message = str(refused.value)
    assert f"in epoch {epoch}, batch " in message
    assert "12 items share the same 2 codes, but the collision code has only 6 values" in message
    if epoch == 3:
        (file,) = re.findall(r"the last good checkpoint is (\S+),", message)
        table = torch.load(file, weights_only=True)["state_dict"]["generator.code_table"]
        assert len(torch.unique(table, dim=0)) == len(table)
    else:
        assert "no epoch was finished" in message
