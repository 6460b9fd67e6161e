"""A pass over users by two processes finds what one finds, in the same order and to the last bit."""

import os
import signal

import numpy as np
import pytest
import torch
from processes_together import run_together

from genrec.errors import UserError
from genrec.evaluation.audit import audit
from genrec.evaluation.evaluator import Evaluator
from genrec.generation.generated_items import GeneratedItems
from genrec.layers.processes import end_others, process_rank
from genrec.layers.shards import join_processes, over_batches
from genrec.retrieval.memory import SHARES, BeamsWithMemory, WithMemory, choose_share, choose_transitions
from genrec.retrieval.proposals import retrieve, search_by_scores
from genrec.sequences.histories import Histories

pytestmark = pytest.mark.slow
N_ITEMS, LONGEST, N_USERS = 40, 6, 700  # more than two batches of each pass


def histories():
    random = np.random.default_rng(0)
    lengths = random.integers(4, 14, N_USERS)
    items = random.integers(1, N_ITEMS + 1, lengths.sum()).astype(np.int32)
    return Histories(items, np.concatenate([[0], np.cumsum(lengths)]), N_ITEMS)


class Sums:
    """A model whose scores are sums of floats, so that another batch could change their last bits."""

    def __init__(self):
        self.vectors = torch.randn(N_ITEMS + 1, 24, generator=torch.Generator().manual_seed(0))
        self.code_table = torch.arange(N_ITEMS + 1)[:, None]

    def scores(self, history):
        scores = self.vectors[history].sum(1) @ self.vectors.T
        return scores.index_fill(1, torch.tensor([0]), -torch.inf)

    score_items = scores

    def generate(self, history, n_beams, constrained=True):
        log_probs, items = self.scores(history).log_softmax(1).topk(n_beams)
        return GeneratedItems(items if constrained else items.masked_fill(items % 3 == 0, 0), log_probs)

    def __call__(self, history, items):
        return self.scores(history)[:, None, None, :]


def evaluate():
    """Of each pass over users what it finds; figures are the first process's alone."""
    model, data = Sums(), histories()
    evaluator = Evaluator(data, ks=(3, 10), batch_size=64, n_resamples=5, seed=0, progress_bar=False)
    memory, settings = choose_transitions(data, 600, 0)
    share = choose_share(WithMemory(model.scores, memory, 0.0, None), SHARES, data, LONGEST, 600, 0)
    found = evaluator.search(model, LONGEST, 20)
    both = BeamsWithMemory(found, memory, data)
    audited = audit(model, data, torch.arange(1, 200), LONGEST, 20, torch.device("cpu"))
    proposed = retrieve(search_by_scores(model.scores, 7), data, "test", LONGEST, 64)
    scored = evaluator.of_scores(model.scores, LONGEST)
    return {
        "passes": [settings, share, both.best_share(SHARES, 64), evaluator.invalid_beams_share(model, LONGEST, 20)],
        "found": [each.numpy() for split in found for each in found[split]],
        "mixed": both.lists("test", 0.4).numpy(),
        "audited": [each.numpy() for each in vars(audited).values()],
        "proposed": [proposed.items.numpy(), proposed.log_probs.numpy()],
        "values": {split: figures.values for split, figures in scored.figures.items()},
        "ranks": {split: figures.ranks for split, figures in scored.figures.items()},
        "lists": {split: figures.lists for split, figures in scored.figures.items()},
    }


def test_two_processes_find_what_one_does_to_the_last_bit_and_the_first_alone_measures(tmp_path):
    first, second = run_together(evaluate, tmp_path)
    alone = evaluate()
    np.testing.assert_equal(first, alone)
    for name in ("passes", "found", "mixed", "audited", "proposed"):
        np.testing.assert_equal(second[name], alone[name])
    assert second["values"] == {}


def placed():
    return over_batches(lambda batch: (process_rank(), batch), "abc"), over_batches(len, [])


def test_each_has_every_other_batch_and_all_have_all(tmp_path):
    assert run_together(placed, tmp_path) == [([(0, "a"), (1, "b"), (0, "c")], [])] * 2


def lose():
    def die(batch):
        if process_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError) as error:
        over_batches(die, "ab")
    return str(error.value)


def test_a_process_whose_other_has_died_says_so_in_one_line(tmp_path):
    first, _ = run_together(lose, tmp_path, dies=1)
    assert first == "another of the 2 processes that evaluate together has ended; run again"


def ended():
    try:
        end_others()
    except SystemExit:
        return "ended"
    return "writes"


def test_all_but_the_first_end_before_anything_is_written(tmp_path):
    assert run_together(ended, tmp_path) == ["writes", "ended"]


def test_alone_there_is_nobody_to_meet(monkeypatch):
    for size in ("1", None):
        monkeypatch.setenv("WORLD_SIZE", size) if size else monkeypatch.delenv("WORLD_SIZE", raising=False)
        join_processes(devices=1, gpus=0)
        assert ended() == "writes"
        assert over_batches(len, ["ab", "c"]) == [2, 1]
