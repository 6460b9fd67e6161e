"""Tiger as a model: its vocabulary, its losses in both encoders, its generation, and that it learns."""

import pytest
import torch
import torch.nn.functional as F

from genrec.codes.code_table import build_code_table
from genrec.generation.generator import BeamDecoder
from genrec.models.tiger import Tiger
from genrec.networks.generating.tiger import TigerNetwork
from genrec.storage.checkpoint import load_model, save_model

CODES, LENGTH, ITEMS = 5, 3, 12


def small(causal=False, **options):
    torch.manual_seed(0)
    settings = {
        "embedding_dim": 16, "num_heads": 2, "num_layers": 1, "attn_dim": 32, "dropout": 0.0, "code_length": LENGTH,
        "n_items": ITEMS, "causal": causal, "max_seq_length": 6 * LENGTH, "learning_rate": 1e-2,
    }  # fmt: skip
    model = Tiger(1 + LENGTH * CODES, **(settings | options))
    random = torch.Generator().manual_seed(1)
    codes = torch.randint(0, CODES, (model.hparams["n_items"], LENGTH - 1), generator=random)
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
    log_probs = model.generator(history, target[:, None]).log_softmax(-1)
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


def test_items_are_told_apart_beside_their_codes():
    model = small(itemwise=True, item_vectors=True, dense_loss_weight=0.5, num_negatives=0).eval()
    history, target = torch.tensor([[1, 2, 0], [3, 4, 5]]), torch.tensor([[2, 6, 0], [4, 5, 7]])
    memory, _, logits = model.generator.read(history, target)
    vectors, known = model.generator.network.item_embedding.weight[1:], target != 0
    dense = F.cross_entropy(memory[known] @ vectors.T, target[known] - 1)
    loss = model.training_step({"history": history, "target": target}, 0)
    torch.testing.assert_close(loss, model.generator.code_loss(logits, target) + 0.5 * dense)
    # a window has the last position alone
    window = model.training_step({"history": history, "target": torch.tensor([6, 7])}, 0)
    last = model.generator.read(history, torch.tensor([[6], [7]]))[2]
    dense = F.cross_entropy(torch.stack([memory[0, 1], memory[1, 2]]) @ vectors.T, torch.tensor([5, 6]))
    torch.testing.assert_close(window, model.generator.code_loss(last, torch.tensor([[6], [7]])) + 0.5 * dense)


def test_a_loss_over_items_without_their_vectors_is_refused():
    with pytest.raises(ValueError, match="dense_loss_weight needs item_vectors=True"):
        small(itemwise=True, dense_loss_weight=1.0)


def test_a_checkpoint_of_items_and_codes_is_read_by_the_network_alone(tmp_path):
    model = small(itemwise=True, item_vectors=True, learns_repeats=True, dense_loss_weight=1.0).eval()
    torch.nn.init.normal_(model.generator.repeats.weight)
    save_model(model, tmp_path / "tiger.ckpt")
    network = load_model(TigerNetwork, tmp_path / "tiger.ckpt", n_items=ITEMS)
    found, expected = (one.generator.generate(HISTORY, ITEMS) for one in (network, model))
    assert torch.equal(found.items, expected.items)
    assert torch.equal(found.log_probs, expected.log_probs)


def test_a_small_world_is_learned_item_by_item_and_with_one_seed_alike():
    # item i is followed by i + 1
    walks = (torch.arange(64)[:, None] + torch.arange(6)) % ITEMS + 1

    def trained():
        model = small(itemwise=True, item_vectors=True, dense_loss_weight=1.0, learns_repeats=True, dropout=0.1)
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(40):
            optimizer.zero_grad()
            model.training_step({"history": walks[:, :5], "target": walks[:, 1:]}, 0).backward()
            optimizer.step()
        return model.eval()

    model = trained()
    assert torch.equal(model.generator.generate(walks[:12, :5], 3).items[:, 0], walks[:12, 5])
    again = trained().state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_what_a_narrow_search_misses_is_no_hit():
    model, logged = small(n_beams=1).eval(), {}
    model.log = lambda name, value, **options: logged.setdefault(name, float(value))
    history = torch.tensor([[1, 2, 3]])
    best = model.generator.generate(history, 1).items[0]
    model.validation_step({"history": history, "target": best % ITEMS + 1}, 0)
    assert (logged["val_ndcg_at_10"], logged["val_recall_at_10"]) == (0, 0)


