"""RQ-VAE as a model: shapes of its answers, its loss, its codebooks over an epoch, and what training it keeps."""

import pytest
import pytorch_lightning as pl
import torch

from genrec.data.batches import row_loader
from genrec.models.rqvae import Decoder, Encoder, RqVae
from genrec.trainers.base import BaseTrainer
from genrec.trainers.config import TrainingConfig
from genrec.trainers.curves import CurveLogger

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


def test_semantic_codes_equal_those_of_brute_force(features):
    model = small().double()
    model.initialize_codebooks(features.double(), 5, seed=0)
    with torch.no_grad():
        residual, columns = model.encode(features.double()), []
        for codebook in model.quantizer.codebooks:
            columns.append((residual[:, None] - codebook).square().sum(2).argmin(1))
            residual = residual - codebook[columns[-1]]
    assert torch.equal(model.semantic_codes(features.double()), torch.stack(columns, 1))


def test_generating_semantic_ids_changes_nothing(features):
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.equal(model.generate_semantic_ids(features), model.generate_semantic_ids(features))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


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
    assert len(model.semantic_codes(features)[:, 0].unique()) == 8


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
