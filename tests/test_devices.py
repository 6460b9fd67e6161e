"""Every model trained, validated, searched, scored and evaluated on a device that is not the CPU."""

import contextlib
import copy
import importlib
import json
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from faults.stages_in_processes import write_params
from other_device import DEVICE, OtherTensor, other_device

from genrec.choices import RankerNetwork
from genrec.codes.code_table import build_code_table
from genrec.models.etegrec.module import ETEGRec
from genrec.models.etegrec.trainer import ETEGRecTrainer, ETEGRecTrainingConfig
from genrec.models.parallel import Parallel
from genrec.models.rqvae import RqVae
from genrec.models.sasrec import SASRec
from genrec.models.tiger import Tiger
from genrec.networks.generating.history_towers import HistoryTowers
from genrec.ranking.fit_ranker import RankerSettings, RatingScale, fit_ranker
from genrec.ranking.ranker import Ranker
from genrec.ranking.rows import SIGNALS, RankingRows, draw_users
from genrec.sequences.batches import row_loader, training_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.towers.match_trainer import LIST_WISE, PAIR_WISE, MatchTrainer
from genrec.training.base import BaseTrainer
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger

N_ITEMS, LEVELS, CODES, WIDTH = 12, 2, 4, 6
TOKENIZER = {
    "input_dim": WIDTH, "hidden_dim": (8,), "latent_dim": 5, "num_embeddings": CODES, "num_levels": LEVELS,
}  # fmt: skip
SIZE = {"embedding_dim": 8, "num_heads": 2, "num_layers": 1, "attn_dim": 8, "dropout": 0.1}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def histories():
    random = np.random.default_rng(0)
    lengths = random.integers(4, 8, 9)
    items = random.integers(1, N_ITEMS + 1, lengths.sum()).astype(np.int32)
    return Histories(items, np.concatenate([[0], lengths.cumsum()]), n_items=N_ITEMS)


def code_table():
    return build_code_table(torch.randint(0, CODES, (N_ITEMS, LEVELS)), CODES)


def tiger(encoder="bidirectional", **options):
    itemwise = encoder == "items"
    dense = {"item_vectors": True, "dense_loss_weight": 1.0, "learns_repeats": True} if itemwise else {}
    model = Tiger(
        1 + 3 * CODES, max_seq_length=15, code_length=3, n_items=N_ITEMS, n_beams=3, causal=encoder == "causal",
        itemwise=itemwise, **dense | SIZE | options,
    )  # fmt: skip
    model.set_code_table(code_table())
    return model


def etegrec(encoder="bidirectional", **options):
    model = ETEGRec(N_ITEMS, TOKENIZER, head_dim=4, max_history=5, warmup_epochs=0, n_beams=3,
                    causal=encoder == "causal", itemwise=encoder == "items", **SIZE | options)  # fmt: skip
    tokenizer, embeddings = RqVae(**TOKENIZER), torch.randn(N_ITEMS + 1, WIDTH)
    tokenizer.initialize_codebooks(embeddings[1:], 5, seed=0)
    model.start_from(tokenizer, embeddings)
    return model


def config(folder, kind=TrainingConfig, **own):
    return kind(checkpoint_dir=str(folder), log_dir=str(folder), gpus=0, max_epochs=2, progress_bar=False, **own)


def is_trained(model, before):
    return any(not torch.equal(value.cpu(), before[name]) for name, value in model.state_dict().items())


