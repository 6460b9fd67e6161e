"""Tiger as a model: its vocabulary, its losses in both encoders, its generation, and that it learns."""

import pytest
import torch

from genrec.code_table import build_code_table
from genrec.models.tiger import Tiger

CODES, LENGTH, ITEMS = 5, 3, 12


def small(causal=False, **options):
    torch.manual_seed(0)
    settings = {
        "embedding_dim": 16, "num_heads": 2, "num_layers": 1, "attn_dim": 32, "dropout": 0.0, "code_length": LENGTH,
        "n_items": ITEMS, "causal": causal, "max_seq_length": 6 * LENGTH, "learning_rate": 1e-2,
    }  # fmt: skip
    model = Tiger(1 + LENGTH * CODES, **(settings | options))
    codes = torch.randint(0, CODES, (ITEMS, LENGTH - 1), generator=torch.Generator().manual_seed(1))
    model.set_code_table(build_code_table(codes, CODES))
    model.log = lambda *arguments, **options: None
    return model


def test_the_vocabulary_has_a_token_for_padding_and_for_each_code_of_each_level():
    assert small().generator.network.embedding.num_embeddings == 1 + LENGTH * CODES


def test_a_vocabulary_that_no_code_number_gives_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match="vocab_size=17, code_length=3"):
        small().__class__(17, code_length=3)


def test_heads_share_the_width_unless_told_otherwise():
    assert small().generator.network.encoder[0].attention.output.in_features == 16
    assert small(head_dim=64).generator.network.encoder[0].attention.output.in_features == 2 * 64


def test_the_history_that_is_read_is_counted_in_items():
    assert small().max_history == 6


def test_a_window_trains_on_the_item_after_it():
    model = small().eval()
    history, target = torch.tensor([[1, 2, 0], [3, 4, 5]]), torch.tensor([6, 7])
    log_probs = model(history, target[:, None]).log_softmax(-1)
    codes = model.generator.code_table[target].long()
    expected = -log_probs[:, 0].gather(2, codes[..., None]).mean()
    torch.testing.assert_close(model.training_step({"history": history, "target": target}, 0), expected)


def test_a_causal_sequence_trains_on_the_item_after_each_of_its_items():
    model = small(causal=True).eval()
    history, target = torch.tensor([[1, 2, 0], [3, 4, 5]]), torch.tensor([[2, 6, 0], [4, 5, 7]])
    prefixes = [([1], 2), ([1, 2], 6), ([3], 4), ([3, 4], 5), ([3, 4, 5], 7)]
    losses = [
        model.training_step({"history": torch.tensor([prefix]), "target": torch.tensor([item])}, 0)
        for prefix, item in prefixes
    ]
    whole = model.training_step({"history": history, "target": target}, 0)
    torch.testing.assert_close(whole, torch.stack(losses).mean(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_validation_ranks_the_target_among_all_items():
    model, logged = small().eval(), {}
    model.log = lambda name, value, **options: logged.setdefault(name, float(value))
    history = torch.tensor([[1, 2, 3], [4, 5, 0]])
    items = model.generate(history, n_beams=12).items
    # the first user's target is third, the second's first
    target = torch.stack([items[0, 2], items[1, 0]])
    model.validation_step({"history": history, "target": target}, 0)
    assert logged["val_ndcg_at_10"] == pytest.approx((1 / 2 + 1) / 2)
    assert logged["val_recall_at_10"] == 1


@torch.no_grad()
def test_an_item_beyond_the_tenth_place_is_no_hit():
    model, logged = small().eval(), {}
    model.log = lambda name, value, **options: logged.setdefault(name, float(value))
    history = torch.tensor([[1, 2, 3]])
    eleventh = model.generate(history, n_beams=12).items[:, 10]
    model.validation_step({"history": history, "target": eleventh}, 0)
    assert (logged["val_ndcg_at_10"], logged["val_recall_at_10"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("causal", [True, False])
def test_it_learns_which_item_follows_which(causal):
    model = small(causal)
    walks = (torch.arange(ITEMS)[:, None] + torch.arange(4)) % ITEMS + 1
    target = walks[:, 1:] if causal else walks[:, 3]
    optimizer = torch.optim.AdamW(model.parameters(), lr=model.learning_rate)
    for _ in range(60):
        optimizer.zero_grad()
        model.training_step({"history": walks[:, :3], "target": target}, 0).backward()
        optimizer.step()
    model.eval()
    hits = model.generate(walks[:, :3], n_beams=5).items[:, 0] == walks[:, 3]
    # by chance one of twelve
    assert hits.sum() >= 8
