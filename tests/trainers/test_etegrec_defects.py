"""Defects of ETEGRec's published code that this one must not have; each test is named after one.

That the item embeddings never drift, that runs resume, and that the trained rates follow the schedule stands in
test_etegrec.py; that a checkpoint of another format loads nothing and is refused, in tests/models/test_checkpoint.py.
"""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from models.etegrec.test_trainer import HISTORIES, TOKENIZER, Watched, built, train
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from genrec.errors import UserError
from genrec.models.rqvae import RqVae
from genrec.params.reading import check_params, read_yaml
from genrec.retrieval.transitions import Transitions
from genrec.sequences.batches import training_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import load_model, save_model
from genrec.training.base import BaseTrainer
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger
from genrec.training.schedules import learning_rate_factor
from stages import evaluate

pytestmark = pytest.mark.slow


def test_strict_loading_a_tokenizer_that_lacks_a_weight_is_refused():
    # The authors load with strict=False: a checkpoint of another format loads nothing, and nothing is said.
    model, lacking = built(), RqVae(**TOKENIZER)
    del lacking.decoder
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="Missing key"):
        model.start_from(lacking, model.item_embeddings)
    assert model.state_dict().keys() == before.keys()


def test_strict_loading_a_tokenizer_comes_back_whole(tmp_path):
    tokenizer, model = RqVae(**TOKENIZER), built()
    save_model(tokenizer, tmp_path / "rqvae.ckpt")
    model.start_from(load_model(RqVae, tmp_path / "rqvae.ckpt"), model.item_embeddings)
    assert all(torch.equal(model.tokenizer.state_dict()[name], value) for name, value in tokenizer.state_dict().items())