class TestTraining:
    @pytest.mark.parametrize("loss", ["full_softmax", "sampled_softmax"])
    def test_sasrec(self, histories, tmp_path, loss):
        model = SASRec(N_ITEMS, 8, 1, 2, max_history=5, loss=loss, num_negatives=4)
        before = copy.deepcopy(model.state_dict())
        with other_device():
            BaseTrainer(model, config(tmp_path, monitor="val_ndcg_at_10", monitor_mode="max")).train(
                training_loader(histories, "causal", 5, 4, 0, 0), window_loader(histories, "validation", 5, 4, 0)
            )
        assert is_trained(model, before)

    @pytest.mark.parametrize("num_negatives", [0, 4])
    def test_parallel(self, histories, tmp_path, num_negatives):
        model = Parallel(N_ITEMS, LEVELS, CODES, 8, 1, 2, max_history=5, num_negatives=num_negatives, warmup_steps=1)
        model.set_digits(torch.cat([torch.full((1, LEVELS), -1), torch.randint(0, CODES, (N_ITEMS, LEVELS))]))
        before = copy.deepcopy(model.state_dict())
        with other_device():
            BaseTrainer(model, config(tmp_path, monitor="val_ndcg_at_10", monitor_mode="max")).train(
                training_loader(histories, "causal", 5, 4, 0, 0), window_loader(histories, "validation", 5, 4, 0)
            )
        assert is_trained(model, before)

    @pytest.mark.parametrize("encoder", ["causal", "bidirectional", "items"])
    def test_tiger(self, histories, tmp_path, encoder):
        model = tiger(encoder)
        before = copy.deepcopy(model.state_dict())
        with other_device():
            BaseTrainer(model, config(tmp_path, monitor="val_ndcg_at_10", monitor_mode="max")).train(
                training_loader(histories, encoder, 5, 4, 0, 0), window_loader(histories, "validation", 5, 4, 0)
            )
        assert is_trained(model, before)

    @pytest.mark.parametrize("encoder", ["causal", "bidirectional", "items"])
    @pytest.mark.parametrize("alternates", [True, False])
    def test_etegrec(self, histories, tmp_path, encoder, alternates):
        model = etegrec(encoder, alternates=alternates)
        before = copy.deepcopy(model.state_dict())
        with other_device():
            ETEGRecTrainer(model, config(tmp_path, ETEGRecTrainingConfig, final_max_epochs=1)).train(
                training_loader(histories, encoder, 5, 4, 0, 0), window_loader(histories, "validation", 5, 4, 0)
            )
        assert is_trained(model, before)

    @pytest.mark.parametrize("quantizer", ["straight_through", "sinkhorn", "rotation", "ema"])
    def test_rqvae(self, tmp_path, quantizer):
        model, features = RqVae(**TOKENIZER, quantizer=quantizer), torch.randn(N_ITEMS, WIDTH)
        before = copy.deepcopy(model.state_dict())
        with other_device():
            BaseTrainer(model, config(tmp_path, monitor="val_selection", early_stopping_patience=0)).train(
                row_loader(features, 6, 0), row_loader(features, N_ITEMS, 0)
            )
        assert is_trained(model, before)

    @pytest.mark.parametrize("network", ["dssm", "youtube_dnn"])
    @pytest.mark.parametrize(
        "options", [{}, {"in_batch_neg_ratio": 2}, {"in_batch_neg_ratio": 2, "hard_negative": True}]
    )
    @pytest.mark.parametrize("mode", [PAIR_WISE, LIST_WISE])
    def test_two_towers(self, histories, tmp_path, network, options, mode):
        model = HistoryTowers(N_ITEMS, network, 4, (4,), max_history=5)
        before = copy.deepcopy(model.state_dict())
        trainer = MatchTrainer(
            model, mode, torch.optim.Adam, {"lr": 0.01, "fused": True}, n_epoch=2, model_path=str(tmp_path),
            in_batch_neg=True, item_counts=torch.ones(N_ITEMS + 1), progress_bar=False, device="cpu",
            catalogue={"target": torch.arange(1, N_ITEMS + 1)}, **options,
        )  # fmt: skip
        trainer.device = DEVICE
        with other_device():
            loaders = window_loader(histories, "train", 5, 4, 0), window_loader(histories, "validation", 5, 4, 0)
            trainer.fit(*loaders)
            trainer.evaluate(model, loaders[1])
            vectors = trainer.inference_embedding(model, "user", loaders[1], tmp_path)
            model.cpu()
        assert type(vectors) is torch.Tensor
        assert is_trained(model, before)

    @pytest.mark.parametrize("network", get_args(RankerNetwork))
    def test_rankers(self, tmp_path, network):
        train_ranker(network, "equal", tmp_path)

    @pytest.mark.parametrize("weighting", ["uwl", "metabalance", "gradnorm"])
    def test_rankers_of_weighted_tasks(self, tmp_path, weighting):
        train_ranker("mmoe", weighting, tmp_path)


