r"""The nuclear-norm attention SVM: the W of least nuclear norm that keeps a margin of one, for many instances at once.

    W_* = argmin ‖W‖_*   subject to   a_kᵀ W q_k ≥ 1 for all k

Training K and Q of W = K Qᵀ is biased towards its direction, as training W is towards that of the Frobenius norm.

Source of the program: Tarzanagh, Li, Thrampoulidis, Oymak 2023, arXiv 2308.16898, Section 2 (Att-SVM with the nuclear norm).

It is a pair of semidefinite programs,

    min ½ tr X        subject to   ⟨A_k, X⟩ = 1 + s_k,   X ⪰ 0,  s ≥ 0            X = (· W; Wᵀ ·)
    max Σ_k λ_k       subject to   Z = ½ I - Σ_k λ_k A_k ⪰ 0,  λ ≥ 0               Z = ½ (I -M; -Mᵀ I),  M = Σ_k λ_k a_k q_kᵀ

with A_k = ½ (0 a_k q_kᵀ; q_k a_kᵀ 0), so that Z ⪰ 0 says ‖M‖ ≤ 1. We follow the path X Z = μ I, s λ = μ with μ → 0 by
Mehrotra's predictor and corrector along the directions of Helmberg, Rendl, Vanderbei, Wolkowicz 1996 (SIAM J. Optim. 6),
Kojima, Shindoh, Hara 1997 and Monteiro 1997 ("HKM"). Two things make it quick: all instances of a stack take each step
together, and the matrix of the linear system for dλ has a closed form in the products of the a's and q's (`_schur`).
Before that W is restricted to the span of the a's on its left and of the q's on its right, outside of which the solution
vanishes. The least Frobenius norm (`lib.theory.hard_margin`) tells whether the program is feasible, and gives the start.

Every solution comes with its certificate: W scaled to satisfy all constraints, λ scaled to ‖M‖ ≤ 1, and the relative gap
between ‖W‖_* and Σ λ, which bounds the error of the norm. Solutions whose certificate is too weak are computed again by
cvxpy and Clarabel. Where the solution is not unique, both methods tend to the centre of the set, whose rank is the largest.

| paper            | code                        | shape          |
|------------------|-----------------------------|----------------|
| x_opt - x_t      | `differences`, rows a_k     | (*stack, m, d) |
| z                | `queries`, rows q_k         | (*stack, m, d) |
| W                | `W`                         | (*stack, d, d) |
| λ, dual          | `multipliers`               | (*stack, m)    |
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from lib.theory.hard_margin import Infeasible, hard_margin

TARGET_GAP = 1e-11  # where the path is left
CERTIFIED_GAP = 1e-8  # above it cvxpy computes again
MAX_STEPS = 60


class Solutions(NamedTuple):
    """Solutions of a stack of programs; those of infeasible programs are NaN.

    Attributes:
        W: Satisfies every constraint up to rounding.
        multipliers: λ ≥ 0, feasible for the dual program.
        gap: (‖W‖_* - Σ λ) / ‖W‖_*, between zero (up to rounding) and the error of the norm.
        by_cvxpy: Which were computed again.
    """

    W: Float[ndarray, "*stack d e"]
    multipliers: Float[ndarray, "*stack m"]
    gap: Float[ndarray, "*stack"]
    by_cvxpy: ndarray


def nuclear_margin(differences: Float[ndarray, "..."], queries: Float[ndarray, "..."]) -> Float[ndarray, "d e"]:
    """The W of least nuclear norm with a_kᵀ W q_k ≥ 1 for every k.

    Args:
        differences: Rows a_k, (m, d).
        queries: Rows q_k, (m, e).

    Returns:
        W.

    Raises:
        Infeasible: No such W.
        ValueError: Shapes that do not fit, no constraint, or numbers that are not finite.

    >>> nuclear_margin(np.array([[2.0, 0.0]]), np.array([[0.0, 0.5]])).round(6)
    array([[0., 1.],
           [0., 0.]])
    """
    differences, queries = np.asarray(differences), np.asarray(queries)
    if differences.ndim != 2 or queries.ndim != 2:
        raise ValueError(
            f"differences and queries have shapes {differences.shape} and {queries.shape}; they must be (m, d) and (m, e)"
        )
    found = nuclear_margins(differences[None], queries[None])
    if np.isnan(found.gap[0]):
        raise Infeasible("the constraints contradict each other: no W has a positive margin")
    return found.W[0]


def nuclear_margins(differences: Float[ndarray, "*stack m d"], queries: Float[ndarray, "*stack m e"]) -> Solutions:
    """`nuclear_margin` for a stack of programs of one shape; infeasible ones give NaN.

    Args:
        differences: Rows a_k.
        queries: Rows q_k.

    Raises:
        ValueError: Shapes that do not fit, no constraint, or numbers that are not finite.
        RuntimeError: The cone solver failed on a program that the path had not solved.
    """
    differences, queries = np.asarray(differences, dtype=float), np.asarray(queries, dtype=float)
    if differences.ndim < 2 or differences.shape[:-1] != queries.shape[:-1] or 0 in differences.shape[-2:]:
        raise ValueError(
            f"differences and queries have shapes {differences.shape} and {queries.shape}; "
            "they must be (*stack, m, d) and (*stack, m, e) with at least one constraint"
        )
    for name, rows in (("differences", differences), ("queries", queries)):
        if not np.isfinite(rows).all():
            raise ValueError(f"{name} must be finite")
    stack, m = differences.shape[:-2], differences.shape[-2]
    a, q = differences.reshape(-1, m, differences.shape[-1]), queries.reshape(-1, m, queries.shape[-1])
    W = np.full((len(a), a.shape[-1], q.shape[-1]), np.nan)
    multipliers, gap = np.full((len(a), m), np.nan), np.full(len(a), np.nan)
    by_cvxpy = np.zeros(len(a), dtype=bool)
    feasible, starts = [], []
    for i in np.flatnonzero((a.any(-1) & q.any(-1)).all(-1)):  # a zero row never has a margin
        try:
            starts.append(hard_margin((a[i, :, :, None] * q[i, :, None, :]).reshape(m, -1)).reshape(W.shape[1:]))
            feasible.append(i)
        except Infeasible:
            continue
    if feasible:
        W[feasible], multipliers[feasible], gap[feasible] = _solve(a[feasible], q[feasible], np.stack(starts))
        for i in np.flatnonzero(~(gap < CERTIFIED_GAP) & np.isin(np.arange(len(a)), feasible)):
            again = certificate(a[i], q[i], *by_cone_program(a[i], q[i]))
            by_cvxpy[i] = True
            if not gap[i] < again[2]:
                W[i], multipliers[i], gap[i] = again
    return Solutions(
        W.reshape(*stack, *W.shape[1:]), multipliers.reshape(*stack, m), gap.reshape(stack), by_cvxpy.reshape(stack)
    )


def certificate(
    a: Float[ndarray, "*stack m d"],
    q: Float[ndarray, "*stack m e"],
    W: Float[ndarray, "*stack d e"],
    multipliers: Float[ndarray, "*stack m"],
) -> tuple[Float[ndarray, "*stack d e"], Float[ndarray, "*stack m"], Float[ndarray, "*stack"]]:
    """W and λ made feasible by scaling, and the relative gap between their values.

    Args:
        a: Rows a_k.
        q: Rows q_k.
        W: Nearly feasible.
        multipliers: Nearly feasible for the dual program.

    Returns:
        W, λ, gap; the gap is NaN where W has no positive margin.
    """
    margin = ((a @ W) * q).sum(-1).min(-1)
    W = W / np.where(margin > 0, margin, np.nan)[..., None, None]
    multipliers = np.maximum(multipliers, 0.0)
    M = np.swapaxes(a * multipliers[..., None], -1, -2) @ q
    multipliers = multipliers / np.maximum(np.linalg.norm(M, 2, axis=(-2, -1)), 1.0)[..., None]
    norm = np.linalg.svd(np.where(np.isfinite(W), W, 0.0), compute_uv=False).sum(-1)
    return W, multipliers, np.where(margin > 0, 1.0 - multipliers.sum(-1) / np.where(norm > 0, norm, 1.0), np.nan)


def by_cone_program(
    a: Float[ndarray, "m d"], q: Float[ndarray, "m e"]
) -> tuple[Float[ndarray, "d e"], Float[ndarray, " m"]]:
    """W and λ of one program by cvxpy and Clarabel, to 1e-8 or so, some twenty times slower.

    Raises:
        RuntimeError: The solver found no solution: the program is infeasible, or its numbers are of very unequal size.
    """
    import cvxpy as cp  # here: it takes a second to import, and is rarely needed

    W = cp.Variable((a.shape[1], q.shape[1]))
    constraint = cp.sum(cp.multiply(a @ W, q), axis=1) >= 1
    problem, failure = cp.Problem(cp.Minimize(cp.normNuc(W)), [constraint]), None
    try:
        problem.solve(solver=cp.CLARABEL)
    except cp.error.SolverError as error:
        failure = error
    if W.value is None or constraint.dual_value is None:
        raise RuntimeError(
            f"Clarabel found no solution of a program with {len(a)} constraints (status: {problem.status})"
        ) from failure
    return np.asarray(W.value), np.asarray(constraint.dual_value)


# -- the path ----------------------------------------------------------------------------------------------------------


def _solve(a: ndarray, q: ndarray, starts: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """`certificate` of all programs, which must be feasible; `starts` have margins of one."""
    left, right = _span(a), _span(q)
    scale = np.linalg.norm(starts, axis=(-2, -1), keepdims=True)  # in this unit of W all numbers are of order one
    X, multipliers = _path(
        *map(torch.from_numpy, (a @ left * scale, q @ right, np.swapaxes(left, -1, -2) @ starts @ right / scale))
    )
    W = left @ X.numpy()[:, : left.shape[-1], left.shape[-1] :] @ np.swapaxes(right, -1, -2) * scale
    return certificate(a, q, W, multipliers.numpy() * scale[:, 0])


def _span(rows: ndarray) -> ndarray:
    """Orthonormal bases (stack, d, r) of what the rows span; r is the largest dimension of a span in the stack."""
    _, values, basis = np.linalg.svd(rows, full_matrices=False)
    rank = int((values > 1e-12 * values[:, :1]).sum(-1).max())
    return np.swapaxes(basis[:, :rank], -1, -2)


def _path(a: Tensor, q: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    """X and λ near the end of the path, from a W with margins of at least one."""
    U, S, Vh = torch.linalg.svd(2 * W, full_matrices=False)
    floor = S.mean(-1)[:, None, None]
    X = _blocks((U * S[:, None]) @ U.mT, 2 * W, (Vh.mT * S[:, None]) @ Vh)
    X = X + floor * torch.eye(X.shape[-1], dtype=X.dtype)
    multipliers = 0.5 / torch.linalg.matrix_norm(a.mT @ q, 2)[:, None].expand(*a.shape[:2])
    slacks = _margins(a, q, X) - 1
    ends = X.clone(), multipliers.clone()
    going = torch.arange(len(a))
    for _ in range(MAX_STEPS):
        Z = _dual_slack(a, q, multipliers)
        total = (X * Z).sum((-2, -1)) + (slacks * multipliers).sum(-1)
        for end, now in zip(ends, (X, multipliers), strict=True):
            end[going] = now
        wanted = total > TARGET_GAP * multipliers.sum(-1)
        if not wanted.any():
            break
        going, a, q, X, slacks, multipliers, Z = (t[wanted] for t in (going, a, q, X, slacks, multipliers, Z))
        X, slacks, multipliers, sound = _step(a, q, X, slacks, multipliers, Z, total[wanted])
        if not sound.all():  # rounding has had the last word on these
            going, a, q, X, slacks, multipliers = (t[sound] for t in (going, a, q, X, slacks, multipliers))
    return ends


def _step(
    a: Tensor, q: Tensor, X: Tensor, slacks: Tensor, multipliers: Tensor, Z: Tensor, total: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One predictor and one corrector; the last value is false where a matrix has lost its definiteness to rounding."""
    mu = (total / (X.shape[-1] + a.shape[1]))[:, None]
    inverse = torch.linalg.inv(Z)
    inverse = (inverse + inverse.mT) / 2
    system = _schur(a, q, X, inverse) + torch.diag_embed(slacks / multipliers)
    (factor, fault), (root_X, fault_X), (root_Z, fault_Z) = map(torch.linalg.cholesky_ex, (system, X, Z))
    missing = 1 + slacks - _margins(a, q, X)

    def direction(
        target: Tensor, bend_X: Tensor | float, bend_s: Tensor | float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Step towards X Z = target I, s λ = target, with second-order terms."""
        towards = target[..., None] * inverse - X - bend_X
        towards_s = target / multipliers - slacks - bend_s
        d_multipliers = torch.cholesky_solve((missing - _margins(a, q, towards) + towards_s)[..., None], factor)[..., 0]
        d_Z = -_adjoint(a, q, d_multipliers)
        d_X = towards - _symmetric(X @ d_Z @ inverse)
        return d_X, towards_s - slacks * d_multipliers / multipliers, d_multipliers, d_Z

    def lengths(d_X: Tensor, d_slacks: Tensor, d_multipliers: Tensor, d_Z: Tensor) -> tuple[Tensor, Tensor]:
        """How far the primal and the dual variables may go, at most 1."""
        primal = torch.maximum(_blocked(root_X, d_X), (-d_slacks / slacks).amax(-1))
        dual = torch.maximum(_blocked(root_Z, d_Z), (-d_multipliers / multipliers).amax(-1))
        return tuple((0.98 / rate.clamp(min=0.98))[:, None] for rate in (primal, dual))

    d_X, d_slacks, d_multipliers, d_Z = predictor = direction(torch.zeros_like(mu), 0.0, 0.0)
    primal, dual = lengths(*predictor)
    ahead = ((X + primal[..., None] * d_X) * (Z + dual[..., None] * d_Z)).sum((-2, -1))
    ahead = ahead + ((slacks + primal * d_slacks) * (multipliers + dual * d_multipliers)).sum(-1)
    centring = (ahead / total).clamp(1e-3, 1)[:, None] ** 3
    corrector = direction(centring * mu, _symmetric(d_X @ d_Z @ inverse), d_slacks * d_multipliers / multipliers)
    primal, dual = lengths(*corrector)
    X, slacks = X + primal[..., None] * corrector[0], slacks + primal * corrector[1]
    sound = (fault + fault_X + fault_Z == 0) & X.isfinite().all(-1).all(-1)
    return X, slacks, multipliers + dual * corrector[2], sound


def _schur(a: Tensor, q: Tensor, X: Tensor, Y: Tensor) -> Tensor:
    """B_kl = ⟨A_k, X A_l Y⟩ for symmetric X and Y, from the products of the a's and q's in both."""
    d = a.shape[-1]

    def products(S: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return a @ S[:, :d, :d] @ a.mT, a @ S[:, :d, d:] @ q.mT, q @ S[:, d:, d:] @ q.mT

    X_aa, X_aq, X_qq = products(X)
    Y_aa, Y_aq, Y_qq = products(Y)
    mixed = X_aq * Y_aq.mT
    return (mixed + mixed.mT + X_aa * Y_qq + X_qq * Y_aa) / 4


def _margins(a: Tensor, q: Tensor, X: Tensor) -> Tensor:
    """⟨A_k, X⟩ = a_kᵀ W q_k."""
    d = a.shape[-1]
    return ((a @ X[:, :d, d:]) * q).sum(-1)


def _adjoint(a: Tensor, q: Tensor, multipliers: Tensor) -> Tensor:
    """Σ λ_k A_k."""
    M = (a * multipliers[..., None]).mT @ q / 2
    return _blocks(M.new_zeros(len(M), M.shape[1], M.shape[1]), M, M.new_zeros(len(M), M.shape[2], M.shape[2]))


def _dual_slack(a: Tensor, q: Tensor, multipliers: Tensor) -> Tensor:
    adjoint = _adjoint(a, q, multipliers)
    return 0.5 * torch.eye(adjoint.shape[-1], dtype=a.dtype) - adjoint


def _blocks(top: Tensor, corner: Tensor, bottom: Tensor) -> Tensor:
    return torch.cat([torch.cat([top, corner], -1), torch.cat([corner.mT, bottom], -1)], -2)


def _symmetric(S: Tensor) -> Tensor:
    return (S + S.mT) / 2


def _blocked(root: Tensor, change: Tensor) -> Tensor:
    """1 / (largest α with R Rᵀ + α · change ⪰ 0); not positive where nothing blocks."""
    half = torch.linalg.solve_triangular(root, change, upper=False)
    whole = _symmetric(torch.linalg.solve_triangular(root, half.mT, upper=False))
    return -torch.linalg.eigvalsh(whole.nan_to_num(0.0, 0.0, 0.0))[..., 0]
