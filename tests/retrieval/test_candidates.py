"""Candidates come back from their file as they were."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from genrec.errors import UserError
from genrec.retrieval.candidates import Candidates


def test_short_lists_and_probabilities_survive_the_file(tmp_path):
    items = torch.tensor([[5, 2, 9], [7, 0, 0], [0, 0, 0]])
    log_probs = torch.tensor([[-1.0, -2.5, -3.0], [-0.5, -torch.inf, -torch.inf], [-torch.inf] * 3])
    user_ids = np.array([1, 2, 3])
    Candidates(items, log_probs).save(tmp_path / "candidates.parquet", user_ids)
    found = Candidates.load(tmp_path / "candidates.parquet", user_ids, n_items=9)
    assert torch.equal(found.items, items)
    assert torch.equal(found.log_probs, log_probs)


@pytest.mark.parametrize(
    ("n_users", "n_items", "message"), [(1, 9, "has user_id 2, but the data end at 1"), (2, 8, "has item_id 9, but")]
)
def test_candidates_of_another_catalogue_are_refused(tmp_path, n_users, n_items, message):
    items = torch.tensor([[5, 2, 9], [7, 0, 0]])
    Candidates(items, torch.zeros(2, 3)).save(tmp_path / "candidates.parquet", np.array([1, 2]))
    with pytest.raises(UserError, match=message + r".*run `dvc repro -f generate_candidates`"):
        Candidates.load(tmp_path / "candidates.parquet", np.arange(1, n_users + 1), n_items)


@pytest.mark.parametrize("user_ids", [[2, 5, 9], [2, 2, 9]])
def test_users_may_have_no_list_or_several(tmp_path, user_ids):
    items, file = torch.tensor([[5, 2, 9], [0, 0, 0], [7, 0, 0]]), tmp_path / "candidates.parquet"
    Candidates(items, torch.zeros(3, 3)).save(file, np.array(user_ids))
    frame = pq.read_table(file).to_pydict()
    assert frame["user_id"] == [2, 2, 2, 9]
    assert frame.get("target") == (None if user_ids[1] == 5 else [1, 1, 1, 1])
    assert torch.equal(Candidates.load(file, np.array(user_ids), n_items=9).items, items)


@pytest.mark.parametrize(("saved", "asked"), [([1, 3], [2, 3]), ([2, 2], [1, 2]), ([1, 2], [2, 2])])
def test_candidates_of_another_split_are_refused(tmp_path, saved, asked):
    Candidates(torch.tensor([[5], [7]]), torch.zeros(2, 1)).save(tmp_path / "candidates.parquet", np.array(saved))
    with pytest.raises(UserError, match="is of another split of the data; run `dvc repro -f generate_candidates`"):
        Candidates.load(tmp_path / "candidates.parquet", np.array(asked), n_items=9)
