"""The ablations of ETEGRec's table 4, built by the stage from one parameter: which losses there are, and who learns."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genrec.generators.etegrec import TrainEtegrec
from genrec.models.rqvae import RqVae
from genrec.params.preset import apply_preset
from genrec.params.reading import read_section, read_yaml
from genrec.sequences.histories import Histories
from genrec.training.stage import TrainingStage
from stages import train_etegrec

N_ITEMS, CYCLE, JOINT_EPOCHS, FINAL_EPOCHS = 12, 3, 6, 2
TOKENIZER = {"input_dim": 6, "hidden_dim": (8,), "latent_dim": 4, "num_embeddings": 6, "num_levels": 2}
VARIANTS = ("full", "no_sia", "no_psa", "no_alignment", "no_alternation", "no_end_to_end")
TOKENIZER_EPOCH, RECOMMENDER_EPOCH = CYCLE, CYCLE + 1  # the first of either kind with alignment


class Clock:
    current_epoch = 0


class BuiltError(Exception):
    """What the stage has built when it begins to train."""


class NoTrainer:
    def __init__(self, model, config, logger):
        self.built = model, config

    def train(self, train_dataloader, val_dataloader):
        raise BuiltError(*self.built, train_dataloader, val_dataloader)


@pytest.fixture
def staged(tmp_path, monkeypatch):
    """What the stage builds of its section with some values changed: the model, the trainer's config, both loaders."""

    def build(**changes):
        torch.manual_seed(0)
        config = read_section(TrainEtegrec)
        small = replace(
            config.generator, embedding_dim=8, num_heads=2, head_dim=4, attn_dim=16, num_layers=1, dropout=0.0
        )
        config = replace(
            config, generator=small, cycle=CYCLE, warmup_epochs=CYCLE, max_epochs=JOINT_EPOCHS,
            final_stage=replace(config.final_stage, max_epochs=FINAL_EPOCHS),
        )  # fmt: skip
        config = replace(config, **changes)
        tokenizer, embeddings = RqVae(**TOKENIZER), torch.randn(N_ITEMS + 1, 6)
        tokenizer.initialize_codebooks(embeddings[1:], 10, seed=0)
        histories = Histories(np.arange(1, 11, dtype=np.int32), np.array([0, 10]), N_ITEMS)
        read = train_etegrec.read_section
        stubs = {
            "read_section": lambda kind: config if kind is TrainEtegrec else read(kind),
            "load_embeddings": lambda *_: embeddings.numpy(),
            "load_model": lambda *_, **__: tokenizer,
            "load_arguments": lambda *_: TOKENIZER,
            "live_curves": lambda _: None,
            "ETEGRecTrainer": NoTrainer,
        }
        monkeypatch.setattr(TrainingStage, "scratch", lambda *_, **__: nullcontext(tmp_path))
        monkeypatch.setattr(Histories, "load", staticmethod(lambda _: histories))
        for name, stub in stubs.items():
            monkeypatch.setattr(train_etegrec, name, stub)
        with pytest.raises(BuiltError) as stopped:
            train_etegrec.main()
        monkeypatch.undo()
        return stopped.value.args

    return build


@pytest.fixture
def built(staged):
    """The model of a variant, in float64, and how its trainer is told to train it, as the stage builds them."""
    clock = Clock()

    def build(variant, epoch=0):
        model, training, *_ = staged(variant=variant)
        model.trainer, clock.current_epoch = clock, epoch
        model.double()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5)
        model.on_train_epoch_start()
        return model, training

    return build


def losses(model):
    """Of three users; item 7 is a target twice."""
    targets = torch.tensor([[2, 3, 7], [5, 6, 3], [8, 9, 7]])
    return model.losses({"history": torch.tensor([[1, 2, 3], [4, 5, 6], [2, 8, 9]]), "target": targets})


def learning(model):
    """The modules of which a parameter gets a gradient other than 0."""
    model.zero_grad()
    losses(model)["loss"].backward()
    names = [name for name, p in model.named_parameters() if p.grad is not None and (p.grad != 0).any()]
    return {name.split(".")[0] for name in names}


