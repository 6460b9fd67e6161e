"""The area under the ROC curve against scikit-learn's."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from genrec.errors import UserError
from genrec.tasks.auc import roc_auc


@pytest.mark.parametrize("n_values", [2, 7, 100000])
def test_it_equals_scikit_learns_also_with_ties(n_values):
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(500, generator=generator) < 0.3
    scores = (torch.rand(500, generator=generator) * n_values).floor()
    assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_no_number_is_refused_as_by_scikit_learn(wrong):
    # NaN sorts last: it was taken for the best score of all, and the area was 1
    labels, scores = torch.tensor([0, 0, 1, 1.0]), torch.tensor([0.1, 0.2, wrong, wrong])
    with pytest.raises(ValueError, match="contains (NaN|infinity)"):
        roc_auc_score(labels, scores)
    with pytest.raises(UserError, match="scores must be finite, but 2 of 4 are NaN or infinite; the model diverged"):
        roc_auc(labels, scores)
    with pytest.raises(UserError, match="labels must be finite, but 2 of 4"):
        roc_auc(scores, labels)


def test_one_class_has_no_auc():
    assert math.isnan(roc_auc(torch.ones(3), torch.rand(3)))
