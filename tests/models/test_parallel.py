"""Parallel semantic IDs in Lightning: digits travel with the weights, and what is logged is what was measured."""

import pytest
import torch

from genrec.models.checkpoint import load_model, save_model
from genrec.models.parallel import Parallel

DIGITS = torch.tensor([[-1, -1], [0, 1], [1, 1], [2, 0], [0, 2]])


def model(**options):
    torch.manual_seed(0)
    settings = {"embedding_dim": 8, "num_layers": 1, "num_heads": 1, "max_history": 4, "num_negatives": 3}
    parallel = Parallel(4, num_digits=2, code_num=3, **(settings | options))
    parallel.set_digits(DIGITS)
    parallel.logged = {}
    parallel.log = lambda name, value, **options: parallel.logged.update({name: float(value)})
    return parallel.eval()


def test_digits_travel_with_the_weights(tmp_path):
    saved = model()
    save_model(saved, tmp_path / "parallel.ckpt")
    loaded = load_model(Parallel, tmp_path / "parallel.ckpt", n_items=4)
    assert torch.equal(loaded.network.digits, DIGITS.int())
    history = torch.tensor([[1, 2, 0]])
    assert torch.equal(loaded.scores(history), saved.scores(history))


def test_digits_of_another_catalogue_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"must be \(5, 2\), got \(4, 2\)"):
        model().set_digits(DIGITS[:4])


def test_a_step_returns_the_loss_and_logs_its_parts():
    parallel = model(num_negatives=0, digit_loss_weight=0.5)
    batch = {"history": torch.tensor([[1, 2]]), "target": torch.tensor([[2, 3]])}
    loss = parallel.training_step(batch, 0).item()
    assert loss == pytest.approx(parallel.logged["train_loss"])
    parts = parallel.logged["train_item_loss"] + 0.5 * parallel.logged["train_digit_loss"]
    assert loss == pytest.approx(parts)


def test_validation_ranks_with_the_history_kept_and_excluded():
    """The target is second behind an item of the history."""
    parallel = model()
    parallel.scores = lambda history: torch.tensor([[-torch.inf, 5.0, 3.0, 1.0, 0.0]])
    parallel.validation_step({"history": torch.tensor([[1, 3]]), "target": torch.tensor([2])}, 0)
    assert parallel.logged["val_ndcg_at_10"] == pytest.approx(0.6309, abs=1e-4)  # 1 / log2(3)
    assert parallel.logged["val_ndcg_at_10_excluded"] == 1