@torch.no_grad()
def test_validation_ranks_the_target_among_all_items():
    model, logged = small().eval(), {}
    model.log = lambda name, value, **options: logged.setdefault(name, float(value))
    history = torch.tensor([[1, 2, 3], [4, 5, 0]])
    items = model.generator.generate(history, n_beams=12).items
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
    eleventh = model.generator.generate(history, n_beams=12).items[:, 10]
    model.validation_step({"history": history, "target": eleventh}, 0)
    assert (logged["val_ndcg_at_10"], logged["val_recall_at_10"]) == (0, 0)


@torch.no_grad()
def test_testing_logs_what_validating_does():
    # the documents' trainer tests the model after training, and Lightning raises without a test step
    model, logged = small().eval(), {}
    model.log = lambda name, value, **options: logged.setdefault(name, float(value))
    batch = {"history": torch.tensor([[1, 2, 3]]), "target": torch.tensor([4])}
    model.validation_step(batch, 0)
    model.test_step(batch, 0)
    for name in ("loss", "ndcg_at_10", "recall_at_10"):
        assert logged[f"test_{name}"] == logged[f"val_{name}"]


HISTORY = torch.tensor([[1, 2, 3], [4, 5, 0]])


def tokens_of(model, items):
    return model.generator.tokens[items].flatten(1)


class TestTokens:
    @pytest.mark.parametrize("causal", [True, False])
    def test_a_batch_of_tokens_trains_as_its_items_do(self, causal):
        model, target = small(causal).eval(), torch.tensor([6, 7])
        tokens = {"input_ids": tokens_of(model, HISTORY), "labels": model.generator.tokens[target]}
        expected = model.training_step({"history": HISTORY, "target": target}, 0)
        torch.testing.assert_close(model.training_step(tokens, 0), expected, rtol=0, atol=0)

    def test_code_zero_is_no_padding(self):
        # page 000 takes every id of 0 for padding, and with it an item whose code is 0
        model = small()
        model.set_code_table(torch.tensor([[-1] * LENGTH] + [[0, 0, code] for code in range(CODES)] + [[1, 1, 0]] * 7))
        assert (model.generator.code_table[1] == 0).all()
        assert model.items_of(tokens_of(model, torch.tensor([[1, 1, 2, 0]]))).tolist() == [[1, 1, 2, 0]]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda tokens: tokens[:, :-1], "an item has 3 tokens, got a length of 8"),
            (lambda tokens: tokens.index_fill(1, torch.tensor(1), 0), r"must spell items .*, got \[\d+, 0, \d+\]"),
            (lambda tokens: tokens.flip(1), "must spell items of the code table"),
            (lambda tokens: tokens.roll(LENGTH, 1), "padding must stand on the right"),
        ],
        ids=["half an item", "a code missing", "the wrong order", "padding on the left"],
    )
    def test_tokens_that_are_no_items_are_refused(self, change, message):
        model = small()
        with pytest.raises(ValueError, match=message):
            model.items_of(change(tokens_of(model, HISTORY)))


