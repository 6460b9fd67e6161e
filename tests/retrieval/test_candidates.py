"""Candidates come back from their file as they were."""

import pytest
import torch

from genrec.errors import UserError
from genrec.retrieval.candidates import Candidates


def test_short_lists_and_probabilities_survive_the_file(tmp_path):
    items = torch.tensor([[5, 2, 9], [7, 0, 0], [0, 0, 0]])
    log_probs = torch.tensor([[-1.0, -2.5, -3.0], [-0.5, -torch.inf, -torch.inf], [-torch.inf] * 3])
    Candidates(items, log_probs).save(tmp_path / "candidates.parquet")
    found = Candidates.load(tmp_path / "candidates.parquet", n_users=3, n_items=9)
    assert torch.equal(found.items, items)
    assert torch.equal(found.log_probs, log_probs)


@pytest.mark.parametrize(
    ("n_users", "n_items", "message"), [(1, 9, "has user_id 2, but the data end at 1"), (2, 8, "has item_id 9, but")]
)
def test_candidates_of_another_catalogue_are_refused(tmp_path, n_users, n_items, message):
    items = torch.tensor([[5, 2, 9], [7, 0, 0]])
    Candidates(items, torch.zeros(2, 3)).save(tmp_path / "candidates.parquet")
    with pytest.raises(UserError, match=message + r".*run `dvc repro -f generate_candidates`"):
        Candidates.load(tmp_path / "candidates.parquet", n_users, n_items)
