"""Parallel semantic IDs: scores by brute force from the digits' tables, ranking in parts, and digits by themselves."""

import pytest
import torch

from genrec.errors import UserError
from genrec.networks import digit_decoding
from genrec.networks.digit_decoding import DigitSearch, best_items
from genrec.networks.generating.parallel import ParallelNetwork
from genrec.retrieval.ranks import top_items

N_ITEMS, DIGITS, CODES = 40, 4, 6
HISTORY = torch.tensor([[3, 5, 9, 5, 0], [40, 1, 2, 8, 30], [7, 0, 0, 0, 0]])


def drawn_digits(seed=0):
    codes = torch.randint(CODES, (N_ITEMS, DIGITS), generator=torch.Generator().manual_seed(seed))
    codes[11] = codes[4]  # items 12 and 5 share all digits
    return torch.cat([torch.full((1, DIGITS), -1), codes])


def network(**options):
    """Weights so large that every digit matters, in float64, and repeats that do too."""
    torch.manual_seed(0)
    settings = {"embedding_dim": 8, "num_layers": 1, "num_heads": 2, "dropout": 0.0, "max_history": 6}
    network = ParallelNetwork(N_ITEMS, DIGITS, CODES, **(settings | options)).double().eval()
    network.set_digits(drawn_digits())
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def by_hand(network, history):
    """Each digit's logits in the scale of items, averaged; then the bias of the last time that an item was taken."""
    logits = network.digit_logits(network.user_vectors(history)) / network.log_digit_scale.exp()
    scores = torch.full((len(history), N_ITEMS + 1), -torch.inf, dtype=torch.float64)
    for user in range(len(history)):
        for item in range(1, N_ITEMS + 1):
            codes = network.digits[item].tolist()
            scores[user, item] = sum(logits[user, digit, code] for digit, code in enumerate(codes)) / DIGITS
        taken = [item for item in history[user].tolist() if item]
        for item in set(taken) if network.repeats is not None else ():
            scores[user, item] += network.repeats(torch.tensor(taken[::-1].index(item)))
    return scores


@pytest.mark.parametrize("learns_repeats", [True, False])
@torch.no_grad()
def test_scores_are_means_of_the_digits_logits(learns_repeats):
    model = network(learns_repeats=learns_repeats)
    torch.testing.assert_close(model.scores(HISTORY), by_hand(model, HISTORY))


@torch.no_grad()
def test_scores_follow_the_weights_and_the_digits_that_they_are_made_of():
    """Items' vectors are kept between calls: other weights and other digits must be seen."""
    model = network()
    model.scores(HISTORY)
    model.load_state_dict(
        {name: 2 * value for name, value in network().state_dict().items()} | {"digits": drawn_digits()}
    )
    torch.testing.assert_close(model.scores(HISTORY), by_hand(model, HISTORY))
    model.set_digits(drawn_digits(seed=1))
    torch.testing.assert_close(model.scores(HISTORY), by_hand(model, HISTORY))
    model.float()
    torch.testing.assert_close(model.scores(HISTORY), by_hand(model, HISTORY).float())


def test_scores_of_a_model_that_was_made_where_no_gradient_can_be():
    """They raised: such weights count no versions, by which their change was to be seen; evaluations load them so."""
    with torch.inference_mode():
        model = network()
        torch.testing.assert_close(model.scores(HISTORY), by_hand(model, HISTORY))


