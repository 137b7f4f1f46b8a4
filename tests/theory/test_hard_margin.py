"""The hard-margin program against its optimality conditions and against scikit-learn."""

import numpy as np
import pytest
from sklearn.svm import SVC

from lib.theory.hard_margin import Infeasible, hard_margin, hard_margin_multipliers


def separable(seed: int, n: int, p: int) -> np.ndarray:
    """Labelled points times their labels, with a margin from a random direction."""
    rng = np.random.default_rng(seed)
    xs, w = rng.normal(size=(n, p)), rng.normal(size=p)
    return xs * np.sign(xs @ w)[:, None]


@pytest.mark.parametrize(("n", "p"), [(1, 1), (5, 2), (40, 100), (60, 10), (200, 5)])
def test_the_optimality_conditions_hold(n, p):
    for seed in range(5):
        features = separable(seed, n, p)
        gram = features @ features.T
        multipliers = hard_margin_multipliers(gram)
        slack = gram @ multipliers - 1
        size = multipliers.max() * np.diag(gram).max()
        assert (multipliers >= 0).all()
        assert slack.min() > -1e-10 * size
        assert np.abs(multipliers * slack).max() < 1e-9 * size * multipliers.max()
        # Strong duality: ‖w‖² is the sum of the multipliers.
        assert np.square(hard_margin(features)).sum() == pytest.approx(multipliers.sum(), rel=1e-8)


def test_scikit_learn_s_support_vector_machine_finds_the_same_vector():
    features = separable(3, 30, 6)
    # Points and their mirror images: a symmetric problem, whose separator has no offset.
    xs, ys = np.vstack([features, -features]), np.repeat([1, -1], 30)
    svc = SVC(kernel="linear", C=1e8, tol=1e-10).fit(xs, ys)
    assert abs(svc.intercept_[0]) < 1e-6
    np.testing.assert_allclose(hard_margin(features), svc.coef_[0], rtol=1e-5, atol=1e-6)


def test_features_of_very_different_length_are_separated_too():
    features = separable(0, 20, 30)
    w = hard_margin(features)
    scale = 10.0 ** np.linspace(-3, 3, 20)[:, None]
    stretched = hard_margin(features * scale)
    assert (features * scale @ stretched).min() > 1 - 1e-6
    assert (features @ w).min() > 1 - 1e-9


def test_more_dimensions_than_points_and_repeated_points_are_no_obstacle():
    features = np.repeat(separable(1, 4, 50), 3, axis=0)
    assert (features @ hard_margin(features)).min() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("features", [[[1.0, 0.0], [-1.0, 0.0]], [[1.0, 0.0], [-0.5, 1.0], [-0.5, -1.0]]])
def test_constraints_that_contradict_each_other_are_reported_as_infeasible(features):
    with pytest.raises(Infeasible, match="contradict each other"):
        hard_margin(np.array(features))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*square"):
        hard_margin_multipliers(np.ones((2, 3)))
    with pytest.raises(ValueError, match="symmetric and finite"):
        hard_margin_multipliers(np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="symmetric and finite"):
        hard_margin_multipliers(np.array([[np.nan]]))
    with pytest.raises(ValueError, match="a feature is zero"):
        hard_margin(np.array([[1.0, 0.0], [0.0, 0.0]]))
