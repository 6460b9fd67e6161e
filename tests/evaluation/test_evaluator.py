"""One protocol for all models: a model of known answers, and the two files that are written."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from genrec.evaluation.evaluator import Evaluator, load_ranks, write_evaluations
from genrec.generation.generated_items import GeneratedItems
from genrec.sequences.histories import Histories
from genrec.storage.files import load_arrays


@pytest.fixture
def evaluator():
    items = np.array([1, 2, 3, 4, 5, 2, 3, 4, 5, 6], np.int32)
    histories = Histories(items, np.array([0, 5, 10]), n_items=8)
    return Evaluator(histories, ks=(1, 2), batch_size=2, n_resamples=10, seed=0, progress_bar=False)


def next_number(history):
    """Scores the successor of the last item highest, then its successor, and so on."""
    last = history.max(1, keepdim=True).values
    return -((torch.arange(9) - last - 1) % 9).float()


class NextNumber:
    """Generates the successors of the last item; of the unconstrained beams every second is no item."""

    def generate(self, history, n_beams, constrained=True):
        items = (history.max(1, keepdim=True).values + torch.arange(n_beams)) % 8 + 1
        if not constrained:
            items[:, ::2] = 0
        return GeneratedItems(items, torch.zeros(items.shape))


def test_a_model_that_knows_the_rule_is_always_right(evaluator):
    evaluation = evaluator.of_scores(next_number, max_history=2)
    assert [evaluation.figures[split].values["excluded"]["recall_at_1"] for split in ("validation", "test")] == [1, 1]


def test_generated_items_are_measured_like_scored_ones(evaluator):
    scored = evaluator.of_scores(next_number, max_history=3)
    found = evaluator.search(NextNumber(), max_history=3, n_beams=4)
    assert evaluator.of_lists(lambda split: found[split].items).figures == scored.figures


def test_beams_that_are_no_item_are_counted(evaluator):
    assert evaluator.invalid_beams_share(NextNumber(), max_history=3, n_beams=4) == 0.5


def test_values_intervals_and_ranks_go_to_a_file_each(evaluator, tmp_path):
    evaluation = replace(evaluator.of_scores(next_number, max_history=3), extra={"invalid_beams_share": 0.5})
    write_evaluations({"m": evaluation}, tmp_path / "a/v.json", tmp_path / "a/i.json", tmp_path / "a/r.npz")
    values, intervals = (json.loads((tmp_path / f"a/{name}.json").read_text()) for name in "vi")
    assert values["m"]["test"]["kept"]["recall_at_1"] == 1
    assert values["m"]["invalid_beams_share"] == 0.5
    assert intervals["m"]["test"]["kept"]["recall_at_1"] == [1, 1]
    ranks = load_arrays(tmp_path / "a/r.npz")
    assert sorted(ranks) == [
        "m/items",
        *(f"m/{split}/{protocol}" for split in ("test", "validation") for protocol in ("excluded", "kept")),
    ]
    of_users, items = load_ranks(tmp_path / "a/r.npz")
    assert sorted(of_users) == sorted(ranks.keys() - {"m/items"})
    assert len(items["m"]) == evaluator.histories.n_users
    assert ranks["m/test/kept"].tolist() == [1] * evaluator.histories.n_users
