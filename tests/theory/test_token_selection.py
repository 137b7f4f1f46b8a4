"""The attention SVM against cvxpy, its optimality conditions, and scikit-learn where it reduces to a linear SVM."""

import cvxpy as cp
import numpy as np
import pytest
from sklearn.svm import SVC

from lib.theory import token_selection as theory
from lib.theory.hard_margin import Infeasible
from lib.theory.nuclear_margin import nuclear_margin


def instance(seed: int, n: int = 4, T: int = 5, d: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, queries and scores."""
    rng = np.random.default_rng(seed)
    xs, zs = rng.normal(size=(n, T, d)), rng.normal(size=(n, d))
    return xs, zs, rng.choice([-1, 1], n)[:, None] * (xs @ rng.normal(size=d))


def program_in_words(xs: np.ndarray, zs: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """The program as it is written in the paper, one constraint at a time, by a general solver."""
    W = cp.Variable((xs.shape[-1],) * 2)
    constraints = []
    for x, z, chosen in zip(xs, zs, selected, strict=True):
        for a in np.flatnonzero(chosen):
            constraints += [(x[a] - x[t]) @ W @ z >= 1 for t in np.flatnonzero(~chosen)]
            constraints += [(x[a] - x[b]) @ W @ z == 0 for b in np.flatnonzero(chosen) if b > a]
    cp.Problem(cp.Minimize(cp.sum_squares(W)), constraints).solve(solver=cp.CLARABEL)
    return W.value


def nuclear_program(xs: np.ndarray, zs: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """The same for one selected token each, in the nuclear norm."""
    return nuclear_margin(*theory.constraint_pairs(xs, zs, selected)[0])


@pytest.mark.parametrize("seed", range(3))
def test_one_selected_token_each_is_what_a_general_solver_finds(seed):
    xs, zs, scores = instance(seed)
    selected = theory.optimal_tokens(scores)
    W = theory.frobenius_program(xs, zs, selected)
    np.testing.assert_allclose(W, program_in_words(xs, zs, selected), atol=1e-5)
    assert theory.margins(W, xs, zs, selected).min() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_several_selected_tokens_are_what_a_general_solver_finds(seed):
    xs, zs, scores = instance(seed, n=3, T=4, d=7)
    selected = scores >= np.sort(scores, axis=-1)[:, [-1, -2, -2]].diagonal()[:, None]
    assert selected.sum(-1).tolist() == [1, 2, 2]
    W = theory.frobenius_program(xs, zs, selected)
    np.testing.assert_allclose(W, program_in_words(xs, zs, selected), atol=1e-5)
    _, (differences, queries) = theory.constraint_pairs(xs, zs, selected)
    assert np.abs(((differences @ W) * queries).sum(-1)).max() < 1e-10


def test_with_one_query_for_all_it_is_a_linear_svm_on_token_differences():
    xs, _, scores = instance(5, n=6, T=4, d=10)
    z = np.zeros(10)
    z[0] = 1.0
    selected = theory.optimal_tokens(scores)
    W = theory.frobenius_program(xs, np.tile(z, (6, 1)), selected)
    (differences, _), _ = theory.constraint_pairs(xs, np.tile(z, (6, 1)), selected)
    svc = SVC(kernel="linear", C=1e8, tol=1e-10)
    svc.fit(np.vstack([differences, -differences]), np.repeat([1, -1], len(differences)))
    np.testing.assert_allclose(W[:, 0], svc.coef_[0], rtol=1e-5, atol=1e-6)
    assert np.abs(W[:, 1:]).max() == 0


def test_the_finite_part_splits_the_attention_as_asked():
    xs, zs, scores = instance(1, d=8)
    selected = np.argsort(np.argsort(scores)) >= 3  # two tokens each
    log_attention = np.log(np.random.default_rng(0).uniform(0.1, 0.9, scores.shape))
    W = theory.finite_part(xs, zs, selected, log_attention)
    logits = (xs @ W @ zs[..., None])[..., 0]
    got, wanted = (np.diff(values[selected].reshape(4, 2)) for values in (logits, log_attention))
    np.testing.assert_allclose(got, wanted, atol=1e-10)
    # Least norm: no part of it is free of the constraints.
    features = theory.outer_products(theory.constraint_pairs(xs, zs, selected)[1])
    assert np.linalg.matrix_rank(np.vstack([features, W.ravel()])) == len(features)
    assert not theory.finite_part(xs, zs, theory.optimal_tokens(scores), log_attention).any()


def test_few_dimensions_make_the_program_infeasible_and_enough_make_it_feasible():
    """d ≥ max(T - 1, n) suffices (arXiv 2308.16898, Theorem 1); in one dimension a token between two others never wins."""
    for seed in range(20):
        xs, zs, scores = instance(seed, n=4, T=5, d=4)
        theory.frobenius_program(xs, zs, theory.optimal_tokens(scores))
    xs = np.array([[[0.0], [1.0], [-1.0]]])
    with pytest.raises(Infeasible, match="contradict"):
        theory.frobenius_program(xs, np.ones((1, 1)), np.array([[True, False, False]]))
    repeated = np.array([[[1.0, 0.0], [1.0, 0.0]]])
    with pytest.raises(Infeasible, match="cannot be told from"):
        theory.frobenius_program(repeated, np.ones((1, 2)), np.array([[True, False]]))


def test_optimal_tokens_are_locally_optimal_and_the_worst_tokens_are_not():
    for seed in range(10):
        xs, zs, scores = instance(seed)
        for selected, is_local in ((theory.optimal_tokens(scores), True), (theory.optimal_tokens(-scores), False)):
            for W in (theory.frobenius_program(xs, zs, selected), nuclear_program(xs, zs, selected)):
                assert theory.locally_optimal(W, xs, zs, scores, selected) == is_local


def test_only_neighbours_count_for_local_optimality():
    """Token 2 scores best but lies far on token 0's side: selecting 0 holds off 1 with margin 1 and 2 with more."""
    xs = np.array([[[0.0, 0.0], [-1.0, 0.0], [-3.0, 0.0]]])
    zs, selected = np.array([[1.0, 0.0]]), np.array([[True, False, False]])
    W = theory.frobenius_program(xs, zs, selected)
    assert theory.locally_optimal(W, xs, zs, np.array([[1.0, 0.0, 2.0]]), selected)
    assert not theory.locally_optimal(W, xs, zs, np.array([[1.0, 1.5, 2.0]]), selected)


def test_the_two_norms_can_have_different_neighbours():
    """So that a selection can be locally optimal for W and not for (K, Q): the token that decides is active in one only."""
    found = set()
    for seed in range(40):
        xs, zs, scores = instance(seed, d=5)
        selected = theory.optimal_tokens(np.random.default_rng(seed).normal(size=scores.shape))
        W, N = theory.frobenius_program(xs, zs, selected), nuclear_program(xs, zs, selected)
        one, other = (theory.margins(V, xs, zs, selected) < 1 + 1e-6 for V in (W, N))
        # Scores under which the tokens that are neighbours in W alone are better than the selected ones.
        better = np.zeros_like(scores)
        better[~selected] = np.where(one & ~other, 1.0, -1.0)
        found.add(tuple(theory.locally_optimal(V, xs, zs, better, selected) for V in (W, N)))
        assert theory.locally_optimal(N, xs, zs, better, selected)
    assert (False, True) in found


def test_directions_are_compared_without_losing_small_errors():
    A = np.eye(2)
    B = A + 1e-12 * np.array([[0.0, 1.0], [0.0, 0.0]])
    assert theory.direction_error(3 * A, B) == pytest.approx(1e-12 / 2**0.5, rel=1e-3)
    assert theory.cosine(A, -2 * A) == pytest.approx(-1)
    assert theory.cosine(np.stack([A, A]), B).shape == (2,)


def test_degenerate_problems_are_refused():
    with pytest.raises(ValueError, match=r"sequence \(1,\) has no optimal token.*tied at 0\.5"):
        theory.optimal_tokens(np.array([[0.0, 1.0, 0.3], [0.5, 0.5, 0.2]]))
    with pytest.raises(ValueError, match="at least 2 tokens"):
        theory.optimal_tokens(np.ones((3, 1)))
    with pytest.raises(ValueError, match="scores must be finite"):
        theory.optimal_tokens(np.array([[np.nan, 1.0]]))
    xs, zs, scores = instance(0)
    selected = theory.optimal_tokens(scores)
    with pytest.raises(ValueError, match="sequence 2 has no selected token"):
        theory.frobenius_program(xs, zs, selected & (np.arange(4) != 2)[:, None])
    with pytest.raises(ValueError, match="selected holds every token"):
        theory.frobenius_program(xs, zs, np.ones_like(selected))
    with pytest.raises(ValueError, match="xs and zs must be finite"):
        theory.frobenius_program(xs * np.inf, zs, selected)
    with pytest.raises(ValueError, match=r"shapes .* must be \(n, T, d\)"):
        theory.check_selection(xs, zs[:2], selected)
    with pytest.raises(ValueError, match=r"scores have shape \(4, 4\)"):
        theory.locally_optimal(np.eye(6), xs, zs, scores[:, 1:], selected)
    with pytest.raises(ValueError, match="several tokens in one sequence"):
        theory.locally_optimal(np.eye(6), xs, zs, scores, scores > np.sort(scores)[:, [1]])
    for W in (0.5 * theory.frobenius_program(xs, zs, selected), np.full((6, 6), np.nan)):
        with pytest.raises(ValueError, match="W has the margin"):
            theory.locally_optimal(W, xs, zs, scores, selected)
