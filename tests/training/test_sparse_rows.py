"""Steps of a table's touched rows: those of Adam where all are touched, and nothing else where they are not."""

import pytest
import torch
from torch import nn

from genrec.training.sparse_rows import RowwiseAdamW, clip_gradients, gradients_of


def trained(sparse, touched, optimizer=RowwiseAdamW, n_steps=4, weight_decay=0.0):
    torch.manual_seed(0)
    table, layer = nn.Embedding(6, 3, sparse=sparse), nn.Linear(3, 1)
    parameters = [*table.parameters(), *layer.parameters()]
    steps = optimizer(parameters, lr=0.1, betas=(0.9, 0.98), weight_decay=weight_decay)
    for step in range(n_steps):
        steps.zero_grad()
        layer(table(torch.tensor(touched))).pow(step + 1).sum().backward()
        steps.step()
    return table.weight.detach(), layer.weight.detach()


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_a_table_of_which_all_rows_are_touched_steps_as_by_adam(weight_decay):
    rows = [0, 1, 2, 3, 4, 5, 5, 2]
    ours, theirs = (
        trained(sparse, rows, optimizer, weight_decay=weight_decay)
        for sparse, optimizer in ((True, RowwiseAdamW), (False, torch.optim.AdamW))
    )
    torch.testing.assert_close(ours, theirs)


def test_rows_that_no_batch_touches_stay_as_they_were():
    start, moved = trained(True, [1, 4], n_steps=0)[0], trained(True, [1, 4], weight_decay=0.3)[0]
    assert torch.equal(moved[[0, 2, 3, 5]], start[[0, 2, 3, 5]])
    assert (moved[[1, 4]] != start[[1, 4]]).all()


def test_a_row_that_stands_twice_counts_once_in_the_norm():
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1, 1, 3])).sum().backward()
    (gradient,) = gradients_of(table.parameters())
    assert gradient.tolist() == [[2.0, 2.0], [1.0, 1.0]]


@pytest.mark.parametrize("largest", [0.1, 100.0])
def test_sparse_gradients_are_clipped_like_dense_ones(largest):
    clipped = []
    for sparse in (True, False):
        torch.manual_seed(0)
        table, layer = nn.Embedding(5, 3, sparse=sparse), nn.Linear(3, 1)
        layer(table(torch.tensor([1, 1, 2]))).square().sum().backward()
        parameters = [*table.parameters(), *layer.parameters()]
        if sparse:
            clip_gradients(parameters, largest)
        else:
            nn.utils.clip_grad_norm_(parameters, largest)
        clipped.append([parameter.grad.to_dense() for parameter in parameters])
    torch.testing.assert_close(*clipped)
