r"""Adaptive methods as one: what a set of preconditioners costs in regret, and on a smooth problem.

Let 𝓗 be a set of symmetric positive matrices on R^{mn} that a subalgebra of matrices cuts out (closed under sums, products
and scalars), and vec the rows of an m x n matrix in one vector. AdaGrad over 𝓗 keeps
M_t = eps I + Σ_{s<=t} vec(G_s) vec(G_s)ᵀ and steps

    V_t = argmin_{V in 𝓗} <M_t, V^{-1}> + tr V = P(M_t)^{1/2},      x_{t+1} = x_t - eta V_t^{-1} vec(G_t),

where P is the orthogonal projection onto the subalgebra. Two norms carry the whole theory:

    |X|_𝓗  = sup { xᵀHx : H in 𝓗, tr H <= 1 }^{1/2}           size of the domain, x = vec(X)
    |||G|||_𝓗 = inf { Σ_t g_tᵀ H^{-1} g_t : H in 𝓗, tr H <= 1 }^{1/2} = tr V_T                     (eps = 0)

    regret_T = Σ_t f_t(x_t) - f_t(x*)  <=  (D²/(2 eta) + eta) tr V_T,    D = max_t |x_t - x*|_𝓗
    for one convex f:  f(mean of x_t) - f* <= 2 (D²/(2 eta) + eta)² Λ / T,  which is 4 D² Λ / T at eta = D/√2,
        Λ = inf { tr H : H in 𝓗, H ⪰ ∇²f everywhere }.

A larger 𝓗 makes tr V_T and Λ smaller and |X|_𝓗 larger: neither wins always.

Source: Xie, Wang, Reddi, Kumar, Li 2025, arXiv 2503.10537 (Theorems on regret and on smooth losses; the constants here are
derived anew: the first term of the regret by ‖x‖²_V <= |x|²_𝓗 tr V and V_t ⪰ V_{t-1}, the second by following the leader).
Two-sided Shampoo is outside of the family, for products L ⊗ R do not add up; its bound is Gupta et al. 2018,
arXiv 1802.09568, Theorem 7: regret <= (D_F²/(2 eta) + eta r) tr(L_T^{1/4}) tr(R_T^{1/4}), r the largest rank of a gradient.

| paper           | code                       | structures                                                       |
|-----------------|----------------------------|------------------------------------------------------------------|
| 𝓗               | `structure`                | "norm": c I; "diagonal"; "one-sided": A ⊗ I_n; "full": all       |
| ‖X‖_𝓗           | `domain_norm`              | |X|_F/√(mn); max |X_ij|; |X|_op/√n; |X|_F                        |
| Λ_𝓗(f)          | `smoothness`               | of f(X) = <H, (X - X*)(X - X*)ᵀ>, whose Hessian is 2 H ⊗ I_n     |
| tr V_T          | `state["trace"]` of `lib.optimizers.structured_adagrad` |                                     |
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lib.optimizers.structured_adagrad import require_structure


def domain_norm(X: Float[Tensor, "*stack m n"], structure: str) -> Float[Tensor, "*stack"]:
    """|X|_𝓗, the square root of the largest xᵀHx over H in 𝓗 with trace at most one.

    Raises:
        ValueError: An unknown structure.

    >>> [float(domain_norm(torch.eye(4), name)) for name in ("norm", "diagonal", "one-sided", "full")]
    [0.5, 1.0, 0.5, 2.0]
    """
    require_structure(structure)
    m, n = X.shape[-2:]
    if structure == "diagonal":
        return X.abs().amax((-2, -1))
    if structure == "one-sided":
        return torch.linalg.matrix_norm(X, 2) / n**0.5
    frobenius = X.square().sum((-2, -1)).sqrt()
    return frobenius / (m * n) ** 0.5 if structure == "norm" else frobenius


def projected(M: Float[Tensor, "m n m n"], structure: str) -> Float[Tensor, "m n m n"]:
    """The orthogonal projection of a symmetric matrix on R^{mn}, given with its four axes, onto the subalgebra.

    Raises:
        ValueError: An unknown structure.
    """
    require_structure(structure)
    m, n = M.shape[:2]
    identity = torch.eye(m * n, dtype=M.dtype).reshape(m, n, m, n)
    if structure == "norm":
        return torch.einsum("ijij", M) / (m * n) * identity
    if structure == "diagonal":
        return M * identity
    if structure == "one-sided":
        return torch.einsum("ijkj,ab->iakb", M, torch.eye(n, dtype=M.dtype)) / n
    return M


def smoothness(H: Float[Tensor, "m m"], n: int, structure: str) -> float:
    """Λ: the smallest trace of a matrix in 𝓗 above the Hessian 2 H ⊗ I_n.

    Args:
        H: Symmetric, positive semi-definite.
        n: Columns of X.
        structure: Which 𝓗.

    Returns:
        2 n times m λ_max, min { tr D : D diagonal, D ⪰ H } (a semidefinite program), tr H, tr H.

    Raises:
        ValueError: An unknown structure, an H that is not symmetric or has a negative eigenvalue, or n below 1.

    >>> [round(smoothness(torch.diag(torch.tensor([2.0, 1.0])), 3, name), 6) for name in ("norm", "diagonal", "full")]
    [24.0, 18.0, 18.0]
    """
    require_structure(structure)
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1")
    if not torch.allclose(H, H.mT, atol=1e-6):
        raise ValueError("H is not symmetric")
    eigenvalues = torch.linalg.eigvalsh(H.double())
    if eigenvalues[0] < -1e-6 * eigenvalues[-1].abs():
        raise ValueError(f"H has the eigenvalue {float(eigenvalues[0]):.3g}; it must be positive semi-definite")
    if structure == "norm":
        return 2 * n * len(H) * float(eigenvalues[-1])
    if structure == "diagonal":
        return 2 * n * _least_diagonal_above(H.double().numpy())
    return 2 * n * float(eigenvalues.sum())


def _least_diagonal_above(H: np.ndarray) -> float:
    """min { tr D : D diagonal, D ⪰ H }, through its dual: max { <H, Z> : Z ⪰ 0, Z_ii = 1 }."""
    if np.abs(H - np.diag(np.diag(H))).max() < 1e-12 * np.abs(H).max():
        return float(np.trace(H))
    import cvxpy

    Z = cvxpy.Variable(H.shape, PSD=True)
    return float(cvxpy.Problem(cvxpy.Maximize(cvxpy.trace(H @ Z)), [cvxpy.diag(Z) == 1]).solve(solver=cvxpy.CLARABEL))


def regret_bound(
    domain: Float[Tensor, "..."], lr: Float[Tensor, "..."], trace: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """(D²/(2 eta) + eta) tr V_T; all arguments broadcast.

    >>> float(regret_bound(torch.tensor(2.0), torch.tensor(1.0), torch.tensor(5.0)))
    15.0
    """
    return (domain.square() / (2 * lr) + lr) * trace


def loss_bound(factor: np.ndarray | float, smoothness: np.ndarray | float, n_steps: int) -> np.ndarray | float:
    """2 (D²/(2 eta) + eta)² Λ / T: excess loss of the mean iterate on a smooth convex function.

    From regret <= factor · tr V_T and (tr V_T)² <= 2 Λ Σ_t (f(x_t) - f*), both for the same run. At eta = D/√2 the factor
    is √2 D, and the bound 4 D² Λ / T.

    Args:
        factor: D²/(2 eta) + eta, with D the largest distance on the run.
        smoothness: Λ.
        n_steps: T.

    Raises:
        ValueError: Fewer than one step.

    >>> loss_bound(2.0, 5.0, 10)
    4.0
    """
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; it must be at least 1")
    return 2 * factor**2 * smoothness / n_steps


def two_sided_bound(
    frobenius: Float[Tensor, "..."],
    lr: Float[Tensor, "..."],
    L: Float[Tensor, "*stack m m"],
    R: Float[Tensor, "*stack n n"],
    rank: int,
) -> Float[Tensor, "..."]:
    """Gupta et al.'s bound on the regret of two-sided Shampoo, (D_F²/(2 eta) + eta r) tr(L^{1/4}) tr(R^{1/4}).

    Args:
        frobenius: D_F, the largest distance of an iterate from the target in Frobenius norm.
        lr: eta.
        L: Σ G Gᵀ, with what it started at.
        R: Σ Gᵀ G.
        rank: r, the largest rank of a gradient.
    """
    left, right = (torch.linalg.eigvalsh(A).clamp_min(0).pow(0.25).sum(-1) for A in (L, R))
    return (frobenius.square() / (2 * lr) + lr * rank) * left * right
