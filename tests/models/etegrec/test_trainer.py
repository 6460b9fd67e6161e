"""ETEGRec's schedule, told by which tensors move in which epoch, and runs that are interrupted in either stage."""

import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from genrec.errors import UserError
from genrec.models.etegrec.module import ETEGRec
from genrec.models.etegrec.trainer import ETEGRecTrainer, ETEGRecTrainingConfig
from genrec.models.rqvae import RqVae
from genrec.sequences.batches import BatchSampler, Windows, window_loader
from genrec.sequences.histories import Histories
from genrec.training.curves import CurveLogger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`.*"),
]

N_ITEMS, BATCH = 12, 24
TOKENIZER = {"input_dim": 6, "hidden_dim": (8,), "latent_dim": 4, "num_embeddings": 6, "num_levels": 2}


def ring_histories():
    """20 users who walk around a ring of 12 items from different places, one item in four from anywhere."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 10, 20)
    walks = [(start + np.arange(n)) % N_ITEMS for start, n in zip(rng.integers(0, N_ITEMS, 20), lengths, strict=True)]
    strays = rng.integers(0, N_ITEMS, lengths.sum())
    items = np.where(rng.random(lengths.sum()) < 0.25, strays, np.concatenate(walks)) + 1
    return Histories(items.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]), N_ITEMS)


HISTORIES = ring_histories()


class Watched(ETEGRec):
    """Notes the state after each epoch, and each step's learning rate and gradient norm."""

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        self.notes = getattr(self, "notes", [])
        self.notes.append({"phase": self.phase, "before": self.copied(), "rates": [], "norms": []})

    def on_train_batch_start(self, batch, batch_idx):
        optimizers = self.optimizers()
        if isinstance(optimizers, list):
            optimizers = optimizers[0 if self.phase == "tokenizer" else 1]
        self.notes[-1]["rates"].append(optimizers.param_groups[0]["lr"])

    def on_train_batch_end(self, outputs, batch, batch_idx):
        gradients = [p.grad for p in self.parameters() if p.requires_grad and p.grad is not None]
        self.notes[-1]["norms"].append(torch.stack([g.norm() for g in gradients]).norm().item())

    def on_train_epoch_end(self):
        super().on_train_epoch_end()
        self.notes[-1]["after"] = self.copied()

    def copied(self):
        return {name: value.clone() for name, value in self.state_dict().items()}


def built(**options):
    torch.manual_seed(0)
    settings = {
        "embedding_dim": 8, "num_heads": 2, "head_dim": 4, "attn_dim": 16, "num_layers": 1, "dropout": 0.1,
        "max_history": 6, "learning_rate": 5e-3, "tokenizer_learning_rate": 2e-2, "warmup_steps": 4,
        "warmup_epochs": 2, "sia_weight": 0.01, "psa_weight": 0.02, "final_learning_rate": 1e-3, "n_beams": N_ITEMS,
    }  # fmt: skip
    model = Watched(N_ITEMS, TOKENIZER, **(settings | options))
    embeddings = torch.randn(N_ITEMS + 1, 6)
    tokenizer = RqVae(**TOKENIZER)
    tokenizer.initialize_codebooks(embeddings[1:], 10, seed=0)
    model.start_from(tokenizer, embeddings)
    return model


def train(folder, model, loader=None, validates=True, **options):
    """Both stages; the trained model and its curves."""
    settings = {
        "max_epochs": 4, "final_max_epochs": 2, "gpus": 0, "early_stopping_patience": 0,
        "final_early_stopping_patience": 0, "progress_bar": False, "checkpoint_dir": str(folder), "resume": False,
    }  # fmt: skip
    logger = CurveLogger()
    validation = window_loader(HISTORIES, "validation", 6, BATCH, seed=1) if validates else None
    trainer = ETEGRecTrainer(model, ETEGRecTrainingConfig(**(settings | options)), logger)
    trainer.train(loader or window_loader(HISTORIES, "train", 6, BATCH, seed=1), validation)
    return model, logger.rows


@pytest.fixture(scope="module", params=[2, 3])
def trained(request, tmp_path_factory):
    """A model of either cycle after four joint and two final epochs, and its curves."""
    return train(tmp_path_factory.mktemp("etegrec"), built(cycle=request.param))


def moved(note):
    return {name for name, value in note["after"].items() if not torch.equal(value, note["before"][name])}


def names(model, *prefixes):
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


RECOMMENDER = ("generator.network.", "sequence_adapter.", "preference_adapter.")


def test_the_tokenizer_trains_in_the_first_epoch_of_each_cycle(trained):
    model, _ = trained
    expected = ["tokenizer" if epoch % model.cycle == 0 else "recommender" for epoch in range(4)]
    assert [note["phase"] for note in model.notes] == [*expected, "final", "final"]


def test_a_tokenizer_epoch_moves_the_whole_tokenizer_and_of_the_rest_only_the_table(trained):
    model, _ = trained
    for note in model.notes:
        if note["phase"] == "tokenizer":
            assert moved(note) - {"generator.code_table"} == names(model, "tokenizer.")


def test_a_recommender_epoch_moves_no_bit_of_the_tokenizer_or_the_table(trained):
    model, _ = trained
    for epoch, note in enumerate(model.notes[:4]):
        if note["phase"] == "recommender":
            # before the alignment begins nothing asks for the adapters
            learning = RECOMMENDER if epoch >= model.warmup_epochs else RECOMMENDER[:1]
            assert moved(note) == names(model, *learning)


def test_the_final_stage_moves_the_encoder_decoder_alone(trained):
    model, _ = trained
    for note in model.notes[4:]:
        assert moved(note) == names(model, "generator.network.")


def test_the_item_embeddings_never_move(trained):
    # The authors' final stage lets weight decay shrink them.
    model, _ = trained
    first = model.notes[0]["before"]["item_embeddings"]
    assert all(torch.equal(note["after"]["item_embeddings"], first) for note in model.notes)


def test_the_table_is_that_of_the_tokenizer_after_every_epoch(trained):
    model, _ = trained
    for note in model.notes:
        tokenizer = RqVae(**TOKENIZER)
        weights = {name: value for name, value in note["after"].items() if name.startswith("tokenizer.")}
        tokenizer.load_state_dict({name.removeprefix("tokenizer."): value for name, value in weights.items()})
        codes = tokenizer.semantic_codes(note["after"]["item_embeddings"][1:])
        assert torch.equal(note["after"]["generator.code_table"][1:, :-1].long(), codes)


def test_the_table_changes_in_tokenizer_epochs_only(trained):
    model, _ = trained
    changed = {note["phase"] for note in model.notes if "generator.code_table" in moved(note)}
    assert changed == {"tokenizer"}


def test_the_churn_is_the_share_of_items_whose_semantic_id_changed(trained):
    model, curves = trained
    for epoch, note in enumerate(model.notes[:4]):
        before, after = (note[when]["generator.code_table"][1:] for when in ("before", "after"))
        expected = sum(a != b for a, b in zip(before.tolist(), after.tolist(), strict=True)) / N_ITEMS
        assert curves[epoch].get("code_churn", 0) == pytest.approx(expected)


def test_alignment_begins_after_the_warm_up_epochs_and_ends_with_the_joint_stage(trained):
    model, curves = trained
    aligned = [any("sia_loss" in name for name in curves[epoch]) for epoch in range(6)]
    assert aligned == [epoch >= model.warmup_epochs for epoch in range(4)] + [False, False]


def test_the_logged_loss_is_the_weighted_sum_of_its_terms(trained):
    _, curves = trained
    for epoch in range(6):
        terms = {name.split("_", 2)[2]: value for name, value in curves[epoch].items() if name.startswith("train_")}
        own = terms.get("vq_loss", terms.get("code_loss"))
        expected = own + 0.01 * terms.get("sia_loss", 0) + 0.02 * terms.get("psa_loss", 0)
        assert terms["loss"] == pytest.approx(expected, rel=1e-5)


def cosine(step, warmup, total):
    if step < warmup:
        return step / warmup
    return (1 + math.cos(math.pi * min((step - warmup) / (total - warmup), 1))) / 2


@pytest.mark.parametrize(("phase", "peak"), [("tokenizer", 2e-2), ("recommender", 5e-3)])
def test_each_modules_rate_warms_up_from_zero_over_its_own_steps(trained, phase, peak):
    model, _ = trained
    rates = [rate for note in model.notes if note["phase"] == phase for rate in note["rates"]]
    steps = 4 * len(model.notes[0]["rates"])
    # the tokenizer trains in one epoch of a cycle: its schedule is so many times shorter
    share = model.cycle if phase == "tokenizer" else 1
    expected = [peak * cosine(step, 4 // share, steps // share) for step in range(len(rates))]
    assert rates[0] == 0
    assert rates == pytest.approx(expected)


def test_the_final_rate_falls_from_its_peak_without_a_warm_up(trained):
    model, _ = trained
    rates = [rate for note in model.notes[4:] for rate in note["rates"]]
    assert rates == pytest.approx([1e-3 * cosine(step, 0, len(rates)) for step in range(len(rates))])


def test_the_final_stage_begins_with_the_best_validated_joint_state(trained):
    model, curves = trained
    validated = {epoch: row["val_ndcg_at_10"] for epoch, row in curves.items() if epoch < 4 and "val_ndcg_at_10" in row}
    best = max(validated, key=lambda epoch: validated[epoch])
    first = model.notes[4]["before"]
    assert all(torch.equal(value, model.notes[best]["after"][name]) for name, value in first.items())


def test_the_joint_stage_validates_once_a_cycle_and_the_final_one_every_epoch(trained):
    model, curves = trained
    validated = [epoch for epoch in range(6) if "val_ndcg_at_10" in curves[epoch]]
    assert validated == [epoch for epoch in range(4) if (epoch + 1) % model.cycle == 0] + [4, 5]


def test_the_model_ends_with_the_best_state_of_both_stages(trained):
    model, curves = trained
    best = max((epoch for epoch in curves if "val_ndcg_at_10" in curves[epoch]),
               key=lambda epoch: curves[epoch]["val_ndcg_at_10"])  # fmt: skip
    after = model.notes[best]["after"]
    assert all(torch.equal(value, after[name]) for name, value in model.state_dict().items())


class Measured(Watched):
    """Validation measures the next of given values."""

    def validation_step(self, batch, batch_idx):
        if batch_idx == 0:
            self.value = self.values.pop(0)
        self.log("val_ndcg_at_10", self.value)


# Two joint validations, then two final ones.
STAGES = {
    "joint better": ([0.5, 0.3], [0.4, 0.2], False, 1),
    "equal": ([0.3, 0.5], [0.5, 0.2], False, 3),
    "final better": ([0.3, 0.2], [0.4, 0.6], False, 5),
    "final anew, for the ablation": ([0.5, 0.3], [0.4, 0.2], True, 4),
}


@pytest.mark.parametrize(("joint", "final", "anew", "kept"), STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("resumes", [False, True])
def test_the_state_that_is_reported_is_the_one_that_is_kept(tmp_path, joint, final, anew, kept, resumes):
    # The final stage's best was kept and the best of both was said: here .5 of epoch 1 with the weights of epoch 4.
    source = built()
    model = Measured(**source.hparams)
    model.load_state_dict(source.state_dict())
    model.values = joint + final
    settings = {
        "max_epochs": 4, "final_max_epochs": 2, "gpus": 0, "early_stopping_patience": 0, "final_starts_anew": anew,
        "final_early_stopping_patience": 0, "progress_bar": False, "checkpoint_dir": str(tmp_path),
    }  # fmt: skip
    loaders = [window_loader(HISTORIES, name, 6, BATCH, seed=1) for name in ("train", "validation")]
    trainer = ETEGRecTrainer(model, ETEGRecTrainingConfig(**settings), CurveLogger())
    trainer.train(*loaders)
    notes, expected = model.notes, trainer.summary()
    if resumes:
        model = built()
        trainer = ETEGRecTrainer(model, ETEGRecTrainingConfig(**settings, resume=True), CurveLogger())
        trainer.train(
            window_loader(HISTORIES, "train", 6, BATCH, seed=1), window_loader(HISTORIES, "validation", 6, 9, 1)
        )
    after = notes[kept]["after"]
    assert [name for name, value in model.state_dict().items() if not torch.equal(value, after[name])] == []
    assert trainer.summary() == expected
    assert expected["best_epoch"] == kept
    assert expected["best_val_ndcg_at_10"] == pytest.approx([*joint, *final][{1: 0, 3: 1, 4: 2, 5: 3}[kept]])


def test_a_joint_stage_of_another_model_is_refused_in_one_line(tmp_path):
    train(tmp_path, built())
    with pytest.raises(UserError, match=r"joint.pt is the run of another network, \d+ of its tensors differ: .* is "):
        train(tmp_path, built(embedding_dim=12), resume=True)


def test_each_modules_gradient_is_clipped_to_norm_one(tmp_path):
    model, _ = train(tmp_path, built(sia_weight=1e4, psa_weight=1e4, warmup_epochs=0), max_epochs=2, final_max_epochs=0)
    for note in model.notes:
        assert note["norms"] == pytest.approx([1.0] * len(note["norms"]), rel=1e-3)


def test_without_a_final_stage_the_best_joint_state_stays(tmp_path):
    model, curves = train(tmp_path, built(), max_epochs=4, final_max_epochs=0)
    best = max((1, 3), key=lambda epoch: curves[epoch]["val_ndcg_at_10"])
    after = model.notes[best]["after"]
    assert sorted(curves) == [0, 1, 2, 3]
    assert all(torch.equal(value, after[name]) for name, value in model.state_dict().items())


def test_without_a_validation_set_both_stages_run_to_their_end(tmp_path):
    model, _ = train(tmp_path, built(), validates=False, max_epochs=3, final_max_epochs=1)
    assert [note["phase"] for note in model.notes] == ["tokenizer", "recommender", "tokenizer", "final"]
    assert all(torch.equal(value, model.notes[-1]["after"][name]) for name, value in model.state_dict().items())


# Interruptions. Lightning's own handling of Ctrl-C ends the process, so these raise an exception of their own.


class InterruptionError(Exception):
    pass


class Interrupting(BatchSampler):
    """Raises in the n-th epoch that it serves, counted over both stages, before the given batch."""

    def __init__(self, *arguments, epoch, batch):
        super().__init__(*arguments)
        self.served, self.stop = -1, (epoch, batch)

    def set_epoch(self, epoch):
        super().set_epoch(epoch)
        self.served += 1

    def __iter__(self):
        for number, rows in enumerate(super().__iter__()):
            if (self.served, number) == self.stop:
                raise InterruptionError
            yield rows


def interrupted_loader(epoch, batch):
    examples = HISTORIES.examples("train").cut(6)
    sampler = Interrupting(len(examples), BATCH, 1, examples.lengths, epoch=epoch, batch=batch)
    return DataLoader(Windows(HISTORIES, examples), sampler=sampler, batch_size=None)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    model, curves = train(tmp_path_factory.mktemp("whole"), built())
    return model.copied(), curves


PLACES = [(1, 0), (2, 1), (3, 0), (4, 1), (5, 0)]


@pytest.fixture(scope="module", params=PLACES, ids=lambda place: "epoch {} batch {}".format(*place))
def resumed_run(request, tmp_path_factory):
    """A run that was interrupted in the joint stage (epochs 0 to 3) or in the final one (4 and 5), and resumed."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(InterruptionError):
        train(folder, built(), interrupted_loader(*request.param), resume=True)
    model, curves = train(folder, built(), resume=True)
    return request.param, model, curves


def test_an_interrupted_run_ends_as_an_uninterrupted_one(resumed_run, whole_run):
    _, model, _ = resumed_run
    states, expected = model.copied(), whole_run[0]
    assert [name for name in states if not torch.equal(states[name], expected[name])] == []


def test_a_resumed_run_trains_only_what_was_not_done(resumed_run):
    (epoch, _), model, _ = resumed_run
    phases = ["tokenizer", "recommender", "tokenizer", "recommender", "final", "final"]
    assert [note["phase"] for note in model.notes] == phases[epoch:]


def test_the_curves_of_a_resumed_run_are_those_of_an_uninterrupted_one(resumed_run, whole_run):
    assert resumed_run[2] == whole_run[1]


def test_a_finished_run_ends_with_the_same_model_again(tmp_path, whole_run):
    train(tmp_path, built())
    model, _ = train(tmp_path, built(), resume=True)
    assert not hasattr(model, "notes")
    assert all(torch.equal(value, whole_run[0][name]) for name, value in model.state_dict().items())


def test_a_finished_run_ends_with_the_same_curves_again(tmp_path, whole_run):
    train(tmp_path, built())
    assert train(tmp_path, built(), resume=True)[1] == whole_run[1]


def test_a_joint_stage_that_ended_before_its_state_was_saved_is_not_trained_again(tmp_path, whole_run):
    train(tmp_path, built(), final_max_epochs=0)
    (tmp_path / "joint.pt").unlink()
    model, curves = train(tmp_path, built(), resume=True)
    assert [note["phase"] for note in model.notes] == ["final", "final"]
    assert all(torch.equal(value, whole_run[0][name]) for name, value in model.state_dict().items())
    assert curves == whole_run[1]


def test_without_resuming_an_old_run_is_ignored(tmp_path):
    train(tmp_path, built(), final_max_epochs=1)
    model, _ = train(tmp_path, built(), max_epochs=2, final_max_epochs=1)
    assert [note["phase"] for note in model.notes] == ["tokenizer", "recommender", "final"]


def test_an_old_run_is_not_taken_for_the_start_of_a_newer_one(tmp_path):
    train(tmp_path, built(), max_epochs=2, final_max_epochs=1)
    with pytest.raises(InterruptionError):
        train(tmp_path, built(), interrupted_loader(0, 1), max_epochs=2, final_max_epochs=1)
    model, _ = train(tmp_path, built(), max_epochs=2, final_max_epochs=1, resume=True)
    assert [note["phase"] for note in model.notes] == ["tokenizer", "recommender", "final"]


@pytest.mark.parametrize("quantizer", ["sinkhorn", "rotation", "ema"])
def test_a_tokenizer_of_any_quantizer_moves_in_its_own_epochs_alone(tmp_path, monkeypatch, quantizer):
    monkeypatch.setitem(TOKENIZER, "quantizer", quantizer)
    model, _ = train(tmp_path, built(), max_epochs=2, final_max_epochs=1)
    of_tokenizer, *others = model.notes
    codebooks = {f"tokenizer.quantizer.levels.{level}.codebook" for level in range(2)}
    assert codebooks <= moved(of_tokenizer)
    assert [name for note in others for name in moved(note) if name.startswith("tokenizer.")] == []


def test_the_trainer_of_the_last_stage_is_at_hand(tmp_path):
    trainer = ETEGRecTrainer(
        built(),
        ETEGRecTrainingConfig(
            max_epochs=2, final_max_epochs=1, gpus=0, progress_bar=False, checkpoint_dir=str(tmp_path)
        ),
        CurveLogger(),
    )
    trainer.train(
        window_loader(HISTORIES, "train", 6, BATCH, seed=1), window_loader(HISTORIES, "validation", 6, BATCH, seed=1)
    )
    assert trainer.trainer.current_epoch == 1
