"""Evaluate TIGER by constrained beam search; count the beams that an unconstrained one would waste."""

from pathlib import Path

import torch

from genrec.evaluation.evaluator import Evaluator, write_evaluations
from genrec.models.tiger import Tiger
from genrec.params import Evaluate, Runtime, Trainer, read_section, read_seed
from genrec.pipeline.command import run_stage
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import load_model

HISTORIES = Path("data/prepared/histories.npz")
MODEL = Path("data/models/tiger.ckpt")
METRICS = Path("reports/evaluate_tiger/metrics.json")
INTERVALS = Path("reports/evaluate_tiger/intervals.json")
RANKS = Path("data/ranks/tiger.npz")


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
    model = load_model(Tiger, MODEL, n_items=evaluator.histories.n_items)
    evaluation = evaluator.of_generator(model.generator, model.max_history, config.n_beams)
    write_evaluations({"tiger": evaluation}, METRICS, INTERVALS, RANKS)


if __name__ == "__main__":
    run_stage(main, __doc__)
