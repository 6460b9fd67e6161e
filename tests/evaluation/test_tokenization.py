"""What prefixes keep, counted by hand."""

import numpy as np
import pytest
import torch

from genrec.codes.tokenizer.rqvae import RqVaeNetwork
from genrec.evaluation.tokenization import likeness_by_prefix, lost_by_level


def test_pairs_of_a_prefix_are_counted_each_once():
    embeddings = np.float32([[1, 0], [0, 2], [3, 0], [1, 1]])
    table = np.int32([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]])
    found = likeness_by_prefix(embeddings, table)
    assert [(each["codes"], each["groups"], each["pairs"]) for each in found] == [(0, 1, 6), (1, 1, 3), (2, 1, 1)]
    half = 2**-0.5
    # 01 02 03 12 13 23
    assert found[0]["cosine"] == pytest.approx((0 + 1 + half + 0 + half + half) / 6)
    assert found[1]["cosine"] == pytest.approx(1 / 3)  # 01: 0, 02: 1, 12: 0
    assert found[2]["cosine"] == pytest.approx(0)


def test_where_no_two_items_share_a_prefix_the_list_ends():
    found = likeness_by_prefix(np.eye(2, dtype=np.float32), np.int32([[0, 0], [1, 0]]))
    assert [each["codes"] for each in found] == [0]


def test_each_level_loses_what_the_vectors_so_far_leave_over():
    network = RqVaeNetwork(1, None, num_embeddings=2, num_levels=2)
    with torch.no_grad():
        for level, values in zip(network.quantizer.levels, ([[-4.0], [4.0]], [[-1.0], [1.0]]), strict=True):
            level.codebook.copy_(torch.tensor(values))
    features = torch.tensor([[-5.0], [-3.0], [3.0], [5.0]])
    # the variance is 25 + 9 + 9 + 25 = 68; after level 1 each is 1 away, after level 2 none is
    assert lost_by_level(network, features) == pytest.approx([4 / 68, 0])
