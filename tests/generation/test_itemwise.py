"""A trunk over items and a decoder over codes: what each may see, one pass for all positions, and the beams' memory."""

import pytest
import torch
import torch.nn.functional as F

from genrec.generation.itemwise import ItemwiseGenerator

CODES, LENGTH, DIM, ITEMS = 5, 3, 12, 9


def network(n_items=0, dropout=0.0):
    """A small network with weights so large that positions and codes matter, in float64."""
    torch.manual_seed(0)
    net = ItemwiseGenerator(CODES, LENGTH, DIM, 2, 4, 16, 2, dropout, dropout, n_items).double()
    for name, parameter in net.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return net


def histories(batch, items, seed=0, n_items=0):
    """(batch, items, LENGTH) tokens, and the item_ids behind them where there are n_items."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, CODES, (batch, items, LENGTH), generator=random) + torch.arange(LENGTH) * CODES + 1
    ids = torch.randint(1, n_items + 1, (batch, items, 1), generator=random) if n_items else tokens[..., :0]
    return torch.cat([tokens, ids], 2)


@pytest.fixture(params=[0, ITEMS], ids=["codes alone", "items have vectors"])
def n_items(request):
    return request.param


def test_all_positions_in_one_pass_equal_one_pass_for_each_prefix(n_items):
    net, tokens, targets = network(n_items), histories(2, 6, n_items=n_items), histories(2, 6, seed=1)
    each = [net(tokens[:, : i + 1], targets[:, i : i + 1]) for i in range(6)]
    torch.testing.assert_close(net(tokens, targets), torch.cat(each, 1))


def test_a_later_item_changes_nothing_before_it_and_everything_behind(n_items):
    net, tokens = network(n_items), histories(1, 5, n_items=n_items)
    changed = tokens.clone()
    changed[0, 3] = histories(1, 1, seed=9, n_items=n_items)[0, 0]
    before, after = net.encode(tokens), net.encode(changed)
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=0)
    assert ((before[:, 3:] - after[:, 3:]).abs().amax(2) > 1e-3).all()


def test_the_logits_of_a_level_know_the_codes_above_it_only():
    net, tokens, target = network(), histories(1, 3), histories(1, 1, seed=1)
    changed = target.clone()
    changed[0, 0, 1] = CODES + 1 + (target[0, 0, 1] - CODES) % CODES
    before, after = net(tokens, target), net(tokens, changed)
    torch.testing.assert_close(before[:, :, :2], after[:, :, :2], rtol=0, atol=0)
    assert (before[:, :, 2] - after[:, :, 2]).abs().max() > 1e-3


def test_logits_do_not_depend_on_how_far_the_batch_is_padded(n_items):
    net, tokens, target = network(n_items), histories(2, 3, n_items=n_items), histories(2, 1, seed=1)
    torch.testing.assert_close(net(F.pad(tokens, (0, 0, 0, 4)), target), net(tokens, target))


def test_an_item_is_one_position_and_the_order_of_its_codes_is_none_of_the_trunks():
    net, tokens = network(), histories(2, 4)
    states = net.encode(tokens)
    assert states.shape == (2, 4, DIM)
    torch.testing.assert_close(net.encode(tokens.flip(2)), states)


def test_the_order_of_the_history_matters():
    net, tokens, target = network(), histories(1, 4), histories(1, 1, seed=1)
    assert (net(tokens, target) - net(tokens.flip(1), target)).abs().max() > 1e-3


def test_items_of_equal_codes_differ_by_their_own_vectors():
    net, tokens, target = network(ITEMS), histories(1, 2, n_items=ITEMS), histories(1, 1, seed=1)
    other = tokens.clone()
    other[0, 1, LENGTH] = tokens[0, 1, LENGTH] % ITEMS + 1
    assert (net(tokens, target) - net(other, target)).abs().max() > 1e-3


def test_the_first_level_can_be_decoded_alone():
    net, tokens, target = network(), histories(2, 3), histories(2, 1, seed=1)
    torch.testing.assert_close(net.read(tokens, target[..., :1])[1], net.read(tokens, target)[1][:, :, :1])


def test_trunk_and_decoder_drop_out_each_by_its_own_rate():
    tokens, target = histories(2, 3), histories(2, 1, seed=1)
    net = network(dropout=0.5)
    assert not torch.equal(net.encode(tokens), net.encode(tokens))
    states = net.eval().encode(tokens)[:, -1:]
    assert torch.equal(net.decode(states, target), net.decode(states, target))
    net.train()
    assert not torch.equal(net.decode(states, target), net.decode(states, target))


def test_beams_inherit_their_parents_memory(n_items):
    net, tokens = network(n_items).eval(), histories(2, 3, n_items=n_items)
    first, parents, second = (
        torch.tensor([[0, 3], [4, 1]]),
        torch.tensor([[1, 1], [1, 0]]),
        torch.tensor([[2, 0], [2, 3]]),
    )
    with torch.no_grad():
        decoder = net.beam_decoder(tokens)
        start = decoder.start()
        one = decoder.advance(torch.zeros(2, 2, dtype=torch.long), first)
        two = decoder.advance(parents, second)
        prefix = torch.stack([first.gather(1, parents), second, torch.zeros_like(second)], 2)
        prefix = prefix + torch.arange(LENGTH) * CODES + 1
        expected = torch.cat([net(tokens, prefix[:, i : i + 1]).log_softmax(-1) for i in range(2)], 1)
    torch.testing.assert_close(start, expected[:, :1, 0])
    torch.testing.assert_close(one.gather(1, parents[..., None].expand(-1, -1, CODES)), expected[:, :, 1])
    torch.testing.assert_close(two, expected[:, :, 2])
