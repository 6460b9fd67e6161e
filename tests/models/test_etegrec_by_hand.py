"""ETEGRec's formulas on numbers small enough to work out by hand: every expected value is written as arithmetic.

The tokenizer is three levels of three codes in the plane; its encoder and decoder hand on what they get. Items 1 and 3
lie at (1.75, .5), items 2 and 4 at (.25, 2.5). Nobody is near code 2; with two codes alone the sign of a distance would
only swap their chances, which a symmetric divergence does not see.

    level   code 0        code 1       code 2      residual of item 1, its distances, code     of item 2
    1       (1, 0)        (0, 2)       (-1, 0)     (1.75, .5)  .8125  5.3125  7.8125   0       (.25, 2.5)  ...   1
    2       (.5, 0)       (0, .5)      (-.5, 0)    (.75, .5)   .3125  .5625   1.8125   0       (.25, .5)   ...   1
    3       (-.25, .25)   (.25, .25)   (0, -.75)   (.25, .5)   .3125  .0625   1.625    1       (.25, 0)    ...   1
                                                   (0, .25)                    rest            (0, -.25)
"""

from itertools import chain
from math import exp, log, sqrt

import pytest
import torch

from genrec.models.etegrec.module import ETEGRec
from genrec.models.rqvae import RqVae

BETA = 0.25
CODES = 3
CODEBOOKS = [
    [[1, 0], [0, 2], [-1, 0]],
    [[0.5, 0], [0, 0.5], [-0.5, 0]],
    [[-0.25, 0.25], [0.25, 0.25], [0, -0.75]],
]
ITEMS = [[0.0, 0.0], [1.75, 0.5], [0.25, 2.5], [1.75, 0.5], [0.25, 2.5]]
DISTANCES = [
    [[0.8125, 5.3125, 7.8125], [0.3125, 0.5625, 1.8125], [0.3125, 0.0625, 1.625]],
    [[6.8125, 0.3125, 7.8125], [0.3125, 0.0625, 0.8125], [0.3125, 0.0625, 0.625]],
]
TOKENIZER = {
    "input_dim": 2, "hidden_dim": (), "latent_dim": 2, "num_embeddings": CODES, "num_levels": 3,
    "commitment_cost": BETA,
}  # fmt: skip


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def close(got, expected):
    torch.testing.assert_close(got.detach(), tensor(expected), rtol=1e-12, atol=1e-12)


def tokenizer():
    model = RqVae(**TOKENIZER).double()
    with torch.no_grad():
        for linear in (model.encoder[0], model.decoder[0]):
            linear.weight.copy_(torch.eye(2))
            linear.bias.zero_()
        for level, codebook in zip(model.quantizer.levels, CODEBOOKS, strict=True):
            level.codebook.copy_(tensor(codebook))
    return model


@pytest.fixture
def latents():
    return tensor(ITEMS[1:3]).requires_grad_()


def test_distances_are_squared_and_those_of_each_levels_residual(latents):
    close(tokenizer().quantizer.distances(latents), DISTANCES)


def test_each_level_takes_the_nearest_code(latents):
    assert tokenizer().quantizer(latents).codes.tolist() == [[0, 0, 1], [1, 1, 1]]


def test_the_quantized_vector_is_the_sum_of_the_codes(latents):
    close(tokenizer().quantizer(latents).vectors, [[1 + 0.5 + 0.25, 0.25], [0.25, 2 + 0.5 + 0.25]])


def test_the_straight_through_gradient_is_the_identity_once(latents):
    (tokenizer().quantizer(latents).vectors * tensor([[3, 5], [7, 11]])).sum().backward()
    close(latents.grad, [[3, 5], [7, 11]])


def test_the_first_levels_distances_reach_the_latent(latents):
    tokenizer().quantizer.distances(latents)[:, 0].sum().backward()
    # of each code 2 (latent - code)
    x = [2 * (0.75 + 1.75 + 2.75), 2 * (-0.75 + 0.25 + 1.25)]
    y = [2 * (0.5 - 1.5 + 0.5), 2 * (2.5 + 0.5 + 2.5)]
    close(latents.grad, [[x[0], y[0]], [x[1], y[1]]])


@pytest.mark.parametrize("level", [1, 2])
def test_the_further_levels_distances_give_the_latent_exactly_nothing(latents, level):
    # nothing to differentiate at all, or a gradient of zeros
    distances = tokenizer().quantizer.distances(latents)[:, level].sum() + 0 * latents.sum()
    distances.backward()
    assert torch.equal(latents.grad, torch.zeros(2, 2, dtype=torch.float64))


# what is left of both items behind each level, squared and averaged over the four numbers
LEFT = [
    (0.75**2 + 0.5**2 + 0.25**2 + 0.5**2) / 4,
    (0.25**2 + 0.5**2 + 0.25**2 + 0**2) / 4,
    (0**2 + 0.25**2 + 0**2 + 0.25**2) / 4,
]


