"""Margins in variation norm, against the closed form and a program that is not linear."""

from itertools import pairwise

import cvxpy
import numpy as np
import pytest

from lib.tasks.slabs import interval_labels, intervals
from lib.theory.variation_margin import sphere_grid, variation_margin


def slab_points(k, margin, per_interval=6):
    ends, labels = intervals(k, margin).numpy(), interval_labels(k).numpy().astype(float)
    xs = np.concatenate([np.linspace(left, right, per_interval) for left, right in ends])
    return xs[:, None], np.repeat(labels, per_interval)


@pytest.mark.parametrize("margin", [0.02, 0.1, 0.4])
def test_the_linear_coordinate_has_the_margin_of_the_closed_form(margin):
    value, _ = variation_margin(*slab_points(2, margin), sphere_grid(1, 2000))
    assert value == pytest.approx(margin / (1 + margin**2) ** 0.5, rel=1e-3)


def test_the_measure_has_variation_one_and_attains_the_margin():
    xs, ys = slab_points(3, 0.1)
    neurons = sphere_grid(1, 500)
    value, measure = variation_margin(xs, ys, neurons)
    assert np.abs(measure).sum() == pytest.approx(1)
    f = np.maximum(xs @ neurons[:, :1].T + neurons[:, 1], 0) @ measure
    assert (ys * f).min() == pytest.approx(value, rel=1e-6)


def test_it_is_the_inverse_of_the_least_norm_that_separates():
    xs, ys = slab_points(3, 0.1)
    neurons = sphere_grid(1, 200)
    measure = cvxpy.Variable(200)
    f = np.maximum(xs @ neurons[:, :1].T + neurons[:, 1], 0) @ measure
    least = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm1(measure)), [cvxpy.multiply(ys, f) >= 1]).solve(
        solver=cvxpy.CLARABEL
    )
    assert variation_margin(xs, ys, neurons)[0] == pytest.approx(1 / least, rel=1e-4)


def test_more_slabs_cost_margin():
    values = [variation_margin(*slab_points(k, 0.1), sphere_grid(1, 1000))[0] for k in (2, 3, 5, 7)]
    assert all(a > 1.5 * b for a, b in pairwise(values))


def test_the_lattice_covers_the_sphere_evenly():
    points = sphere_grid(2, 2000)
    assert np.allclose(np.linalg.norm(points, axis=1), 1)
    assert np.abs(points.mean(0)).max() < 2e-3
    assert np.allclose(points.T @ points / 2000, np.eye(3) / 3, atol=2e-3)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="n_in is 3; it must be 1 or 2"):
        sphere_grid(3, 100)
    with pytest.raises(ValueError, match="n_points is 2; it must be at least 4"):
        sphere_grid(1, 2)
    with pytest.raises(ValueError, match=r"ys holds labels other than -1 and \+1"):
        variation_margin(np.zeros((2, 1)), np.array([0.0, 1.0]), sphere_grid(1, 8))
