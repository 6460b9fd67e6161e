"""Evaluate the two towers by full ranking."""

from pathlib import Path

import torch

from genrec.evaluation.evaluator import Evaluator, write_evaluations
from genrec.networks.generating.history_towers import HistoryTowers
from genrec.params import Evaluate, Runtime, Trainer, read_section, read_seed
from genrec.pipeline.command import run_stage
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import load_model

HISTORIES = Path("data/prepared/histories.npz")
MODEL = Path("data/models/two_tower.ckpt")
METRICS = Path("reports/evaluate_two_tower/metrics.json")
INTERVALS = Path("reports/evaluate_two_tower/intervals.json")
RANKS = Path("data/ranks/two_tower.npz")


@torch.inference_mode()
def main() -> None:
    config, trainer = read_section(Evaluate), read_section(Trainer)
    torch.set_num_threads(trainer.num_threads)
    evaluator = Evaluator(
        histories=Histories.load(HISTORIES),
        ks=config.ks,
        batch_size=config.batch_size,
        n_resamples=config.bootstrap_samples,
        seed=read_seed(),
        progress_bar=read_section(Runtime).progress_bar,
    )
    model = load_model(HistoryTowers, MODEL)
    write_evaluations({"two_tower": evaluator.of_scores(model.scores, model.max_history)}, METRICS, INTERVALS, RANKS)


if __name__ == "__main__":
    run_stage(main, __doc__)
