"""Two towers for `benchmarks.quality`, which another trainer trains than the models that are learned from sequences."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from genrec.networks.generating.history_towers import HistoryTowers
from genrec.sequences.batches import mixed_window_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.towers.match_trainer import LIST_WISE, MatchTrainer
from genrec.training.curves import CurveLogger

# those of params.yaml, and all windows in each epoch
TWO_TOWERS = {"network": "dssm", "embedding_dim": 64, "hidden_dims": (128,), "temperature": 0.1, "dropout": 0.1,
              "batch_size": 512}  # fmt: skip
LEARNING = {"lr": 1e-3, "weight_decay": 1e-6, "fused": True}
TOWERS_MONITOR = "val/recall_at_10"  # of MatchTrainer, the history kept


def train_two_towers(
    model: HistoryTowers, histories: Histories, deciding: Histories, of_training: dict[str, Any],
    curves: CurveLogger, seed: int, folder: Path,
) -> None:  # fmt: skip
    """Train on all windows, with the other rows' items as negatives; the best epoch is that of `deciding`."""
    first = histories.items[histories.offsets[:-1][histories.train_lengths > 0]]  # which nothing precedes
    counts = torch.from_numpy(histories.train_counts() - np.bincount(first, minlength=histories.n_items + 1))
    MatchTrainer(
        model, LIST_WISE, torch.optim.Adam, LEARNING, n_epoch=of_training["epochs"],
        earlystop_patience=of_training["patience"], model_path=str(folder / "checkpoints"), in_batch_neg=True,
        item_counts=counts, catalogue={"target": torch.arange(1, histories.n_items + 1)}, model_logger=curves,
        seed=seed, progress_bar=False, experiment_name="two towers",
    ).fit(
        mixed_window_loader(histories, model.max_history, of_training["batch_size"], seed),
        window_loader(deciding, "validation", model.max_history, 512, seed),
    )  # fmt: skip
