"""The residual quantizer: values, gradients, losses, codebooks that fit and codes that are restarted (float64)."""

import pytest
import torch
from vector_quantize_pytorch import VectorQuantize

from genrec.codes.tokenizer.quantizers import (
    QUANTIZERS,
    EMAQuantizer,
    ResidualQuantizer,
    RotationQuantizer,
    SinkhornQuantizer,
    VectorQuantizer,
    rotate,
)

LEVELS, CODES, DIM, BATCH = 3, 5, 4, 8
COST = 0.25


@pytest.fixture
def quantizer():
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(LEVELS, CODES, DIM, COST).double()
    for level in quantizer.levels:
        torch.nn.init.normal_(level.codebook)
    return quantizer


@pytest.fixture
def latents():
    return torch.randn(BATCH, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)


def quantized_by_hand(quantizer, latents):
    """Codes, chosen vectors and residuals of each level, by nested loops over all differences."""
    residuals, vectors, codes = [latents.detach()], [], []
    for codebook in quantizer.codebooks:
        differences = residuals[-1][:, None] - codebook
        codes.append(differences.square().sum(2).argmin(1))
        vectors.append(codebook[codes[-1]])
        residuals.append(residuals[-1] - vectors[-1])
    return torch.stack(codes, 1), vectors, residuals


def test_the_codes_equal_those_of_brute_force(quantizer, latents):
    expected, _, _ = quantized_by_hand(quantizer, latents)
    assert torch.equal(quantizer.codes(latents), expected)
    assert torch.equal(quantizer(latents).codes, expected)


def test_the_value_is_the_sum_of_the_code_vectors(quantizer, latents):
    _, vectors, _ = quantized_by_hand(quantizer, latents)
    torch.testing.assert_close(quantizer(latents).vectors, sum(vectors))


def test_the_gradient_passes_straight_through_once(quantizer, latents):
    quantizer(latents).vectors.sum().backward()
    torch.testing.assert_close(latents.grad, torch.ones_like(latents))


