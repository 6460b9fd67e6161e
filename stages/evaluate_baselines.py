"""Evaluate what every model must beat: popularity, and co-occurrence of items (item KNN)."""

from pathlib import Path

import torch

from genrec.evaluation.evaluator import Evaluator, write_evaluations
from genrec.params.evaluate import Evaluate
from genrec.params.reading import read_section, read_seed
from genrec.params.runtime import Runtime
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.ranking.baselines import ItemKnn, Popularity
from genrec.sequences.histories import Histories

HISTORIES = Path("data/prepared/histories.npz")
METRICS = Path("reports/evaluate_baselines/metrics.json")
INTERVALS = Path("reports/evaluate_baselines/intervals.json")
RANKS = Path("data/ranks/baselines.npz")


@torch.inference_mode()
def main() -> None:
    config = read_section(Evaluate)
    trainer = read_section(Trainer)
    torch.set_num_threads(trainer.num_threads)
    evaluator = Evaluator.of(Histories.load(HISTORIES), config, read_seed(), read_section(Runtime).progress_bar)
    learned, knn = evaluator.histories.train_part(), config.item_knn
    popularity = Popularity.fit(learned.items, learned.n_items)
    item_knn = ItemKnn.fit(learned.items, learned.offsets, learned.n_items, knn.history, knn.window)
    evaluations = {
        "popularity": evaluator.of_scores(popularity.scores, max_history=1),
        "item_knn": evaluator.of_scores(item_knn.scores, max_history=knn.history),
    }
    write_evaluations(evaluations, METRICS, INTERVALS, RANKS)


if __name__ == "__main__":
    run_stage(main, __doc__)
