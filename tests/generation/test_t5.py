"""T5's blocks against its published rule, torch's own attention, and formulas written out step by step."""

import math

import pytest
import torch

from genrec.generation.t5 import (
    CrossAttention,
    DecoderBlock,
    EncoderBlock,
    FeedForward,
    RelativePositionBias,
    SelfAttention,
    attend,
)
from genrec.layers.dropout import Dropout

DIM, HEADS, HEAD_DIM = 12, 3, 4


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bucket_by_the_rule(distance, bidirectional):
    """T5's bucket in whole numbers: half of the buckets are exact, the others grow geometrically up to 128."""
    n_buckets, offset = 32, 0
    if bidirectional:
        n_buckets, offset = 16, 16 if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    n_exact = n_log = n_buckets // 2
    if distance < n_exact:
        return offset + distance
    # the largest step with n_exact * (128 / n_exact) ** (step / n_log) <= distance, without a logarithm's rounding
    reached = [s for s in range(n_log) if distance**n_log >= n_exact ** (n_log - s) * 128**s]
    return offset + n_exact + max(reached)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_follow_t5s_rule(bidirectional):
    bias = RelativePositionBias(1, bidirectional)
    expected = [bucket_by_the_rule(distance, bidirectional) for distance in range(-300, 301)]
    assert bias.buckets(torch.arange(-300, 301)).tolist() == expected


def test_a_decoder_does_not_tell_future_distances_apart():
    assert RelativePositionBias(1, bidirectional=False).buckets(torch.tensor([0, 1, 50])).tolist() == [0, 0, 0]


def test_the_bias_of_a_pair_is_its_buckets_row():
    bias = RelativePositionBias(HEADS, bidirectional=True)
    positions = torch.arange(20)
    distance = positions - positions[:, None]
    values = bias(distance)
    assert values.shape == (HEADS, 20, 20)
    for query, key in [(0, 0), (3, 17), (17, 3), (19, 0)]:
        row = bias.bias.weight[bucket_by_the_rule(key - query, True)]
        assert torch.equal(values[:, query, key], row)


def test_attention_equals_softmax_of_the_unscaled_products():
    query, key, value, bias = drawn(2, 3, 5, 4), drawn(2, 3, 6, 4, seed=1), drawn(2, 3, 6, 4, seed=2), drawn(3, 5, 6)
    weights = (torch.einsum("bhqd,bhkd->bhqk", query, key) + bias).softmax(-1)
    expected = torch.einsum("bhqk,bhkd->bhqd", weights, value)
    torch.testing.assert_close(attend(query, key, value, bias), expected)


def test_attention_that_learns_its_bias_equals_the_fused_one():
    query, key, value, bias = drawn(2, 3, 5, 4), drawn(2, 3, 6, 4, seed=1), drawn(2, 3, 6, 4, seed=2), drawn(3, 5, 6)
    bias[:, :, 4:] = -torch.inf
    plain = attend(query, key, value, bias.clone().requires_grad_())
    torch.testing.assert_close(plain.detach(), attend(query, key, value, bias))


def test_a_hidden_key_has_no_influence():
    query, key, value = drawn(1, 2, 3, 4), drawn(1, 2, 5, 4, seed=1), drawn(1, 2, 5, 4, seed=2)
    bias = torch.zeros(1, 5, dtype=torch.float64)
    bias[:, 3:] = -torch.inf
    torch.testing.assert_close(attend(query, key, value, bias), attend(query, key[:, :, :3], value[:, :, :3], None))


def torch_attention(query, key, value, output):
    """`nn.MultiheadAttention` with given projections; its scaling is undone in the query's."""
    attention = torch.nn.MultiheadAttention(DIM, HEADS, bias=False, batch_first=True).double()
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([query * math.sqrt(HEAD_DIM), key, value]))
        attention.out_proj.weight.copy_(output)
    return attention


