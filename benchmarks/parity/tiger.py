"""cornac's TIGER and ours on the same codes and the same split, each trained for as much CPU time:

    python -m benchmarks.parity.tiger DATA/prepared SASREC/model.ckpt --minutes 5

It runs in the environment of benchmarks/requirements.txt. The codes are residual k-means of a SASRec's items, as
`benchmarks.quality` trains it. Sizes, batch, learning rate and optimizer are the same for all; cornac is given batches
of histories of like length, as ours are, which spares it the padding of its own. After each fifth of the time some
users of the validation are ranked by a search, whose time does not count; the best weights so far rank the test's.
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.constrained_generation import children_of
from benchmarks.quality_codes import CODE_NUM, LEVELS, tokenized
from genrec.codes.code_table import build_code_table, to_tokens
from genrec.evaluation.figures import bootstrap_intervals
from genrec.evaluation.measures import user_metrics
from genrec.models.sasrec import SASRec
from genrec.models.tiger import Tiger
from genrec.retrieval.ranks import ranks_in_lists
from genrec.sequences.batches import segment_loader, window_loader
from genrec.sequences.histories import Examples, Histories, Split
from genrec.storage.checkpoint import load_model

DIM, HEADS, HEAD_DIM, FF_DIM, LAYERS, DROPOUT = 64, 4, 16, 256, 2, 0.1
BATCH, MAX_HISTORY, LEARNING_RATE, WEIGHT_DECAY = 128, 20, 1e-3, 1e-4
LENGTH, BEAMS, K, CHECKS = LEVELS + 1, 20, 10, 5


@dataclass(frozen=True)
class Contender:
    """A model that learns and searches.

    Attributes:
        loader: an epoch of it has every training target once.
        loss: of a batch of it.
        search: histories (b, t) int64 to (b, BEAMS) item_ids, best first, 0 is none.
    """

    model: Any
    loader: DataLoader[dict[str, Tensor]]
    loss: Callable[[dict[str, Tensor]], Tensor]
    search: Callable[[Tensor], Tensor]


def cornac(histories: Histories, table: Tensor, seed: int) -> Contender:
    from cornac.models.tiger.tiger import TIGERSeq2Seq

    torch.manual_seed(seed)
    sizes = [CODE_NUM] * LEVELS + [int(table[:, -1].max()) + 1]
    model = TIGERSeq2Seq(sizes, DIM, FF_DIM, HEADS, HEAD_DIM, LAYERS, LAYERS, DROPOUT)
    tokens, codes = to_tokens(table, CODE_NUM), table.long()
    children = children_of(table, torch.zeros(LENGTH, dtype=torch.int32))
    by_level = [{p: torch.tensor(c) for p, c in children.items() if len(p) == level} for level in range(LENGTH)]
    item_of = {tuple(row): item for item, row in enumerate(table.tolist())}

    def loss(batch: dict[str, Tensor]) -> Tensor:
        known = tokens[batch["history"]].flatten(1)
        found: Tensor = model(known, (known != 0).float(), codes[batch["target"]])
        return found

    def search(history: Tensor) -> Tensor:
        found = torch.zeros(len(history), BEAMS, dtype=torch.long)
        for row, of_user in enumerate(history):
            known = tokens[of_user[of_user > 0]].flatten()[None]
            beams, _ = model.generate_beam(known, torch.ones(known.shape), BEAMS, by_level)
            found[row, : len(beams)] = torch.tensor([item_of[beam] for beam in beams])
        return found

    return Contender(model, window_loader(histories, "train", MAX_HISTORY, BATCH, seed), loss, search)


def ours(histories: Histories, table: Tensor, seed: int, encoder: str) -> Contender:
    """`bidirectional`, the same network as cornac's; or `items`, ours, without a loss over items."""
    torch.manual_seed(seed)
    is_itemwise = encoder == "items"
    model = Tiger(
        1 + LENGTH * CODE_NUM, DIM, HEADS, LAYERS, FF_DIM, DROPOUT, MAX_HISTORY * LENGTH, code_length=LENGTH,
        n_items=histories.n_items, head_dim=HEAD_DIM, itemwise=is_itemwise, learns_repeats=is_itemwise,
    )  # fmt: skip
    model.set_code_table(table)
    model.log = lambda *_, **__: None  # type: ignore[method-assign]
    loader = (
        segment_loader(histories, MAX_HISTORY, BATCH, seed)
        if is_itemwise
        else window_loader(histories, "train", MAX_HISTORY, BATCH, seed)
    )
    return Contender(
        model, loader, lambda batch: model.training_step(batch, 0), lambda h: model.generator.generate(h, BEAMS).items
    )


