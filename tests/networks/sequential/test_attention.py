"""Multi-head attention: against torch's own, against the seed page's text, and what that text breaks on."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from genrec.networks.sequential.attention import MultiHeadAttention

DIM, HEADS = 8, 2


def page_forward(self, query, key, value, mask=None):
    """`MultiHeadAttention.forward` as page 003 prints it."""
    batch_size, seq_len, _ = query.size()
    Q = self.w_q(query).view(batch_size, seq_len, self.num_heads, self.head_dim).transpose(1, 2)
    K = self.w_k(key).view(batch_size, seq_len, self.num_heads, self.head_dim).transpose(1, 2)
    V = self.w_v(value).view(batch_size, seq_len, self.num_heads, self.head_dim).transpose(1, 2)
    scores = torch.matmul(Q, K.transpose(-2, -1)) / math.sqrt(self.head_dim)
    if mask is not None:
        mask = mask.unsqueeze(1).expand(-1, self.num_heads, -1, -1)
        scores.masked_fill_(mask == 0, -1e9)
    attention_weights = F.softmax(scores, dim=-1)
    attention_weights = self.dropout(attention_weights)
    attention_output = torch.matmul(attention_weights, V)
    attention_output = attention_output.transpose(1, 2).contiguous().view(batch_size, seq_len, self.embedding_dim)
    return self.w_o(attention_output), attention_weights


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def attention():
    return MultiHeadAttention(DIM, HEADS).double().eval()


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def random_mask(*shape):
    """0 and 1, no row of zeros."""
    mask = torch.randint(0, 2, shape)
    mask[..., 0] = 1
    return mask


def torchs_own(attention):
    """`nn.MultiheadAttention` with the same weights."""
    reference = nn.MultiheadAttention(DIM, HEADS, batch_first=True).double().eval()
    linears = (attention.w_q, attention.w_k, attention.w_v)
    reference.in_proj_weight.data = torch.cat([linear.weight.data for linear in linears])
    reference.in_proj_bias.data = torch.cat([linear.bias.data for linear in linears])
    reference.out_proj.load_state_dict(attention.w_o.state_dict())
    return reference


@pytest.mark.parametrize("keys", [3, 5])
@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_torchs_multihead_attention_on_copied_weights(attention, keys, masked):
    query, key, value = drawn(4, 3, DIM), drawn(4, keys, DIM), drawn(4, keys, DIM)
    mask = random_mask(4, 3, keys) if masked else None
    hidden = (mask == 0).repeat_interleave(HEADS, dim=0) if masked else None
    expected = torchs_own(attention)(query, key, value, attn_mask=hidden, average_attn_weights=False)
    output, weights = attention(query, key, value, mask)
    torch.testing.assert_close(output, expected[0])
    torch.testing.assert_close(weights, expected[1])


@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_the_page_where_the_page_is_right(attention, masked):
    x = drawn(4, 5, DIM)
    mask = random_mask(4, 5, 5) if masked else None
    for ours, pages in zip(attention(x, x, x, mask), page_forward(attention, x, x, x, mask), strict=True):
        torch.testing.assert_close(ours, pages)


@pytest.mark.parametrize("mask", [None, "full", "keys", "hidden query"])
def test_the_fused_kernel_gives_the_output_that_comes_with_the_weights(attention, mask):
    x, memory = drawn(4, 3, DIM), drawn(4, 5, DIM)
    masks = {"full": random_mask(4, 3, 5), "keys": random_mask(4, 1, 5), "hidden query": random_mask(4, 3, 5)}
    masks["hidden query"][:, 1] = 0
    chosen = masks.get(mask)
    torch.testing.assert_close(attention.attend(x, memory, memory, chosen), attention(x, memory, memory, chosen)[0])


def test_a_causal_query_sees_what_a_triangular_mask_shows(attention):
    x = drawn(4, 5, DIM)
    expected, _ = attention(x, x, x, torch.ones(4, 5, 5).tril())
    torch.testing.assert_close(attention.attend(x, x, x, is_causal=True), expected)


def test_causal_attention_in_bfloat16_has_the_output_and_the_gradients_of_float32(attention):
    """On a CPU it goes another way there, as torch's fused kernel is slow backward."""
    x = torch.randn(2, 5, DIM, dtype=torch.float64)
    found = []
    for dtype in (torch.float64, torch.bfloat16):
        attention.zero_grad()
        module, inputs = attention.to(dtype), x.to(dtype)
        output = module.attend(inputs, inputs, inputs, is_causal=True)
        output.square().sum().backward()
        found.append((output.double(), module.w_k.weight.grad.double(), module.w_v.weight.grad.double()))
    for exact, rounded in zip(*found, strict=True):
        assert (exact - rounded).abs().max() < 0.03 * exact.abs().max()


