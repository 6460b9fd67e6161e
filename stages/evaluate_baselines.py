"""Evaluate what every model must beat: popularity, and co-occurrence of items (item KNN)."""

from pathlib import Path

import torch

from genrec.evaluation.evaluator import Evaluator, write_evaluations
from genrec.layers.processes import end_others
from genrec.layers.shards import join_processes
from genrec.params.evaluate import Evaluate
from genrec.params.reading import read_section, read_seed
from genrec.params.runtime import Runtime
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.ranking.baselines import Popularity
from genrec.retrieval.transitions import Transitions
from genrec.sequences.histories import Histories

HISTORIES = Path("data/prepared/histories.npz")
TRANSITIONS = Path("data/transitions.npz")
METRICS = Path("reports/evaluate_baselines/metrics.json")
INTERVALS = Path("reports/evaluate_baselines/intervals.json")
RANKS = Path("data/ranks/baselines.npz")


@torch.inference_mode()
def main() -> None:
    config = read_section(Evaluate)
    trainer = read_section(Trainer)
    join_processes(trainer.devices, trainer.gpus)
    torch.set_num_threads(trainer.num_threads)
    evaluator = Evaluator.of(Histories.load(HISTORIES), config, read_seed(), read_section(Runtime).progress_bar)
    histories = evaluator.histories
    popularity = Popularity(histories.train_counts())
    transitions = Transitions.load(TRANSITIONS, histories.n_items)
    evaluations = {
        "popularity": evaluator.of_scores(popularity.scores, max_history=1),
        "item_knn": evaluator.of_scores(transitions, max_history=transitions.num_items),
    }
    end_others()
    write_evaluations(evaluations, METRICS, INTERVALS, RANKS)


if __name__ == "__main__":
    run_stage(main, __doc__)
