"""Evaluate a model of the list of generators by full ranking, alone and beside the memory of transitions.

A model that searches is set beside exact scoring of the whole catalogue too, for a sample of users.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from genrec.evaluation.audit import audit, sample_of_users
from genrec.evaluation.evaluator import Evaluation, Evaluator, write_evaluations
from genrec.generators.entry import generator_named, generators
from genrec.layers.device import device_of
from genrec.layers.processes import end_others
from genrec.layers.shards import join_processes
from genrec.params.evaluate import Evaluate
from genrec.params.reading import read_section, read_seed
from genrec.params.runtime import Runtime
from genrec.params.trainer import Trainer
from genrec.pipeline.command import run_stage
from genrec.retrieval.memory import DECIDING_USERS, SHARES, BeamsWithMemory, WithMemory, choose_share
from genrec.retrieval.transitions import Transitions
from genrec.sequences.histories import Histories
from genrec.storage.checkpoint import load_model

HISTORIES = Path("data/prepared/histories.npz")
TRANSITIONS = Path("data/transitions.npz")
# users whose whole catalogue is scored, as dear as a search whose beam holds it; fewer of more items than this
AUDITED, AUDITED_ITEMS = 200, 2**23


@torch.inference_mode()
def main(name: str) -> None:
    generator, trainer = generator_named(name), read_section(Trainer)
    join_processes(trainer.devices, trainer.gpus)
    torch.set_num_threads(trainer.num_threads)
    device, progress_bar = device_of(trainer.gpus), read_section(Runtime).progress_bar
    config = read_section(Evaluate)
    evaluator = Evaluator.of(Histories.load(HISTORIES), config, read_seed(), progress_bar, device)
    n_items = evaluator.histories.n_items
    model = load_model(generator.network_class(), generator.checkpoint, n_items=n_items).to(device)
    memory = Transitions.load(TRANSITIONS, n_items)
    alone, with_memory = (
        evaluate_search(model, evaluator, memory, config.n_beams)
        if generator.ranks == "beams"
        else evaluate_scores(model, evaluator, memory)
    )
    if generator.ranks == "beams":
        n_audited = max(min(AUDITED, AUDITED_ITEMS // n_items), 1)
        users = sample_of_users(len(evaluator.histories.examples("test")), n_audited)
        audited = audit(model.generator, evaluator.histories, users, model.max_history, config.n_beams, device)
    end_others()
    write_evaluations(
        {name: alone, generator.with_memory_name: with_memory},
        generator.metrics,
        generator.intervals,
        generator.ranks_file,
    )
    if generator.ranks == "beams":
        audited.save(generator.audit_file)


def evaluate_scores(model: Any, evaluator: Evaluator, memory: Transitions) -> tuple[Evaluation, Evaluation]:
    """A model that scores all items, alone and with the memory of transitions."""
    repeats, width = getattr(model, "repeats", None), model.max_history
    mixture = WithMemory(model.scores, memory.to(evaluator.device), 0.0, repeats)
    share = choose_share(mixture, SHARES, evaluator.histories, width, DECIDING_USERS, evaluator.seed, evaluator.device)
    mixture = replace(mixture, share=share)
    with_memory = evaluator.of_scores(mixture.scores, width)
    return evaluator.of_scores(model.scores, width), replace(with_memory, extra={"memory_share": share})


def evaluate_search(
    model: Any, evaluator: Evaluator, memory: Transitions, n_beams: int
) -> tuple[Evaluation, Evaluation]:
    """A model that searches, alone and with the memory of transitions."""
    found = evaluator.search(model.generator, model.max_history, n_beams)
    invalid = evaluator.invalid_beams_share(model.generator, model.max_history, n_beams)
    alone = evaluator.of_lists(lambda split: found[split].items)
    both = BeamsWithMemory(found, memory, evaluator.histories)
    share = both.best_share(SHARES, evaluator.batch_size)
    with_memory = evaluator.of_lists(lambda split: both.lists(split, share))
    return replace(alone, extra={"invalid_beams_share": invalid}), replace(with_memory, extra={"memory_share": share})


if __name__ == "__main__":
    run_stage(main, __doc__, names=[generator.name for generator in generators()])
