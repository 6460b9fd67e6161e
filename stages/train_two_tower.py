"""Train two towers on the histories: retrieval by dot products, from in-batch negatives corrected for popularity."""

from pathlib import Path

import numpy as np
import torch

from genrec.generators.two_tower import TrainTwoTower
from genrec.networks.generating.history_towers import HistoryTowers
from genrec.params.reading import read_section, read_seed
from genrec.params.runtime import Runtime
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.pipeline.tracking import live_curves
from genrec.sequences.batches import mixed_window_loader, window_loader
from genrec.sequences.histories import Histories
from genrec.towers.match_trainer import LIST_WISE, MatchTrainer
from genrec.training.stage import TrainingStage

HISTORIES = Path("data/prepared/histories.npz")
MODEL = Path("data/models/two_tower.ckpt")
METRICS = Path("reports/train_two_tower/metrics.json")
CURVES = Path("reports/train_two_tower/history.csv")


def main() -> None:
    config, trainer, seed = read_section(TrainTwoTower), read_section(Trainer), read_seed()
    stage = TrainingStage("train_two_tower", trainer, read_section(Runtime), seed, live_curves("train_two_tower"))
    histories = Histories.load(HISTORIES)
    model = HistoryTowers(
        n_items=histories.n_items,
        network=config.network,
        embedding_dim=config.embedding_dim,
        hidden_dims=config.hidden_dims,
        temperature=config.temperature,
        dropout=config.dropout,
        max_history=config.max_history,
    )
    # each interaction that trains is a target, but for every user's first
    first = histories.items[histories.offsets[:-1][histories.train_lengths > 0]]
    counts = torch.from_numpy(histories.train_counts() - np.bincount(first, minlength=histories.n_items + 1))
    with stage.scratch([config], [HISTORIES]) as folder:
        MatchTrainer(
            model,
            LIST_WISE,
            torch.optim.Adam,
            {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": True},
            n_epoch=config.max_epochs,
            earlystop_patience=config.patience,
            gpus=list(range(trainer.gpus)),
            model_path=str(folder),
            in_batch_neg=True,
            item_counts=counts,
            catalogue={"target": torch.arange(1, histories.n_items + 1)},
            model_logger=stage.logger,
            seed=seed,
            precision=stage.precision,
            resume=True,
            progress_bar=stage.progress_bar,
            experiment_name="train_two_tower",
            devices=stage.trainer.devices,
            num_nodes=stage.trainer.num_nodes,
        ).fit(
            mixed_window_loader(
                histories, config.max_history, config.batch_size, seed, config.windows_per_epoch, config.shuffles_ties
            ),
            window_loader(histories, "validation", config.max_history, config.batch_size, seed),
        )
        stage.end_others()
        stage.write(model, MODEL, CURVES, METRICS, stage.logger.summary("val/recall_at_10", "max"))


if __name__ == "__main__":
    run_stage(main, __doc__)
