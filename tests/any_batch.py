"""All that ranks, asked for the same users in batches of 1, 7 and all: `python any_batch.py` names what differs."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from genrec.choices import RankerNetwork
from genrec.codes.code_table import build_code_table
from genrec.networks.generating.etegrec import ETEGRecNetwork
from genrec.networks.generating.history_towers import HistoryTowers
from genrec.networks.generating.parallel import ParallelNetwork
from genrec.networks.generating.tiger import TigerNetwork
from genrec.networks.sequential.sasrec import SASRecNetwork
from genrec.ranking.ranker import Ranker
from genrec.retrieval.memory import WithMemory
from genrec.retrieval.ranks import top_items
from genrec.retrieval.transitions import Transitions
from genrec.sequences.histories import Histories

N_USERS, N_ITEMS, MAX_HISTORY, DIM, CODES, LEVELS, DIGITS, N_BEAMS, N_CANDIDATES = 53, 90, 20, 24, 8, 3, 4, 12, 9
BATCHES = (1, 7, N_USERS)
Ranks = Callable[[Tensor], Sequence[Tensor]]


def histories(random: torch.Generator) -> Tensor:
    """(N_USERS, MAX_HISTORY) of all lengths, in no order."""
    lengths = torch.arange(N_USERS) % MAX_HISTORY + 1
    lengths = lengths[torch.randperm(N_USERS, generator=random)]
    items = torch.randint(1, N_ITEMS + 1, (N_USERS, MAX_HISTORY), generator=random)
    return items * (torch.arange(MAX_HISTORY) < lengths[:, None])


def all_that_ranks(history: Tensor) -> dict[str, Ranks]:
    """By name: histories to lists of items, and their scores."""
    codes = torch.randint(0, CODES, (N_ITEMS, LEVELS))
    table, shape = build_code_table(codes, 64), {"embedding_dim": DIM, "max_history": MAX_HISTORY}
    digits = torch.cat([torch.full((1, DIGITS), -1), torch.randint(0, CODES, (N_ITEMS, DIGITS))])
    parallel = _drawn(ParallelNetwork(N_ITEMS, DIGITS, CODES, **shape))
    parallel.set_digits(digits)
    words = _drawn(SASRecNetwork(N_ITEMS, **shape, input_norm=True, learns_repeats=True, content_dim=5))
    words.set_content(torch.randn(N_ITEMS + 1, 5))
    scoring = {"parallel": parallel, "SASRec with words": words, "SASRec": _drawn(SASRecNetwork(N_ITEMS, **shape))}
    scoring |= {each: _drawn(HistoryTowers(N_ITEMS, each, DIM, (16,))) for each in ("dssm", "youtube_dnn")}
    lengths = (history != 0).sum(1)
    flat = Histories(history[history != 0].int().numpy(), torch.cat([lengths[:0], _ends(lengths)]).numpy(), N_ITEMS)
    memory = Transitions.fit(flat.items, flat.offsets, N_ITEMS)
    ranks: dict[str, Ranks] = {name: _by_scores(network.scores) for name, network in scoring.items()}
    for name, network in scoring.items():
        mixture = WithMemory(network.scores, memory, 0.4, getattr(network, "repeats", None))
        ranks[f"{name} with memory"] = _by_scores(mixture.scores)
    for name, options in (("items", {"itemwise": True}), ("causal", {"causal": True}), ("bidirectional", {})):
        tiger = _drawn(
            TigerNetwork(
                1 + 64 * (LEVELS + 1), DIM, 2, 2, 32, max_seq_length=MAX_HISTORY * (LEVELS + 1), n_items=N_ITEMS,
                code_length=LEVELS + 1, learns_repeats=name != "causal", **options,
            )
        )  # fmt: skip
        tiger.set_code_table(table)
        ranks[f"TIGER, {name}"] = _by_search(tiger.generator)
    tokenizer = {"input_dim": 4, "hidden_dim": None, "num_embeddings": 64, "num_levels": LEVELS}
    etegrec = _drawn(ETEGRecNetwork(N_ITEMS, tokenizer, DIM, 2, 12, 32, 2, itemwise=True, max_history=MAX_HISTORY))
    etegrec.generator.set_code_table(table)
    ranks["ETEGRec"] = _by_search(etegrec.generator)
    candidates, signals = torch.randint(1, N_ITEMS + 1, (N_USERS, N_CANDIDATES)), torch.randn(N_USERS, N_CANDIDATES, 3)
    for kind in get_args(RankerNetwork):
        ranks[f"ranker {kind}"] = _reordered(history, candidates, signals, kind)
    return ranks


def differing(seed: int) -> list[str]:
    """Who gives some user another list or another score in another batch."""
    torch.manual_seed(seed)
    history = histories(torch.Generator().manual_seed(seed))
    wrong = []
    for name, rank in all_that_ranks(history).items():
        found = []
        for size in BATCHES:
            parts = [rank(_without_padding(part)) for part in history.split(size)]
            found.append([torch.cat(tensors) for tensors in zip(*parts, strict=True)])
        same = all(torch.equal(a, b) for each in found[1:] for a, b in zip(found[0], each, strict=True))
        wrong += [] if same else [name]
    return wrong


def _drawn(network: Any) -> Any:
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


def _ends(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def _without_padding(history: Tensor) -> Tensor:
    return history[:, : int((history != 0).any(0).sum())]


def _by_scores(score: Callable[[Tensor], Tensor]) -> Ranks:
    def rank(history: Tensor) -> Sequence[Tensor]:
        scores = score(history)
        return top_items(scores, 10), scores, scores.log_softmax(1)

    return rank


def _by_search(generator: Any) -> Ranks:
    return lambda history: generator.generate(history, N_BEAMS)


def _reordered(history: Tensor, candidates: Tensor, signals: Tensor, kind: str) -> Ranks:
    ranker = _drawn(Ranker(kind, N_ITEMS, [N_ITEMS + 1], 3, hidden_dims=(6,)))
    known = {tuple(row.tolist()): place for place, row in enumerate(history)}

    def rank(part: Tensor) -> Sequence[Tensor]:
        padded = nn.functional.pad(part, (0, MAX_HISTORY - part.shape[1]))
        users = torch.tensor([known[tuple(row.tolist())] for row in padded])
        rows = {
            "item_id": candidates[users].flatten(), "signals": signals[users].flatten(0, 1),
            "history": padded.repeat_interleave(N_CANDIDATES, 0),
        }  # fmt: skip
        return (ranker.scores(rows, 0.7).view(len(users), -1),)

    return rank


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode():
        wrong = [name for seed in range(2) for name in differing(seed)]
        print(torch.backends.cpu.get_cpu_capability(), *wrong, sep="\n")
