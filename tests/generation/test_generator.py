"""The encoder-decoder: causality, padding, all positions in one pass, and the beam decoder's memory."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from genrec.generation.generator import BeamDecoder, SemanticIdGenerator

CODES, LENGTH, DIM = 5, 3, 12


def network(causal, dropout=0.0, seed=0):
    """A small network with weights so large that positions and codes matter, in float64."""
    torch.manual_seed(seed)
    net = SemanticIdGenerator(
        CODES, LENGTH, DIM, num_heads=2, head_dim=4, attn_dim=16, num_layers=2, dropout=dropout, causal=causal
    ).double()
    for name, parameter in net.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.5)
    net.embedding.weight.data[0] = 0
    return net


def histories(batch, items, seed=0):
    """(batch, items, LENGTH) tokens."""
    codes = torch.randint(0, CODES, (batch, items, LENGTH), generator=torch.Generator().manual_seed(seed))
    return codes + torch.arange(LENGTH) * CODES + 1


def pad(tokens, items):
    return F.pad(tokens, (0, 0, 0, items))


def gradients(net, loss):
    net.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in net.named_parameters()}


def cross_entropy(logits, targets):
    codes = (targets - 1) % CODES
    return F.cross_entropy(logits.flatten(0, 2), codes.flatten(), reduction="sum")


def test_all_positions_in_one_pass_equal_one_pass_for_each_prefix():
    net, tokens, targets = network(causal=True), histories(2, 6), histories(2, 6, seed=1)
    each = [net(tokens[:, : i + 1], targets[:, i : i + 1]) for i in range(6)]
    torch.testing.assert_close(net(tokens, targets), torch.cat(each, 1), atol=1e-5, rtol=0)


def test_the_gradient_of_one_pass_is_the_sum_of_those_of_the_prefixes():
    net, tokens, targets = network(causal=True), histories(2, 6), histories(2, 6, seed=1)
    whole = gradients(net, cross_entropy(net(tokens, targets), targets))
    losses = [cross_entropy(net(tokens[:, : i + 1], targets[:, i : i + 1]), targets[:, i : i + 1]) for i in range(6)]
    torch.testing.assert_close(whole, gradients(net, sum(losses)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_logits_do_not_depend_on_how_far_the_batch_is_padded(causal):
    # such a mask as garbage, without a word
    net, tokens, target = network(causal), histories(2, 3), histories(2, 1, seed=1)
    expected = net(tokens, target)
    for items in (1, 4, 30):
        torch.testing.assert_close(net(pad(tokens, items), target), expected)


def test_logits_of_all_positions_do_not_depend_on_how_far_the_batch_is_padded():
    net, tokens, targets = network(causal=True), histories(2, 3), histories(2, 3, seed=1)
    expected = net(tokens, targets)
    torch.testing.assert_close(net(pad(tokens, 5), pad(targets, 5))[:, :3], expected)


@pytest.mark.parametrize("causal", [True, False])
def test_a_row_does_not_depend_on_the_other_rows(causal):
    net, target = network(causal), histories(3, 1, seed=1)
    rows = [histories(1, items, seed=items) for items in (2, 4, 3)]
    batch = torch.cat([pad(row, 4 - row.shape[1]) for row in rows])
    alone = torch.cat([net(row, target[i : i + 1]) for i, row in enumerate(rows)])
    torch.testing.assert_close(net(batch, target), alone)


def test_a_causal_state_knows_nothing_of_later_tokens():
    net, tokens = network(causal=True), histories(1, 5)
    changed = tokens.clone()
    changed[0, 3] = histories(1, 1, seed=9)[0, 0]
    before, after = net.encode(tokens), net.encode(changed)
    assert torch.equal(before[:, : 3 * LENGTH], after[:, : 3 * LENGTH])
    assert not torch.allclose(before[:, 4 * LENGTH :], after[:, 4 * LENGTH :])


def test_a_bidirectional_state_knows_later_tokens():
    net, tokens = network(causal=False), histories(1, 5)
    changed = tokens.clone()
    changed[0, 4] = histories(1, 1, seed=9)[0, 0]
    assert (net.encode(tokens)[:, 0] - net.encode(changed)[:, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("causal", [True, False])
def test_the_logits_of_a_level_know_the_codes_above_it_only(causal):
    net, tokens, target = network(causal), histories(1, 3), histories(1, 1, seed=1)
    changed = target.clone()
    changed[0, 0, 1] = CODES + 1 + (target[0, 0, 1] - CODES) % CODES
    before, after = net(tokens, target), net(tokens, changed)
    torch.testing.assert_close(before[:, :, :2], after[:, :, :2], atol=0, rtol=0)
    assert (before[:, :, 2] - after[:, :, 2]).abs().max() > 1e-3


@pytest.mark.parametrize("causal", [True, False])
def test_the_first_level_can_be_decoded_alone(causal):
    net, tokens, target = network(causal), pad(histories(2, 3), 2), histories(2, 1, seed=1)
    memory, first = net.encode(tokens), target[..., :1]
    whole = net.decode(memory, net.bias_of_memory(tokens, target), target)
    torch.testing.assert_close(net.decode(memory, net.bias_of_memory(tokens, first), first), whole[:, :, :1])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padding", [0, 2])
def test_without_a_gradient_all_attention_runs_in_torchs_fused_kernel(causal, padding):
    # which takes biases of four dimensions only, and leaves others to a slower formula without a word
    net, tokens, target = network(causal), pad(histories(2, 3), padding), histories(2, 1, seed=1)
    with torch.no_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        fused = net(tokens, target)
    torch.testing.assert_close(fused, net(tokens, target).detach())


@pytest.mark.parametrize("causal", [True, False])
def test_the_order_of_the_history_matters(causal):
    net, tokens, target = network(causal), histories(1, 4), histories(1, 1, seed=1)
    assert (net(tokens, target) - net(tokens.flip(1), target)).abs().max() > 1e-3


def test_a_causal_decoder_knows_how_many_items_ago_a_memory_stands():
    net, tokens, target = network(causal=True), histories(1, 4), histories(1, 1, seed=1)
    before = net(tokens, target)
    net.memory_bias.bias.weight.data[2] += 3
    assert (net(tokens, target) - before).abs().max() > 1e-3
    # a history of two items has none that stands two items ago
    short = net(tokens[:, :2], target)
    net.memory_bias.bias.weight.data[2] -= 3
    torch.testing.assert_close(net(tokens[:, :2], target), short)


def test_the_logits_are_the_states_times_the_vectors_that_encode_the_codes():
    net, tokens, target = network(causal=False), histories(2, 3), histories(2, 1, seed=1)
    states = net.decode(net.encode(tokens), None, target)
    for level, code in itertools.product(range(LENGTH), range(CODES)):
        vector = net.embedding.weight[1 + level * CODES + code]
        torch.testing.assert_close(net(tokens, target)[:, 0, level, code], states[:, 0, level] @ vector)


def test_padding_has_the_zero_vector_and_keeps_it():
    net, tokens, target = network(causal=False), pad(histories(2, 2), 2), histories(2, 1, seed=1)
    assert (net.embedding.weight[0] == 0).all()
    assert (gradients(net, net(tokens, target).sum())["embedding.weight"][0] == 0).all()


def test_weights_are_drawn_from_a_narrow_normal_distribution_and_norms_are_one():
    torch.manual_seed(0)
    net = SemanticIdGenerator(64, 4, 64, 4, 16, 256, 2, 0.1, causal=True)
    for name, parameter in net.named_parameters():
        if "norm" in name:
            assert (parameter == 1).all(), name
        elif parameter.numel() > 1000:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name


def test_training_drops_out_and_evaluation_does_not():
    net, tokens, target = network(causal=False, dropout=0.5), histories(2, 3), histories(2, 1, seed=1)
    assert not torch.equal(net(tokens, target), net(tokens, target))
    net.eval()
    assert torch.equal(net(tokens, target), net(tokens, target))


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_a_padded_history_can_be_read_in_the_networks_own_precision(precision):
    net, tokens, target = network(causal=False).to(precision), pad(histories(2, 3), 1), histories(2, 1, seed=1)
    with torch.no_grad():
        assert net(tokens, target).dtype == precision


def decoded_step_by_step(net, tokens, beams):
    """The beam decoder's answers along given beams, (batch, n_beams, LENGTH) codes, each its own parent."""
    decoder = BeamDecoder(net, tokens)
    n_beams = beams.shape[1]
    answers = [decoder.start().expand(-1, n_beams, -1)]
    parents = torch.zeros(beams.shape[:2], dtype=torch.long)
    for level in range(LENGTH - 1):
        answers.append(decoder.advance(parents, beams[..., level]))
        parents = torch.arange(n_beams).expand(beams.shape[:2])
    return torch.stack(answers, 2)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("batch", [1, 3, 5])
