"""The residual quantizer: values, gradients, losses, codebooks that fit and codes that are restarted (float64)."""

import pytest
import torch

from genrec.modules.quantizers import ResidualQuantizer, VectorQuantizer

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
