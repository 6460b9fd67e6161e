"""The RQ-VAE's trainer: what it makes of a data set, what it measures, what it keeps."""

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader

from genrec.codes.tokenizer.quantizers import QUANTIZERS
from genrec.models.rqvae import RqVae, evaluate_quantization, evaluate_reconstruction
from genrec.trainers.rqvae import RQVAETrainer, RQVAETrainingConfig
from genrec.training.base import BaseTrainer

pytestmark = pytest.mark.slow

FEATURES = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
DICTS = [{"features": row, "text": "an item"} for row in FEATURES]
RECONSTRUCTION = {"mse", "rmse", "sse_per_item", "cosine_similarity"}


def trainer(folder, dataset=FEATURES, num_levels=1, quantizer="straight_through", logger=None, **options):
    settings = {
        "max_epochs": 3, "batch_size": 16, "gpus": 0, "progress_bar": False, "checkpoint_dir": str(folder / "models"),
        "log_dir": str(folder / "logs"), "num_levels": num_levels,
    }  # fmt: skip
    config = RQVAETrainingConfig(**(settings | options))
    torch.manual_seed(0)
    model = RqVae(
        input_dim=6, hidden_dim=8, latent_dim=4, num_embeddings=8, learning_rate=config.learning_rate,
        num_levels=num_levels, quantizer=quantizer,
    )  # fmt: skip
    return RQVAETrainer(model, config, dataset, logger)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal(first, second):
    assert [name for name, value in first.items() if not torch.equal(value, second[name])] == []


def test_it_is_one_of_the_family(tmp_path):
    assert isinstance(trainer(tmp_path), BaseTrainer)


def test_items_may_be_tensors_or_dicts_with_features(tmp_path):
    tensors, dicts = (trainer(tmp_path / name, data).train_model() for name, data in (("a", FEATURES), ("b", DICTS)))
    assert_equal(weights(tensors), weights(dicts))


def test_training_improves_the_reconstruction(tmp_path):
    made = trainer(tmp_path, max_epochs=40, learning_rate=1e-2, num_levels=3)
    loader = made.loader(made.dataset)
    before = made.evaluate_reconstruction(loader)["mse"]
    made.train_model()
    assert made.evaluate_reconstruction(loader)["mse"] < 0.8 * before


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("num_levels", [1, 3])
def test_every_quantizer_trains_at_any_number_of_levels(tmp_path, quantizer, num_levels):
    made = trainer(tmp_path, num_levels=num_levels, quantizer=quantizer)
    untrained = weights(made.model)
    model = made.train_model()
    assert any(not torch.equal(value, untrained[name]) for name, value in model.state_dict().items())
    ids = made.generate_semantic_ids(made.loader(made.dataset))
    assert ids.shape == ((60,) if num_levels == 1 else (60, 3))
    assert ids.dtype == torch.int64
    assert torch.equal(ids, model.generate_semantic_ids(FEATURES))


class SpoilsTheLastEpoch(Callback):
    """Its weights are worse than those of any epoch before."""

    def on_validation_start(self, trainer, pl_module):
        if trainer.current_epoch == 8:
            with torch.no_grad():
                for parameter in pl_module.decoder.parameters():
                    parameter.add_(5)


def test_the_weights_that_come_back_are_those_of_the_best_validation(tmp_path):
    # page 000 returns the last weights
    made = trainer(tmp_path, max_epochs=9, learning_rate=0.3, early_stopping_patience=0, save_top_k=-1)
    made.setup_trainer()
    made.trainer.callbacks.insert(0, SpoilsTheLastEpoch())
    model = made.train_model().eval()
    files = [file.stem for file in (tmp_path / "models").glob("epoch=*")]
    by_epoch = {int(name.split("=")[1].split("-")[0]): float(name.split("val_loss=")[1]) for name in files}
    (features,) = made.create_dataloaders()[1]
    with torch.no_grad():
        loss = model.losses(features, model.encode(features))["loss"].item()
    assert loss == pytest.approx(min(by_epoch.values()), abs=0.005)
    assert by_epoch[8] > min(by_epoch.values())


def test_the_saved_model_is_the_one_that_comes_back(tmp_path):
    model = trainer(tmp_path).train_model()
    # where page 000's TIGER and page 002 look for it
    loaded = RqVae.load_from_checkpoint(tmp_path / "models" / "rqvae.ckpt")
    assert_equal(weights(model), weights(loaded))
    assert dict(loaded.hparams) == dict(model.hparams)


def test_the_same_seed_gives_the_same_file(tmp_path):
    for name in ("a", "b"):
        trainer(tmp_path / name).train_model()
    first, second = ((tmp_path / name / "models" / "rqvae.ckpt").read_bytes() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize("reconstruction", [True, False])
@pytest.mark.parametrize("quantization", [True, False])
def test_what_the_config_asks_for_is_measured_and_nothing_else(tmp_path, reconstruction, quantization):
    # page 000 declares both flags and reads neither
    made = trainer(tmp_path, run_test=False, eval_reconstruction=reconstruction, eval_quantization=quantization)
    model = made.train_model()
    expected = {}
    if reconstruction:
        expected |= evaluate_reconstruction(model, made.create_dataloaders()[2])
    if quantization:
        expected |= evaluate_quantization(model, [FEATURES])
    assert made.results == expected
    assert (made.results.keys() >= RECONSTRUCTION) is reconstruction
    assert ({"usage_rate", "unique_codes", "perplexity"} <= made.results.keys()) is quantization


def test_the_models_own_test_step_runs_on_the_best_weights(tmp_path):
    # page 002's model has no test step, and Lightning refuses to test it
    made = trainer(tmp_path, eval_reconstruction=True, eval_quantization=False)
    model = made.train_model()
    assert {"test_loss", "test_recon_loss"} <= made.results.keys()
    assert made.results["test_recon_loss"] == pytest.approx(made.results["mse"])
    (features,) = made.create_dataloaders()[2]
    losses = model.losses(features, model.encode(features))
    assert made.results["test_loss"] == pytest.approx(losses["loss"].item())


def test_results_go_to_the_logger_and_not_to_the_screen(tmp_path, capsys):
    trainer(tmp_path).train_model()
    assert capsys.readouterr().out == ""
    content = b"".join(file.read_bytes() for file in (tmp_path / "logs" / "experiment" / "version_0").glob("events*"))
    assert [name for name in ("train_loss", "val_loss", "test_loss", "test_mse", "test_perplexity")
            if name.encode() not in content] == []  # fmt: skip


def test_three_items_can_be_trained_on(tmp_path):
    made = trainer(tmp_path, FEATURES[:3], max_epochs=1)
    made.train_model()
    assert made.results["unique_codes"] >= 1


def test_an_empty_part_has_no_reconstruction_to_measure(tmp_path):
    with pytest.raises(ValueError, match="dataloader must have at least one batch"):
        trainer(tmp_path).evaluate_reconstruction(DataLoader([]))


def test_measuring_between_two_trainings_does_not_stop_the_learning_of_averages(tmp_path):
    # an evaluation that leaves the model in eval mode would freeze its codebooks from then on
    made = trainer(tmp_path, quantizer="ema", max_epochs=1)
    made.train_model()
    made.generate_semantic_ids(made.loader(made.dataset))
    before = weights(made.model)
    made.train(*made.create_dataloaders()[:2])
    assert not torch.equal(made.model.quantizer.levels[0].counts, before["quantizer.levels.0.counts"])
