"""Quadratics on matrices: losses against autograd and least squares, targets as promised."""

import pytest
import torch

from lib.tasks.matrix_quadratic import KINDS, decaying_spectrum, draw

SPECTRUM = decaying_spectrum(5, 2)


def test_the_gradient_is_the_loss_s():
    problem = draw("gaussian", SPECTRUM, n=3, seeds=[0, 1])
    X = torch.randn(4, 2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(problem.loss(X).sum(), X)
    torch.testing.assert_close(problem.gradient(X.detach()), expected)


def test_it_is_least_squares_with_the_square_root_of_h():
    problem = draw("signs", SPECTRUM, n=3, seeds=[7])
    A = torch.linalg.cholesky(problem.H[0]).mT
    X = torch.ones(1, 5, 3, dtype=torch.float64)
    expected = (A @ X[0] - A @ problem.target[0]).square().sum()
    torch.testing.assert_close(problem.loss(X)[0], expected)
    assert problem.loss(problem.target)[0] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_target_has_the_same_frobenius_norm_and_its_own_shape(kind):
    X = draw(kind, SPECTRUM, n=5, seeds=[0, 3]).target
    torch.testing.assert_close(X.square().sum((-2, -1)), torch.full((2,), 5.0, dtype=torch.float64))
    singular = torch.linalg.svdvals(X)
    if kind == "orthogonal":
        torch.testing.assert_close(singular, torch.ones_like(singular))
    if kind == "rank one":
        assert (singular[:, 1:] < 1e-12).all()
    if kind == "signs":
        torch.testing.assert_close(X.abs(), torch.full_like(X, 0.2**0.5 * 1.0))


def test_h_has_the_spectrum_and_is_diagonal_only_where_it_is_not_rotated():
    for rotated in (True, False):
        H = draw("gaussian", SPECTRUM, n=2, seeds=[0], rotated=rotated).H[0]
        torch.testing.assert_close(torch.linalg.eigvalsh(H), SPECTRUM.sort().values)
        assert bool((H - torch.diag(torch.diag(H))).abs().max() < 1e-12) is not rotated


def test_a_seed_does_not_depend_on_the_others_nor_its_target_on_the_rotation():
    both, alone = draw("gaussian", SPECTRUM, 2, [0, 5]), draw("gaussian", SPECTRUM, 2, [5], rotated=False)
    torch.testing.assert_close(both.target[1], alone.target[0])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="n_top is 6; it must lie in 0…5"):
        decaying_spectrum(5, 6)
    with pytest.raises(ValueError, match="kind is 'sparse'; it must be one of orthogonal"):
        draw("sparse", SPECTRUM, 2, [0])
    with pytest.raises(ValueError, match="n is 0; it must be at least 1"):
        draw("signs", SPECTRUM, 0, [0])
    with pytest.raises(ValueError, match="seeds is empty"):
        draw("signs", SPECTRUM, 2, [])
    with pytest.raises(ValueError, match="spectrum has the entry -1; all must be at least 0"):
        draw("signs", -SPECTRUM, 2, [0])
