"""Sharpness by sampling and by ascent, against quadratics, brute force and linear classifiers."""

from itertools import product

import numpy as np
import pytest
import torch

from lib.models.linear import cross_entropy
from lib.models.mlp import MLP, mlp_features
from lib.theory.sharpness import average_case, normalised_logits, scales_of, worst_case
from lib.theory.sharpness_closed_forms import linear_worst_loss, quadratic_average, quadratic_worst


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def quadratics(n, d, slope=1.0):
    "A stack of convex quadratics around weights in two pieces; loss, weights, Hessians, slopes."
    g = generator(1)
    factors = torch.randn(n, d, d, generator=g, dtype=torch.float64)
    hessians = factors @ factors.mT / d
    slopes = slope * torch.randn(n, d, generator=g, dtype=torch.float64)
    w = torch.randn(n, d, generator=g, dtype=torch.float64)
    pieces = [w[:, :2].clone(), w[:, 2:].clone()]

    def loss(parts):
        delta = torch.cat(parts, -1) - w
        return (slopes * delta).sum(-1) + torch.einsum("ni,nij,nj->n", delta, hessians, delta) / 2

    return loss, pieces, hessians, slopes


@pytest.mark.parametrize("kind", ["standard", "adaptive"])
@pytest.mark.parametrize("slope", [0.0, 0.3, 30.0])
def test_ascent_finds_the_maximum_of_quadratics_in_a_ball(kind, slope):
    loss, weights, hessians, slopes = quadratics(4, 8, slope)
    scales = scales_of(weights, kind)
    starts = [
        worst_case(loss, weights, scales, 0.7, norm="l2", n_stack=1, n_steps=200, generator=generator(seed))
        for seed in range(4)  # a second, local maximum lies opposite to the best one where the slope is small
    ]
    found = torch.stack(starts).amax(0)
    c = torch.cat(scales, -1)
    exact = [quadratic_worst(*parts, 0.7) for parts in zip(hessians, slopes, c, strict=True)]
    assert found.tolist() == pytest.approx(exact, rel=2e-3)
    assert (found <= torch.tensor(exact, dtype=found.dtype) * (1 + 1e-9)).all()


def test_the_trust_region_formula_beats_every_point_of_the_sphere_and_is_attained():
    g = generator(3)
    factor = torch.randn(3, 3, generator=g, dtype=torch.float64)
    H, slope, c = factor @ factor.T, torch.randn(3, generator=g).double(), torch.tensor([0.5, 1.0, 2.0]).double()
    z = torch.randn(400000, 3, generator=g, dtype=torch.float64)
    delta = 0.6 * c * z / z.norm(dim=1, keepdim=True)
    brute = float((delta @ slope + (delta @ H * delta).sum(1) / 2).max())
    exact = quadratic_worst(H, slope, c, 0.6)
    assert brute <= exact
    assert brute == pytest.approx(exact, rel=1e-3)


def test_without_a_slope_the_worst_case_is_the_largest_eigenvalue_also_where_the_slope_misses_it():
    H = torch.diag(torch.tensor([1.0, 2.0, 5.0]).double())
    ones = torch.ones(3).double()
    assert quadratic_worst(H, 0 * ones, ones, 0.2) == pytest.approx(0.04 / 2 * 5)
    slope = torch.tensor([0.1, 0.0, 0.0]).double()  # the hard case: no component along the largest eigenvalue
    angle = np.linspace(0, np.pi, 20001)
    circle = 0.2 * np.stack([np.cos(angle), np.sin(angle)])
    brute = (0.1 * circle[0] + circle[0] ** 2 / 2 + 5 * circle[1] ** 2 / 2).max()
    assert quadratic_worst(H, slope, ones, 0.2) == pytest.approx(brute, rel=1e-6)


@pytest.mark.parametrize("kind", ["standard", "adaptive"])
def test_in_the_cube_ascent_finds_the_best_corner(kind):
    loss, weights, _, _ = quadratics(3, 7)
    scales = scales_of(weights, kind)
    c, w = torch.cat(scales, -1), torch.cat(weights, -1)
    corners = torch.tensor(list(product([-1.0, 1.0], repeat=7)), dtype=torch.float64)
    brute = torch.stack([loss(list((w + 0.4 * c * corner).split([2, 5], -1))) for corner in corners]).amax(0)
    starts = [
        worst_case(loss, weights, scales, 0.4, norm="linf", n_stack=1, n_steps=30, generator=generator(seed))
        for seed in range(20)  # corners have local maxima among them
    ]
    assert torch.stack(starts).amax(0).tolist() == pytest.approx(brute.tolist(), rel=1e-2)