@torch.inference_mode()
def ranks(contender: Contender, histories: Histories, examples: Examples) -> Tensor:
    """(n_examples,): the targets' ranks among ten, the history kept; above ten where they are absent."""
    contender.model.eval()
    order = np.argsort(-examples.lengths, kind="stable")
    found = torch.zeros(len(examples), dtype=torch.long)
    for first in range(0, len(order), 64):
        rows = order[first : first + 64]
        batch = examples.take(rows)
        lists = contender.search(torch.from_numpy(histories.padded(batch.cut(MAX_HISTORY))).long())[:, :K]
        found[torch.from_numpy(rows)] = ranks_in_lists(lists, torch.from_numpy(histories.targets(batch)).long())
    contender.model.train()
    return found


def drawn(histories: Histories, split: Split, n: int) -> Examples:
    examples = histories.examples(split)
    rows: NDArray[np.int64] = np.random.default_rng(0).permutation(len(examples))[:n]
    return examples.take(np.sort(rows))


def endless(loader: DataLoader[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    for epoch in count():
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from loader


def train(name: str, contender: Contender, histories: Histories, minutes: float, n_users: int) -> None:
    """For so many CPU minutes; the weights of the best check stay."""
    model, examples = contender.model.train(), drawn(histories, "validation", n_users)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    batches, n_of_epoch = endless(contender.loader), len(histories.examples("train"))
    best, weights, spent, n_targets = -1.0, model.state_dict(), 0.0, 0
    for check in range(1, CHECKS + 1):
        while spent < 60 * minutes * check / CHECKS:
            started, batch = time.process_time(), next(batches)
            optimizer.zero_grad()
            contender.loss(batch).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            spent += time.process_time() - started
            n_targets += int((batch["target"] != 0).sum())
        reached = float(user_metrics(ranks(contender, histories, examples), [K])[f"ndcg_at_{K}"].mean())
        print(f"{name}: {spent / 60:.1f} CPU minutes, {n_targets / n_of_epoch:.2f} epochs, {n_targets / spent:.0f} a"
              f" CPU second; validation NDCG@{K} {reached:.4f}", flush=True)  # fmt: skip
        if reached > best:
            best, weights = reached, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="the folder that prepare_data writes")
    parser.add_argument("sasrec", type=Path, help="the checkpoint of a SASRec whose items are coded")
    parser.add_argument("--minutes", type=float, default=5.0, help="of CPU time, for each")
    parser.add_argument("--users", type=int, default=1000, help="of the test, and of each validation, the same for all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    histories = Histories.load(arguments.prepared / "histories.npz")
    with torch.inference_mode():
        vectors = load_model(SASRec, arguments.sasrec).item_vectors(torch.arange(histories.n_items + 1)).numpy()
    tokenizer, embeddings = tokenized("rqkmeans", vectors, arguments.seed, arguments.prepared)
    table = build_code_table(tokenizer.semantic_codes(embeddings[1:]), CODE_NUM)
    contenders = {
        "cornac": cornac(histories, table, arguments.seed),
        "ours, the same network": ours(histories, table, arguments.seed, "bidirectional"),
        "ours, over items": ours(histories, table, arguments.seed, "items"),
    }
    examples = drawn(histories, "test", arguments.users)
    for name, contender in contenders.items():
        train(name, contender, histories, arguments.minutes, arguments.users)
        metrics = user_metrics(ranks(contender, histories, examples), [K])
        ends = bootstrap_intervals({key: value.double() for key, value in metrics.items()}, 1000, arguments.seed)
        print(f"{name}, test: " + ", ".join(
            f"{key} {float(metrics[key].mean()):.4f} [{ends[key][0]:.4f}, {ends[key][1]:.4f}]"
            for key in (f"recall_at_{K}", f"ndcg_at_{K}")
        ), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