OWN = {"tokenizer": {"vq_loss"}, "recommender": {"code_loss"}, "together": {"vq_loss", "code_loss"}}
ALIGNMENTS = {
    "full": {"sia_loss", "psa_loss"},
    "no_sia": {"psa_loss"},
    "no_psa": {"sia_loss"},
    "no_alignment": set(),
    "no_alternation": {"sia_loss", "psa_loss"},
    "no_end_to_end": {"sia_loss", "psa_loss"},
}
ADAPTERS = {"sia_loss": "sequence_adapter", "psa_loss": "preference_adapter"}


def test_every_variant_is_tested_here():
    assert set(ALIGNMENTS) == set(VARIANTS) == set(TrainEtegrec.__annotations__["variant"].__args__)


@pytest.mark.parametrize("epoch", [TOKENIZER_EPOCH, RECOMMENDER_EPOCH])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_has_its_own_terms_and_no_other(built, variant, epoch):
    model, _ = built(variant, epoch)
    expected = OWN[model.phase] | ALIGNMENTS[variant]
    assert set(losses(model)) - {"loss"} == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_variant_aligns_before_the_warm_up_is_over(built, variant):
    model, _ = built(variant, CYCLE - 1)
    assert set(losses(model)) - {"loss"} == OWN[model.phase]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_total_is_that_of_the_variants_terms(built, variant):
    model, _ = built(variant, RECOMMENDER_EPOCH)
    terms = losses(model)
    weights = {"sia_loss": model.hparams["sia_weight"], "psa_loss": model.hparams["psa_weight"]}
    expected = sum(weights.get(name, 1.0) * value for name, value in terms.items() if name != "loss")
    torch.testing.assert_close(terms["loss"], expected)


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "no_alternation"])
def test_in_a_tokenizer_epoch_the_tokenizer_alone_learns(built, variant):
    assert learning(built(variant, TOKENIZER_EPOCH)[0]) == {"tokenizer"}


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "no_alternation"])
def test_in_a_recommender_epoch_the_adapter_of_each_alignment_learns_with_the_generator(built, variant):
    adapters = {ADAPTERS[name] for name in ALIGNMENTS[variant]}
    assert learning(built(variant, RECOMMENDER_EPOCH)[0]) == {"generator"} | adapters


@pytest.mark.parametrize("epoch", [TOKENIZER_EPOCH, RECOMMENDER_EPOCH])
def test_without_alternation_every_epoch_teaches_both_modules(built, epoch):
    model, _ = built("no_alternation", epoch)
    assert model.phase == "together"
    assert learning(model) == {"tokenizer", "generator", "sequence_adapter", "preference_adapter"}


def test_without_alignment_a_tokenizer_epoch_does_not_run_the_recommender(built, monkeypatch):
    model, _ = built("no_alignment", TOKENIZER_EPOCH)
    monkeypatch.setattr(model, "forward", None)
    assert losses(model)["loss"].isfinite()


def test_the_final_stage_of_each_variant_has_the_code_loss_alone(built):
    for variant in VARIANTS:
        model, _ = built(variant, RECOMMENDER_EPOCH)
        model.is_final = True
        assert set(losses(model)) == {"loss", "code_loss"}


def test_without_end_to_end_learning_the_final_stage_has_the_joint_stages_epochs_and_rate_too(built):
    _, full = built("full")
    model, training = built("no_end_to_end")
    assert (full.final_starts_anew, training.final_starts_anew) == (False, True)
    assert full.final_max_epochs == FINAL_EPOCHS
    assert training.final_max_epochs == FINAL_EPOCHS + JOINT_EPOCHS * (CYCLE - 1) // CYCLE
    assert model.hparams["final_learning_rate"] == model.hparams["learning_rate"]


def test_a_recommender_that_starts_anew_keeps_nothing_but_the_codes(built):
    model, _ = built("no_end_to_end")
    model.float()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.forget_recommender(seed=1)
    kept = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    matrices = {name for name, p in model.named_parameters() if p.ndim > 1 and not name.startswith("tokenizer.")}
    assert kept & matrices == set()
    untouched = {name for name in before if name.startswith(("tokenizer.", "item_embeddings", "generator.code_table"))}
    assert untouched <= kept