def test_the_beam_decoders_steps_equal_decoding_each_prefix_anew(causal, batch):
    net = network(causal).eval()
    tokens = torch.cat([pad(histories(1, 1 + i % 3, seed=i), 2 - i % 3) for i in range(batch)])
    beams = torch.randint(0, CODES, (batch, 4, LENGTH), generator=torch.Generator().manual_seed(0))
    targets = beams + torch.arange(LENGTH) * CODES + 1
    with torch.no_grad():
        answers = decoded_step_by_step(net, tokens, beams)
        expected = torch.cat([net(tokens, targets[:, i : i + 1]) for i in range(4)], 1).log_softmax(-1)
    torch.testing.assert_close(answers, expected)


def test_beams_inherit_their_parents_memory():
    net, tokens = network(causal=False).eval(), histories(2, 3)
    first = torch.tensor([[0, 3], [4, 1]])
    parents, second = torch.tensor([[1, 1], [1, 0]]), torch.tensor([[2, 0], [2, 3]])
    with torch.no_grad():
        decoder = BeamDecoder(net, tokens)
        decoder.start()
        decoder.advance(torch.zeros(2, 2, dtype=torch.long), first)
        answer = decoder.advance(parents, second)
        prefix = torch.stack([first.gather(1, parents), second, torch.zeros_like(second)], 2)
        targets = prefix + torch.arange(LENGTH) * CODES + 1
        expected = [net(tokens, targets[:, i : i + 1])[:, :, 2].log_softmax(-1) for i in range(2)]
    torch.testing.assert_close(answer, torch.cat(expected, 1))


def test_a_history_of_one_item_generates_alike_in_both_paths():
    net, tokens = network(causal=True).eval(), histories(2, 1)
    with torch.no_grad():
        start = BeamDecoder(net, tokens).start()[:, 0]
        expected = net(tokens, histories(2, 1, seed=1))[:, 0, 0].log_softmax(-1)
    torch.testing.assert_close(start, expected)