class TestWaiting:
    """How often the CPU waits for the device in a step, where each time costs as much as dozens of operations."""

    def waits(self, model, batch, step):
        model.log = model.log_dict = lambda *arguments, **options: None
        with other_device() as rules:
            model.to(DEVICE)
            there = {name: value.to(DEVICE) for name, value in batch.items()}
            step(there)  # the first one derives tokens from the code table
            rules.waits.clear()
            step(there)
        return rules.waits

    @pytest.mark.parametrize("encoder", ["causal", "bidirectional", "items"])
    def test_a_step_does_not_compare_code_tables(self, encoder):
        # The tokens were asked for twice a step, and each time the whole table was compared with its copy.
        model = tiger(encoder)
        history = torch.tensor([[1, 2, 3], [4, 5, 0]])
        target = torch.tensor([4, 6]) if encoder == "bidirectional" else history.roll(-1, 1)
        waits = self.waits(model, {"history": history, "target": target}, lambda batch: model.training_step(batch, 0))
        # rows of known targets, twice for each loss; without causality whether anything is padding, twice
        allowed = {
            "aten.index.Tensor": 4 if encoder == "items" else 2,
            "aten._local_scalar_dense.default": 2 if encoder == "bidirectional" else 0,
        }
        assert waits == {name: times for name, times in allowed.items() if times}

    def test_a_step_of_etegrec_waits_for_its_rows_alone(self):
        model = etegrec("causal", sia_weight=0.0, psa_weight=0.0)
        model.is_final = True
        batch = {"history": torch.tensor([[1, 2, 3], [4, 5, 0]]), "target": torch.tensor([[2, 3, 4], [5, 6, 0]])}
        assert self.waits(model, batch, model.losses) == {"aten.index.Tensor": 2}

    def test_a_step_of_sasrec_waits_for_rows_and_hidden_pairs_alone(self):
        model = SASRec(N_ITEMS, 8, 1, 2, max_history=5)
        batch = {"history": torch.tensor([[1, 2, 3], [4, 5, 0]]), "target": torch.tensor([[2, 3, 4], [5, 6, 0]])}
        waits = self.waits(model, batch, lambda there: model.training_step(there, 0))
        assert waits.total() <= 7  # rows of known targets, thrice, and where in the products hidden pairs stand

    def test_a_search_waits_for_no_step(self):
        # as often for four codes as for two: once for unknown items, once for the longest history, twice for padding,
        # once for NaN
        model = tiger()
        waits = self.waits(
            model.eval(), {"history": torch.tensor([[1, 2, 3], [4, 5, 0]])},
            lambda batch: model.generator.generate(batch["history"], 3),
        )  # fmt: skip
        assert waits == {"aten._local_scalar_dense.default": 5}


class TestCodeTable:
    """What follows from a table is derived again whenever the table changes, however it changes."""

    def changed(self, model, change):
        before = model.generator.tokens.clone()
        change(model.generator.code_table)
        return not torch.equal(model.generator.tokens, before)

    def test_when_it_is_replaced(self):
        model, other = tiger(), code_table()
        assert self.changed(model, lambda table: model.set_code_table(other))

    def test_when_it_is_written_to(self):
        assert self.changed(tiger(), lambda table: table[1:].copy_(table[1:].flip(0)))

    def test_when_weights_are_loaded(self):
        model, other = tiger(), tiger()
        assert self.changed(model, lambda table: model.load_state_dict(other.state_dict()))

    @torch.inference_mode()
    def test_when_it_was_made_in_inference_mode_where_tensors_count_no_writes(self):
        assert self.changed(tiger(), lambda table: table[1:].copy_(table[1:].flip(0)))

    def test_in_inference_mode_after_it_was_derived_outside(self):
        model, other = tiger(), code_table()
        assert model.generator.tokens is model.generator.tokens
        with torch.inference_mode():
            assert self.changed(model, lambda table: model.set_code_table(other))
            assert self.changed(model, lambda table: table[1:].copy_(table[1:].flip(0)))


class TestRules:
    """The device of these tests refuses what a GPU refuses."""

    @pytest.mark.parametrize(
        ("mistake", "message"),
        [
            (lambda x: x + torch.ones(3), "one device"),
            (lambda x: torch.cat([x, torch.ones(3)]), "one device"),
            (lambda x: x.cumsum(0), "deterministic"),
            (lambda x: x.histc(3), "deterministic"),
            (lambda x: x.long().bincount(x), "deterministic"),
            (lambda x: x.median(0), "deterministic"),
            (lambda x: x.kthvalue(1), "deterministic"),
            (lambda x: x.put_(x.new_zeros(1).long(), x[:1]), "deterministic"),
            (lambda x: x.numpy(), "numpy"),
        ],
    )
    def test_mistakes(self, mistake, message):
        with other_device(), pytest.raises((RuntimeError, TypeError), match=message):
            mistake(torch.rand(3).to(DEVICE))

    def test_what_a_gpu_can_do_is_computed(self):
        with other_device() as rules:
            x = torch.arange(3.0).to(DEVICE)
            assert (x + torch.tensor(1.0)).tolist() == [1, 2, 3]
            assert x.long().cumsum(0).tolist() == [0, 1, 3]
            rules.waits.clear()
            assert bool((x[x > 0] == 1).any())
        assert rules.waits == {"aten.index.Tensor": 1, "aten._local_scalar_dense.default": 1}
        assert isinstance(x, OtherTensor)


