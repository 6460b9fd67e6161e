"""A small package for the tests of what answers from one: a scoring and a searching model with drawn weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from genrec.codes.code_table import build_code_table
from genrec.codes.tokenizer.rqvae import RqVaeNetwork
from genrec.data.words import embed_words
from genrec.digits.table import build_digits
from genrec.networks.generating.parallel import ParallelNetwork
from genrec.networks.generating.tiger import TigerNetwork
from genrec.networks.sequential.sasrec import SASRecNetwork
from genrec.ranking.ranker import Ranker
from genrec.ranking.rows import SIGNALS
from genrec.retrieval.transitions import Transitions
from genrec.sequences.histories import Histories
from genrec.serving.packaging import Origin, PackagedModel, RankedBy, Sources, Weights, write_package
from genrec.storage.checkpoint import write_checkpoint
from genrec.storage.files import save_array, save_arrays
from genrec.storage.output import write_parquet

N_USERS, N_ITEMS, N_BEAMS, MAX_HISTORY = 40, 60, 12, 6
CODES, LENGTH = 16, 4
WORD_DIM, DIGIT_CODES, SEED = 4, 8, 0
EMBEDDING_DIGITS, WORD_DIGITS, ITERATIONS = 4, 2, 3
SHARE, RANKED = 0.4, RankedBy(n_candidates=20, max_history=4, rating_weight=0.5)
RANKER = "genrec.ranking.ranker.Ranker"
TITLES = {
    "sasrec": ("SASRec", "scores"), "tiger": ("TIGER", "beams"), "parallel": ("parallel semantic IDs", "scores"),
}  # fmt: skip
NETWORKS = {
    "tokenizer": "genrec.codes.tokenizer.rqvae.RqVaeNetwork",
    "parallel": "genrec.networks.generating.parallel.ParallelNetwork",
    "parallel_ranked": RANKER,
    "sasrec": "genrec.networks.sequential.sasrec.SASRecNetwork",
    "tiger": "genrec.networks.generating.tiger.TigerNetwork",
    "sasrec_ranked": RANKER,
    "tiger_ranked": RANKER,
}
FIGURES = {split: {"recall_at_10": 0.25, "ndcg_at_10": 0.125} for split in ("validation", "test")}


@dataclass(frozen=True)
class World:
    """What a package was made of.

    Attributes:
        networks: by the model's name.
    """

    folder: Path
    package: Path
    histories: Histories
    networks: dict[str, Any]

    def repackage(self, *names: str) -> None:
        """Write the package anew from the checkpoints of a folder, with the models in this order."""
        models = {}
        for name, (title, ranks) in TITLES.items():
            test = {"test": FIGURES["test"]}
            models |= {
                name: PackagedModel(name, title, ranks, FIGURES, name),
                f"{name}_with_memory": PackagedModel(
                    f"{name}_with_memory", f"{title} with memory", ranks, FIGURES, name, SHARE
                ),
                f"{name}_ranked": PackagedModel(f"{name}_ranked", f"{title}, ranked", ranks, test, name, ranker=RANKED),
            }
        weights = {name: Weights(network, self.folder / f"{name}.ckpt") for name, network in NETWORKS.items()}
        origin = Origin((), WORD_DIM, EMBEDDING_DIGITS, WORD_DIGITS, DIGIT_CODES, ITERATIONS, SEED)
        sources = Sources(
            self.folder / "histories.npz", self.folder / "items.parquet", self.folder / "users.parquet",
            self.folder / "codes.npy", self.folder / "embeddings.npy", self.folder / "transitions.npz", weights,
            {name: self.folder / f"{model.base}.npz" for name, model in models.items() if model.ranker is None},
        )  # fmt: skip
        chosen = [models[name] for name in names or ("sasrec", "tiger")]
        write_package(self.package, chosen, N_BEAMS, sources, origin, portable=True)


def make_world(folder: Path, seed: int = 0) -> World:
    """Users u1, u2, ... and items i1, i2, ...; the first user's history is the longest, of half the catalogue."""
    random = np.random.default_rng(seed)
    lengths = np.array([N_ITEMS // 2, *random.integers(3, 10, N_USERS - 1)])
    items = np.concatenate([random.permutation(N_ITEMS)[:length] + 1 for length in lengths]).astype(np.int32)
    histories = Histories(items, np.concatenate([[0], lengths.cumsum()]), N_ITEMS)
    histories.save(folder / "histories.npz")
    ids = np.arange(1, N_ITEMS + 1, dtype=np.int32)
    titles = [f"The Film {'Amélie' if item == 7 else item}" for item in ids]
    keys, genres = [f"i{item}" for item in ids], [f"genre{item % 5} kind{item % 7}" for item in ids]
    frame = pd.DataFrame({"item_id": ids, "item_key": keys, "movie_title": titles, "genres": genres})
    write_parquet(frame, folder / "items.parquet")
    users = np.arange(1, N_USERS + 1, dtype=np.int32)
    write_parquet(
        pd.DataFrame({"user_id": users, "user_key": [f"u{user}" for user in users]}), folder / "users.parquet"
    )
    torch.manual_seed(seed)
    embeddings = random.normal(size=(N_ITEMS + 1, 8)).astype(np.float32)
    tokenizer = _tokenizer(folder, torch.from_numpy(embeddings[1:]))
    codes = build_code_table(tokenizer.semantic_codes(torch.from_numpy(embeddings[1:])), CODES)
    save_array(codes.numpy(), folder / "codes.npy")
    save_array(embeddings, folder / "embeddings.npy")
    words = embed_words(frame, (), WORD_DIM, seed=0).vectors
    digits = build_digits([(embeddings, EMBEDDING_DIGITS), (words, WORD_DIGITS)], DIGIT_CODES, ITERATIONS, SEED)
    networks = {"sasrec": _sasrec(folder), "tiger": _tiger(folder, codes), "parallel": _parallel(folder, digits)}
    for name in tuple(networks):
        ranks = random.integers(1, N_ITEMS, N_USERS).astype(np.int32)
        variants = (name, f"{name}_with_memory")
        save_arrays({f"{each}/validation/excluded": ranks for each in variants}, folder / f"{name}.npz")
        networks[f"{name}_ranked"] = _ranker(folder / f"{name}_ranked.ckpt", codes)
    learned = histories.train_part()
    Transitions.fit(learned.items, learned.offsets, N_ITEMS).save(folder / "transitions.npz")
    world = World(folder, folder / "package", histories, networks)
    world.repackage()
    return world


def _sasrec(folder: Path) -> SASRecNetwork:
    arguments = {"n_items": N_ITEMS, "embedding_dim": 8, "num_layers": 1, "num_heads": 1, "max_history": MAX_HISTORY}
    return _saved(SASRecNetwork(**arguments), {**arguments, "learning_rate": 0.1}, folder / "sasrec.ckpt")


def _tiger(folder: Path, codes: torch.Tensor) -> TigerNetwork:
    arguments = {
        "vocab_size": 1 + LENGTH * 16, "embedding_dim": 8, "num_heads": 2, "num_layers": 1, "attn_dim": 16,
        "max_seq_length": MAX_HISTORY * LENGTH, "code_length": LENGTH, "n_items": N_ITEMS,
    }  # fmt: skip
    network = TigerNetwork(**arguments)
    network.set_code_table(codes)
    return _saved(network, arguments, folder / "tiger.ckpt")


def _tokenizer(folder: Path, embeddings: torch.Tensor) -> RqVaeNetwork:
    """Residual k-means of few codes, so that items share them."""
    arguments = {"input_dim": 8, "hidden_dim": None, "num_embeddings": CODES, "num_levels": LENGTH - 1}
    tokenizer = RqVaeNetwork(**arguments)
    tokenizer.initialize_codebooks(embeddings, 5, seed=0)
    for level in tokenizer.quantizer.levels:
        level.codebook.data[4:] = 1e3  # no item is near these
    write_checkpoint({"state_dict": tokenizer.state_dict(), "hyper_parameters": arguments}, folder / "tokenizer.ckpt")
    return tokenizer.eval()


def _parallel(folder: Path, digits: torch.Tensor) -> ParallelNetwork:
    arguments = {
        "n_items": N_ITEMS, "num_digits": digits.shape[1], "code_num": DIGIT_CODES, "embedding_dim": 8,
        "num_layers": 1, "num_heads": 1, "max_history": MAX_HISTORY,
    }  # fmt: skip
    network = ParallelNetwork(**arguments)
    network.set_digits(digits)
    return _saved(network, arguments, folder / "parallel.ckpt")


def _ranker(file: Path, codes: torch.Tensor) -> Ranker:
    attributes = torch.cat([torch.arange(N_ITEMS + 1)[:, None], codes.long() + 1], dim=1)
    arguments = {
        "network": "shared_bottom", "n_items": N_ITEMS, "n_signals": len(SIGNALS),
        "attribute_sizes": [int(size) for size in attributes.max(0).values + 1],
    }  # fmt: skip
    ranker = Ranker(**arguments)
    ranker.set_attributes(attributes)
    ranker.set_scale(torch.randn(50, len(SIGNALS)))
    return _saved(ranker, arguments, file, 0.1)  # sigmoids that are not at their ends, where all are equal


def _saved(network: Any, arguments: dict[str, Any], file: Path, std: float = 0.5) -> Any:
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=std)
    write_checkpoint({"state_dict": network.state_dict(), "hyper_parameters": arguments}, file)
    return network.eval()
