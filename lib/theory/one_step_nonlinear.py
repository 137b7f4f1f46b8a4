r"""The best one-layer linear self-attention for any targets: one preconditioned step, found by linear algebra.

    prediction = Σ_{i ≤ n} y_i x_iᵀ A x_q,      x ~ N(0, Σ),   y_i = f(x_i) + ε_i,   one random f per prompt

Source: Mahankali, Hashimoto and Ma 2023, arXiv 2307.03576 (three theorems; the formulas below are our own derivation).
Write everything in whitened inputs z = Σ^{-1/2} x, with g_f = E[f z | f], and

    C = E g_f g_fᵀ,     S = E[y² z zᵀ],     v = Σ y_i z_i   with   E v vᵀ = n S + n(n-1) C.

The loss E(vᵀ B z_q - y_q)² = tr(Bᵀ E[v vᵀ] B) - 2n tr(C B) + E y² is a convex quadratic in B = Σ^{1/2} A Σ^{1/2}, so

    B* = (S + (n-1) C)^{-1} C,      least loss = E y² - n tr(C B*),      A* = Σ^{-1/2} B* Σ^{-1/2} .

| targets                            | C            | S                  | A*                                      |
|------------------------------------|--------------|--------------------|-----------------------------------------|
| 1: wᵀx, w ~ N(0, I), Σ = I         | I            | (d+2+σ²) I         | η I, η = 1/(n+d+1+σ²)                   |
| 2: wᵀx, w ~ N(0, Σ^{-1})           | I            | (d+2+σ²) I         | η Σ^{-1}, the same η                    |
| 3: φ(wᵀx), |w| = 1 uniform, Σ = I  | c² I/d       | ((m+d-1)/d + σ²) I | η I, η = c²/(m+d-1+dσ²+(n-1)c²)         |
| wᵀx, w ~ N(0, Ω)                   | Σ^½ Ω Σ^½    | 2C + (tr C + σ²) I | no multiple of Σ^{-1}: our control      |

(1 to 3: the paper's theorems) with c = E φ(u) u and m = E φ(u)² u² for u ~ N(0, 1). Of a non-linear target only these two
numbers matter; rotation invariance makes C and S multiples of I. A two-layer network Σ_k a_k φ(w_kᵀx) with independent a_k
of mean zero and total variance 1 has the c and m of its φ.

**The whole layer.** With W_PV's last row (v_x, v_y) and W_KQ's first d columns (K; kᵀ) the layer computes
Σ_i (v_x·x_i + v_y y_i)(x_iᵀ K x_q + y_i kᵀx_q): terms y_i x_i with A = v_y K + v_x kᵀ (`effective_step`), and terms x_i x_iᵀ
and y_i². The latter two are uncorrelated with y_q and with the first if the law of f is the same after f(·) → -f(·) and
after rotations, and then can only raise the loss.

| paper        | code                | note                                              |
|--------------|---------------------|---------------------------------------------------|
| η            | `rate`              | multiplies the sum over points                    |
| Σ            | `covariance`        | of the inputs                                     |
| n            | `n_context`         |                                                   |
| σ²           | `noise_var`         |                                                   |
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

LINKS: dict[str, Callable[[Tensor], Tensor]] = {  # φ, scaled so that E φ(u)² = 1
    "linear": lambda u: u,
    "relu": lambda u: 2**0.5 * torch.relu(u),
    "cubic": lambda u: u**3 / 15**0.5,
    "sign": torch.sign,
    "absolute": torch.abs,
}
_MOMENTS = {  # (c, m) of each
    "linear": (1.0, 3.0),
    "relu": (0.5**0.5, 3.0),
    "cubic": (3 / 15**0.5, 7.0),
    "sign": ((2 / np.pi) ** 0.5, 1.0),
    "absolute": (0.0, 3.0),
}


def linear_moments(
    covariance: Float[np.ndarray, "d d"], weight_covariance: Float[np.ndarray, "rows columns"], noise_var: float = 0.0
) -> tuple[Float[np.ndarray, "d d"], Float[np.ndarray, "d d"], float]:
    """(C, S, E y²) of targets wᵀx + ε with w ~ N(0, weight_covariance).

    Raises:
        ValueError: A covariance that is singular, indefinite or of another size, or a negative noise.
    """
    if noise_var < 0:
        raise ValueError(f"noise_var is {noise_var}; it must be at least 0")
    root = square_root(covariance)
    if weight_covariance.shape != covariance.shape:
        raise ValueError(f"weight_covariance has shape {weight_covariance.shape}; the inputs have {covariance.shape}")
    C = root @ weight_covariance @ root
    eye = np.eye(len(C))
    return C, 2 * C + (np.trace(C) + noise_var) * eye, float(np.trace(C) + noise_var)


def link_moments(
    link: str, n_dims: int, noise_var: float = 0.0
) -> tuple[Float[np.ndarray, "d d"], Float[np.ndarray, "d d"], float]:
    """(C, S, E y²) of targets φ(wᵀx) + ε with x ~ N(0, I), w uniform on the sphere; the same for a two-layer network of φ.

    Raises:
        ValueError: An unknown link, a negative noise, or `n_dims` below 1.
    """
    if link not in LINKS:
        raise ValueError(f"link is {link!r}; it must be one of {', '.join(LINKS)}")
    if n_dims < 1 or noise_var < 0:
        raise ValueError(f"n_dims and noise_var are {n_dims} and {noise_var}; they must be at least 1 and 0")
    c, m = _MOMENTS[link]
    eye = np.eye(n_dims)
    return c**2 / n_dims * eye, ((m + n_dims - 1) / n_dims + noise_var) * eye, 1 + noise_var


def optimal_step(C: Float[np.ndarray, "d d"], S: Float[np.ndarray, "d d"], n_context: int) -> Float[np.ndarray, "d d"]:
    """B* = (S + (n-1) C)^{-1} C, the best matrix in whitened inputs.

    Raises:
        ValueError: A context below 1.

    >>> C, S, _ = linear_moments(np.eye(2), np.eye(2))
    >>> optimal_step(C, S, 7).round(6).tolist()
    [[0.1, 0.0], [0.0, 0.1]]
    """
    if n_context < 1:
        raise ValueError(f"n_context is {n_context}; it must be at least 1")
    return np.linalg.solve(S + (n_context - 1) * C, C)


def step_risk(
    B: Float[np.ndarray, "d d"],
    C: Float[np.ndarray, "d d"],
    S: Float[np.ndarray, "d d"],
    second_moment: float,
    n_context: int,
) -> float:
    """Expected squared error of any matrix B in whitened inputs, on the noisy target of the query."""
    spread = n_context * S + n_context * (n_context - 1) * C
    return float(np.trace(B.T @ spread @ B) - 2 * n_context * np.trace(C @ B) + second_moment)


def unwhitened(B: Float[np.ndarray, "d d"], covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """A = Σ^{-1/2} B Σ^{-1/2}.

    Raises:
        ValueError: A covariance that is singular or indefinite.
    """
    inverse = np.linalg.inv(square_root(covariance))
    return inverse @ B @ inverse


def square_root(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """Symmetric square root of a covariance.

    Raises:
        ValueError: It is not symmetric and positive definite.

    >>> square_root(np.diag([4.0, 9.0])).tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """
    if not np.allclose(covariance, covariance.T):
        raise ValueError(f"covariance of shape {covariance.shape} must be a symmetric matrix")
    values, vectors = np.linalg.eigh(covariance)
    if values[0] <= 1e-12 * values[-1]:
        raise ValueError(
            f"covariance is singular or indefinite; all eigenvalues must be positive, the least is {values[0]:.3g}"
        )
    return (vectors * np.sqrt(values)) @ vectors.T


def effective_step(
    W_KQ: Float[Tensor, "*stack D D"], W_PV: Float[Tensor, "*stack D D"]
) -> tuple[Float[Tensor, "*stack D-1 D-1"], Float[Tensor, "*stack"]]:
    """What a trained layer does: A = v_y K + v_x kᵀ, and how much else it does.

    Returns:
        A, and the weight of the other terms: the norm of (v_x ⊗ K, v_y k) over that of A, zero for pure descent. A rescaling
        of W_PV against W_KQ leaves both alone.
    """
    K, k = W_KQ[..., :-1, :-1], W_KQ[..., -1, :-1]
    v_x, v_y = W_PV[..., -1, :-1], W_PV[..., -1, -1]
    A = v_y[..., None, None] * K + v_x[..., :, None] * k[..., None, :]
    others = v_x.square().sum(-1) * K.square().sum((-2, -1)) + (v_y[..., None] * k).square().sum(-1)
    return A, (others / A.square().sum((-2, -1))).sqrt()
