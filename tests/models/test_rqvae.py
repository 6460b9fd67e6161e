"""RQ-VAE as a model: shapes of its answers, its loss, its codebooks over an epoch, and what training it keeps."""

import math
import warnings

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from genrec.codes.tokenizer.quantizers import QUANTIZERS
from genrec.errors import UserError
from genrec.models.rqvae import (
    Decoder,
    Encoder,
    RqVae,
    VectorQuantizer,
    batch_inference,
    evaluate_quantization,
    evaluate_reconstruction,
)
from genrec.sequences.batches import row_loader
from genrec.training.base import BaseTrainer
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger

pytestmark = pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`.*")


def small(num_levels=3, **options):
    torch.manual_seed(0)
    return RqVae(
        input_dim=6, hidden_dim=(16, 8), latent_dim=4, num_embeddings=8, num_levels=num_levels,
        learning_rate=3e-3, **options,
    )  # fmt: skip


@pytest.fixture
def features():
    return torch.randn(60, 6, generator=torch.Generator().manual_seed(0))


def test_one_level_gives_one_code_an_item(features):
    assert small(1)(features)[3].shape == (60,)


def test_more_levels_give_a_row_of_codes_an_item(features):
    assert small(3)(features)[3].shape == (60, 3)


@pytest.mark.parametrize("num_levels", [1, 3])
def test_semantic_codes_always_have_a_column_a_level(features, num_levels):
    model = small(num_levels)
    assert model.semantic_codes(features).shape == (60, num_levels)
    assert torch.equal(model.semantic_codes(features).squeeze(1), model.generate_semantic_ids(features))


def test_a_catalogue_in_parts_gets_what_it_gets_in_one_piece(features, monkeypatch):
    def results():
        model = small().double()
        model.initialize_codebooks(features.double(), 5, seed=0)
        return model.semantic_codes(features.double()), model.reconstruction_error(features.double())

    codes, error = results()
    monkeypatch.setattr("genrec.codes.tokenizer.rqvae.ROWS", 7)
    codes_in_parts, error_in_parts = results()
    assert torch.equal(codes_in_parts, codes)
    assert error_in_parts == pytest.approx(error)


def test_semantic_codes_equal_those_of_brute_force(features):
    model = small().double()
    model.initialize_codebooks(features.double(), 5, seed=0)
    with torch.no_grad():
        residual, columns = model.encode(features.double()), []
        for codebook in model.quantizer.codebooks:
            columns.append((residual[:, None] - codebook).square().sum(2).argmin(1))
            residual = residual - codebook[columns[-1]]
    assert torch.equal(model.semantic_codes(features.double()), torch.stack(columns, 1))


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_generating_semantic_ids_changes_nothing_also_in_the_middle_of_a_training(features, quantizer):
    # the codes that `forward` gives then are those of a step: averages follow it, and Sinkhorn spreads the batch
    model = small(quantizer=quantizer).train()
    graphs = []
    model.encoder.register_forward_hook(lambda encoder, inputs, latents: graphs.append(latents.requires_grad))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = model.generate_semantic_ids(features)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.eval().generate_semantic_ids(features), ids)
    assert graphs == [False, False]  # codes carry no gradient, so that a graph would only take memory


def test_the_reconstruction_is_decoded_from_the_sum_of_the_code_vectors(features):
    model = small().double()
    codes = model.semantic_codes(features.double())
    vectors = sum(model.quantizer.codebooks[level][codes[:, level]] for level in range(3))
    torch.testing.assert_close(model(features.double())[0], model.decoder(vectors))


def test_the_loss_is_reconstruction_plus_alpha_times_the_quantizers(features):
    model = small(quantization_weight=3.0)
    reconstructed, commitment, embedding, _ = model(features)
    losses = model.losses(features, model.encode(features))
    expected = (reconstructed - features).square().mean() + 3.0 * (commitment + embedding)
    torch.testing.assert_close(losses["loss"], expected)


def test_the_first_layer_reads_the_features_and_the_last_one_is_linear():
    encoder, decoder = Encoder(6, (16, 8), 4), Decoder(4, (8, 16), 6)
    sizes = [(layer.in_features, layer.out_features) for layer in [*encoder, *decoder] if hasattr(layer, "in_features")]
    assert sizes == [(6, 16), (16, 8), (8, 4), (4, 8), (8, 16), (16, 6)]
    assert isinstance(encoder[-1], torch.nn.Linear)
    assert isinstance(decoder[-1], torch.nn.Linear)


def test_the_decoder_mirrors_the_encoder():
    model = small()
    encoder, decoder = ([p.shape for p in part.parameters() if p.ndim == 2] for part in (model.encoder, model.decoder))
    assert [tuple(reversed(shape)) for shape in reversed(encoder)] == [tuple(shape) for shape in decoder]


def test_without_hidden_layers_it_is_residual_k_means(features):
    model = RqVae(input_dim=6, hidden_dim=None, num_embeddings=8, num_levels=2)
    model.initialize_codebooks(features, 10, seed=0)
    reconstructed = model(features)[0]
    assert model.reconstruction_error(features) == pytest.approx((reconstructed - features).square().mean().item())
    # two levels of 8 codes halve the variance of 60 points in 6 dimensions
    assert model.reconstruction_error(features) < features.square().mean() / 2


def test_fitted_codebooks_use_every_code(features):
    model = small()
    model.initialize_codebooks(features, 10, seed=0)
    assert [len(level.unique()) for level in model.semantic_codes(features).unbind(1)] == [8, 8, 8]


def test_codebooks_are_fitted_to_all_items_and_not_to_a_first_batch():
    # ETEGRec's published code fits them to the first 1,024 rows.
    model = RqVae(input_dim=1, hidden_dim=None, num_embeddings=3)
    model.initialize_codebooks(torch.tensor([[1.0]] * 2000 + [[20.0], [300.0]]), 10, seed=0)
    assert sorted(model.quantizer.codebooks.flatten().tolist()) == [1, 20, 300]


def test_the_fit_of_codebooks_follows_its_own_seed_and_touches_no_other_randomness(features):
    # In ETEGRec's published code numpy's global state decides.
    fitted = []
    for of_the_process in (1, 2):
        model = small()
        torch.manual_seed(of_the_process)
        before = torch.get_rng_state()
        model.initialize_codebooks(features, 10, seed=0)
        assert torch.equal(torch.get_rng_state(), before)
        fitted.append(model.quantizer.codebooks)
    assert torch.equal(*fitted)


def test_a_batch_may_be_a_tensor_or_hold_features(features):
    model = small()
    model.log = lambda *arguments, **options: None
    assert torch.equal(model.training_step(features, 0), model.training_step({"features": features}, 0))


def config(folder, **options):
    settings = {
        "max_epochs": 4, "gpus": 0, "early_stopping_patience": 0, "save_top_k": 1, "progress_bar": False,
        "checkpoint_dir": str(folder), "monitor": "val_selection",
    }  # fmt: skip
    return TrainingConfig(**(settings | options))


def test_a_batch_of_anything_else_is_refused():
    for batch, kind in (({"text": ["a"]}, "NoneType"), ([torch.zeros(2, 6)], "list")):
        with pytest.raises(
            ValueError, match=f"^a batch must be a tensor or a dict with a tensor 'features', got {kind}$"
        ):
            small().training_step(batch, 0)


def test_features_of_another_width_are_refused(features):
    with pytest.raises(ValueError, match=r"features must have input_dim=6 columns, got shape \(60, 5\); build RqVae"):
        small()(features[:, :5])


def test_the_commitment_weight_counts_once_in_the_training_loss(features):
    # page 002 adds what the quantizer returns, page 003's VQVAELoss multiplies: together that would be 0.25 squared
    model = small(1)
    codebook = model.quantizer.levels[0].codebook
    latents = model.encode(features)
    nearest = codebook[torch.cdist(latents, codebook).argmin(1)]
    distance = F.mse_loss(latents, nearest)
    expected = F.mse_loss(model.decoder(nearest), features) + 0.25 * distance + distance
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it logs without a trainer
        torch.testing.assert_close(model.training_step({"features": features}, 0), expected)


def test_steps_without_a_trainer_keep_no_more_than_an_epoch(features):
    model = small()
    model.log = lambda *arguments, **options: None
    for _ in range(3):
        for batch_idx, batch in enumerate(features.split(20)):
            model.training_step(batch, batch_idx)
    assert sum(len(latents) for latents in model._epoch_latents) == 60


def test_without_weight_decay_the_optimizer_is_adam(features):
    first, second = small(), small()
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    first._trainer = trainer
    ours = first.configure_optimizers()
    adam = torch.optim.Adam(second.parameters(), lr=3e-3, fused=True)
    for model, optimizer in ((first, ours), (second, adam)):
        for _ in range(3):
            optimizer.zero_grad()
            model.losses(features, model.encode(features))["loss"].backward()
            optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_every_quantizer_learns(features, quantizer):
    model = small(quantizer=quantizer)
    model.initialize_codebooks(features, 10, seed=0)
    before = model.eval().reconstruction_error(features)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model.losses(features, model.encode(features))["loss"].backward()
        optimizer.step()
    assert model.eval().reconstruction_error(features) < 0.75 * before


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_every_quantizer_comes_back_bit_by_bit(features, tmp_path, quantizer):
    model = small(quantizer=quantizer)
    BaseTrainer(model, config(tmp_path / "run", max_epochs=2), CurveLogger()).train(row_loader(features, 20, seed=0))
    model.save_pretrained(tmp_path / "folder")
    for loaded in (
        RqVae.load_from_checkpoint(tmp_path / "run" / "last.ckpt"),
        RqVae.from_pretrained(str(tmp_path / "folder")),
    ):
        assert loaded.hparams["quantizer"] == quantizer
        assert list(loaded.state_dict()) == list(model.state_dict())
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
        assert torch.equal(loaded.semantic_codes(features), model.semantic_codes(features))


def test_its_folder_may_begin_at_the_home_folder(tmp_path, monkeypatch):
    # a folder named ~ was made
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    small().save_pretrained("~/model")
    RqVae.from_pretrained("~/model")
    assert [file.name for file in tmp_path.iterdir()] == ["home"]


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="must hold config.json and model.safetensors"):
        RqVae.from_pretrained(tmp_path / "nothing here")


@pytest.mark.slow
def test_training_lowers_the_reconstruction_error(features, tmp_path):
    model = small()
    model.initialize_codebooks(features, 10, seed=0)
    before = model.reconstruction_error(features)
    loader = row_loader(features, 20, seed=0)
    BaseTrainer(model, config(tmp_path, max_epochs=25), CurveLogger()).train(loader)
    assert model.reconstruction_error(features) < 0.7 * before


@pytest.mark.slow
def test_codes_that_an_epoch_left_unused_start_again(features, tmp_path):
    model = small()
    model.initialize_codebooks(features, 10, seed=0)
    with torch.no_grad():
        model.quantizer.levels[0].codebook[:4] = 1000
    logger = CurveLogger()
    BaseTrainer(model, config(tmp_path, max_epochs=1), logger).train(row_loader(features, 60, seed=0))
    assert logger.rows[0]["restarted_codes"] >= 4
    # four without the restart; after it seven or eight, as the weights are drawn
    assert len(model.semantic_codes(features)[:, 0].unique()) > 5


@pytest.mark.slow
@pytest.mark.parametrize("validate_every", [1, 2])
def test_the_weights_that_are_kept_are_those_that_were_validated(features, tmp_path, validate_every):
    # holds other codebooks than those whose collisions were counted. 60 items rarely use all of 32 codes, so that
    # epochs do restart some.
    model = RqVae(input_dim=6, hidden_dim=8, latent_dim=4, num_embeddings=32, num_levels=2, learning_rate=3e-2)
    model.initialize_codebooks(features, 10, seed=0)
    logger = CurveLogger()
    loader = row_loader(features, 12, seed=0)
    settings = config(tmp_path, max_epochs=6, val_check_interval=validate_every)
    BaseTrainer(model, settings, logger).train(loader, row_loader(features, 60, seed=0))
    assert max(row["restarted_codes"] for row in logger.rows.values()) > 0
    best = min((row for row in logger.rows.values() if "val_selection" in row), key=lambda row: row["val_selection"])
    assert model.reconstruction_error(features) == pytest.approx(best["val_recon_loss"], rel=1e-5)


def test_val_selection_orders_by_collisions_first_and_reconstruction_second():
    logged = {}

    class Recorded(RqVae):
        def log(self, name, value, **options):
            logged[name] = float(value)

    def selection(codes, loss):
        model = Recorded(input_dim=2, hidden_dim=None, num_embeddings=2)
        model._validated = [(torch.tensor(codes), torch.full((len(codes),), loss))]
        model.on_validation_epoch_end()
        return logged["val_selection"]

    none, one = [[0, 1], [1, 0], [1, 1]], [[0, 1], [1, 0], [1, 0]]
    assert selection(none, 0.1) < selection(none, 5.0) < selection(one, 0.1) < selection(one, 5.0)


@pytest.mark.slow
class Validating:
    """As much of Lightning's trainer as tells how often it validates."""

    enable_validation, check_val_every_n_epoch = True, 2


def test_the_rate_is_halved_after_five_validations_without_gain():
    model, trainer = small(), Validating()
    model.trainer = trainer
    settings = model.configure_optimizers()
    plateau = settings["lr_scheduler"]
    assert (plateau["monitor"], plateau["frequency"]) == ("val_loss", 2)
    rates = []
    for loss in [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]:
        plateau["scheduler"].step(loss)
        rates.append(settings["optimizer"].param_groups[0]["lr"])
    assert rates == [3e-3] * 6 + [3e-3 / 2]


def test_without_a_validation_set_there_is_no_plateau_to_wait_for(features, tmp_path):
    model = small()
    trainer = BaseTrainer(model, config(tmp_path, max_epochs=1), CurveLogger())
    trainer.train(row_loader(features, 20, seed=0))
    assert trainer.trainer.lr_scheduler_configs == []


def test_lightnings_checkpoint_is_loaded_bit_by_bit(tmp_path):
    model = small()
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = RqVae.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert dict(loaded.hparams) == dict(model.hparams)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


# Page 002's functions.


def loaders(features):
    return [
        DataLoader(features, batch_size=7),
        DataLoader([{"features": row} for row in features], batch_size=7),
        [features],
    ]


@pytest.mark.parametrize("num_levels", [1, 3])
def test_a_loaders_semantic_ids_are_those_of_its_items_whatever_the_batches(features, num_levels):
    model = small(num_levels)
    expected = model.generate_semantic_ids(features)
    assert expected.shape == ((60,) if num_levels == 1 else (60, 3))
    assert all(torch.equal(batch_inference(model, loader), expected) for loader in loaders(features))


def test_the_default_device_is_at_hand(features):
    # page 002's `cuda` raises on a machine without a GPU
    model = small()
    for measure in (batch_inference, evaluate_reconstruction, evaluate_quantization):
        measure(model, [features])
    assert model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("measure", [batch_inference, evaluate_reconstruction, evaluate_quantization])
def test_measuring_leaves_the_mode_as_it_was(features, measure):
    # a model left in eval mode would train its averages and dropout no more
    for mode in (True, False):
        model = small().train(mode)
        measure(model, [features])
        assert model.training is mode
        with pytest.raises(ValueError, match="a batch must be"):
            measure(model, [features, None])
        assert model.training is mode


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_measuring_changes_no_weight(features, quantizer):
    model = small(quantizer=quantizer).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for measure in (batch_inference, evaluate_reconstruction, evaluate_quantization):
        measure(model, [features])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("measure", [batch_inference, evaluate_reconstruction, evaluate_quantization])
def test_an_empty_loader_is_refused(measure):
    with pytest.raises(ValueError, match="^dataloader must have at least one batch, got none; is its data set empty"):
        measure(small(), [])


def decoding_to(features):
    """A model that reconstructs `features`, whatever it is given: two dimensions, one code."""
    model = RqVae(input_dim=2, hidden_dim=None, num_embeddings=1)
    with torch.no_grad():
        model.quantizer.levels[0].codebook.copy_(torch.tensor([features]))
    return model


def test_mse_is_the_mean_over_elements_not_over_items():
    # page 002 divides the summed squares by the items: input_dim times as much
    features = torch.tensor([[1.0, 2.0], [1.0, 4.0]])
    figures = evaluate_reconstruction(decoding_to([1.0, 1.0]), [features[:1], features[1:]])
    assert figures["mse"] == pytest.approx((0 + 1 + 0 + 9) / 4)
    assert figures["rmse"] == pytest.approx(math.sqrt(10 / 4))
    assert figures["sse_per_item"] == pytest.approx((1 + 9) / 2)
    cosines = [3 / math.sqrt(5 * 2), 5 / math.sqrt(17 * 2)]
    assert figures["cosine_similarity"] == pytest.approx(sum(cosines) / 2)


def test_every_batch_counts_by_its_items():
    features = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    model = decoding_to([0.5, 0.0])
    whole = evaluate_reconstruction(model, [features])
    assert evaluate_reconstruction(model, [features[:9], features[9:]]) == pytest.approx(whole)
    assert whole["mse"] == pytest.approx(model.reconstruction_error(features))


def on_a_line(*values):
    """A model with these codes, of which items choose the nearest."""
    model = RqVae(input_dim=1, hidden_dim=None, num_embeddings=len(values))
    with torch.no_grad():
        model.quantizer.levels[0].codebook.copy_(torch.tensor(values)[:, None])
    return model


def test_evenly_used_codes_have_a_perplexity_of_their_number():
    # of so many, page 002's float32 with 1e-10 in the logarithm gives another number
    figures = evaluate_quantization(on_a_line(*map(float, range(500))), [torch.arange(500.0).repeat(5)[:, None]])
    assert (figures["usage_rate"], figures["unique_codes"]) == (1, 500)
    assert figures["perplexity"] == pytest.approx(500, rel=1e-12)


def test_one_used_code_has_a_perplexity_of_one():
    figures = evaluate_quantization(on_a_line(0.0, 9.0, 9.5, 9.9), [torch.zeros(6, 1)])
    assert (figures["usage_rate"], figures["unique_codes"], figures["perplexity"]) == (0.25, 1, 1)
    assert figures["collision_rate"] == 5 / 6


def test_several_levels_are_measured_each_and_together(features):
    # page 002 counts with bincount, which takes one column only
    model = small(3)
    model.initialize_codebooks(features, 10, seed=0)
    figures = evaluate_quantization(model, DataLoader(features, batch_size=7))
    codes = model.semantic_codes(features)
    assert figures["unique_codes"] == len({tuple(row) for row in codes.tolist()})
    assert figures["collision_rate"] == pytest.approx(1 - figures["unique_codes"] / 60)
    used = [len(column.unique()) / 8 for column in codes.unbind(1)]
    assert [figures[f"usage_level_{level}"] for level in range(3)] == used
    assert figures["usage_rate"] == pytest.approx(sum(used) / 3)
    for level, column in enumerate(codes.unbind(1)):
        shares = [column.tolist().count(code) / 60 for code in set(column.tolist())]
        entropy = -sum(share * math.log(share) for share in shares)
        assert figures[f"perplexity_level_{level}"] == pytest.approx(math.exp(entropy))


def test_the_quantizer_of_page_002_is_here_too():
    assert VectorQuantizer is QUANTIZERS["straight_through"]