class Summing(pl.LightningModule):
    """Its weight moves by the mean of the batches that one step sees."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(self.weight.item())
        return -self.weight * batch.mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def test_accumulation_really_accumulates(tmp_path):
    # The authors' trainer steps after every batch; told to accumulate, its zero_grad leaves the last of them alone.
    model = Summing()
    config = TrainingConfig(
        max_epochs=1, accumulate_grad_batches=4, gpus=0, early_stopping_patience=0, progress_bar=False,
        gradient_clip_val=0.0, checkpoint_dir=str(tmp_path),
    )  # fmt: skip
    batches = DataLoader(torch.tensor([0.25, 0.5, 0.75, 1.0, 3.0, 5.0, 7.0, 9.0]), batch_size=1)
    BaseTrainer(model, config, CurveLogger()).train(batches)
    first, second = (0.25 + 0.5 + 0.75 + 1.0) / 4, (3.0 + 5.0 + 7.0 + 9.0) / 4
    assert model.seen == [0, 0, 0, 0, first, first, first, first]
    assert model.weight.item() == first + second


def test_accumulation_is_refused_and_not_ignored(tmp_path):
    # The authors' setting only shortens the schedule: nothing is accumulated.
    with pytest.raises(MisconfigurationException, match="gradient accumulation is not supported"):
        train(tmp_path, built(), accumulate_grad_batches=4)


@pytest.mark.parametrize("option", ["gradient_accumulation_steps", "accumulate_grad_batches", "optimizer", "learner"])
def test_accumulation_and_an_unknown_optimizer_can_not_be_asked_for(option):
    # The authors' trainer takes AdamW for any optimizer that it does not know.
    params = read_yaml(Path("params.yaml"))
    params["train_etegrec"][option] = "adagrad"
    with pytest.raises(UserError, match=f"unknown key 'train_etegrec.{option}'"):
        check_params(params, "params.yaml")


def test_the_cosine_never_rises_again_past_its_end():
    factor = learning_rate_factor("cosine", 10, 100)
    assert [factor(step) for step in (100, 150, 190)] == [0, 0, 0]


def digests(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*.ckpt")}


def test_no_checkpoint_of_the_joint_stage_is_overwritten_by_the_final_one(tmp_path):
    # The authors' stages both write <epoch>.pt into one folder.
    train(tmp_path, built(), final_max_epochs=0, resume=True)
    joint = digests(tmp_path / "joint")
    train(tmp_path, built(), final_max_epochs=4, resume=True)
    assert len(joint) >= 2
    assert digests(tmp_path / "joint") == joint
    assert len(digests(tmp_path / "final")) >= 2


class NeverRight(Watched):
    """No target is ever found."""

    def validation_step(self, batch, batch_idx):
        self.log("val_ndcg_at_10", torch.tensor(0.0), batch_size=len(batch["target"]))


def test_a_joint_stage_whose_metric_stays_zero_has_a_best_state(tmp_path):
    # The authors' best score starts at 0, so that nothing is saved and the final stage finds no file.
    model = built()
    model.__class__ = NeverRight
    model, curves = train(tmp_path, model, final_max_epochs=1)
    first = model.notes[4]["before"]
    assert all(torch.equal(value, model.notes[1]["after"][name]) for name, value in first.items())
    assert len(curves) == 5


def test_the_final_stage_has_epochs_and_a_patience_of_its_own(tmp_path):
    # The authors' are written into the code. Of a metric that stays, the first validation is the best.
    model = built()
    model.__class__ = NeverRight
    _, curves = train(tmp_path, model, max_epochs=2, final_max_epochs=6, final_early_stopping_patience=2)
    assert len(curves) == 2 + (1 + 2)


class Modes(Watched):
    """Notes which modules have dropout on, batch by batch."""

    def on_train_batch_start(self, batch, batch_idx):
        super().on_train_batch_start(batch, batch_idx)
        parts = {"tokenizer": self.tokenizer, "generator": self.generator.network, "adapter": self.sequence_adapter}
        modes = {name: {module.training for module in part.modules()} for name, part in parts.items()}
        self.notes[-1].setdefault("modes", []).append(modes)


def test_dropout_is_on_in_the_module_that_learns_also_after_a_validation(tmp_path):
    # A validation leaves everything in eval mode; here one precedes each epoch but the first of a stage.
    model = built(cycle=2)
    model.__class__ = Modes
    model, _ = train(tmp_path, model)
    for note in model.notes:
        learns = note["phase"] == "tokenizer"
        expected = {"tokenizer": {learns}, "generator": {not learns}, "adapter": {not learns}}
        assert all(modes == expected for modes in note["modes"])


@pytest.mark.parametrize("encoder", ["causal", "bidirectional"])
def test_the_longest_history_is_honoured_where_it_is_learned_from_and_where_it_is_evaluated(encoder, monkeypatch):
    # The authors' max_his_len is read nowhere.
    longest = 3
    for loader in (
        training_loader(HISTORIES, encoder, longest, 8, seed=1, windows_per_epoch=0),
        window_loader(HISTORIES, "validation", longest, 8, seed=1),
    ):
        assert max(batch["history"].shape[1] for batch in loader) == longest
    model, seen = built(max_history=longest, causal=encoder == "causal").eval(), []
    search = model.generator.generate

    def watched(history, n_beams, constrained=True):
        seen.append((history.shape[1], constrained))
        return search(history, n_beams, constrained)

    model.generator.generate = watched
    monkeypatch.setattr(Histories, "load", staticmethod(lambda _: HISTORIES))
    monkeypatch.setattr(evaluate, "load_model", lambda *_, **__: model)
    monkeypatch.setattr(evaluate, "write_evaluations", lambda *_: None)
    monkeypatch.setattr(evaluate, "audit", lambda *_: SimpleNamespace(save=lambda file: None))
    memory = Transitions.fit(HISTORIES.items, HISTORIES.offsets, HISTORIES.n_items)
    monkeypatch.setattr(evaluate.Transitions, "load", lambda *_: memory)
    evaluate.main("etegrec")
    # both splits are ranked, and of test once more without the constraint
    assert seen == [(longest, True), (longest, True), (longest, False)]