def test_self_attention_equals_torchs():
    ours = SelfAttention(DIM, HEADS, HEAD_DIM).double()
    reference = torch_attention(*ours.query_key_value.weight.chunk(3), ours.output.weight)
    x = drawn(2, 7, DIM)
    hidden = torch.ones(7, 7, dtype=torch.bool).triu(1)
    bias = torch.zeros(7, 7, dtype=torch.float64).masked_fill(hidden, -torch.inf)
    torch.testing.assert_close(ours(x, bias), reference(x, x, x, attn_mask=hidden)[0])


def test_cross_attention_equals_torchs():
    ours = CrossAttention(DIM, HEADS, HEAD_DIM).double()
    reference = torch_attention(ours.query.weight, *ours.key_value.weight.chunk(2), ours.output.weight)
    x, memory = drawn(2, 5, DIM), drawn(2, 7, DIM, seed=1)
    padding = torch.arange(7) >= torch.tensor([[4], [7]])
    bias = torch.zeros(2, 1, 1, 7, dtype=torch.float64).masked_fill(padding[:, None, None], -torch.inf)
    expected = reference(x, memory, memory, key_padding_mask=padding)[0]
    torch.testing.assert_close(ours(x, ours.project(memory), bias), expected)


def test_heads_may_be_wider_than_their_share_of_the_width():
    assert SelfAttention(DIM, HEADS, 16)(torch.zeros(2, 5, DIM), None).shape == (2, 5, DIM)


def test_no_layer_has_an_additive_bias():
    blocks = [block(DIM, HEADS, HEAD_DIM, 20, Dropout(0.1)) for block in (EncoderBlock, DecoderBlock)]
    assert not [name for block in blocks for name, _ in block.named_parameters() if "bias" in name]


def rms_norm(x, weight):
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight


def shaken(block):
    """A block whose norms have weights other than 1."""
    for i, parameter in enumerate(block.parameters()):
        parameter.data = drawn(*parameter.shape, seed=i) / 2
    return block.double().eval()


def test_the_feed_forward_layer_is_two_products_around_a_relu():
    layer = FeedForward(DIM, 20, dropout=Dropout(0.0)).double()
    x = drawn(3, DIM)
    torch.testing.assert_close(layer(x), (x @ layer[0].weight.T).clamp_min(0) @ layer[3].weight.T)


def test_an_encoder_block_normalises_before_each_part_and_adds_what_came_in():
    block = shaken(EncoderBlock(DIM, HEADS, HEAD_DIM, 20, dropout=Dropout(0.3)))
    x, bias = drawn(2, 5, DIM), drawn(HEADS, 5, 5)
    after_attention = x + block.attention(rms_norm(x, block.attention_norm.weight), bias)
    expected = after_attention + block.feed_forward(rms_norm(after_attention, block.feed_forward_norm.weight))
    torch.testing.assert_close(block(x, bias), expected)


def test_a_decoder_block_looks_at_itself_then_at_the_memory():
    block = shaken(DecoderBlock(DIM, HEADS, HEAD_DIM, 20, dropout=Dropout(0.3)))
    x, bias, memory = drawn(2, 1, 4, DIM), drawn(HEADS, 4, 4), block.cross_attention.project(drawn(2, 6, DIM, seed=1))
    y = x[:, 0]
    y = y + block.attention(rms_norm(y, block.attention_norm.weight), bias)
    y = y + block.cross_attention(rms_norm(y, block.cross_norm.weight), memory, None)
    y = y + block.feed_forward(rms_norm(y, block.feed_forward_norm.weight))
    torch.testing.assert_close(block(x, bias, memory, None)[:, 0], y)


def test_targets_of_one_user_do_not_see_each_other():
    block = shaken(DecoderBlock(DIM, HEADS, HEAD_DIM, 20, dropout=Dropout(0.0)))
    x, bias, memory = drawn(2, 3, 4, DIM), drawn(HEADS, 4, 4), block.cross_attention.project(drawn(2, 6, DIM, seed=1))
    together = block(x, bias, memory, None)
    alone = torch.cat([block(x[:, i : i + 1], bias, memory, None) for i in range(3)], dim=1)
    torch.testing.assert_close(together, alone)
