"""RecTools' SASRec on the data and the split that ours learns from, measured by our measures:

    .venv-parity/bin/python -m benchmarks.parity.sasrec data/prepared --max-history 20

It learns from what ours learns from: RecTools cuts each user's history to the last `session_max_len` items, so that it
is given the older ones as histories of their own. Its epoch is chosen by NDCG@10 on validation with the history
excluded, as ours is. Ours is reports/evaluate_sasrec/metrics.json of the same data.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_lightning import Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

from genrec.evaluation.measures import user_metrics
from genrec.retrieval.ranks import ranks_in_lists
from genrec.sequences.histories import Examples, Histories, Split

K = 10


def stretches(learned: Histories, max_history: int) -> Examples:
    """Windows of at most `max_history` items and the one behind them, in which every interaction is a target once.

    Args:
        learned: what trains. A user's first interaction is no target.
    """
    n_stretches = -(-np.maximum(learned.lengths - 1, 0) // max_history)
    users = np.repeat(np.arange(learned.n_users), n_stretches)
    turn = np.arange(len(users)) - np.repeat(np.cumsum(n_stretches) - n_stretches, n_stretches)
    ends = learned.offsets[1:][users] - turn * max_history
    return Examples(np.maximum(learned.offsets[:-1][users], ends - max_history - 1), ends)


def as_table(histories: Histories, windows: Examples, names: NDArray[np.int64]) -> pd.DataFrame:
    """What RecTools reads: the items of some windows, each of a user of its own."""
    items = np.concatenate(
        [histories.items[start:end] for start, end in zip(windows.starts, windows.ends, strict=True)]
    )
    # their order is that of times, which stand for places here
    times = pd.to_datetime(np.arange(len(items)), unit="s")
    users = np.repeat(names, windows.lengths)
    return pd.DataFrame({Columns.User: users, Columns.Item: items, Columns.Weight: 1.0, Columns.Datetime: times})


def trainer() -> Trainer:
    return Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
                   enable_progress_bar=False, enable_model_summary=False)  # fmt: skip


def ranks(model: SASRecModel, histories: Histories, split: Split, exclude: bool) -> NDArray[np.int64]:
    """(n_users,): the targets' ranks among ten, one above where they are absent."""
    examples = histories.examples(split)
    users, targets = histories.users_of(examples), histories.targets(examples)
    found = model.recommend(users, Dataset.construct(as_table(histories, examples, users)), K, exclude)
    lists = np.zeros((len(users), K), np.int64)
    lists[np.searchsorted(users, found[Columns.User]), found[Columns.Rank] - 1] = found[Columns.Item]
    return ranks_in_lists(torch.from_numpy(lists), torch.from_numpy(targets)).numpy()


def figures(of_users: NDArray[np.int64]) -> dict[str, float]:
    return {name: float(value.mean()) for name, value in user_metrics(torch.from_numpy(of_users), [K]).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="the folder that prepare_data writes")
    parser.add_argument("--max-history", type=int, default=20, help="its session_max_len")
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--every", type=int, default=10, help="epochs between two validations")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    histories, started = Histories.load(arguments.prepared / "histories.npz"), time.process_time()
    model = SASRecModel(
        n_blocks=2, n_heads=2, n_factors=64, dropout_rate=arguments.dropout, session_max_len=arguments.max_history,
        loss="softmax", lr=1e-3, batch_size=128, get_trainer_func=trainer, recommend_torch_device="cpu",
    )  # fmt: skip
    train = histories.train_part()
    windows = stretches(train, arguments.max_history)
    learned = Dataset.construct(as_table(train, windows, np.arange(1, len(windows) + 1)))
    best, shown = -1.0, ""
    for epoch in range(arguments.every, arguments.epochs + 1, arguments.every):
        model.fit_partial(learned, min_epochs=arguments.every, max_epochs=arguments.every)
        validation = figures(ranks(model, histories, "validation", exclude=True))[f"ndcg_at_{K}"]
        minutes = (time.process_time() - started) / 60
        print(f"epoch {epoch}  validation NDCG@{K} {validation:.4f}  {minutes:.1f} CPU minutes", flush=True)
        if validation > best:
            best = validation
            reached = {
                name: figures(ranks(model, histories, "test", name == "excluded")) for name in ("kept", "excluded")
            }
            shown = f"epoch {epoch}: " + "; ".join(
                f"test, history {name}: recall@{K} {each[f'recall_at_{K}']:.4f}, NDCG@{K} {each[f'ndcg_at_{K}']:.4f}"
                for name, each in reached.items()
            )
    print(shown)


if __name__ == "__main__":
    main()
