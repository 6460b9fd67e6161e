"""Parallel semantic IDs in Lightning: digits travel with the weights, and what is logged is what was measured."""

import pytest
import torch
import torch.nn.functional as F

from genrec.models.parallel import Parallel
from genrec.networks.digit_decoding import best_items
from genrec.storage.checkpoint import load_model, save_model

DIGITS = torch.tensor([[-1, -1], [0, 1], [1, 1], [2, 0], [0, 2]])


def model(**options):
    torch.manual_seed(0)
    settings = {"embedding_dim": 8, "num_layers": 1, "num_heads": 1, "max_history": 4, "num_negatives": 3}
    parallel = Parallel(4, num_digits=2, code_num=3, **(settings | options))
    parallel.set_digits(DIGITS)
    parallel.__dict__["logged"] = {}
    parallel.log = lambda name, value, **options: parallel.logged.update({name: float(value)})
    return parallel.eval()


def test_digits_travel_with_the_weights(tmp_path):
    saved = model()
    save_model(saved, tmp_path / "parallel.ckpt")
    loaded = load_model(Parallel, tmp_path / "parallel.ckpt", n_items=4)
    assert torch.equal(loaded.digits, DIGITS.int())
    history = torch.tensor([[1, 2, 0]])
    assert torch.equal(loaded.scores(history), saved.scores(history))


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
    parallel.__dict__["scores"] = lambda history: torch.tensor([[-torch.inf, 5.0, 3.0, 1.0, 0.0]])
    parallel.validation_step({"history": torch.tensor([[1, 3]]), "target": torch.tensor([2])}, 0)
    assert parallel.logged["val_ndcg_at_10"] == pytest.approx(0.6309, abs=1e-4)  # 1 / log2(3)
    assert parallel.logged["val_ndcg_at_10_excluded"] == 1


def test_the_digits_loss_is_the_mean_cross_entropy_of_all_digits_where_all_are_trained():
    parallel = model(num_trained_digits=9, num_negatives=0, digit_loss_weight=0.3)
    batch = {"history": torch.tensor([[3, 4, 1], [2, 0, 0]]), "target": torch.tensor([[4, 1, 0], [3, 0, 0]])}
    losses = parallel.losses(batch)
    states = parallel(batch["history"])
    expected = [
        F.cross_entropy(parallel.digit_logits(states[user, place])[digit], DIGITS[target, digit])
        for user, targets in enumerate(batch["target"])
        for place, target in enumerate(targets)
        for digit in range(2)
        if target
    ]
    torch.testing.assert_close(losses["digit_loss"], torch.stack(expected).mean())
    torch.testing.assert_close(losses["loss"], losses["item_loss"] + 0.3 * losses["digit_loss"])


@pytest.mark.parametrize("seed", range(5))
def test_some_digits_a_step_train_all_of_them_over_time(seed):
    parallel = model(num_trained_digits=1, digit_loss_weight=1.0)
    batch = {"history": torch.tensor([[3]]), "target": torch.tensor([[4]])}
    torch.manual_seed(seed)
    moved = torch.zeros(2, dtype=torch.bool)
    for _ in range(40):  # one of the two is never drawn with a chance of 2 ** -39
        parallel.zero_grad()
        parallel.losses(batch)["digit_loss"].backward()
        # the history's item has gradients in its own codes; of a digit that is trained all codes have one
        moved |= (parallel.codebooks.grad.view(2, 3, -1) != 0).any(2).all(1)
    assert moved.all()


@pytest.mark.parametrize("num_negatives", [0, 8])
def test_it_learns_a_cycle_by_digits_alone(num_negatives):
    torch.manual_seed(0)
    parallel = Parallel(
        12, 2, 4, embedding_dim=16, num_layers=1, num_heads=1, dropout=0.0, max_history=8, num_negatives=num_negatives
    )
    pairs = torch.cartesian_prod(torch.arange(4), torch.arange(3))
    parallel.set_digits(torch.cat([torch.full((1, 2), -1), pairs]))
    walks = (torch.arange(12)[:, None] + torch.arange(6)) % 12 + 1
    optimizer = torch.optim.Adam(parallel.parameters(), 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        parallel.losses({"history": walks[:, :-1], "target": walks[:, 1:]})["loss"].backward()
        optimizer.step()
    assert torch.equal(best_items(parallel, walks[:, :3], 1).items[:, 0], walks[:, 3])


def test_vectors_that_are_looked_up_have_the_loss_and_gradients_of_vectors_that_are_made():
    parallel = model(num_negatives=0, dropout=0.0, digit_loss_weight=0.0).double()
    batch = {"history": torch.tensor([[3, 1, 0], [4, 4, 2]]), "target": torch.tensor([[1, 2, 0], [4, 2, 1]])}
    found = []
    for vectors_of in (parallel._vectors_of_a_step(), parallel.item_vectors):
        parallel._vectors_of_a_step = lambda vectors_of=vectors_of: vectors_of
        parallel.zero_grad()
        loss = parallel.losses(batch)["loss"]
        loss.backward()
        found.append((loss.detach(), parallel.codebooks.grad.clone()))
    torch.testing.assert_close(found[0], found[1])
