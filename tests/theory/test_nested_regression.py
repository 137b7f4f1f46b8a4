"""Evidence of nested regressions against the multivariate normal, ridge and least squares."""

import pytest
import torch
from scipy.stats import multivariate_normal

from lib.seeds import generator_for
from lib.theory.nested_regression import bayes_mixture, predict_and_weigh
from lib.theory.regression_baselines import each_prefix, least_squares, ridge


def points(size, batch=4, n_points=8, d=4, noise=0.1):
    g = generator_for(size, "test")
    xs = torch.randn(batch, n_points, d, generator=g, dtype=torch.float64)
    w = torch.randn(batch, size, 1, generator=g, dtype=torch.float64)
    return xs, (xs[..., :size] @ w)[..., 0] + noise * torch.randn(batch, n_points, generator=g, dtype=torch.float64)


def test_evidence_is_that_of_the_multivariate_normal():
    xs, ys = points(2)
    _, evidences = predict_and_weigh(xs, ys, [2, 4], noise_variance=0.01)
    for i, k in enumerate((2, 4)):
        for m in (1, 3, 7):
            X = xs[0, :m, :k]
            expected = multivariate_normal(cov=X @ X.T + 0.01 * torch.eye(m, dtype=torch.float64)).logpdf(ys[0, :m])
            assert evidences[i, 0, m].item() == pytest.approx(expected, abs=1e-8)
    assert (evidences[..., 0] == 0).all()


def test_each_prediction_is_ridge_on_its_coordinates():
    xs, ys = points(4)
    means, _ = predict_and_weigh(xs, ys, [1, 3], noise_variance=0.3)
    for i, k in enumerate((1, 3)):
        expected = each_prefix(lambda a, b, q: ridge(a, b, q, penalty=0.3), xs[..., :k], ys)
        assert torch.allclose(means[i], expected)


def test_little_noise_is_least_squares():
    xs, ys = points(2, noise=0.0)
    means, _ = predict_and_weigh(xs, ys, [2, 4], noise_variance=1e-8)
    assert torch.allclose(means[1], each_prefix(least_squares, xs, ys), atol=1e-4)


def test_with_more_points_than_half_the_small_hypothesis_wins_though_both_interpolate():
    xs, ys = points(2, batch=2000, d=4, n_points=4, noise=1e-2)
    _, posterior = bayes_mixture(xs, ys, [2, 4], noise_variance=1e-4)
    assert posterior[0, :, 3].mean() > 0.95  # three points, four weights: the large one fits them exactly


def test_the_posterior_is_calibrated():
    small, large = points(1, batch=4000, n_points=4, d=3), points(3, batch=4000, n_points=4, d=3)
    xs, ys = (torch.cat(pair) for pair in zip(small, large, strict=True))
    _, posterior = bayes_mixture(xs, ys, [1, 3], noise_variance=0.01)
    truth, expected = torch.arange(2).repeat_interleave(4000), posterior[1, :, 1]
    for low, top in ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8)):
        chosen = (expected >= low) & (expected < top)
        gap = truth[chosen].double().mean() - expected[chosen].mean()
        assert abs(gap) < 4 * (0.25 / chosen.sum()) ** 0.5


def test_noise_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match=r"noise_variance is 0.0; it must be positive"):
        predict_and_weigh(*points(2), [2, 4], 0.0)


@pytest.mark.parametrize("sizes", [[], [0, 4], [2, 2], [4, 2], [2, 5]])
def test_sizes_that_are_not_nested_in_the_inputs_are_refused(sizes):
    with pytest.raises(ValueError, match=r"sizes is .*; it must increase within 1…4"):
        predict_and_weigh(*points(2), sizes, 0.1)
