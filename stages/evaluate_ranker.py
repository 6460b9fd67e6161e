"""Evaluate each generator's candidates in its ranker's order, and by the best single signal that the ranker sees.

Only on test, since rankers learned from validation.
"""

from pathlib import Path

import torch

from genrec.evaluation.evaluator import Evaluation, write_evaluations
from genrec.evaluation.reranking import best_signal, measure_reordered, order_by_signal
from genrec.generators.entry import GeneratorEntry, proposing_generators
from genrec.layers.device import device_of
from genrec.networks.sequential.sasrec import SASRecNetwork
from genrec.params.evaluate import Evaluate
from genrec.params.evaluate_ranker import EvaluateRanker
from genrec.params.reading import read_section, read_seed
from genrec.params.train_ranker import TrainRanker
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.ranking.feature_batches import feature_loader
from genrec.ranking.ranker import Ranker
from genrec.ranking.rows import RowBuilder
from genrec.retrieval.candidates import Candidates
from genrec.retrieval.proposals import reorder
from genrec.retrieval.transitions import Transitions
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import load_model

HISTORIES = Path("data/prepared/histories.npz")
SASREC = Path("data/models/sasrec.ckpt")
TRANSITIONS = Path("data/transitions.npz")
CANDIDATES = Path("data/candidates")
RANKERS = Path("data/models/rankers")
METRICS = Path("reports/evaluate_ranker/metrics.json")
INTERVALS = Path("reports/evaluate_ranker/intervals.json")
RANKS = Path("data/ranks/ranker.npz")

ROWS_AT_ONCE = 8192


@torch.inference_mode()
def main() -> None:
    config, trainer, seed = read_section(Evaluate), read_section(Trainer), read_seed()
    rating_weight = read_section(EvaluateRanker).rating_weight
    torch.set_num_threads(trainer.num_threads)
    histories, device = Histories.load(HISTORIES), device_of(trainer.gpus)
    sasrec = load_model(SASRecNetwork, SASREC, n_items=histories.n_items).to(device)
    max_history = min(read_section(TrainRanker).max_history, sasrec.max_history)
    transitions = Transitions.load(TRANSITIONS, histories.n_items)
    builder = RowBuilder.fit(histories, sasrec.scores, transitions, max_history, device)
    evaluations = {}
    user_ids = histories.users_of(histories.examples("test"))
    for generator in proposing_generators():
        file = CANDIDATES / f"{generator.name}_test.parquet"
        candidates = Candidates.load(file, user_ids, histories.n_items)
        ranker = load_model(Ranker, RANKERS / generator.checkpoint.name, n_items=histories.n_items).to(device)
        rows = builder.rows(candidates, "test")
        batches = feature_loader(rows.features, None, ROWS_AT_ONCE)
        there = ({name: value.to(device) for name, value in x.items()} for x in batches)
        scores = torch.cat([ranker.scores(x, rating_weight).cpu() for x in there])
        reordered = reorder(candidates, rows.users, rows.places, scores)
        figures = measure_reordered(reordered, histories, "test", config.ks, config.bootstrap_samples, seed)
        evaluations[generator.ranked_name] = Evaluation({"test": figures})
        signal = choose_signal(generator, builder, max(config.ks))
        alone = order_by_signal(candidates, rows, signal)
        figures = measure_reordered(alone, histories, "test", config.ks, config.bootstrap_samples, seed)
        evaluations[generator.best_signal_name] = Evaluation({"test": figures}, {f"by_{signal}": 1.0})
    write_evaluations(evaluations, METRICS, INTERVALS, RANKS)


def choose_signal(generator: GeneratorEntry, builder: RowBuilder, k: int) -> str:
    """On validation, from which the rankers learned too."""
    histories, file = builder.histories, CANDIDATES / f"{generator.name}_validation.parquet"
    user_ids = histories.users_of(histories.examples("validation"))
    candidates = Candidates.load(file, user_ids, histories.n_items)
    return best_signal(candidates, builder.rows(candidates, "validation"), histories, "validation", k)


if __name__ == "__main__":
    run_stage(main, __doc__)
