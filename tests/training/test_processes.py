"""Two processes learn what one does at the same batches, step by step; what would not is refused before any work."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from processes_together import run_together
from torch.utils.data import DataLoader

from genrec.errors import UserError
from genrec.layers.processes import process_rank
from genrec.models.etegrec.module import ETEGRec
from genrec.models.etegrec.trainer import ETEGRecTrainer, ETEGRecTrainingConfig
from genrec.models.parallel import Parallel
from genrec.models.rqvae import RqVae
from genrec.models.sasrec import SASRec
from genrec.models.tiger import Tiger
from genrec.networks.generating.history_towers import HistoryTowers
from genrec.ranking.ctr_trainer import CTRTrainer
from genrec.ranking.feature_batches import feature_loader
from genrec.ranking.mtl_trainer import MTLTrainer
from genrec.ranking.ranker import CLICK_NETWORKS, Ranker
from genrec.sequences.batches import mixed_window_loader, row_loader, segment_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.towers.match_trainer import LIST_WISE, MatchTrainer
from genrec.training.base import BaseTrainer, check_gpus
from genrec.training.config import RankingConfig
from genrec.training.curves import CurveLogger
from genrec.training.lightning import Callback
from genrec.training.processes import FITNESS, fitness_of, start_processes, told_once

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
N_ITEMS, LONGEST, EPOCHS, DROPOUT = 40, 8, 2, 0.3


def histories(n_users=23):
    """Of an odd number of users, so that shares are uneven."""
    random = np.random.default_rng(0)
    lengths = random.integers(4, 14, n_users)
    items = random.integers(1, N_ITEMS + 1, lengths.sum()).astype(np.int32)
    return Histories(items, np.concatenate([[0], np.cumsum(lengths)]), N_ITEMS)


def sasrec(**options):
    return SASRec(N_ITEMS, 8, 1, 2, DROPOUT, LONGEST, learns_repeats=True, **options)


def tiger(**options):
    model = Tiger(
        1 + 2 * 8, 8, 2, 1, 16, DROPOUT, 2 * LONGEST, 1e-3, code_length=2, n_items=N_ITEMS, head_dim=4,
        decoder_dropout=DROPOUT, learns_repeats=True, n_beams=5, **options,
    )  # fmt: skip
    items = torch.arange(N_ITEMS)
    model.set_code_table(torch.cat([torch.tensor([[-1, -1]]), torch.stack([items % 8, items // 8], 1)]))
    return model


def parallel(**options):
    model = Parallel(
        N_ITEMS, 4, 8, 8, 1, 2, DROPOUT, LONGEST, num_negatives=16, num_trained_digits=2, digit_loss_weight=0.5,
        warmup_steps=2, **options,
    )  # fmt: skip
    digits = torch.randint(0, 8, (N_ITEMS + 1, 4), generator=torch.Generator().manual_seed(1))
    digits[0] = -1
    model.set_digits(digits.int())
    return model


def rqvae(**options):
    """More codes than items of an epoch use, so that some are restarted.

    None lies on its one item, where the gradient is rounding noise, which Adam makes as large as any other.
    """
    model = RqVae(6, 8, 4, 16, num_levels=2, **options)
    model.initialize_codebooks(features(), 2, 0)
    with torch.no_grad():
        for level in model.quantizer.levels:
            level.codebook += 0.1 * torch.randn(16, 4, generator=torch.Generator().manual_seed(4))
        model.quantizer.levels[0].codebook[3:6] += 9
    return model


def features():
    return torch.randn(N_ITEMS + 1, 6, generator=torch.Generator().manual_seed(3))


def rows(seed):
    return row_loader(features(), 11, seed)


def windows(seed):
    return window_loader(histories(), "train", LONGEST, 41, seed)


def segments(seed):
    return segment_loader(histories(), LONGEST, 11, seed)


def etegrec(causal=True, quantizer="straight_through", **options):
    """Whose first epoch trains the tokenizer, with its alignments."""
    shape = {
        "input_dim": 6, "hidden_dim": [8], "latent_dim": 4, "num_embeddings": 16, "num_levels": 2,
        "quantizer": quantizer,
    }  # fmt: skip
    tokenizer = RqVae(**shape)
    tokenizer.initialize_codebooks(features(), 2, 0)
    model = ETEGRec(
        N_ITEMS, shape, 8, 2, 4, 16, 1, DROPOUT, LONGEST, causal, warmup_steps=0, sia_weight=0.1, psa_weight=0.1,
        warmup_epochs=0, decoder_dropout=DROPOUT, n_beams=5, **options,
    )  # fmt: skip
    model.start_from(tokenizer, features())
    return model


def towers(**options):
    return HistoryTowers(N_ITEMS, embedding_dim=8, hidden_dims=(8,), dropout=DROPOUT, max_history=LONGEST, **options)


def ranker(network, weighting="equal"):
    model = Ranker(network, N_ITEMS, (N_ITEMS + 1, 9), 3, 4, (8,), DROPOUT)
    model.weighting = weighting
    items = torch.arange(N_ITEMS + 1)
    model.set_attributes(torch.stack([items, (items % 8 + 1) * (items > 0)], 1))
    return model


def candidates(seed):
    """Rows of which few have a rating, and clicks that follow from them."""
    random = torch.Generator().manual_seed(5)
    rows = {
        "item_id": torch.randint(1, N_ITEMS + 1, (97,), generator=random),
        "history": torch.randint(0, N_ITEMS + 1, (97, 4), generator=random),
        "signals": torch.randn(97, 3, generator=random),
    }
    clicks = (rows["item_id"] > 30).float()
    return rows, clicks, torch.where(clicks > 0, rows["signals"].sum(1).sigmoid(), torch.nan)


def rated(kind, batch_size, seed):
    rows, clicks, ratings = candidates(seed)
    labels = torch.stack([clicks, ratings], 1)
    if kind in CLICK_NETWORKS:
        labels = clicks
    elif kind == "esmm":
        liked = (ratings > 0.5).float()
        labels = torch.stack([liked, clicks, liked * clicks], 1)
    return feature_loader(rows, labels, batch_size, seed)


def mixed_windows(seed):
    return mixed_window_loader(histories(), LONGEST, 41, seed)


def windows_with_ties(seed):
    return window_loader(histories(), "train", LONGEST, 41, seed, shuffles_ties=True)


MODELS = {
    "SASRec": (sasrec, {}, segments),
    "SASRec with sampled negatives": (sasrec, {"loss": "sampled_softmax", "num_negatives": 9}, segments),
    "TIGER, causal": (tiger, {"causal": True}, segments),
    "TIGER, bidirectional": (tiger, {}, windows_with_ties),
    "TIGER, items": (
        tiger,
        {"itemwise": True, "item_vectors": True, "dense_loss_weight": 0.5, "num_negatives": 9},
        segments,
    ),
    "parallel": (parallel, {}, segments),
    "RQ-VAE": (rqvae, {}, rows),
    "RQ-VAE, rotation": (rqvae, {"quantizer": "rotation"}, rows),
    "RQ-VAE, ema": (rqvae, {"quantizer": "ema"}, rows),
    "RQ-VAE, sinkhorn": (rqvae, {"quantizer": "sinkhorn"}, rows),
    "ETEGRec": (etegrec, {}, segments),
    "ETEGRec, windows": (etegrec, {"causal": False}, windows),
    "ETEGRec, items, together, ema": (
        etegrec,
        {"causal": False, "itemwise": True, "alternates": False, "quantizer": "ema"},
        segments,
    ),
    "two towers": (towers, {}, mixed_windows),
    "two towers, one deep": (towers, {"network": "youtube_dnn"}, mixed_windows),
    "wide_deep": (ranker, {"network": "wide_deep"}, None),
    "deep_fm": (ranker, {"network": "deep_fm"}, None),
    "din": (ranker, {"network": "din"}, None),
    "shared_bottom": (ranker, {"network": "shared_bottom"}, None),
    "mmoe, uwl": (ranker, {"network": "mmoe", "weighting": "uwl"}, None),
    "ple, metabalance": (ranker, {"network": "ple", "weighting": "metabalance"}, None),
    "ple, gradnorm": (ranker, {"network": "ple", "weighting": "gradnorm"}, None),
    "esmm": (ranker, {"network": "esmm"}, None),
}


class Steps(Callback):
    """All weights after each step, and the random number that would be drawn next."""

    def __init__(self):
        self.weights, self.draws = [], []

    def on_train_batch_end(self, trainer, model, *arguments):
        self.weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]).numpy().copy())
        with torch.random.fork_rng(devices=[]):
            self.draws.append(float(torch.rand(())))


def train(name, folder, n, seed=0, epochs=EPOCHS):
    """Weights after each step and at the end, curves, and draws of one process."""
    make, arguments, loader = MODELS[name]
    torch.manual_seed(seed)
    model, logger, steps = make(**arguments), CurveLogger(), Steps()
    fits = {ranker: fit_ranker, towers: fit_towers, etegrec: fit_etegrec}
    with pytest.MonkeyPatch.context() as patch:
        callbacks = BaseTrainer._callbacks
        patch.setattr(BaseTrainer, "_callbacks", lambda trainer: [*callbacks(trainer), steps])
        fits.get(make, fit)(model, logger, loader, folder, n, seed, epochs)
    final = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    return {"steps": steps.weights, "draws": steps.draws, "rows": logger.rows, "final": final}


def fit(model, logger, loader, folder, n, seed, epochs):
    settings = RankingConfig(
        max_epochs=epochs, gpus=0, early_stopping_patience=0, progress_bar=False, devices=n, checkpoint_dir=str(folder),
        random_seed=seed, resume=True, monitor="val_loss" if loader is rows else "val_ndcg_at_10",
        monitor_mode="min" if loader is rows else "max",
    )  # fmt: skip
    validation = rows(0) if loader is rows else window_loader(histories(), "validation", LONGEST, 7, seed)
    BaseTrainer(model, settings, logger).train(loader(seed), validation)


def fit_etegrec(model, logger, loader, folder, n, seed, epochs):
    """A whole cycle, and the final stage."""
    settings = ETEGRecTrainingConfig(
        max_epochs=epochs, final_max_epochs=1, gpus=0, early_stopping_patience=0, final_early_stopping_patience=0,
        progress_bar=False, devices=n, checkpoint_dir=str(folder), random_seed=seed, resume=True,
    )  # fmt: skip
    ETEGRecTrainer(model, settings, logger).train(
        loader(seed), window_loader(histories(), "validation", LONGEST, 7, seed)
    )


def fit_towers(model, logger, loader, folder, n, seed, epochs):
    counts = torch.from_numpy(np.bincount(histories().items, minlength=N_ITEMS + 1))
    MatchTrainer(
        model, LIST_WISE, n_epoch=epochs, earlystop_patience=0, model_path=str(folder), in_batch_neg=True,
        item_counts=counts, catalogue={"target": torch.arange(1, N_ITEMS + 1)}, model_logger=logger, seed=seed,
        resume=True, progress_bar=False, devices=n,
    ).fit(loader(seed), window_loader(histories(), "validation", LONGEST, 7, seed))  # fmt: skip


def fit_ranker(model, logger, loader, folder, n, seed, epochs):
    """Its last batch of candidates that validate has a single row."""
    shared = {
        "n_epoch": epochs, "earlystop_patience": 0, "model_path": str(folder), "model_logger": logger, "resume": True,
        "progress_bar": False, "devices": n,
    }  # fmt: skip
    loaders = rated(model.kind, 33, seed), rated(model.kind, 32, None)
    if model.kind in CLICK_NETWORKS:
        CTRTrainer(model, seed=seed, **shared).fit(*loaders)
        return
    tasks = ["classification"] * 3 if model.kind == "esmm" else ["classification", "regression"]
    weighting = None if model.weighting == "equal" else {"method": model.weighting}
    MTLTrainer(model, tasks, adaptive_params=weighting, earlystop_taskid=model.click_task, **shared).fit(
        *loaders, seed=seed
    )


def train_all(folder, n):
    return {name: train(name, folder / name, n) for name in MODELS}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What each of two processes learns of each model."""
    folder = tmp_path_factory.mktemp("together")
    return run_together(train_all, folder, folder, 2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process learns of each model."""
    return train_all(tmp_path_factory.mktemp("alone"), 1)


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_have_the_weights_of_one_after_each_step(together, alone, name):
    first, second = (each[name] for each in together)
    alone = alone[name]
    assert len(first["steps"]) == len(alone["steps"]) > EPOCHS
    np.testing.assert_allclose(first["steps"], alone["steps"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(first["steps"], second["steps"])
    for key, value in alone["final"].items():
        np.testing.assert_allclose(first["final"][key], value, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(first["final"][key], second["final"][key])


@pytest.mark.parametrize("name", MODELS)
def test_the_first_process_alone_has_curves_and_they_are_those_of_one(together, alone, name):
    first, second = (each[name] for each in together)
    assert second["rows"] == {}
    assert first["rows"] == {epoch: pytest.approx(row, rel=1e-5) for epoch, row in alone[name]["rows"].items()}


@pytest.mark.parametrize("name", MODELS)
def test_all_processes_draw_what_one_would(together, alone, name):
    first, second = (each[name]["draws"] for each in together)
    assert first == second == alone[name]["draws"]


def test_one_process_goes_on_where_two_stopped(tmp_path):
    name = "SASRec with sampled negatives"
    run_together(train, tmp_path, name, tmp_path / "two", 2, 0, 1)
    resumed = train(name, tmp_path / "two", 1)
    whole = train(name, tmp_path / "one", 1)
    assert len(resumed["steps"]) == len(whole["steps"]) // EPOCHS
    np.testing.assert_allclose(resumed["steps"], whole["steps"][-len(resumed["steps"]) :], rtol=0, atol=1e-5)
    assert resumed["rows"] == {epoch: pytest.approx(row, rel=1e-5) for epoch, row in whole["rows"].items()}


def evaluate_a_ranker(folder, n):
    """The AUC of a ranker outside of a training, of batches of several sizes."""
    torch.manual_seed(0)
    model = ranker("wide_deep")
    trainer = CTRTrainer(model, model_path=str(folder), progress_bar=False, devices=n)
    return [trainer.evaluate(model, rated(model.kind, size, None)) for size in (33, 32)]


def test_two_processes_evaluate_a_ranker_as_one_does(tmp_path):
    alone = evaluate_a_ranker(tmp_path / "alone", 1)
    assert alone == pytest.approx([alone[0]] * 2)
    for found in run_together(evaluate_a_ranker, tmp_path, tmp_path / "together", 2):
        assert found == pytest.approx(alone)


def stop_early(folder):
    """How many epochs of nine were trained, of which none learns anything."""
    model, logger = sasrec(learning_rate=0.0), CurveLogger()
    settings = RankingConfig(
        max_epochs=9, gpus=0, devices=2, early_stopping_patience=2, progress_bar=False, checkpoint_dir=str(folder)
    )
    trainer = BaseTrainer(model, settings, logger)
    trainer.train(segments(0), window_loader(histories(), "validation", LONGEST, 7, 0))
    return trainer.trainer.current_epoch


def test_processes_stop_early_in_the_same_epoch(tmp_path):
    first, second = run_together(stop_early, tmp_path, tmp_path / "run")
    assert first == second < 9


def explode(folder, is_learned):
    """What a process says of a figure that is NaN in the first of them alone, which may be the loss that it learns."""

    class OneIsNan(SASRec):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            bad = loss * (torch.nan if process_rank() == 0 else 1.0)
            self.log("train_loss_seen", bad, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
            return bad if is_learned else loss

    OneIsNan.__name__ = "SASRec"
    settings = RankingConfig(max_epochs=1, gpus=0, devices=2, progress_bar=False, checkpoint_dir=str(folder))
    trainer = BaseTrainer(OneIsNan(N_ITEMS, 8, 1, 2, 0.0, LONGEST), settings, CurveLogger())
    with pytest.raises(UserError) as error:
        trainer.train(segments(0), None)
    return str(error.value)


def test_a_loss_that_is_nan_in_one_process_ends_all_with_the_same_words(tmp_path):
    first, second = run_together(explode, tmp_path, tmp_path / "run", True)
    assert first == second
    assert "epoch 1, batch 1, step 1: train_loss_seen is nan" in first


def test_a_figure_that_is_nan_in_one_process_ends_it_and_then_the_others(tmp_path):
    first, second = run_together(explode, tmp_path, tmp_path / "run", False)
    assert "epoch 1, batch 1, step 1: train_loss_seen is nan" in first
    assert "another of the 2 processes that train together has ended" in second


class Dies(Callback):
    """Ends one process at its third step, as the system does for want of memory."""

    def __init__(self, rank):
        self.rank = rank

    def on_train_batch_start(self, trainer, model, *arguments):
        if trainer.global_step == 2 and process_rank() == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)


def lose(folder, dying):
    """What the other process says, once as a trainer and once as a stage does, which may be told already."""
    settings = RankingConfig(max_epochs=9, gpus=0, devices=2, progress_bar=False, checkpoint_dir=str(folder))
    trainer = BaseTrainer(sasrec(), settings, CurveLogger())
    trainer.setup_trainer()
    trainer.trainer.callbacks.append(Dies(dying))
    folder.mkdir(exist_ok=True)
    with pytest.raises(UserError) as error, told_once(folder):
        trainer.train(segments(0), None)
    with pytest.raises(SystemExit), told_once(folder):
        raise error.value
    return str(error.value)


@pytest.mark.parametrize("dying", [0, 1])
def test_a_process_whose_other_has_died_says_so_in_one_line_and_once(tmp_path, dying):
    answers = run_together(lose, tmp_path, tmp_path / "run", dying, dies=dying)
    message = answers[1 - dying]
    assert re.match(
        r"experiment: in epoch 1, batch 3, step 3: another of the 2 processes .* has ended; run ag", message
    )
    assert "\n" not in message
    assert not (tmp_path / "run" / "last.ckpt").exists()


def refuse_whole_batches(folder):
    settings = RankingConfig(max_epochs=1, gpus=0, devices=2, progress_bar=False, checkpoint_dir=str(folder))
    with pytest.raises(UserError, match="give each its share of a batch; this one's sampler is a Sequential"):
        BaseTrainer(sasrec(), settings, CurveLogger()).train(DataLoader(torch.zeros(4, 1)))
    return True


def test_a_loader_that_gives_each_process_whole_batches_is_refused(tmp_path):
    assert run_together(refuse_whole_batches, tmp_path, tmp_path / "run") == [True, True]


def test_a_model_that_is_not_in_the_table_is_refused_before_it_trains(tmp_path):
    settings = RankingConfig(gpus=0, devices=2, checkpoint_dir=str(tmp_path), progress_bar=False)
    with pytest.raises(UserError, match=r"^Scaled cannot be trained by 2 processes: it is not known to learn the same"):
        BaseTrainer(type("Scaled", (SASRec,), {})(9), settings, CurveLogger()).setup_trainer()
    assert fitness_of("Scaled", 1) is None


def test_the_table_of_what_is_fit_names_all_that_trains():
    stages = {f"train_{row.stage}" for row in FITNESS}
    assert stages == {file.stem for file in (PROJECT / "stages").glob("train_*.py")}
    code = "\n".join(file.read_text("utf-8") for file in (PROJECT / "genrec").rglob("*.py"))
    assert [row.model for row in FITNESS if not re.search(rf"^class {row.model}\(", code, re.MULTILINE)] == []


def test_torchruns_processes_without_devices_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"^torchrun has started 2 processes .* each would train alone and write the"):
        start_processes(1, 1, 0)


@pytest.mark.parametrize(("gpus", "devices"), [(1, 2), (2, 1), (3, 2)])
def test_another_number_of_gpus_than_of_processes_is_refused(gpus, devices):
    with pytest.raises(UserError, match=rf"^gpus is {gpus}, but .* a process each, and devices is {devices}; choose"):
        check_gpus(gpus, several=devices)