@pytest.mark.parametrize("kind", ["standard", "adaptive"])
def test_sampling_finds_the_trace_whatever_the_slope(kind):
    loss, weights, hessians, _ = quadratics(3, 8, slope=30.0)
    scales = scales_of(weights, kind)
    found = average_case(loss, weights, scales, 0.3, n_stack=1, n_pairs=4000, generator=generator())
    exact = [quadratic_average(H, c, 0.3) for H, c in zip(hessians, torch.cat(scales, -1), strict=True)]
    assert found.tolist() == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_one_point_of_a_linear_classifier_has_the_closed_form(norm):
    g = generator(5)
    w, x = torch.randn(6, generator=g).double(), torch.randn(1, 6, generator=g).double()
    y, c = torch.ones(1).double(), w.abs()

    def loss(parts):
        return torch.nn.functional.softplus(-(parts[0] @ x.mT) * y).mean(-1)

    found = worst_case(loss, [w[None]], [c[None]], 0.4, norm=norm, n_stack=1, n_steps=20, generator=g)
    exact = linear_worst_loss(w, x, y, c, 0.4, norm) - linear_worst_loss(w, x, y, c, 0.0, norm)
    assert float(found) == pytest.approx(float(exact), rel=1e-9)


def digits_like():
    g = generator(7)
    xs, ys = torch.randn(2, 40, 6, generator=g), torch.randint(3, (2, 40), generator=g)
    model = MLP([6, 8, 3], seeds=[0, 1])

    def loss(weights):
        return cross_entropy(mlp_features(weights, xs) @ weights[-1].mT, ys)

    return loss, [w.detach() for w in model.weights]


def measures(loss, weights, kind):
    scales = scales_of(weights, kind)
    average = average_case(loss, weights, scales, 0.3, n_stack=1, n_pairs=5, generator=generator())
    worst = [
        worst_case(loss, weights, scales, 0.1, norm=norm, n_stack=1, n_steps=10, generator=generator())
        for norm in ("l2", "linf")
    ]
    return torch.stack([average, *worst])


def test_adaptive_sharpness_survives_a_rescaling_of_layers_and_standard_sharpness_does_not():
    loss, weights = digits_like()
    moved = [5 * weights[0], weights[1] / 5]
    assert torch.allclose(loss(weights), loss(moved), rtol=1e-5)
    assert torch.allclose(measures(loss, weights, "adaptive"), measures(loss, moved, "adaptive"), rtol=1e-3)
    ratio = measures(loss, moved, "standard") / measures(loss, weights, "standard")
    assert (ratio > 2).all()


def test_a_member_alone_has_the_sharpness_that_it_has_in_company():
    loss, weights = digits_like()
    alone = [w[1:] for w in weights]

    def loss_alone(parts):
        return loss([torch.cat([w[:1], part]) for w, part in zip(weights, parts, strict=True)])[1:]

    together = measures(loss, weights, "adaptive")[:, 1:]
    assert torch.allclose(measures(loss_alone, alone, "adaptive"), together, rtol=1e-5, atol=1e-6)


def test_normalised_logits_do_not_see_the_scale_of_the_network():
    logits = torch.randn(5, 10, generator=generator())
    assert torch.allclose(normalised_logits(logits), normalised_logits(7 * logits + 3), atol=1e-5)
    assert torch.allclose(normalised_logits(logits).norm(dim=-1), torch.ones(5))


def test_what_makes_no_sense_is_refused_by_name():
    loss, weights = digits_like()
    scales = scales_of(weights, "standard")
    with pytest.raises(ValueError, match="kind is 'relative'"):
        scales_of(weights, "relative")
    with pytest.raises(ValueError, match=r"radius is 0\.0; it must be positive"):
        average_case(loss, weights, scales, 0.0, n_stack=1, n_pairs=1, generator=generator())
    with pytest.raises(ValueError, match="n_pairs is 0"):
        average_case(loss, weights, scales, 0.1, n_stack=1, n_pairs=0, generator=generator())
    with pytest.raises(ValueError, match="n_steps is 0"):
        worst_case(loss, weights, scales, 0.1, norm="l2", n_stack=1, n_steps=0, generator=generator())
    with pytest.raises(ValueError, match="norm is 'l1'"):
        worst_case(loss, weights, scales, 0.1, norm="l1", n_stack=1, n_steps=1, generator=generator())
