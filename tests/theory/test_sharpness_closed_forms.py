"""Closed forms of sharpness, against automatic differentiation and descent."""

import numpy as np
import pytest
import torch

from lib.models.diagonal_network import descend_diagonal
from lib.theory.sharpness import average_case
from lib.theory.sharpness_closed_forms import (
    diagonal_traces,
    flow_standard_trace,
    linear_worst_loss,
    quadratic_worst,
    scaled_classifier_sharpness,
)


@pytest.fixture(scope="module")
def trained():
    g = torch.Generator().manual_seed(0)
    xs = torch.randn(6, 10, generator=g, dtype=torch.float64)
    beta = torch.zeros(10, dtype=torch.float64).index_fill(0, torch.arange(2), 1.0)
    u = torch.tensor([0.3, 0.7, 1.0]).double()[:, None] * torch.rand(3, 10, generator=g).double().add(0.5)
    start = u.clone()
    u, v, losses = descend_diagonal(u, 0 * u, xs, xs @ beta, torch.full((3,), 0.02).double(), 40000, enough=1e-18)
    assert (losses < 1e-16).all()
    return xs, xs @ beta, start, u, v


def hessian_of(xs, ys, u, v):
    def loss(w):
        return (xs @ (w[:10] * w[10:]) - ys).square().mean() / 2

    return torch.autograd.functional.hessian(loss, torch.cat([u, v]))


def test_traces_of_trained_diagonal_networks_are_those_of_the_hessian(trained):
    xs, ys, _, us, vs = trained
    traces = diagonal_traces(us, vs, xs)
    for i, (u, v) in enumerate(zip(us, vs, strict=True)):
        diagonal = hessian_of(xs, ys, u, v).diagonal()
        ratio = (u / v).abs().sqrt()
        scales = {
            "standard": torch.ones(20).double(),
            "adaptive": torch.cat([u, v]).abs(),
            "balanced": torch.cat([ratio, 1 / ratio]),
        }
        for name, c in scales.items():
            assert float(traces[name][i]) == pytest.approx(float((c**2 * diagonal).sum()), rel=1e-6)


def test_the_standard_trace_is_bounded_by_the_balanced_one_and_has_the_value_of_the_flow(trained):
    xs, _, start, us, vs = trained
    traces = diagonal_traces(us, vs, xs)
    assert (traces["standard"] >= traces["balanced"]).all()
    assert torch.allclose(flow_standard_trace(start, us * vs, xs), traces["standard"], rtol=0.03)


def test_a_small_radius_of_average_sharpness_gives_the_trace(trained):
    xs, ys, _, us, vs = trained

    def loss(parts):
        return ((parts[0] * parts[1]) @ xs.mT - ys).square().mean(-1) / 2

    g = torch.Generator().manual_seed(1)
    found = average_case(loss, [us, vs], [us.abs(), vs.abs()], 1e-3, n_stack=1, n_pairs=4000, generator=g)
    assert torch.allclose(found, 1e-6 / 2 * diagonal_traces(us, vs, xs)["adaptive"], rtol=0.1)


def test_points_on_the_class_means_have_the_sharpness_of_the_formula():
    w, ys = torch.tensor([3.0, 4.0], dtype=torch.float64), torch.tensor([1.0, -1.0], dtype=torch.float64)
    xs = ys[:, None] * w / 5
    for alpha in (0.01, 0.3, 5.0):
        v = alpha * w
        c = v.norm() * torch.ones(2).double()
        found = linear_worst_loss(v, xs, ys, c, 0.5, "l2") - linear_worst_loss(v, xs, ys, c, 0.0, "l2")
        assert float(found) == pytest.approx(float(scaled_classifier_sharpness(np.array(alpha), 5.0, 0.5)), rel=1e-9)


def test_what_makes_no_sense_is_refused_by_name():
    one = torch.ones(1).double()
    with pytest.raises(ValueError, match="hessian has the eigenvalue"):
        quadratic_worst(-torch.eye(1).double(), one, one, 0.1)
    with pytest.raises(ValueError, match="norm is 'l1'"):
        linear_worst_loss(one, one[None], one, one, 0.1, "l1")
