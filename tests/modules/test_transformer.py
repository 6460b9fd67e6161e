"""The transformer encoder: against torch's own layers, against the seed page's text, and what padding may not do."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from genrec.modules.transformer import EncoderLayer, PositionalEncoding, TransformerEncoder

SIZES = {"vocab_size": 20, "embedding_dim": 8, "num_heads": 2, "num_layers": 2, "attn_dim": 16, "max_seq_length": 12}


class PagePositionalEncoding(nn.Module):
    """As page 003 prints it."""

    def __init__(self, embedding_dim, max_seq_length=5000):
        super().__init__()
        pe = torch.zeros(max_seq_length, embedding_dim)
        position = torch.arange(0, max_seq_length, dtype=torch.float).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, embedding_dim, 2).float() * (-math.log(10000.0) / embedding_dim))
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe.unsqueeze(0))

    def forward(self, x):
        return x + self.pe[:, : x.size(1)]


class PageTransformerEncoder(nn.Module):
    """As page 003 prints it."""

    def __init__(self, vocab_size, embedding_dim, num_heads, num_layers, attn_dim, dropout=0.1, max_seq_length=1024):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.pos_encoding = PagePositionalEncoding(embedding_dim, max_seq_length)
        encoder_layer = nn.TransformerEncoderLayer(
            d_model=embedding_dim, nhead=num_heads, dim_feedforward=attn_dim, dropout=dropout, batch_first=True
        )
        self.transformer = nn.TransformerEncoder(encoder_layer, num_layers)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids, attention_mask=None):
        embeddings = self.embedding(input_ids)
        embeddings = self.pos_encoding(embeddings)
        embeddings = self.dropout(embeddings)
        src_key_padding_mask = (attention_mask == 0) if attention_mask is not None else None
        return self.transformer(embeddings, src_key_padding_mask=src_key_padding_mask)


def copy_layer(ours, torchs):
    """Give torch's encoder layer the weights of ours."""
    linears = (ours.attention.w_q, ours.attention.w_k, ours.attention.w_v)
    torchs.self_attn.in_proj_weight.data = torch.cat([linear.weight.data for linear in linears])
    torchs.self_attn.in_proj_bias.data = torch.cat([linear.bias.data for linear in linears])
    torchs.self_attn.out_proj.load_state_dict(ours.attention.w_o.state_dict())
    torchs.norm1.load_state_dict(ours.attention_norm.state_dict())
    torchs.norm2.load_state_dict(ours.feed_forward_norm.state_dict())
    torchs.linear1.load_state_dict(ours.feed_forward[0].state_dict())
    torchs.linear2.load_state_dict(ours.feed_forward[3].state_dict())


def page_encoder_like(ours):
    page = PageTransformerEncoder(**SIZES).eval()
    page.embedding.load_state_dict(ours.embedding.state_dict())
    for layer, torchs in zip(ours.transformer, page.transformer.layers, strict=True):
        copy_layer(layer, torchs)
    return page


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def encoder():
    return TransformerEncoder(**SIZES).eval()


def padded_batch():
    input_ids = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 0, 0, 0], [6, 5, 3, 0, 0]])
    attention_mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    return input_ids, attention_mask


class TestPositionalEncoding:
    def test_it_equals_the_page_at_even_widths(self):
        x = torch.randn(2, 5, 6)
        torch.testing.assert_close(PositionalEncoding(6)(x), PagePositionalEncoding(6)(x))

    def test_an_odd_width_ends_with_a_sine_where_the_page_raises(self):
        with pytest.raises(RuntimeError, match="expanded size"):
            PagePositionalEncoding(5)
        encoding = PositionalEncoding(5, max_seq_length=3).pe
        frequency = 10000 ** (-4 / 5)
        assert encoding[0, :, 4].tolist() == pytest.approx([math.sin(i * frequency) for i in range(3)])
        assert encoding[0, :, 1].tolist() == pytest.approx([math.cos(i) for i in range(3)])

    def test_a_longer_sequence_is_refused_with_both_lengths_where_the_page_speaks_of_tensor_sizes(self):
        x = torch.zeros(1, 4, 6)
        with pytest.raises(RuntimeError, match="must match the size of tensor"):
            PagePositionalEncoding(6, max_seq_length=3)(x)
        with pytest.raises(ValueError, match="at most max_seq_length=3 positions, got 4; cut it"):
            PositionalEncoding(6, max_seq_length=3)(x)

    def test_the_longest_sequence_is_as_long_as_promised(self):
        assert PositionalEncoding(6, max_seq_length=3)(torch.zeros(1, 3, 6)).shape == (1, 3, 6)


