"""SASRec: what a state knows, where padding may stand, its two losses, and that it learns."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genrec.models.sasrec import SASRec
from genrec.networks.sequential.causal import CausalBlock


@pytest.fixture
def model():
    """Weights so large that every item and position matters, in float64."""
    torch.manual_seed(0)
    model = SASRec(n_items=9, embedding_dim=8, num_layers=2, num_heads=2, max_history=12).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.item_embedding.weight.data[0] = 0
    return model


def test_a_block_equals_torchs_pre_norm_layer_on_copied_weights():
    torch.manual_seed(0)
    block = CausalBlock(dim=8, num_heads=2, dropout=0.0).double()
    torchs = nn.TransformerEncoderLayer(8, 2, 32, 0.0, activation="gelu", batch_first=True, norm_first=True).double()
    linears = (block.attention.w_q, block.attention.w_k, block.attention.w_v)
    torchs.self_attn.in_proj_weight.data = torch.cat([linear.weight.data for linear in linears])
    torchs.self_attn.in_proj_bias.data = torch.cat([linear.bias.data for linear in linears])
    torchs.self_attn.out_proj.load_state_dict(block.attention.w_o.state_dict())
    torchs.norm1.load_state_dict(block.attention_norm.state_dict())
    torchs.norm2.load_state_dict(block.feed_forward_norm.state_dict())
    torchs.linear1.load_state_dict(block.feed_forward[0].state_dict())
    torchs.linear2.load_state_dict(block.feed_forward[2].state_dict())
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    later = torch.ones(5, 5, dtype=torch.bool).triu(1)
    torch.testing.assert_close(block(x), torchs(x, src_mask=later))


def test_weights_start_small_biases_and_padding_at_zero_and_norms_at_one():
    torch.manual_seed(0)
    model = SASRec(n_items=200, embedding_dim=32)
    assert model.item_embedding.weight[1:].std().item() == pytest.approx(0.02, rel=0.05)
    assert model.transformer.blocks[0].attention.w_q.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (model.item_embedding.weight[0] == 0).all()
    assert (model.transformer.blocks[0].attention.w_q.bias == 0).all()
    assert (model.transformer.norm.weight == 1).all()


def test_changing_the_last_item_changes_the_user_vector(model):
    first, second = model.user_vectors(torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]]))
    assert (first - second).abs().max() > 1e-2


def test_changing_the_first_item_changes_the_user_vector(model):
    first, second = model.user_vectors(torch.tensor([[1, 2, 3, 4], [6, 2, 3, 4]]))
    assert (first - second).abs().max() > 1e-4


def test_changing_a_later_item_leaves_earlier_states_alone(model):
    before, after = model(torch.tensor([[1, 2, 3, 4]])), model(torch.tensor([[1, 2, 7, 4]]))
    torch.testing.assert_close(before[:, :2], after[:, :2], atol=0, rtol=0)
    assert ((before - after)[:, 2:].abs().amax(-1) > 1e-4).all()


def test_left_padded_and_right_padded_histories_give_equal_vectors(model):
    vectors = model.user_vectors(torch.tensor([[3, 1, 2, 0, 0], [0, 0, 3, 1, 2], [0, 3, 1, 2, 0]]))
    torch.testing.assert_close(vectors[1], vectors[0])
    torch.testing.assert_close(vectors[2], vectors[0])


def test_vectors_do_not_depend_on_how_far_the_batch_is_padded(model):
    alone = model.user_vectors(torch.tensor([[3, 1, 2]]))
    torch.testing.assert_close(model.user_vectors(torch.tensor([[3, 1, 2] + [0] * 9])), alone)


def test_the_user_vector_is_the_state_after_the_last_item(model):
    history = torch.tensor([[3, 1, 2, 0], [5, 0, 0, 0], [0, 0, 7, 8]])
    states = model(history)
    expected = torch.stack([states[0, 2], states[1, 0], states[2, 3]])
    assert torch.equal(model.user_vectors(history), expected)


def test_a_state_equals_the_user_vector_of_its_prefix(model):
    states = model(torch.tensor([[3, 1, 2, 9]]))[0]
    prefixes = torch.tensor([[3, 0, 0, 0], [3, 1, 0, 0], [3, 1, 2, 0], [3, 1, 2, 9]])
    torch.testing.assert_close(states, model.user_vectors(prefixes))


def test_states_of_padding_are_zero(model):
    assert (model(torch.tensor([[0, 3, 1, 0]]))[0, [0, 3]] == 0).all()


def test_a_history_of_padding_alone_gives_finite_scores(model):
    scores = model.scores(torch.tensor([[0, 0, 0], [1, 2, 3]]))
    assert scores[:, 1:].isfinite().all()


def test_the_order_of_items_matters(model):
    first, second = model.user_vectors(torch.tensor([[1, 2, 3], [2, 1, 3]]))
    assert (first - second).abs().max() > 1e-4


def test_scores_are_products_with_the_item_table_and_padding_has_none(model):
    history = torch.tensor([[4, 5, 6]])
    expected = model.item_embedding.weight[1:] @ model.user_vectors(history)[0]
    scores = model.scores(history)[0]
    torch.testing.assert_close(scores[1:], expected)
    assert scores[0] == -torch.inf


def test_a_loss_counts_known_targets_only(model):
    model.log = lambda *arguments, **options: None
    history, target = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([[2, 3, 0], [5, 6, 0]])
    states = model(history)
    known = torch.stack([states[0, 0], states[0, 1], states[1, 0], states[1, 1]])
    # item_ids count from 1
    expected = F.cross_entropy(known @ model.item_embedding.weight[1:].T, torch.tensor([2, 3, 5, 6]) - 1)
    torch.testing.assert_close(model.training_step({"history": history, "target": target}, 0), expected)


@pytest.mark.parametrize(("loss", "sparse"), [("full_softmax", False), ("sampled_softmax", True)])
def test_the_item_table_keeps_its_zero_row_under_training(loss, sparse):
    torch.manual_seed(0)
    model = SASRec(
        n_items=5, embedding_dim=8, num_layers=1, num_heads=1, max_history=4, loss=loss, sparse_items=sparse,
        weight_decay=0.1,
    )  # fmt: skip
    model.log = lambda *arguments, **options: None
    optimizer = model.configure_optimizers()["optimizer"]
    for _ in range(3):
        optimizer.zero_grad()
        model.training_step({"history": torch.tensor([[1, 2, 0]]), "target": torch.tensor([[2, 3, 0]])}, 0).backward()
        optimizer.step()
    assert (model.item_embedding.weight[0] == 0).all()


def test_heads_that_do_not_divide_the_width_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="got 3 and 8"):
        SASRec(n_items=5, embedding_dim=8, num_heads=3)


def test_a_full_softmax_has_no_sparse_step():
    with pytest.raises(ValueError, match="sparse_items needs loss=sampled_softmax"):
        SASRec(n_items=5, embedding_dim=8, num_heads=2, sparse_items=True)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_checkpoint_names_the_sparse_step_where_there_is_one(sparse):
    model = SASRec(n_items=5, embedding_dim=8, num_heads=2, loss="sampled_softmax", sparse_items=sparse)
    assert ("sparse_items" in model.hparams) == sparse


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="'full_softmx'"):
        SASRec(n_items=5, embedding_dim=8, num_heads=2, loss="full_softmx")


@pytest.mark.parametrize(
    ("loss", "sparse"), [("full_softmax", False), ("sampled_softmax", False), ("sampled_softmax", True)]
)
def test_it_learns_a_cycle(loss, sparse):
    torch.manual_seed(0)
    model = SASRec(
        n_items=10, embedding_dim=16, num_layers=1, num_heads=1, dropout=0.0, max_history=8, loss=loss,
        num_negatives=20, learning_rate=0.02, sparse_items=sparse,
    )  # fmt: skip
    model.log = lambda *arguments, **options: None
    # user u goes u, u + 1, u + 2... around the ring of 10 items
    walks = (torch.arange(10)[:, None] + torch.arange(6)) % 10 + 1
    batch = {"history": walks[:, :-1], "target": walks[:, 1:]}
    optimizer = model.configure_optimizers()["optimizer"]
    for _ in range(50):
        optimizer.zero_grad()
        model.training_step(batch, 0).backward()
        optimizer.step()
    with torch.no_grad():
        assert torch.equal(model.scores(walks[:, :3]).argmax(1), walks[:, 3])


def test_a_model_that_learns_repeats_scores_items_of_the_history_by_their_recency():
    torch.manual_seed(0)
    model = SASRec(n_items=9, embedding_dim=8, max_history=12, learns_repeats=True).eval()
    before = model.scores(torch.tensor([[4, 5, 4, 6]]))
    model.repeats.weight.data[:3] = torch.tensor([-0.3, 0.1, 0.2])
    change = model.scores(torch.tensor([[4, 5, 4, 6]])) - before
    expected = torch.tensor([0.0, 0, 0, 1, 2, -3, 0, 0, 0])
    torch.testing.assert_close(change[0, 1:], expected, atol=1e-5, rtol=0)


def test_items_and_positions_are_normalised_before_the_first_block():
    torch.manual_seed(0)
    model = SASRec(n_items=9, embedding_dim=8, max_history=12, input_norm=True).eval()
    entered = []
    model.transformer.blocks[0].register_forward_pre_hook(lambda block, inputs: entered.append(inputs[0]))
    model(torch.tensor([[4, 5, 6]]))
    torch.testing.assert_close(entered[0].mean(-1), torch.zeros(1, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(entered[0].var(-1, unbiased=False), torch.ones(1, 3), atol=0.2, rtol=0)


def test_content_is_added_to_an_items_own_vector_at_the_input_and_at_the_output():
    torch.manual_seed(0)
    model = SASRec(n_items=5, embedding_dim=8, max_history=4, content_dim=3).eval()
    content = torch.randn(6, 3)
    content[0] = 0
    model.set_content(content)
    vectors = model.item_embedding.weight + content @ model.content_projection.weight.T
    plain = SASRec(n_items=5, embedding_dim=8, max_history=4).eval()
    weights = {name: value for name, value in model.state_dict().items() if "content" not in name}
    plain.load_state_dict(weights | {"item_embedding.weight": vectors})
    history = torch.tensor([[3, 1, 0], [2, 5, 4]])
    torch.testing.assert_close(model.scores(history), plain.scores(history))


def test_content_of_another_catalogue_is_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"must be \(6, 3\), got \(5, 3\)"):
        SASRec(n_items=5, embedding_dim=8, num_heads=2, content_dim=3).set_content(torch.zeros(5, 3))
