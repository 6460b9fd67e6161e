"""The area under the ROC curve against scikit-learn's."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from genrec.tasks.auc import roc_auc


@pytest.mark.parametrize("n_values", [2, 7, 100000])
def test_it_equals_scikit_learns_also_with_ties(n_values):
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(500, generator=generator) < 0.3
    scores = (torch.rand(500, generator=generator) * n_values).floor()
    assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_one_class_has_no_auc():
    assert math.isnan(roc_auc(torch.ones(3), torch.rand(3)))
