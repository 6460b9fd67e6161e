"""Evaluate a model of the list of generators by full ranking, with the history kept and excluded.

A model that searches is set beside exact scoring of the whole catalogue too, for a sample of users.
"""

from pathlib import Path

import torch

from genrec.evaluation.audit import audit, sample_of_users
from genrec.evaluation.evaluator import Evaluator, write_evaluations
from genrec.generators.entry import generator_named, generators
from genrec.layers.device import device_of
from genrec.params.evaluate import Evaluate
from genrec.params.reading import read_section, read_seed
from genrec.params.runtime import Runtime
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import load_model

HISTORIES = Path("data/prepared/histories.npz")
AUDITED = 200  # users whose whole catalogue is scored, as dear as a search whose beam holds it


@torch.inference_mode()
def main(name: str) -> None:
    generator, config = generator_named(name), read_section(Evaluate)
    trainer = read_section(Trainer)
    torch.set_num_threads(trainer.num_threads)
    device, progress_bar = device_of(trainer.gpus), read_section(Runtime).progress_bar
    evaluator = Evaluator.of(Histories.load(HISTORIES), config, read_seed(), progress_bar, device)
    model = load_model(generator.network_class(), generator.checkpoint, n_items=evaluator.histories.n_items).to(device)
    evaluation = (
        evaluator.of_generator(model.generator, model.max_history, config.n_beams)
        if generator.ranks == "beams"
        else evaluator.of_scores(model.scores, model.max_history)
    )
    write_evaluations({name: evaluation}, generator.metrics, generator.intervals, generator.ranks_file)
    if generator.ranks == "beams":
        users = sample_of_users(evaluator.histories.n_users, AUDITED)
        audited = audit(model.generator, evaluator.histories, users, model.max_history, config.n_beams, device)
        audited.save(generator.audit_file)


if __name__ == "__main__":
    run_stage(main, __doc__, names=[generator.name for generator in generators()])
