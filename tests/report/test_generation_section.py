"""Whose miss it was, and whether probabilities come true."""

import numpy as np
import pytest
import torch

from genrec.evaluation.audit import Audit
from genrec.report.generation_section import agreement, calibration, fates_of
from genrec.retrieval.candidates import Candidates
from genrec.sequences.histories import Histories

AUDIT = Audit(
    users=torch.arange(1, 6),
    exact_ranks=torch.tensor([1, 10, 3, 11, 40]),
    searched_ranks=torch.tensor([1, 10, 51, 10, 51]),
    target_log_probs=torch.zeros(5, 2),
    first_items=torch.ones(5, dtype=torch.long),
    first_log_probs=torch.zeros(5, 2),
)


def test_each_target_has_one_fate():
    # found twice; third: exact scoring lists it, the search lost it; fifth: improbable; fourth: the search alone
    assert fates_of(AUDIT, 10) == [2, 1, 1, 1]


def test_recall_of_both_is_of_the_same_users():
    assert agreement(AUDIT, 10) == pytest.approx({"searched": 0.6, "exact": 0.6})


def test_a_bin_says_what_was_promised_and_what_was_taken():
    histories = Histories(np.array([1, 2, 3] * 2, np.int32), np.array([0, 3, 6]), n_items=4)
    items = torch.tensor([[3, 4], [4, 3]])  # the target is 3
    said, taken = calibration(Candidates(items, torch.tensor([[0.5, 0.25], [0.125, 0.75]]).log()), histories)
    # a bin an item here: those of items that nobody took have no place on a logarithmic axis
    assert said == pytest.approx([0.5, 0.75])
    assert taken == [1, 1]