GENERATOR = {
    "embedding_dim": 12, "num_heads": 3, "head_dim": 5, "attn_dim": 17, "num_layers": 2, "dropout": 0.3,
    "max_history": 4, "encoder": "bidirectional", "decoder_dropout": 0.4, "learns_repeats": True,
}  # fmt: skip
SETTINGS = {
    "learning_rate": 0.011, "tokenizer_learning_rate": 0.012, "weight_decay": 0.013, "warmup_steps": 14,
    "sia_weight": 0.015, "psa_weight": 0.016, "sia_sign": "authors", "alpha": 1.7, "cycle": 2, "warmup_epochs": 18,
    "n_beams": 19,
}  # fmt: skip


@pytest.mark.parametrize("encoder", ["causal", "bidirectional", "items"])
def test_every_setting_of_the_section_reaches_the_model(staged, encoder):
    generator = replace(read_section(TrainEtegrec).generator, **(GENERATOR | {"encoder": encoder}))
    model, *_ = staged(variant="full", generator=generator, **SETTINGS)
    expected = GENERATOR | SETTINGS | {"causal": encoder == "causal", "itemwise": encoder == "items"}
    del expected["encoder"]
    assert {name: model.hparams[name] for name in expected} == expected


def test_every_setting_of_the_section_reaches_the_trainer_and_its_loaders(staged):
    section = read_section(TrainEtegrec)
    final = replace(section.final_stage, learning_rate=0.021, max_epochs=22, patience=23)
    generator = replace(section.generator, **GENERATOR)
    model, training, learned, validated = staged(
        variant="full", generator=generator, final_stage=final, max_epochs=24, patience=25, batch_size=2,
        windows_per_epoch=5,
    )  # fmt: skip
    assert model.hparams["final_learning_rate"] == 0.021
    assert (training.final_max_epochs, training.final_early_stopping_patience) == (22, 23)
    assert (training.max_epochs, training.early_stopping_patience) == (24, 25)
    assert max(batch["history"].shape[1] for batch in learned) == GENERATOR["max_history"]
    assert [batch["history"].shape for batch in validated] == [(1, GENERATOR["max_history"])]
    # five of the seven windows, in batches of at most two
    assert sorted(len(batch["target"]) for batch in learned) == [1, 2, 2]


# Section 14 of the specification: config/scientific.yaml and run_pretrain.sh of the authors, in this project's names.
PUBLISHED = {
    "model": {"code_num": 256, "num_levels": 3},
    "train_rqvae": {
        "quantizer": "straight_through", "hidden_dims": [512, 256], "latent_dim": 128, "commitment_cost": 0.25,
        "kmeans_iterations": 100, "batch_size": 1024, "learning_rate": 1e-3, "weight_decay": 1e-4,
        "max_epochs": 10000, "validate_every": 50,
    },
    "train_etegrec": {
        "variant": "full",
        "generator": {
            "embedding_dim": 128, "num_heads": 4, "head_dim": 64, "attn_dim": 512, "num_layers": 6, "dropout": 0.1,
            "max_history": 50, "encoder": "bidirectional", "decoder_dropout": 0.1, "learns_repeats": False,
        },
        "windows_per_epoch": 0, "batch_size": 512, "learning_rate": 5e-3, "tokenizer_learning_rate": 1e-4,
        "weight_decay": 0.05, "warmup_steps": 8000, "sia_weight": 1e-4, "psa_weight": 3e-4, "sia_sign": "authors",
        "alpha": 1.0, "cycle": 2, "warmup_epochs": 10, "max_epochs": 400, "patience": 15, "n_beams": 20,
        "final_stage": {"learning_rate": 5e-4, "max_epochs": 100, "patience": 10},
    },
    "evaluate": {"ks": [1, 5, 10], "n_beams": 20},
}  # fmt: skip


def test_the_preset_of_the_paper_reaches_the_published_defaults(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_bytes(Path("params.yaml").read_bytes())
    apply_preset("etegrec-paper", None, file)
    params = read_yaml(file)
    assert params["seed"] == 2020
    for section, values in PUBLISHED.items():
        assert {name: params[section][name] for name in values} == values
    assert params["train_sasrec"]["embedding_dim"] == 256
    assert params["extract_embeddings"] == params["extract_embeddings"] | {"source": "sasrec", "standardize": False}