class TestForward:
    @torch.no_grad()
    @pytest.mark.parametrize("causal", [True, False])
    def test_gives_the_logits_of_the_token_after_each(self, causal):
        model = small(causal).eval()
        tokens = tokens_of(model, HISTORY)
        logits = model(tokens)
        assert logits.shape == (2, 3 * LENGTH, 1 + LENGTH * CODES)
        # token by token, from the loss of an item behind its own history
        for user, place, target in [(0, 0, 2), (0, 1, 3), (1, 0, 5)]:
            expected = model.generator(HISTORY[user : user + 1, : place + 1], torch.tensor([[target]]))[0, 0]
            for level in range(LENGTH):
                row = logits[user, (place + 1) * LENGTH + level - 1]
                first = 1 + level * CODES
                torch.testing.assert_close(row[first : first + CODES], expected[level], atol=1e-5, rtol=1e-5)
                assert (row > -torch.inf).sum() == CODES

    @torch.no_grad()
    @pytest.mark.parametrize("causal", [True, False])
    def test_tells_the_best_first_code_of_what_comes_next(self, causal):
        model = small(causal).eval()
        following = model(tokens_of(model, HISTORY[:1]))[0, -1, 1 : 1 + CODES].log_softmax(-1)
        decoder = BeamDecoder(model.generator.network, model.generator.tokens[HISTORY[:1]])
        torch.testing.assert_close(following, decoder.start()[0, 0], atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_does_not_see_what_comes_later(self):
        model = small().eval()
        first, other = HISTORY[:1], torch.tensor([[1, 2, 9]])
        # the token after the last of the second item is that item's successor's first
        same = 2 * LENGTH
        torch.testing.assert_close(model(tokens_of(model, first))[:, :same], model(tokens_of(model, other))[:, :same])

    @torch.no_grad()
    def test_takes_what_is_masked_for_padding(self):
        model = small().eval()
        tokens = tokens_of(model, torch.tensor([[4, 5, 9]]))
        mask = torch.ones(1, 3 * LENGTH)
        mask[:, 2 * LENGTH :] = 0
        expected = model(tokens_of(model, HISTORY[1:]))
        torch.testing.assert_close(model(tokens, mask), expected, rtol=0, atol=0)


def entropy_of_categories(items, category):
    """The mean over users of the entropy, in nats, of their items' categories."""
    shares = torch.stack([(category[items] == one).double().mean(1) for one in category[1:].unique()])
    return -torch.xlogy(shares, shares).sum(0).mean().item()


def sampled(model, history, seed=0, **options):
    return model.generate(tokens_of(model, history), random=torch.Generator().manual_seed(seed), **options)


class TestGenerate:
    def test_is_the_beam_search_by_default(self):
        model = small().eval()
        found, expected = model.generate(tokens_of(model, HISTORY)), model.generator.generate(HISTORY, 20)
        assert torch.equal(found.items, expected.items)
        assert torch.equal(found.log_probs, expected.log_probs)

    def test_a_sample_repeats_with_its_seed_and_differs_with_another(self):
        model = small().eval()
        first, again, other = (sampled(model, HISTORY.repeat(20, 1), seed, n_beams=5).items for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_a_sample_has_different_items_of_the_catalogue(self):
        model = small().eval()
        for row in sampled(model, HISTORY.repeat(20, 1), n_beams=7, temperature=1.5).items.tolist():
            assert len(set(row)) == 7
            assert set(row) <= set(range(1, ITEMS + 1))

    def test_a_cut_leaves_fewer_items_and_says_so(self):
        model = small().eval()
        found = model.generate(tokens_of(model, HISTORY), top_k=1)
        assert (found.items != 0).sum(1).tolist() == [1, 1]
        assert (found.log_probs[:, 0] == 0).all()
        assert (found.log_probs[:, 1:] == -torch.inf).all()

    def test_a_nucleus_is_passed_on(self):
        # page 000's trainer has generation_top_p and gives it to nobody
        model = small().eval()
        narrow, wide = (model.generate(tokens_of(model, HISTORY), top_p=top_p).items for top_p in (0.2, 1.0))
        assert ((narrow != 0).sum(1) < (wide != 0).sum(1)).all()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"max_length": 2}, "max_length must be at least the 3 tokens of an item, got 2"),
            ({"temperature": 0.0}, "temperature must be above 0"),
            ({"top_k": 0}, "top_k must be at least 1"),
            ({"top_p": 2.0}, "top_p must be above 0 and at most 1"),
        ],
    )
    def test_what_can_not_be_generated_is_refused(self, options, message):
        model = small().eval()
        with pytest.raises(ValueError, match=message):
            model.generate(tokens_of(model, HISTORY), **options)

    @pytest.mark.slow
    def test_categories_become_more_diverse_with_temperature(self):
        n_categories, of_each = 5, 12
        category = torch.cat([torch.tensor([-1]), torch.arange(n_categories).repeat_interleave(of_each)])
        model = small(n_items=n_categories * of_each, max_seq_length=3 * LENGTH)
        second = torch.arange(n_categories * of_each) % of_each % CODES
        model.set_code_table(build_code_table(torch.stack([category[1:], second], 1), CODES))
        # users stay in their category nine times of ten
        random = torch.Generator().manual_seed(0)
        home = torch.randint(0, n_categories, (256, 1), generator=random)
        away = torch.rand(256, 4, generator=random) < 0.1
        where = torch.where(away, torch.randint(0, n_categories, (256, 4), generator=random), home)
        walks = where * of_each + torch.randint(0, of_each, (256, 4), generator=random) + 1
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            model.training_step({"history": walks[:, :3], "target": walks[:, 3]}, 0).backward()
            optimizer.step()
        model.eval()
        entropies = [
            entropy_of_categories(sampled(model, walks[:, :3], n_beams=10, temperature=t).items, category)
            for t in (0.5, 1.0, 1.5, 2.0)
        ]
        assert all(later > earlier + 0.1 for earlier, later in zip(entropies, entropies[1:], strict=False))
        assert entropies[-1] < torch.tensor(float(n_categories)).log()


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
    hits = model.generator.generate(walks[:, :3], n_beams=5).items[:, 0] == walks[:, 3]
    # by chance one of twelve
    assert hits.sum() >= 8