def test_one_product_of_self_attention_equals_three(attention):
    x = drawn(4, 5, DIM)
    torch.testing.assert_close(attention(x, x, x)[0], attention(x, x.clone(), x.clone())[0])


class DoubledLinear(nn.Linear):
    """A projection that is more than its weights, as adapters and quantised layers are."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_a_projection_that_was_replaced_is_asked_itself(attention):
    x = drawn(4, 5, DIM)
    replaced = DoubledLinear(DIM, DIM).double()
    replaced.load_state_dict(attention.w_v.state_dict())
    before = attention.attend(x, x, x) - attention.w_o.bias
    attention.w_v = replaced
    torch.testing.assert_close(attention.attend(x, x, x) - attention.w_o.bias, 2 * before)


def test_keys_may_be_more_or_fewer_than_queries_where_the_page_raises(attention):
    query, memory = drawn(2, 3, DIM), drawn(2, 5, DIM)
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        page_forward(attention, query, memory, memory)
    output, weights = attention(query, memory, memory)
    assert (output.shape, weights.shape) == ((2, 3, DIM), (2, HEADS, 3, 5))


def test_half_precision_takes_a_mask_where_the_page_overflows():
    attention = MultiHeadAttention(DIM, HEADS).half().eval()
    x, mask = torch.randn(2, 3, DIM).half(), torch.ones(2, 3, 3).tril()
    with pytest.raises(RuntimeError, match="overflow"):
        page_forward(attention, x, x, x, mask)
    output, weights = attention(x, x, x, mask)
    assert output.isfinite().all()
    assert (weights[:, :, 0] == torch.tensor([1.0, 0, 0])).all()


def test_weights_are_those_before_dropout_while_the_pages_do_not_sum_to_one(attention):
    attention.train()
    attention.dropout.p, attention.dropout.threshold = 0.5, 128
    x = drawn(2, 6, DIM)
    ones = torch.ones(2, HEADS, 6, dtype=torch.float64)
    assert not torch.allclose(page_forward(attention, x, x, x)[1].sum(-1), ones)
    (first, weights), (second, _) = attention(x, x, x), attention(x, x, x)
    torch.testing.assert_close(weights.sum(-1), ones)
    assert not torch.allclose(first, second)  # the output is dropped all the same


def test_the_fused_kernel_drops_weights_in_training_only(attention):
    x = drawn(2, 6, DIM)
    assert torch.equal(attention.attend(x, x, x), attention.attend(x, x, x))
    attention.train()
    assert not torch.equal(attention.attend(x, x, x), attention.attend(x, x, x))


def test_a_hidden_key_has_no_influence(attention):
    x, other = drawn(2, 4, DIM), drawn(2, 4, DIM)
    mask = torch.tensor([1, 1, 0, 1]).expand(2, 4, 4)
    changed = x.clone()
    changed[:, 2] = 100 * other[:, 2]
    for attend in (attention.attend, lambda *arguments: attention(*arguments)[0]):
        # the last bit depends on where in memory a tensor lies
        assert_close(attend(x, x, x, mask), attend(x, changed, changed, mask))


def test_a_query_that_sees_nothing_gets_no_weight_and_a_finite_gradient(attention):
    x = drawn(1, 3, DIM).requires_grad_()
    mask = torch.ones(1, 3, 3)
    mask[0, 1] = 0
    output, weights = attention(x, x, x, mask)
    assert (weights[0, :, 1] == 0).all()
    torch.testing.assert_close(output[0, 1], attention.w_o.bias)
    (output.sum() + attention.attend(x, x, x, mask).sum()).backward()
    assert x.grad.isfinite().all()


def test_heads_that_do_not_divide_the_width_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="num_heads must divide embedding_dim, got 3 and 8"):
        MultiHeadAttention(8, 3)


def test_a_mask_of_keys_alone_is_refused_since_it_could_be_read_as_one_of_heads(attention):
    x = drawn(2, 3, DIM)
    with pytest.raises(ValueError, match=r"\(batch, queries, keys\), got \(2, 3\)"):
        attention(x, x, x, torch.ones(2, 3))