def test_the_whole_jacobian_of_the_vectors_is_the_identity(quantizer):
    latent = torch.randn(DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    jacobian = torch.autograd.functional.jacobian(lambda x: quantizer(x[None]).vectors[0], latent)
    torch.testing.assert_close(jacobian, torch.eye(DIM, dtype=torch.float64))


def test_the_straight_through_gradient_gives_codebooks_nothing(quantizer, latents):
    quantizer(latents).vectors.sum().backward()
    assert all(level.codebook.grad is None for level in quantizer.levels)


def test_the_distances_are_those_of_each_levels_residual(quantizer, latents):
    _, _, residuals = quantized_by_hand(quantizer, latents)
    expected = [
        (residual[:, None] - codebook).square().sum(2)
        for residual, codebook in zip(residuals, quantizer.codebooks, strict=False)
    ]
    torch.testing.assert_close(quantizer.distances(latents), torch.stack(expected, 1))


@pytest.mark.parametrize("level", range(LEVELS))
def test_distances_have_a_gradient_at_the_first_level_only(quantizer, latents, level):
    (gradient,) = torch.autograd.grad(quantizer.distances(latents)[:, level].square().sum(), latents, allow_unused=True)
    if level == 0:
        assert (gradient != 0).all()
    else:
        assert gradient is None or (gradient == 0).all()


def test_the_gradient_of_the_distances_is_that_of_the_first_level(quantizer, latents):
    weights = torch.rand(BATCH, LEVELS, CODES, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (weights * quantizer.distances(latents)).sum().backward()
    # d |r - e_k|^2 / dr = 2 (r - e_k)
    differences = latents.detach()[:, None] - quantizer.codebooks[0]
    torch.testing.assert_close(latents.grad, (2 * weights[:, 0, :, None] * differences).sum(1))


def test_distances_give_every_levels_codebook_a_gradient(quantizer, latents):
    quantizer.distances(latents).square().sum().backward()
    assert all((level.codebook.grad != 0).all() for level in quantizer.levels)


def test_the_commitment_pulls_the_latent_to_its_first_code_only(quantizer, latents):
    quantizer(latents).commitment_loss.backward()
    _, vectors, _ = quantized_by_hand(quantizer, latents)
    # loss = mean over levels of beta * mean over elements of (v - q)^2
    expected = COST * 2 * (latents.detach() - vectors[0]) / (BATCH * DIM) / LEVELS
    torch.testing.assert_close(latents.grad, expected)


def test_losses_are_means_over_levels_of_means_over_elements(quantizer, latents):
    _, _, residuals = quantized_by_hand(quantizer, latents)
    # v_l - q_l is the residual that level l hands on
    squares = [residual.square().sum().item() / (BATCH * DIM) for residual in residuals[1:]]
    result = quantizer(latents)
    assert result.embedding_loss.item() == pytest.approx(sum(squares) / LEVELS)
    assert result.commitment_loss.item() == pytest.approx(COST * sum(squares) / LEVELS)


@pytest.mark.parametrize("cost", [0.0, 0.25, 2.0])
def test_the_commitment_weight_is_applied_exactly_once(cost):
    quantizer = VectorQuantizer(2, 1, commitment_cost=cost)
    quantizer.codebook.data = torch.tensor([[0.0], [10.0]])
    _, commitment, embedding, _ = quantizer(torch.tensor([[3.0], [9.0]]))
    assert embedding.item() == (3**2 + 1**2) / 2
    assert commitment.item() == pytest.approx(cost * (3**2 + 1**2) / 2)


def test_each_codebook_learns_from_its_own_levels_embedding_loss(quantizer, latents):
    quantizer(latents).embedding_loss.backward()
    codes, _, residuals = quantized_by_hand(quantizer, latents)
    for level, (codebook, residual) in enumerate(zip(quantizer.codebooks, residuals, strict=False)):
        expected = torch.zeros_like(codebook)
        for row, code in enumerate(codes[:, level]):
            expected[code] += 2 * (codebook[code] - residual[row]) / (BATCH * DIM) / LEVELS
        torch.testing.assert_close(quantizer.levels[level].codebook.grad, expected)
    assert latents.grad is None


def test_the_commitment_loss_does_not_move_codebooks(quantizer, latents):
    quantizer(latents).commitment_loss.backward()
    assert all(level.codebook.grad is None for level in quantizer.levels)


def test_of_equal_codes_the_lowest_is_chosen():
    quantizer = ResidualQuantizer(2, 4, 2).double()
    with torch.no_grad():
        for level in quantizer.levels:
            level.codebook.copy_(torch.tensor([[5.0, 5], [1, 0], [1, 0], [5, 5]]))
    assert quantizer.codes(torch.tensor([[1.0, 0.0]], dtype=torch.float64)).tolist() == [[1, 1]]


def test_train_and_eval_mode_quantize_alike(quantizer, latents):
    trained, evaluated = quantizer.train()(latents), quantizer.eval()(latents)
    assert torch.equal(trained.codes, evaluated.codes)
    assert torch.equal(trained.vectors, evaluated.vectors)


def test_fitted_codebooks_use_every_code():
    points = torch.randn(400, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    quantizer = ResidualQuantizer(3, 16, 6).double()
    quantizer.initialize(points, 20, torch.Generator().manual_seed(1))
    assert [len(level.unique()) for level in quantizer.codes(points).unbind(1)] == [16, 16, 16]


def test_fitting_brings_every_further_level_closer():
    points = torch.randn(400, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    quantizer = ResidualQuantizer(3, 16, 6).double()
    quantizer.initialize(points, 20, torch.Generator().manual_seed(1))
    _, _, residuals = quantized_by_hand(quantizer, points)
    errors = [residual.square().mean().item() for residual in residuals]
    assert errors[0] > 2 * errors[1] > 2 * 1.2 * errors[2] > 2 * 1.2 * 1.2 * errors[3]


def test_fitting_from_the_same_seed_gives_the_same_codebooks():
    points = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    first, second = ResidualQuantizer(2, 8, 3), ResidualQuantizer(2, 8, 3)
    for quantizer in (first, second):
        quantizer.initialize(points, 5, torch.Generator().manual_seed(1))
    assert torch.equal(first.codebooks, second.codebooks)


def test_a_catalogue_smaller_than_a_codebook_can_be_fitted():
    points = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    quantizer = ResidualQuantizer(2, 16, 3)
    quantizer.initialize(points, 5, torch.Generator().manual_seed(1))
    assert len(quantizer.codes(points)[:, 0].unique()) == 6


def test_nothing_changes_when_no_code_is_dead():
    points = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    quantizer = ResidualQuantizer(2, 8, 6)
    quantizer.initialize(points, 10, torch.Generator().manual_seed(1))
    before = quantizer.codebooks
    assert quantizer.restart_dead_codes(points) == 0
    assert torch.equal(quantizer.codebooks, before)


def test_a_dead_code_moves_to_the_input_that_is_served_worst():
    quantizer = ResidualQuantizer(1, 3, 1)
    with torch.no_grad():
        quantizer.levels[0].codebook.copy_(torch.tensor([[0.0], [10.0], [500.0]]))
    points = torch.tensor([[0.0], [1.0], [10.0], [16.0]])
    assert quantizer.restart_dead_codes(points) == 1
    assert quantizer.codebooks[0].tolist() == [[0], [10], [16]]


def test_a_restart_leaves_no_code_unused():
    points = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    quantizer = ResidualQuantizer(2, 8, 6)
    quantizer.initialize(points, 10, torch.Generator().manual_seed(1))
    with torch.no_grad():
        quantizer.levels[0].codebook[[2, 5]] = 1000
        quantizer.levels[1].codebook[3] = -1000
    used = quantizer.levels[0].codebook[[0, 1, 3, 4, 6, 7]].clone()
    assert quantizer.restart_dead_codes(points) >= 3
    assert [len(level.unique()) for level in quantizer.codes(points).unbind(1)] == [8, 8]
    assert torch.equal(quantizer.levels[0].codebook[[0, 1, 3, 4, 6, 7]], used)


def test_more_dead_codes_than_inputs_are_restarted_as_far_as_inputs_reach():
    quantizer = ResidualQuantizer(1, 6, 1)
    with torch.no_grad():
        quantizer.levels[0].codebook.copy_(torch.tensor([[0.0], [50], [60], [70], [80], [90]]))
    points = torch.tensor([[1.0], [2.0]])
    assert quantizer.restart_dead_codes(points) == 2
    assert (quantizer.codebooks[0][quantizer.codes(points)[:, 0]] - points).abs().max() == 0


# Values, and codes in a step and out of it.


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("train", [True, False])
def test_the_value_is_exactly_that_of_the_code_vectors(name, train):
    # inputs + (vectors - inputs) rounds: the next level then quantizes another residual than `codes` does
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(LEVELS, CODES, DIM, COST, name).train(train)
    inputs = 100 * torch.randn(50, DIM)
    before = quantizer.codebooks
    result = quantizer(inputs)
    total = torch.zeros(50, DIM)
    for level, codebook in enumerate(before):
        total = total + codebook[result.codes[:, level]]
    assert torch.equal(result.vectors, total)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_in_eval_mode_a_pass_chooses_the_codes_of_codes(name):
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(LEVELS, CODES, DIM, COST, name).eval()
    inputs = torch.randn(200, DIM)
    assert torch.equal(quantizer(inputs).codes, quantizer.codes(inputs))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_codes_are_the_same_in_any_batch_and_any_mode(name):
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(LEVELS, CODES, DIM, COST, name)
    inputs = torch.randn(60, DIM)
    singly = torch.cat([quantizer.codes(row[None]) for row in inputs])
    assert torch.equal(quantizer.train().codes(inputs), singly)
    assert torch.equal(quantizer.eval().codes(inputs), singly)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantizing_in_eval_mode_changes_nothing(name):
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(LEVELS, CODES, DIM, COST, name).eval()
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    quantizer(torch.randn(20, DIM))
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


def test_half_precision_ends_at_the_quantizer():
    # in bfloat16 one in fifty of these would be given another code than when its semantic ID is made
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(2, 64, 16)
    inputs = torch.randn(500, 16)
    quantizer.initialize(inputs, 5, torch.Generator().manual_seed(0))
    expected = quantizer.codes(inputs.bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = quantizer(inputs.bfloat16())
        assert torch.equal(quantizer.codes(inputs.bfloat16()), expected)
    assert torch.equal(result.codes, expected)
    assert result.vectors.dtype == torch.float32


def test_an_unknown_quantizer_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="^quantizer must be one of straight_through, .*, ema, got 'gumbel'$"):
        ResidualQuantizer(1, 2, 2, quantizer="gumbel")


# Sinkhorn.


def test_sinkhorn_spreads_a_batch_evenly_where_the_nearest_codes_collapse():
    torch.manual_seed(0)
    quantizer = SinkhornQuantizer(8, 4)
    inputs = 5 + torch.randn(64, 4)  # far from all codes, and nearest to one of them
    assert len(quantizer.eval()(inputs)[3].unique()) < 8
    counts = torch.bincount(quantizer.train()(inputs)[3], minlength=8)
    assert (counts - 8).abs().max() <= 3  # 1 or 2, by the inputs


def test_sinkhorn_balances_the_last_level_alone():
    kinds = [type(level) for level in ResidualQuantizer(3, 4, 2, quantizer="sinkhorn").levels]
    assert kinds == [VectorQuantizer, VectorQuantizer, SinkhornQuantizer]


def test_sinkhorns_losses_and_gradient_are_those_of_its_own_choice():
    torch.manual_seed(0)
    quantizer = SinkhornQuantizer(3, 2).double()
    inputs = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    vectors, commitment, embedding, codes = quantizer(inputs)
    assert torch.equal(vectors, quantizer.codebook[codes])
    assert embedding.item() == pytest.approx((quantizer.codebook[codes] - inputs).square().mean().item())
    assert commitment.item() == pytest.approx(0.25 * embedding.item())
    (gradient,) = torch.autograd.grad(vectors.sum(), inputs)
    assert torch.equal(gradient, torch.ones_like(inputs))


# The rotation trick.


def rotation_by_matrix(source, target):
    """lambda R of one vector: the plane rotation from the source's direction to the target's, by Rodrigues' formula."""
    a, b = source / source.norm(), target / target.norm()
    skew = torch.outer(b, a) - torch.outer(a, b)
    rotation = torch.eye(len(a), dtype=a.dtype) + skew + skew @ skew / (1 + a @ b)
    return rotation * target.norm() / source.norm()


def test_the_rotation_tricks_jacobian_is_the_rotation_from_input_to_code():
    inputs = torch.randn(6, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.randn(6, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for source, target in zip(inputs, targets, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x, t=target: rotate(x[None], t[None])[0], source)
        torch.testing.assert_close(jacobian, rotation_by_matrix(source, target))
        torch.testing.assert_close(jacobian @ source, target)


def test_rotating_gives_the_targets():
    inputs, targets = torch.randn(2, 50, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotate(inputs, targets), targets)


def test_the_rotation_tricks_gradient_keeps_its_angle_to_the_vector():
    torch.manual_seed(0)
    quantizer = RotationQuantizer(5, DIM).double()
    torch.nn.init.normal_(quantizer.codebook)
    inputs = torch.randn(BATCH, DIM, dtype=torch.float64, requires_grad=True)
    vectors, _, _, _ = quantizer(inputs)
    upstream = torch.randn(BATCH, DIM, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(vectors, inputs, upstream)
    cosine = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(cosine(gradient, inputs), cosine(upstream, vectors))


def test_the_rotation_of_several_levels_is_that_from_the_input_to_their_sum():
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(LEVELS, CODES, DIM, COST, "rotation").double()
    for level in quantizer.levels:
        torch.nn.init.normal_(level.codebook)
    latent = torch.randn(DIM, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: quantizer(x[None]).vectors[0], latent)
    torch.testing.assert_close(jacobian, rotation_by_matrix(latent, quantizer(latent[None]).vectors[0].detach()))


@pytest.mark.parametrize(
    ("source", "target"), [([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0]), ([1.0, 2.0], [-2.0, -4.0])]
)
def test_a_rotation_without_a_plane_is_no_division_by_zero(source, target):
    inputs = torch.tensor([source], requires_grad=True)
    rotated = rotate(inputs, torch.tensor([target]))
    rotated.sum().backward()
    assert rotated.isfinite().all()
    assert inputs.grad.isfinite().all()


def test_opposite_vectors_are_turned_onto_each_other():
    turned = rotate(torch.tensor([[1.0, 2.0]]), torch.tensor([[-2.0, -4.0]]))
    torch.testing.assert_close(turned, torch.tensor([[-2.0, -4.0]]))


# Codebooks that follow means.


def ema_quantizer(vectors, decay):
    quantizer = EMAQuantizer(len(vectors), 1)
    quantizer.decay = decay
    quantizer.replace(torch.arange(len(vectors)), torch.tensor(vectors)[:, None])
    return quantizer.train()


def test_a_code_moves_to_the_mean_of_what_chose_it_by_decayed_sums_and_counts():
    quantizer = ema_quantizer([0.0, 100.0], decay=0.75)
    quantizer(torch.tensor([[1.0], [3.0], [98.0]]))
    # count and sum begin as those of one vector; a quarter of each is new
    first = (0.75 * 0 + 0.25 * (1 + 3)) / (0.75 * 1 + 0.25 * 2)
    second = (0.75 * 100 + 0.25 * 98) / (0.75 * 1 + 0.25 * 1)
    assert quantizer.codebook[:, 0].tolist() == pytest.approx([first, second], rel=1e-4)


def test_codes_come_ever_nearer_to_their_means():
    quantizer = ema_quantizer([0.0, 10.0], decay=0.5)
    points = torch.tensor([[1.0], [3.0], [9.0]])
    distances = []
    for _ in range(30):
        quantizer(points)
        distances.append((quantizer.codebook[:, 0] - torch.tensor([2.0, 9.0])).abs().max().item())
    assert distances[0] > distances[5] > distances[10]
    assert distances[-1] < 1e-4


def test_a_code_that_nobody_chooses_stays():
    quantizer = ema_quantizer([0.0, 7.0], decay=0.9)
    for _ in range(20):
        quantizer(torch.tensor([[1.0]]))
    assert quantizer.codebook[1].item() == pytest.approx(7, rel=1e-2)


def test_averages_are_not_updated_in_eval_mode():
    quantizer = ema_quantizer([0.0, 10.0], decay=0.5).eval()
    quantizer(torch.tensor([[3.0], [9.0]]))
    assert quantizer.codebook[:, 0].tolist() == [0, 10]
    assert quantizer.counts.tolist() == [1, 1]


def test_no_gradient_and_no_optimizer_moves_averages():
    quantizer = ema_quantizer([0.0, 10.0], decay=0.5)
    assert list(quantizer.parameters()) == []
    inputs = torch.tensor([[3.0], [9.0]], requires_grad=True)
    _, commitment, embedding, _ = quantizer(inputs)
    commitment.backward()
    assert embedding.item() == 0
    # d/dv of 0.25 mean (v - q)^2
    assert inputs.grad[:, 0].tolist() == pytest.approx([0.25 * 2 * 3 / 2, 0.25 * 2 * -1 / 2])


def test_a_replaced_code_forgets_its_average():
    quantizer = ema_quantizer([0.0, 10.0], decay=0.5)
    quantizer(torch.tensor([[3.0], [9.0]]))
    quantizer.replace(torch.tensor([0]), torch.tensor([[50.0]]))
    assert (quantizer.codebook[0].item(), quantizer.sums[0].item(), quantizer.counts[0].item()) == (50, 50, 1)
    assert quantizer.counts[1] == 1


@pytest.mark.parametrize("name", QUANTIZERS)
def test_every_quantizer_can_be_fitted_and_restarted(name):
    points = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    quantizer = ResidualQuantizer(2, 8, 6, quantizer=name)
    quantizer.initialize(points, 10, torch.Generator().manual_seed(1))
    quantizer.levels[0].replace(torch.tensor([2, 5]), torch.full((2, 6), 1000.0))
    assert quantizer.restart_dead_codes(points) >= 2
    quantizer.train()(points[:100])  # averages must have moved with their codes
    assert quantizer.codebooks.abs().max() < 100


@pytest.mark.parametrize("name", QUANTIZERS)
def test_codes_are_fitted_and_restarted_by_latents_in_half_precision(name):
    points = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    quantizers = [ResidualQuantizer(2, 8, 6, quantizer=name) for _ in range(2)]
    for quantizer, latents in zip(quantizers, (points, points.float()), strict=True):
        quantizer.initialize(latents, 10, torch.Generator().manual_seed(1))
        quantizer.levels[0].replace(torch.tensor([2, 5]), torch.full((2, 6), 1000.0))
        assert quantizer.restart_dead_codes(latents) >= 2
        assert torch.equal(quantizer.distances(latents), quantizer.distances(points.float()))
    assert torch.equal(quantizers[0].codebooks, quantizers[1].codebooks)


# Against vector-quantize-pytorch, where the two define the same thing.


def reference(quantizer, **options):
    """Their quantizer in training with our codebook."""
    settings = {"ema_update": False, "rotation_trick": False, "commitment_weight": COST, "threshold_ema_dead_code": 0}
    theirs = VectorQuantize(DIM, CODES, **(settings | options)).train()
    theirs._codebook.embed.data.copy_(quantizer.codebook.detach()[None])
    theirs._codebook.embed_avg.data.copy_(quantizer.codebook.detach()[None])
    return theirs


def codes_values_loss_and_gradient(quantize, inputs, upstream):
    inputs = inputs.clone().requires_grad_()
    vectors, loss, codes = quantize(inputs)
    gradients = [torch.autograd.grad(output, inputs, weight, retain_graph=True)[0] for output, weight in (
        (vectors, upstream), (loss, torch.ones_like(loss))
    )]  # fmt: skip
    return codes, vectors.detach(), loss.detach(), *gradients


@pytest.mark.parametrize(("kind", "options"), [(VectorQuantizer, {}), (RotationQuantizer, {"rotation_trick": True})])
def test_codes_values_commitment_and_gradients_equal_the_references(kind, options):
    torch.manual_seed(0)
    ours = kind(CODES, DIM, COST)
    torch.nn.init.normal_(ours.codebook)
    theirs = reference(ours, **options)
    inputs, upstream = torch.randn(2, 40, DIM)

    def quantize(x):
        vectors, commitment, _, codes = ours(x)
        return vectors, commitment, codes

    def quantize_there(x):
        vectors, codes, loss = theirs(x[None])
        return vectors[0], loss, codes[0]

    expected = codes_values_loss_and_gradient(quantize_there, inputs, upstream)
    for one, other in zip(codes_values_loss_and_gradient(quantize, inputs, upstream), expected, strict=True):
        torch.testing.assert_close(one, other.reshape(one.shape), rtol=1e-4, atol=1e-6)


def test_moving_averages_equal_the_references():
    torch.manual_seed(0)
    ours = EMAQuantizer(CODES, DIM)
    ours.replace(torch.arange(CODES), torch.randn(CODES, DIM))
    theirs = reference(ours, ema_update=True, decay=ours.decay)
    for batch in torch.randn(5, 40, DIM):
        ours(batch)
        theirs(batch[None])
        torch.testing.assert_close(ours.codebook, theirs._codebook.embed[0], rtol=1e-5, atol=1e-6)
