"""The nuclear-norm program agrees with a cone solver, and its solutions prove themselves."""

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import linprog

from lib.theory import nuclear_margin as program
from lib.theory.hard_margin import Infeasible, hard_margin
from lib.theory.nuclear_margin import nuclear_margin, nuclear_margins


def instances(n: int, T: int, d: int, n_instances: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Differences and queries of random unit tokens, the first token of every sequence being the selected one."""
    generator = np.random.default_rng(seed)
    xs, zs = generator.normal(size=(n_instances, n, T, d)), generator.normal(size=(n_instances, n, d))
    xs, zs = (rows / np.linalg.norm(rows, axis=-1, keepdims=True) for rows in (xs, zs))
    return (xs[:, :, :1] - xs[:, :, 1:]).reshape(n_instances, -1, d), np.repeat(zs, T - 1, axis=1)


def nuclear(W: np.ndarray) -> np.ndarray:
    return np.linalg.svd(W, compute_uv=False).sum(-1)


def by_dual_program(a: np.ndarray, q: np.ndarray) -> float:
    """Value of max Σ λ with ‖Σ λ a qᵀ‖ ≤ 1, modelled independently."""
    multipliers = cp.Variable(len(a), nonneg=True)
    problem = cp.Problem(cp.Maximize(cp.sum(multipliers)), [cp.sigma_max(a.T @ cp.diag(multipliers) @ q) <= 1])
    return problem.solve(solver=cp.CLARABEL)


@pytest.mark.parametrize(("n", "T", "d"), [(2, 3, 2), (3, 4, 5), (6, 4, 3), (2, 6, 8), (4, 3, 6)])
def test_norms_are_those_of_a_cone_solver(n: int, T: int, d: int):
    a, q = instances(n, T, d, 4)
    found = nuclear_margins(a, q)
    assert np.isfinite(found.gap).any()
    for i in np.flatnonzero(np.isfinite(found.gap)):
        W, _ = program.by_cone_program(a[i], q[i])
        assert nuclear(found.W[i]) == pytest.approx(nuclear(W), rel=1e-6)
        assert nuclear(found.W[i]) == pytest.approx(by_dual_program(a[i], q[i]), rel=1e-6)
        np.testing.assert_allclose(found.W[i], W, atol=1e-3 * np.abs(W).max())


@pytest.mark.parametrize(("n", "T", "d"), [(2, 3, 2), (5, 5, 3), (5, 5, 10), (15, 5, 20), (5, 15, 5)])
def test_solutions_satisfy_the_conditions_of_optimality(n: int, T: int, d: int):
    a, q = instances(n, T, d, 8, seed=1)
    found = nuclear_margins(a, q)
    good = np.isfinite(found.gap)
    assert good.sum() >= 6
    a, q, W, multipliers, gap = a[good], q[good], found.W[good], found.multipliers[good], found.gap[good]
    margins = ((a @ W) * q).sum(-1)
    M = np.swapaxes(a * multipliers[..., None], -1, -2) @ q
    assert margins.min() >= 1 - 1e-12
    assert multipliers.min() >= 0
    assert np.linalg.norm(M, 2, axis=(-2, -1)).max() <= 1 + 1e-12
    np.testing.assert_allclose(gap, 1 - multipliers.sum(-1) / nuclear(W), atol=1e-15)
    assert -1e-12 < gap.min() <= gap.max() < program.CERTIFIED_GAP
    # Complementary slackness and M in the subdifferential of the norm follow from the gap; here they are told apart.
    scale = nuclear(W)
    assert ((margins - 1) * multipliers).sum(-1).max() <= 1e-7 * scale.max()
    np.testing.assert_allclose((M * W).sum((-2, -1)), scale, rtol=1e-7)


def test_ranks_do_not_depend_on_the_threshold():
    a, q = instances(5, 5, 10, 20, seed=2)
    values = np.linalg.svd(nuclear_margins(a, q).W, compute_uv=False)
    ranks = (values > 1e-7).sum(-1)
    assert (ranks == (values > 1e-5).sum(-1)).all()
    assert ranks.max() <= 5
    frobenius = [
        hard_margin((x[:, :, None] * y[:, None]).reshape(len(x), -1)).reshape(10, 10) for x, y in zip(a, q, strict=True)
    ]
    assert ranks.mean() < np.linalg.matrix_rank(np.stack(frobenius), tol=1e-7).mean()


def test_with_one_query_the_two_norms_agree():
    a, q = instances(1, 5, 6, 5)
    for features, query, W in zip(a, q, nuclear_margins(a, q).W, strict=True):
        np.testing.assert_allclose(W, np.outer(hard_margin(features), query[0]), atol=1e-6)


def test_with_diagonal_features_the_norm_is_that_of_a_linear_program():
    # Differences and queries are multiples of the same unit vector, so that only the diagonal of W enters:
    # the norm is the sum of the diagonal's absolute values.
    weights = np.array([1.0, -2.0, 0.5])
    a, q = np.eye(3) * weights, np.eye(3)
    expected = linprog([1, 1, 1], A_ub=-np.diag(np.abs(weights)), b_ub=-np.ones(3)).fun
    W = nuclear_margin(a, q)
    assert nuclear(W) == pytest.approx(expected, rel=1e-8)
    np.testing.assert_allclose(np.diag(W), 1 / weights, rtol=1e-7)


def test_one_dimension_is_a_division():
    assert nuclear_margin(np.array([[0.5], [2.0]]), np.array([[2.0], [1.0]])) == pytest.approx(1.0)
    assert nuclear_margin(np.array([[-0.25]]), np.array([[2.0]])) == pytest.approx(-2.0)


def test_repeated_constraints_change_nothing():
    a, q = instances(3, 3, 4, 1)
    once = nuclear_margin(a[0], q[0])
    np.testing.assert_allclose(nuclear_margin(np.tile(a[0], (3, 1)), np.tile(q[0], (3, 1))), once, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_units_do_not_matter(factor: float):
    a, q = instances(3, 4, 4, 1, seed=3)
    np.testing.assert_allclose(
        nuclear_margin(factor * a[0], q[0]), nuclear_margin(a[0], q[0]) / factor, rtol=1e-5, atol=1e-7 / factor
    )


def test_a_member_of_a_stack_equals_the_program_alone():
    a, q = instances(4, 4, 5, 6)
    stacked = nuclear_margins(a.reshape(2, 3, -1, 5), q.reshape(2, 3, -1, 5))
    assert stacked.W.shape == (2, 3, 5, 5)
    assert stacked.gap.shape == (2, 3)
    np.testing.assert_allclose(stacked.W[1, 2], nuclear_margin(a[5], q[5]), atol=1e-7)


def test_queries_and_tokens_may_differ_in_dimension():
    a, _ = instances(2, 3, 5, 1)
    _, q = instances(2, 3, 2, 1)
    W = nuclear_margin(a[0], q[0])
    assert W.shape == (5, 2)
    assert ((a[0] @ W) * q[0]).sum(-1).min() == pytest.approx(1)


def test_infeasible_programs_are_told():
    a, q = np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    with pytest.raises(Infeasible, match="contradict"):
        nuclear_margin(a, q)
    with pytest.raises(Infeasible):  # a zero row
        nuclear_margin(np.array([[1.0, 0.0], [0.0, 0.0]]), q)
    found = nuclear_margins(np.stack([a, np.abs(a)]), np.stack([q, q]))
    assert np.isnan(found.gap).tolist() == [True, False]
    assert np.isnan(found.W[0]).all()
    np.testing.assert_allclose(found.W[1], [[0, 1], [0, 0]], atol=1e-8)


def test_uncertified_solutions_are_left_to_the_cone_solver(monkeypatch: pytest.MonkeyPatch):
    a, q = instances(3, 3, 4, 2)
    expected = nuclear_margins(a, q)
    assert not expected.by_cvxpy.any()
    monkeypatch.setattr(program, "MAX_STEPS", 3)
    found = nuclear_margins(a, q)
    assert found.by_cvxpy.all()
    assert found.gap.max() < 1e-6
    np.testing.assert_allclose(nuclear(found.W), nuclear(expected.W), rtol=1e-6)


def test_a_cone_solver_that_fails_says_so(monkeypatch: pytest.MonkeyPatch):
    a, q = np.array([[1.0], [-1.0]]), np.ones((2, 1))
    with pytest.raises(RuntimeError, match=r"no solution of a program with 2 constraints \(status: infeasible"):
        program.by_cone_program(a, q)

    def fail(*_: object, **__: object) -> None:
        raise cp.error.SolverError("numbers too large")

    monkeypatch.setattr(cp.Problem, "solve", fail)
    with pytest.raises(RuntimeError, match="Clarabel found no solution") as told:
        program.by_cone_program(np.ones((2, 1)), q)
    assert "numbers too large" in str(told.value.__cause__)


def test_one_program_has_rows():
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(3,\); they must be \(m, d\)"):
        nuclear_margin(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match=r"they must be \(m, d\)"):
        nuclear_margin(*instances(2, 3, 2, 4))


@pytest.mark.parametrize(
    ("a", "q", "told"),
    [
        (np.ones((0, 3)), np.ones((0, 3)), "at least one constraint"),
        (np.ones((2, 0)), np.ones((2, 3)), "differences and queries have shapes"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), "differences must be finite"),
        (np.ones((2, 3)), np.full((2, 3), np.inf), "queries must be finite"),
    ],
)
def test_what_is_no_program_is_refused(a: np.ndarray, q: np.ndarray, told: str):
    with pytest.raises(ValueError, match=told):
        nuclear_margins(a, q)
