"""Rotated product quantization: codes are nearest, the rotation is one and helps, and nothing depends on chance."""

import pytest
import torch

from genrec.digits.product_quantizer import fit_product_quantizer


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def correlated(n=600, dim=8, seed=0):
    """Points whose few large directions lie across all dimensions."""
    points = torch.randn(n, dim, generator=generator(seed)) * 0.5 ** torch.arange(dim)
    turn, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator(seed + 1)))
    return points @ turn + 3


def error(quantizer, points):
    return float((quantizer.decode(quantizer.codes(points)) - points).square().sum(1).mean())


def test_as_many_points_as_codes_are_reproduced():
    points = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 9.0], [4.0, 9.0]])
    quantizer = fit_product_quantizer(points, num_digits=2, code_num=2, iterations=3, generator=generator())
    torch.testing.assert_close(quantizer.decode(quantizer.codes(points)), points, atol=1e-5, rtol=0)
    assert len(torch.unique(quantizer.codes(points), dim=0)) == 4


def test_codes_are_the_nearest_of_each_digit():
    points = correlated()
    quantizer = fit_product_quantizer(points, 4, 8, 3, generator())
    rotated = ((points - quantizer.mean) @ quantizer.rotation).view(len(points), 4, 2)
    for digit in range(4):
        distances = torch.cdist(rotated[:, digit].double(), quantizer.codebooks[digit].double())
        assert torch.equal(quantizer.codes(points)[:, digit], distances.argmin(1))


def test_the_rotation_is_orthogonal():
    rotation = fit_product_quantizer(correlated(), 4, 8, 5, generator()).rotation
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_fitted_rotation_loses_less_than_the_one_it_begins_with(seed):
    points = correlated(seed=seed)
    begun, fitted = (fit_product_quantizer(points, 4, 8, n, generator(seed)) for n in (0, 30))
    assert error(fitted, points) < 0.9 * error(begun, points)


def test_digits_have_like_variances_to_begin_with():
    points = correlated()
    rotation = fit_product_quantizer(points, 4, 8, 0, generator()).rotation
    products = ((points - points.mean(0)) @ rotation).var(0).view(4, 2).log().sum(1)
    assert float(products.max() - products.min()) < 0.5  # in the order of components: from 0 to -16


def test_equal_seeds_give_equal_codes_and_others_do_not():
    points = correlated()
    first, second, other = (fit_product_quantizer(points, 2, 16, 4, generator(s)).codes(points) for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_chunks_change_no_code(monkeypatch):
    points = correlated()
    quantizer = fit_product_quantizer(points, 2, 16, 4, generator())
    whole = quantizer.codes(points)
    monkeypatch.setattr("genrec.digits.product_quantizer.CHUNK_ELEMENTS", 100)
    assert torch.equal(quantizer.codes(points), whole)


def test_digits_that_do_not_divide_the_dimensions_are_refused():
    with pytest.raises(ValueError, match="got 3 and 8"):
        fit_product_quantizer(correlated(), 3, 8, 1, generator())