def test_scores_follow_the_steps_of_a_fused_optimizer():
    """They did not: such an optimizer changes weights without raising the version by which torch counts changes, so
    that every epoch was validated with the items' vectors of the first."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5, fused=True)
    for _ in range(2):
        model.train()
        model.user_vectors(HISTORY).square().sum().backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            torch.testing.assert_close(model.scores(HISTORY), by_hand(model, HISTORY))


@pytest.mark.parametrize("part", [1, 7, 41, 100])
@torch.no_grad()
def test_ranking_in_parts_is_the_exact_ranking(monkeypatch, part):
    model = network()
    expected = top_items(model.scores(HISTORY), 10)
    monkeypatch.setattr(digit_decoding, "CHUNK_ITEMS", part)
    found = best_items(model, HISTORY, 10)
    assert torch.equal(found.items, expected)
    torch.testing.assert_close(found.log_probs, model.scores(HISTORY).gather(1, expected))


@torch.no_grad()
def test_of_items_that_share_all_digits_the_lower_item_id_stands_first(monkeypatch):
    model = network(learns_repeats=False)
    monkeypatch.setattr(digit_decoding, "CHUNK_ITEMS", 8)
    for items in best_items(model, HISTORY, N_ITEMS).items.tolist():
        assert items.index(12) == items.index(5) + 1


@torch.no_grad()
def test_of_a_history_longer_than_trained_on_the_last_items_are_read():
    model = network()
    long = torch.tensor([[40, 17, 3, 5, 9, 5, 1, 2, 0]])
    torch.testing.assert_close(model.scores(long), model.scores(torch.tensor([[3, 5, 9, 5, 1, 2]])))
    assert torch.equal(best_items(model, long, 9).items, best_items(model, torch.tensor([[3, 5, 9, 5, 1, 2]]), 9).items)


@torch.no_grad()
def test_a_list_longer_than_the_catalogue_ends_in_zeros():
    items = best_items(network(), HISTORY, N_ITEMS + 3).items
    assert sorted(items[0].tolist()) == [0, 0, 0, *range(1, N_ITEMS + 1)]
    assert (items[:, -3:] == 0).all()


@torch.no_grad()
def test_a_search_with_as_many_beams_as_items_orders_them_by_their_digits_alone():
    model = network(learns_repeats=False)
    found = DigitSearch(model).generate(HISTORY, N_ITEMS)
    log_probs = model.digit_logits(model.user_vectors(HISTORY)).log_softmax(-1)
    digits = model.digits[found.items].long()  # (users, items, digits)
    expected = log_probs[torch.arange(3)[:, None, None], torch.arange(DIGITS), digits].sum(2)
    torch.testing.assert_close(found.log_probs, expected)
    assert (found.log_probs.diff(dim=1) <= 1e-12).all()
    assert all(sorted(items) == list(range(1, N_ITEMS + 1)) for items in found.items.tolist())
    # without repeats the order is that of the scores, as normalisers are the same for all items
    scores = model.scores(HISTORY).gather(1, found.items)
    assert (scores.diff(dim=1) <= 1e-12).all()


@torch.no_grad()
def test_an_unconstrained_search_finds_the_likeliest_digits_whether_or_not_an_item_has_them():
    model = network()
    found = DigitSearch(model).generate(HISTORY, 5, constrained=False)
    likeliest = model.digit_logits(model.user_vectors(HISTORY)).argmax(-1)
    expected = [(model.digits[1:] == digits).all(1).nonzero()[:1, 0] + 1 for digits in likeliest]
    assert found.items[:, 0].tolist() == [int(items.sum()) for items in expected]


@torch.no_grad()
def test_an_item_is_the_mean_of_its_digits_vectors_and_padding_is_zero():
    model = network()
    codebooks = model.codebooks.view(DIGITS, CODES, -1)
    expected = torch.stack([codebooks[digit, code] for digit, code in enumerate(model.digits[9].tolist())]).mean(0)
    vectors = model.item_vectors(torch.tensor([[9, 0]]))
    torch.testing.assert_close(vectors[0, 0], expected)
    assert (vectors[0, 1] == 0).all()


@pytest.mark.parametrize("digits", [drawn_digits()[:-1], drawn_digits().clamp_min(0) + 1])
def test_digits_of_another_catalogue_or_beyond_the_codes_are_refused(digits):
    with pytest.raises(ValueError, match=r"must be \(41, 4\) of codes below 6, got"):
        network().set_digits(digits)


@pytest.mark.parametrize("search", [best_items, lambda model, history, k: DigitSearch(model).generate(history, k)])
def test_a_diverged_model_is_refused_and_not_searched(search):
    model = network()
    torch.nn.init.constant_(model.codebooks, torch.nan)
    with pytest.raises(UserError, match="must be numbers, but .* are NaN; the model diverged"):
        search(model, HISTORY, 5)