def test_the_quantizers_loss_is_the_mean_over_the_levels(latents):
    quantized = tokenizer().quantizer(latents)
    close(quantized.embedding_loss, sum(LEFT) / 3)
    close(quantized.commitment_loss, BETA * sum(LEFT) / 3)


def test_the_commitment_reaches_the_latent_by_the_first_level_only(latents):
    tokenizer().quantizer(latents).commitment_loss.backward()
    # beta, the mean over 3 levels and 4 numbers, and the derivative of the square
    close(latents.grad, [[BETA / 3 / 4 * 2 * rest for rest in row] for row in ([0.75, 0.5], [0.25, 0.5])])


# The alignments: what the recommender answers is given, so that the losses are the work of the tokenizer and of these.

TARGETS = [2, 1, 2]
SEQUENCES = [[0.5, 1.0], [1.0, 1.0], [9.0, 9.0]]  # the third row's target stands in the first already
PREFERENCES = [[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]
# of row r and level l: code 0 has w = 2 + 4 r + l times the odds of either other
ODDS = [[2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 12, 13]]
LOGITS = [[[log(w), 0.0, 0.0] for w in row] for row in ODDS]


class Clock:
    def __init__(self, epoch):
        self.current_epoch = epoch


@pytest.fixture
def built():
    """ETEGRec at an epoch, with the tokenizer above; even epochs are the tokenizer's."""
    clocks = []

    def build(epoch, answers=True, **options):
        torch.manual_seed(0)
        settings = {
            "embedding_dim": 2, "num_heads": 1, "head_dim": 2, "attn_dim": 2, "num_layers": 1, "dropout": 0.0,
            "warmup_epochs": 0, "sia_weight": 0.5, "psa_weight": 0.25,
        }  # fmt: skip
        model = ETEGRec(len(ITEMS) - 1, TOKENIZER, **(settings | options)).double()
        model.start_from(tokenizer(), tensor(ITEMS))
        clocks.append(Clock(epoch))
        model.trainer = clocks[-1]
        model.on_train_epoch_start()
        if answers:
            logits = tensor(LOGITS)[:, None]
            projections = (tensor(SEQUENCES)[:, None], tensor(PREFERENCES)[:, None])
            model.forward = lambda history, target: (logits, *projections)
            model.projections = lambda history, target: projections
        return model

    return build


def batch():
    return {"history": torch.tensor([[1, 2], [2, 1], [1, 1]]), "target": torch.tensor(TARGETS)}


def chances(distances, sign):
    """The softmax of three: of minus the squared distances, or of plus them."""
    odds = [exp(sign * distance) for distance in distances]
    return [one / sum(odds) for one in odds]


def divergence(p, q):
    """KL of two distributions over three codes."""
    return sum(of_p * log(of_p / of_q) for of_p, of_q in zip(p, q, strict=True))


def distances_of(x, y):
    """The three levels' distances of a latent, worked out like the table above."""
    levels = []
    for codebook in CODEBOOKS:
        distances = [(x - a) ** 2 + (y - b) ** 2 for a, b in codebook]
        levels.append(distances)
        a, b = codebook[distances.index(min(distances))]
        x, y = x - a, y - b
    return levels


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize(("name", "sign"), [("paper", -1), ("authors", 1)])
def test_sia_is_of_distinct_targets_both_ways_and_a_mean_over_targets_and_levels(built, epoch, name, sign):
    total = 0.0
    # item 1 with the row where it is the target; item 2 with the first of its two rows
    for of_item, (x, y) in ((DISTANCES[0], (1.0, 1.0)), (DISTANCES[1], (0.5, 1.0))):
        for item, sequence in zip(of_item, distances_of(x, y), strict=True):
            p, q = chances(item, sign), chances(sequence, sign)
            total += divergence(p, q) + divergence(q, p)
    close(built(epoch, sia_sign=name).losses(batch())["sia_loss"], total / (2 * 3))


def test_the_distances_of_the_table_are_those_of_the_formula():
    assert [distances_of(*item) for item in ITEMS[1:3]] == DISTANCES


@pytest.mark.parametrize("epoch", [0, 1])
def test_psa_is_of_distinct_targets_and_sums_both_directions(built, epoch):
    length = [sqrt(1.75**2 + 0.25**2), sqrt(0.25**2 + 2.75**2)]
    # cosines of the reconstructions (1.75, .25) and (.25, 2.75) with the preferences (1, 0) and (0, 1), over tau
    to = [[1.75 / length[0] / 0.07, 0.25 / length[0] / 0.07], [0.25 / length[1] / 0.07, 2.75 / length[1] / 0.07]]
    by_item = [log(exp(to[i][0]) + exp(to[i][1])) - to[i][i] for i in (0, 1)]
    by_preference = [log(exp(to[0][i]) + exp(to[1][i])) - to[i][i] for i in (0, 1)]
    close(built(epoch).losses(batch())["psa_loss"], sum(by_item) / 2 + sum(by_preference) / 2)


def test_the_tokenizers_own_loss_is_of_distinct_targets(built):
    # the reconstruction misses by what the last level leaves over
    expected = LEFT[2] + 3.0 * (1 + BETA) * sum(LEFT) / 3
    close(built(0, alpha=3.0).losses(batch())["vq_loss"], expected)


def test_the_code_loss_is_the_mean_over_all_rows_and_levels(built):
    # item 2 is coded 1 1 1 0, item 1 is coded 0 0 1 0; the repeated target's row counts too
    semantic_ids = [[1, 1, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0]]
    costs = [
        log(w + 2) - (log(w) if code == 0 else 0)
        for odds, codes in zip(ODDS, semantic_ids, strict=True)
        for w, code in zip(odds, codes, strict=True)
    ]
    close(built(1).losses(batch())["code_loss"], sum(costs) / (3 * 4))


@pytest.mark.parametrize(("epoch", "own"), [(0, "vq_loss"), (1, "code_loss")])
def test_the_total_weights_each_alignment_once(built, epoch, own):
    losses = built(epoch).losses(batch())
    expected = losses[own].item() + 0.5 * losses["sia_loss"].item() + 0.25 * losses["psa_loss"].item()
    close(losses["loss"], expected)


# The recommender around its transformer: the states are given.


def test_logits_are_the_state_times_the_table_of_its_own_level(built):
    network = built(1, answers=False).generator.network
    with torch.no_grad():
        # row 0 is padding; level l has the rows from 1 + 3 l
        padding, of_levels = [99, 99], [
            [[1, 0], [0, 1], [1, 1]], [[2, 0], [0, 2], [2, 2]], [[3, 1], [1, 3], [-1, -3]], [[0, 4], [4, 0], [-4, 0]],
        ]  # fmt: skip
        network.embedding.weight.copy_(tensor([padding, *chain.from_iterable(of_levels)]))
    states = tensor([[[[5, 7], [5, 7], [5, 7], [5, 7]]]])
    expected = [
        [5, 7, 5 + 7],
        [2 * 5, 2 * 7, 2 * 5 + 2 * 7],
        [3 * 5 + 7, 5 + 3 * 7, -5 - 3 * 7],
        [4 * 7, 4 * 5, -4 * 5],
    ]
    close(network.logits(states), [[expected]])


# two items of four tokens; where the history is padded, what the encoder says must not matter
MEMORY = [[[1, 10], [2, 20], [3, 30], [6, 40], [1e6, 1e6], [1e6, 1e6], [1e6, 1e6], [1e6, 1e6]]]
MEAN = [(1 + 2 + 3 + 6) / 4, (10 + 20 + 30 + 40) / 4]


@pytest.mark.parametrize("causal", [True, False])
def test_padding_is_masked_before_the_states_are_pooled(built, causal):
    model = built(1, answers=False, causal=causal)
    pooled = model._pool(tensor(MEMORY), torch.tensor([[3, 0]]))
    close(pooled[:, 0], [MEAN])


def test_a_causal_encoder_is_pooled_up_to_each_item(built):
    memory = tensor([[[1, 10], [2, 20], [3, 30], [6, 40], [5, 1], [5, 1], [5, 1], [9, 1]]])
    both = [(1 + 2 + 3 + 6 + 5 + 5 + 5 + 9) / 8, (10 + 20 + 30 + 40 + 4) / 8]
    close(built(1, answers=False, causal=True)._pool(memory, torch.tensor([[3, 4]])), [[MEAN, both]])


@pytest.mark.parametrize("whole", [True, False], ids=["forward", "projections"])
def test_the_adapters_are_linear_in_the_pooled_and_in_the_first_decoder_state(built, whole):
    model = built(1, answers=False)
    first, others = [7, 11], [[1e6, 1e6]] * 3
    model.generator.network.encode = lambda tokens: tensor(MEMORY)
    model.generator.network.decode = lambda memory, bias, target_tokens: tensor([[[first, *others]]])
    with torch.no_grad():
        # one answer of each is below 0, where a hidden layer's ReLU would cut it off
        model.sequence_adapter.weight.copy_(tensor([[1, 2], [-3, -4]]))
        model.sequence_adapter.bias.copy_(tensor([0.5, -0.5]))
        model.preference_adapter.weight.copy_(tensor([[5, 6], [-7, -8]]))
        model.preference_adapter.bias.copy_(tensor([1, -1]))
    history, target = torch.tensor([[3, 0]]), torch.tensor([[2]])
    sequence, preference = model(history, target)[1:] if whole else model.projections(history, target)
    close(sequence, [[[MEAN[0] + 2 * MEAN[1] + 0.5, -3 * MEAN[0] - 4 * MEAN[1] - 0.5]]])
    close(preference, [[[5 * 7 + 6 * 11 + 1, -7 * 7 - 8 * 11 - 1]]])


def test_the_table_counts_equal_codes_in_the_order_of_items_behind_a_row_of_padding(built):
    table = built(0, answers=False).generator.code_table
    assert table.tolist() == [[-1, -1, -1, -1], [0, 0, 1, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1]]
