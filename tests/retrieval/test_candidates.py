"""Candidates come back from their file as they were."""

import torch

from genrec.retrieval.candidates import Candidates


def test_short_lists_and_probabilities_survive_the_file(tmp_path):
    items = torch.tensor([[5, 2, 9], [7, 0, 0], [0, 0, 0]])
    log_probs = torch.tensor([[-1.0, -2.5, -3.0], [-0.5, -torch.inf, -torch.inf], [-torch.inf] * 3])
    Candidates(items, log_probs).save(tmp_path / "candidates.parquet")
    found = Candidates.load(tmp_path / "candidates.parquet", n_users=3)
    assert torch.equal(found.items, items)
    assert torch.equal(found.log_probs, log_probs)