class TestAgainstReferences:
    @pytest.mark.parametrize("masked", [False, True])
    def test_a_layer_equals_torchs_encoder_layer_on_copied_weights_with_its_gradient(self, masked):
        ours = EncoderLayer(8, 2, 16, dropout=0.0).double()
        torchs = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).double()
        copy_layer(ours, torchs)
        real = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]) == 1 if masked else torch.ones(2, 4, dtype=torch.bool)
        x = torch.randn(2, 4, 8, dtype=torch.float64)
        first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
        output, expected = ours(first, real[:, None] if masked else None), torchs(second, src_key_padding_mask=~real)
        torch.testing.assert_close(output[real], expected[real])
        output[real].square().sum().backward()
        expected[real].square().sum().backward()
        torch.testing.assert_close(first.grad, second.grad)

    @pytest.mark.parametrize("masked", [False, True])
    def test_it_equals_the_page_on_copied_weights_at_all_real_positions(self, encoder, masked):
        input_ids, attention_mask = padded_batch()
        if not masked:
            attention_mask = torch.ones_like(attention_mask)
        expected = page_encoder_like(encoder)(input_ids, attention_mask)
        real = attention_mask == 1
        torch.testing.assert_close(encoder(input_ids, attention_mask)[real], expected[real])

    def test_without_a_mask_every_position_is_real(self, encoder):
        input_ids, attention_mask = padded_batch()
        torch.testing.assert_close(encoder(input_ids), encoder(input_ids, torch.ones_like(attention_mask)))

    def test_its_layers_start_unlike_each_other_while_the_pages_start_as_copies(self, encoder):
        first, second = PageTransformerEncoder(**SIZES).transformer.layers
        assert torch.equal(first.linear1.weight, second.linear1.weight)
        first, second = encoder.transformer
        assert not torch.equal(first.feed_forward[0].weight, second.feed_forward[0].weight)


class TestPadding:
    @settings(max_examples=30, deadline=None)
    @given(st.data())
    def test_what_stands_at_padding_changes_no_real_position(self, data):
        encoder = TransformerEncoder(**SIZES).eval()
        length = data.draw(st.integers(1, 6))
        row = st.lists(st.integers(0, 19), min_size=length, max_size=length)
        input_ids, others = (torch.tensor([data.draw(row), data.draw(row)]) for _ in range(2))
        attention_mask = torch.tensor([data.draw(st.lists(st.integers(0, 1), min_size=length, max_size=length))] * 2)
        changed = torch.where(attention_mask == 0, others, input_ids)
        assert torch.equal(encoder(input_ids, attention_mask), encoder(changed, attention_mask))

    def test_vectors_do_not_depend_on_how_far_the_batch_is_padded(self, encoder):
        alone = encoder(torch.tensor([[9, 2]]))
        padded = encoder(torch.tensor([[9, 2, 0, 0, 0]]), torch.tensor([[1, 1, 0, 0, 0]]))
        torch.testing.assert_close(padded[:, :2], alone)

    def test_padding_is_zero_with_and_without_gradients_while_the_pages_depends_on_it(self, encoder):
        input_ids, attention_mask = padded_batch()
        page, padding = page_encoder_like(encoder), attention_mask == 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of nested tensors, which the page's encoder uses without gradients
            with_gradient = page(input_ids, attention_mask)
            with torch.no_grad():
                without = page(input_ids, attention_mask)
        assert (without[padding] == 0).all()
        assert (with_gradient[padding] != 0).any()
        assert (encoder(input_ids, attention_mask)[padding] == 0).all()
        with torch.no_grad():
            assert (encoder(input_ids, attention_mask)[padding] == 0).all()

    def test_a_row_of_padding_alone_is_zero_and_its_gradient_finite(self, encoder):
        output = encoder(torch.tensor([[0, 0], [3, 4]]), torch.tensor([[0, 0], [1, 1]]))
        assert (output[0] == 0).all()
        output.square().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())

    def test_padding_teaches_its_id_nothing_and_a_real_zero_learns(self, encoder):
        encoder(torch.tensor([[3, 4, 0]]), torch.tensor([[1, 1, 0]])).square().sum().backward()
        assert (encoder.embedding.weight.grad[0] == 0).all()
        encoder(torch.tensor([[3, 4, 0]]), torch.tensor([[1, 1, 1]])).square().sum().backward()
        assert (encoder.embedding.weight.grad[0] != 0).any()

    @pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32])
    def test_a_mask_may_have_any_type(self, encoder, dtype):
        input_ids, attention_mask = padded_batch()
        assert torch.equal(encoder(input_ids, attention_mask.to(dtype)), encoder(input_ids, attention_mask))

    def test_a_mask_of_another_shape_is_refused_with_both_shapes(self, encoder):
        with pytest.raises(ValueError, match=r"shape of input_ids, got \(1, 2\) and \(1, 3\)"):
            encoder(torch.tensor([[1, 2, 3]]), torch.ones(1, 2))


@pytest.mark.parametrize("where", [0, 5])
def test_positions_matter(encoder, where):
    input_ids = torch.full((1, 6), 7)
    output = encoder(input_ids)[0]
    assert all(not torch.allclose(output[where], output[i]) for i in range(6) if i != where)


def test_a_sequence_beyond_the_limit_is_refused(encoder):
    with pytest.raises(ValueError, match="max_seq_length=12 positions, got 13"):
        encoder(torch.zeros(1, 13, dtype=torch.long))


def test_every_position_learns_what_stands_at_the_first():
    torch.manual_seed(0)
    encoder = TransformerEncoder(vocab_size=10, embedding_dim=16, num_heads=2, num_layers=1, attn_dim=32, dropout=0.0)
    head = nn.Linear(16, 10)
    input_ids = torch.randint(0, 10, (64, 5))
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        logits = head(encoder(input_ids))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), input_ids[:, :1].expand(-1, 5).flatten())
        loss.backward()
        optimizer.step()
    assert (logits.argmax(-1) == input_ids[:, :1]).float().mean() > 0.95
