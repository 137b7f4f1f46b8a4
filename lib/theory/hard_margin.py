r"""The hard-margin program: the shortest vector that keeps a margin of one from every constraint.

    w_mm = argmin ‖w‖²   subject to   ⟨φ_k, w⟩ ≥ 1 for all k,      largest margin of a unit vector = 1 / ‖w_mm‖

Only inner products of the features φ_k enter. With the Gram matrix K_kl = ⟨φ_k, φ_l⟩ the solution is

    w_mm = Σ_k λ_k φ_k,      λ ≥ 0,   K λ ≥ 1,   λ_k (K λ - 1)_k = 0      (the KKT conditions)

Source: Lawson, Hanson 1974, *Solving Least Squares Problems*, chapter 23, problem LDP: for L Lᵀ = K, non-negative least
squares

    min ‖E u - e‖,   u ≥ 0,   E = (Lᵀ; 1ᵀ),   e = (0; 1)

has a residual r = E u - e with λ = u / -r_last; the residual vanishes exactly if no w satisfies the constraints. It is an
active-set method: λ is exact up to rounding, and zero entries are zeros, which interior-point methods do not give.

| paper                     | code          | shape    |
|---------------------------|---------------|----------|
| φ_k, times the label      | `features`    | (m, p)   |
| K                         | `gram`        | (m, m)   |
| λ, dual variables         | `multipliers` | (m,)     |
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import nnls


class Infeasible(ValueError):
    """No vector satisfies the constraints: the data are not separable."""


def hard_margin_multipliers(gram: Float[ndarray, "m _"]) -> Float[ndarray, " m"]:
    """The dual variables λ of the hard-margin program.

    Args:
        gram: Inner products of the features, symmetric and positive semidefinite up to rounding.

    Returns:
        λ ≥ 0, zero for constraints that are not active.

    Raises:
        Infeasible: No vector has a positive product with every feature.
        ValueError: `gram` is not a square symmetric matrix of finite numbers with a positive diagonal.

    >>> hard_margin_multipliers(np.diag([1.0, 4.0]))
    array([1.  , 0.25])
    """
    gram = np.asarray(gram, dtype=float)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or len(gram) == 0:
        raise ValueError(f"gram has shape {gram.shape}; it must be a square matrix with at least one row")
    if not np.isfinite(gram).all() or not np.allclose(gram, gram.T, rtol=1e-9, atol=1e-9 * np.abs(gram).max()):
        raise ValueError("gram must be symmetric and finite")
    if not (np.diag(gram) > 0).all():
        raise ValueError(
            "gram has a diagonal entry that is not positive: a feature is zero, and no margin from it exists"
        )
    # Features of length one, with bounds h_k = 1 / ‖φ_k‖ in place of 1: short features are as well resolved as long ones.
    bounds = 1 / np.sqrt(np.diag(gram))
    values, vectors = np.linalg.eigh(gram * bounds * bounds[:, None])
    kept = values > len(gram) * np.finfo(float).eps * values[-1]
    root = vectors[:, kept] * np.sqrt(values[kept])  # L, of full column rank
    E = np.vstack([root.T, bounds / bounds.max()])
    target = np.zeros(len(E))
    target[-1] = 1.0
    u, distance = nnls(E, target, maxiter=30 * len(gram) + 100)
    # ‖r‖² = -r_last, and the margin relative to the largest bound is ‖r‖ / √(1 - ‖r‖²): below rounding there is none.
    if distance < 1e-7:
        raise Infeasible("the constraints contradict each other: no direction has a positive margin")
    return u * bounds * bounds.max() / distance**2


def hard_margin(features: Float[ndarray, "m p"]) -> Float[ndarray, " p"]:
    """The shortest w with ⟨φ_k, w⟩ ≥ 1 for every row φ_k.

    Args:
        features: One row per constraint, labels multiplied in.

    Returns:
        w_mm; the largest margin of a unit vector is 1 / ‖w_mm‖.

    Raises:
        Infeasible: No such w.
        ValueError: No constraint, a zero feature, or numbers that are not finite.

    >>> hard_margin(np.array([[2.0, 0.0], [0.0, 0.5]]))
    array([0.5, 2. ])
    """
    features = np.asarray(features, dtype=float)
    return hard_margin_multipliers(features @ features.T) @ features
