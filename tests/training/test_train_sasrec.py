"""The stage that trains SASRec: its options leave the weights alone while they are off, and do something when on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from faults.stages_in_processes import write_params

from genrec.data.words import embed_words, join_embeddings
from genrec.errors import UserError
from genrec.models.sasrec import SASRec
from genrec.networks.sequential.sasrec import SASRecNetwork
from genrec.params.reading import read_params
from genrec.sequences.batches import segment_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import load_model
from genrec.training.base import BaseTrainer
from genrec.training.config import RankingConfig
from genrec.training.curves import CurveLogger
from stages import extract_embeddings, train_sasrec

WORDS = {"columns": ["title"], "dim": 4}
SETTINGS = {
    "embedding_dim": 8, "num_layers": 1, "max_history": 6, "max_epochs": 2, "batch_size": 16, "learning_rate": 0.001,
    "input_norm": False, "learns_repeats": False, "shuffles_ties": False, "warmup_steps": 0, "schedule": "constant",
}  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Thirty users of eight interactions, two at a time; twenty items with titles."""
    monkeypatch.chdir(tmp_path)
    Path("data/prepared").mkdir(parents=True)
    random = np.random.default_rng(0)
    items, tied = random.integers(1, 21, 240, dtype=np.int32), np.tile([False, True], 120)
    Histories(items, np.arange(0, 241, 8), 20, tied).save(Path("data/prepared/histories.npz"))
    titles = [f"{a} {b}" for a in ("red", "blue", "black", "green") for b in ("foam", "balm", "brush", "soap", "oil")]
    frame = pd.DataFrame({"item_id": range(1, 21), "item_key": map(str, range(20)), "title": titles})
    frame.to_parquet("data/prepared/items.parquet")
    yield tmp_path
    read_params.cache_clear()


def configure(project, sasrec, **embeddings):
    write_params(
        project, {"train_sasrec": {**SETTINGS, **sasrec}, "extract_embeddings": {"words": WORDS, **embeddings}}
    )
    read_params.cache_clear()


def trained(project, **changes):
    """What the stage writes with some options."""
    configure(project, changes)
    train_sasrec.main()
    assert json.loads(Path("reports/train_sasrec/metrics.json").read_text())["n_epochs"] == SETTINGS["max_epochs"]
    return load_model(SASRecNetwork, Path("data/models/sasrec.ckpt"), n_items=20)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_with_all_options_off_the_weights_are_those_of_a_sasrec_that_knows_none(project):
    found = trained(project)
    histories = Histories.load(Path("data/prepared/histories.npz"))
    torch.manual_seed(2020)
    model = SASRec(20, embedding_dim=8, num_layers=1, num_heads=2, dropout=0.3, max_history=6)
    config = RankingConfig(
        max_epochs=2, gpus=0, random_seed=2020, checkpoint_dir=str(project / "plain"), progress_bar=False
    )
    BaseTrainer(model, config, CurveLogger()).train(
        segment_loader(histories, 6, 16, 2020), window_loader(histories, "validation", 6, 16, 2020)
    )
    assert equal(found.state_dict(), model.state_dict())


@pytest.mark.slow
def test_each_option_changes_what_is_learned(project):
    table = trained(project).item_embedding.weight
    options = {"input_norm": True, "learns_repeats": True, "shuffles_ties": True, "warmup_steps": 4}
    for name, value in {**options, "schedule": "cosine"}.items():
        assert not torch.equal(trained(project, **{name: value}).item_embedding.weight, table), name


@pytest.mark.slow
def test_words_are_added_to_the_items_and_reach_the_item_embeddings(project):
    model = trained(project, adds_words=True)
    items = pd.read_parquet("data/prepared/items.parquet")
    content = join_embeddings([embed_words(items, ["title"], 4, seed=0).vectors])
    torch.testing.assert_close(model.content, torch.from_numpy(content), rtol=0, atol=0)
    configure(project, {}, source="sasrec", standardize=False)
    extract_embeddings.main()
    both = model.item_embedding.weight + model.content @ model.content_projection.weight.T
    vectors = np.load("data/item_embeddings.npy", allow_pickle=False)
    np.testing.assert_allclose(vectors[1:], both.detach().numpy()[1:], atol=1e-6)


def test_words_of_a_table_without_any_are_refused_before_the_training(project):
    pd.read_parquet("data/prepared/items.parquet").drop(columns="title").to_parquet("data/prepared/items.parquet")
    configure(project, {"adds_words": True}, words={"columns": []})
    with pytest.raises(UserError, match=r"give fetch_data\.items_path, or do without words"):
        train_sasrec.main()
    assert not Path("data/models").exists()
