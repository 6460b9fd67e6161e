"""Alignment and alternation in a small world where item embeddings are noisy and co-occurrence tells the clusters.

Each user has a home cluster and takes nine in ten items from it. An embedding is the cluster's centre under noise of
twice its size, so the pre-trained codes say little about clusters; who occurs with whom says all.
"""

from dataclasses import dataclass
from statistics import fmean

import numpy as np
import pytest
import torch

from genrec.models.etegrec.module import ETEGRec
from genrec.models.etegrec.trainer import ETEGRecTrainer, ETEGRecTrainingConfig
from genrec.models.rqvae import RqVae
from genrec.sequences.batches import row_loader, segment_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.training.base import BaseTrainer
from genrec.training.config import TrainingConfig
from genrec.training.curves import CurveLogger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`.*"),
]

SEEDS = (1, 2, 3)
LENGTH, DIM = 10, 16


@dataclass(frozen=True)
class World:
    """Histories, each item's cluster (n_items,), and item embeddings (n_items + 1, dim)."""

    histories: Histories
    clusters: np.ndarray
    embeddings: torch.Tensor


def draw(seed, n_users, n_items, n_clusters):
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    clusters = rng.permutation(np.arange(n_items) % n_clusters)
    members = np.stack([np.flatnonzero(clusters == cluster) for cluster in range(n_clusters)])
    home = rng.integers(0, n_clusters, n_users)
    strays = rng.random((n_users, LENGTH)) < 0.1
    visited = np.where(strays, rng.integers(0, n_clusters, (n_users, LENGTH)), home[:, None])
    items = members[visited, rng.integers(0, members.shape[1], visited.shape)] + 1
    histories = Histories(items.ravel().astype(np.int32), np.arange(n_users + 1) * LENGTH, n_items)
    centres = torch.randn(n_clusters, DIM, generator=generator)
    noisy = 0.5 * centres[torch.from_numpy(clusters)] + torch.randn(n_items, DIM, generator=generator)
    embeddings = torch.cat([torch.zeros(1, DIM), (noisy - noisy.mean(0)) / noisy.std(0)])
    return World(histories, clusters, embeddings)


def pretrained(world, code_num, folder, seed):
    """A tokenizer that knows the embeddings alone."""
    torch.manual_seed(seed)
    tokenizer, items = RqVae(DIM, (32,), 8, code_num, learning_rate=3e-3, num_levels=3), world.embeddings[1:]
    tokenizer.initialize_codebooks(items, 20, seed)
    config = TrainingConfig(
        max_epochs=60, val_check_interval=10, monitor="val_selection", early_stopping_patience=0, gpus=0,
        random_seed=seed, progress_bar=False, checkpoint_dir=str(folder),
    )  # fmt: skip
    everything = row_loader(items, len(items), seed)
    BaseTrainer(tokenizer, config, CurveLogger()).train(row_loader(items, 64, seed), everything)
    return tokenizer


def trained(world, tokenizer, folder, seed, *, cycle, epochs, final_epochs=0, alternates=True, aligns=True):
    """The model after its last epoch; without alternation it has as many as the recommender has in turns."""
    torch.manual_seed(seed)
    model = ETEGRec(
        world.histories.n_items, dict(tokenizer.hparams), embedding_dim=16, num_heads=2, head_dim=8, attn_dim=32,
        num_layers=1, dropout=0.1, max_history=LENGTH, causal=True, learning_rate=1e-2, tokenizer_learning_rate=2e-2,
        weight_decay=0.01, warmup_steps=20, sia_weight=0.02 * aligns, psa_weight=3.0 * aligns, cycle=cycle,
        alternates=alternates, warmup_epochs=cycle, final_learning_rate=3e-3,
    )  # fmt: skip
    for parameter in (p for module in model.recommender_modules() for p in module.parameters()):
        if parameter.ndim > 1:  # from N(0, 0.02) a model this small takes thousands of steps
            torch.nn.init.normal_(parameter, std=0.2)
    model.start_from(tokenizer, world.embeddings)
    config = ETEGRecTrainingConfig(
        max_epochs=epochs if alternates else epochs - epochs // cycle, final_max_epochs=final_epochs,
        early_stopping_patience=0, final_early_stopping_patience=0, gpus=0, random_seed=seed, progress_bar=False,
        checkpoint_dir=str(folder),
    )  # fmt: skip
    ETEGRecTrainer(model, config, CurveLogger()).train(segment_loader(world.histories, LENGTH, 16, seed))
    return model.eval()


def recall_at_10(model, world):
    (batch,) = window_loader(world.histories, "test", LENGTH, world.histories.n_users, seed=0)
    found = model.generate(batch["history"], 10).items
    return (found == batch["target"][:, None]).any(1).float().mean().item()


def information(codes, clusters):
    """The mutual information of two labellings of the items, in nats."""
    joint = np.zeros((codes.max() + 1, clusters.max() + 1))
    np.add.at(joint, (codes, clusters), 1 / len(codes))
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / independent[some])).sum())


def of_codes(tokenizer, world):
    return information(tokenizer.semantic_codes(world.embeddings[1:])[:, 0].numpy(), world.clusters)


def test_information_is_that_of_the_formula():
    same, other = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert information(same, same) == pytest.approx(np.log(2))
    assert information(same, other) == pytest.approx(0)


def test_taking_turns_recommends_better_than_learning_all_at_once(tmp_path):
    ahead = []
    for seed in SEEDS:
        world, folder = draw(seed, n_users=200, n_items=64, n_clusters=8), tmp_path / str(seed)
        tokenizer = pretrained(world, 12, folder / "tokenizer", seed)
        recall = [
            recall_at_10(
                trained(world, tokenizer, folder / name, seed, cycle=4, epochs=20, final_epochs=2, alternates=turns),
                world,
            )
            for name, turns in (("in turns", True), ("at once", False))
        ]
        ahead.append(recall[0] - recall[1])
    # measured: .37 to .25, .37 to .26, .30 to .25
    # a single seed may fall behind, by .035 at most: the mean is .037 to .117 with other initial weights and under
    # ATEN_CPU_CAPABILITY=default, avx2, avx512
    assert fmean(ahead) > 0.01


def test_alignment_moves_the_codes_towards_the_clusters(tmp_path):
    aligned, unaligned = [], []
    for seed in SEEDS:
        world, folder = draw(seed, n_users=240, n_items=96, n_clusters=6), tmp_path / str(seed)
        # 12 codes: with 8 more items than those shared all codes under one instruction set
        tokenizer = pretrained(world, 12, folder / "tokenizer", seed)
        before = of_codes(tokenizer, world)
        for name, gained in (("aligned", aligned), ("unaligned", unaligned)):
            model = trained(world, tokenizer, folder / name, seed, cycle=3, epochs=21, aligns=name == "aligned")
            gained.append(of_codes(model.tokenizer, world) - before)
    # measured, from about .44 nats: .41, .11, .25 with alignment, .11, .03, .06 without; with other weights a single
    # seed may lose, by .11 at most
    assert fmean(aligned) > fmean(unaligned)