STAGES = {
    "train": [
        ("fetch_data", ()), ("prepare_data", ()), ("count_transitions", ()), ("train_sasrec", ()),
        ("extract_embeddings", ()), ("train_rqvae", ()), ("build_code_table", ()), ("train_tiger", ()),
        ("train_etegrec", ()), ("train_two_tower", ()), ("build_digits", ()),
        ("train_parallel", ()), ("generate_candidates", ()), ("train_ranker", ()),
    ],
    "evaluate": [("evaluate", (name,)) for name in ("sasrec", "tiger", "etegrec", "two_tower", "parallel")]
    + [("generate_candidates", ()), ("evaluate_ranker", ())],
}  # fmt: skip
WITHOUT_DEVICE = {
    "fetch_data", "prepare_data", "count_transitions", "extract_embeddings", "build_code_table", "build_digits",
}  # fmt: skip


def run_stages(group, monkeypatch, device):
    """Run stages in this process, models on a device; how many operations each had it compute."""
    operations = {}
    for name, arguments in STAGES[group]:
        module = importlib.import_module(f"stages.{name}")
        with other_device() if device == DEVICE else contextlib.nullcontext() as rules, monkeypatch.context() as patch:
            if hasattr(module, "device_of"):
                patch.setattr(module, "device_of", lambda gpus: device)
            module.main(*arguments)
        operations[name] = rules.operations if rules else 0
    return operations


@pytest.mark.slow
def test_every_stage_computes_on_the_device_and_measures_what_the_cpu_measures(tmp_path, monkeypatch):
    # Evaluations and candidates stayed on the CPU whatever trainer.gpus said.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write_params(tmp_path)
    operations = run_stages("train", monkeypatch, DEVICE) | run_stages("evaluate", monkeypatch, DEVICE)
    assert {name for name, count in operations.items() if count == 0} == WITHOUT_DEVICE
    there = measured(tmp_path)
    run_stages("evaluate", monkeypatch, torch.device("cpu"))
    here = measured(tmp_path)
    assert there.keys() == here.keys()
    assert [name for name, value in here.items() if not np.allclose(value, there[name], atol=0.02)] == []


def measured(folder):
    """All figures of the evaluations by name, and each list's log-probabilities."""
    figures = {}
    for file in sorted(folder.glob("reports/evaluate_*/metrics.json")):
        for model, splits in json.loads(file.read_text()).items():
            figures |= {f"{model} {key}": value for key, value in numbers(splits)}
    for file in sorted(folder.glob("data/candidates/*.parquet")):
        figures[file.name] = pd.read_parquet(file)["log_prob"].to_numpy()
    return figures


def numbers(tree, name=""):
    if not isinstance(tree, dict):
        return [(name, tree)]
    return [leaf for key, value in tree.items() for leaf in numbers(value, f"{name} {key}")]


def train_ranker(network, weighting, folder):
    ranker = Ranker(network, N_ITEMS, [N_ITEMS + 1, CODES + 1], len(SIGNALS), 4, (4,), 0.1)
    ranker.set_attributes(torch.stack([torch.arange(N_ITEMS + 1), torch.randint(0, CODES + 1, (N_ITEMS + 1,))], 1))
    before = copy.deepcopy(ranker.state_dict())
    users = torch.arange(20).repeat_interleave(4)
    rows = RankingRows(
        {
            "item_id": torch.randint(1, N_ITEMS + 1, (80,)),
            "history": torch.randint(0, N_ITEMS + 1, (80, 5)),
            "signals": torch.randn(80, len(SIGNALS)),
        },
        (torch.arange(80) % 4 == 0).float(),
        torch.where(torch.arange(80) % 4 == 0, 1.0 + torch.arange(80) % 5, torch.nan), users, torch.arange(80) % 4,
    )  # fmt: skip
    settings = RankerSettings(16, 0.01, 1e-4, 2, 3, weighting, 0, "32-true", 0, False, 1, 1)
    with other_device():
        fit_ranker(
            ranker, rows, draw_users(np.arange(20), 0.3, 0), settings, RatingScale(0.0, 5.0), str(folder), CurveLogger()
        )
    assert is_trained(ranker, before)
