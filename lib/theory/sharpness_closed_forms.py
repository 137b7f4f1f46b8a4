r"""Sharpness where it is known exactly: quadratics, linear classifiers, diagonal linear networks.

Quadratic L(w + δ) = L(w) + g · δ + δᵀ H δ / 2, with C = diag(c) and A = C H C, b = C g, so that δ = ρ C z:

    S_avg = ρ²/2 tr A,      S_max (p = 2) = max { ρ b · z + ρ²/2 zᵀ A z : |z| ≤ 1 },  a trust-region problem.

Linear classifier, logistic loss, one perturbation per point (m = 1): the margin y w · x falls by ρ ‖c ⊙ x‖_q, where
1/p + 1/q = 1.

Diagonal network f(x) = x · (u ⊙ v), loss |X(u ⊙ v) - y|² / (2 n), at a minimum of loss zero, with β = u ⊙ v and
S_jj = (Xᵀ X / n)_jj:

    c                              | tr(C H C)
    1                (standard)    | Σ S_jj (u_j² + v_j²)    ≥  2 Σ S_jj |β_j|
    |u|, |v|         (adaptive)    | 2 Σ S_jj β_j²                                 like ‖β‖₂²
    √|u/v|, √|v/u|   (balanced)    | 2 Σ S_jj |β_j|                                like ‖β‖₁

The Hessian's blocks at loss zero are diag(v) XᵀX diag(v) / n for u and diag(u) XᵀX diag(u) / n for v; the rest is a sum over
j. Gradient flow conserves u_j² - v_j². From v = 0 it therefore ends at u_j² + v_j² = √(u_j(0)⁴ + 4 β_j²): the standard
sharpness of a network that started large is large whatever β is.

Source: Andriushchenko et al. 2023, arXiv 2302.07011, section on diagonal linear networks; the derivations here are ours.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

DIAGONAL_MEASURES = ("standard", "adaptive", "balanced")


def quadratic_average(hessian: Float[Tensor, "d d"], scales: Float[Tensor, "d"], radius: float) -> float:
    """S_avg of a quadratic: ρ²/2 Σ_j c_j² H_jj, for any radius and slope.

    >>> quadratic_average(torch.eye(2), torch.ones(2), 1.0)
    1.0
    """
    return radius**2 / 2 * float((hessian.diagonal() * scales**2).sum())


def quadratic_worst(
    hessian: Float[Tensor, "d d"], slope: Float[Tensor, "d"], scales: Float[Tensor, "d"], radius: float
) -> float:
    """S_max of a convex quadratic in the norm p = 2.

    The maximum lies on the sphere, at z = (λ - ρ A)⁻¹ b with λ > ρ λ_max(A) such that |z| = 1.

    Raises:
        ValueError: A Hessian with a negative eigenvalue.
    """
    A = (scales[:, None] * hessian * scales).double().numpy()
    b = (scales * slope).double().numpy()
    values, vectors = np.linalg.eigh((A + A.T) / 2)
    if values[0] < -1e-9 * max(abs(values[-1]), 1e-300):
        raise ValueError(f"hessian has the eigenvalue {values[0]}; it must have none below 0")
    curvatures, b = radius * values, vectors.T @ b
    top = curvatures[-1]
    if not b.any():
        return float(radius * top / 2)

    def excess(gap: float) -> float:  # |z|² - 1; the gap, not λ itself, is solved for: λ is close to the top eigenvalue
        return float(((b / (top - curvatures + gap)) ** 2).sum() - 1)

    size = float(np.linalg.norm(b))
    if (
        abs(b[-1]) <= 1e-12 * size and excess(1e-9 * max(top, size)) < 0
    ):  # the hard case: z has a free part along the top
        z = np.where(top - curvatures > 1e-9 * max(top, size), b / np.maximum(top - curvatures, 1e-300), 0.0)
        z[-1] = np.sqrt(max(1 - (z**2).sum(), 0.0))
    else:
        gap = brentq(excess, abs(b[-1]) / 2 + 1e-15 * size, 2 * size, xtol=1e-16 * size, rtol=1e-14)
        z = b / (top - curvatures + gap)
    return float(radius * (b @ z + (curvatures * z**2).sum() / 2))


def linear_worst_loss(
    w: Float[Tensor, "*stack d"],
    xs: Float[Tensor, "n d"],
    ys: Float[Tensor, "n"],
    scales: Float[Tensor, "*stack d"],
    radius: float,
    norm: str,
) -> Float[Tensor, "*stack"]:
    """Mean over points of the worst logistic loss, a perturbation for every point.

    Args:
        w: The classifier x ↦ sign(w · x).
        xs: Points.
        ys: Labels ±1.
        scales: c.
        radius: ρ; 0 gives the loss itself.
        norm: "l2" or "linf", of δ / c.

    Raises:
        ValueError: An unknown norm.
    """
    if norm not in ("l2", "linf"):
        raise ValueError(f"norm is {norm!r}; it must be 'l2' or 'linf'")
    scaled = scales[..., None, :] * xs
    shift = scaled.norm(dim=-1) if norm == "l2" else scaled.abs().sum(-1)
    return torch.nn.functional.softplus(radius * shift - (w @ xs.mT) * ys).mean(-1)


def scaled_classifier_sharpness(
    alpha: Float[np.ndarray, "*n"], margin: float, radius: float
) -> Float[np.ndarray, "*n"]:
    """Adaptive sharpness of α w for points that all have the margin `margin` and c = ‖w‖: it vanishes at both ends.

    log(1 + e^{-α m (1 - ρ)}) - log(1 + e^{-α m}),      for |x| = 1 and w along the class mean.
    """
    return np.asarray(np.logaddexp(0, -alpha * margin * (1 - radius)) - np.logaddexp(0, -alpha * margin))


def diagonal_traces(
    u: Float[Tensor, "*stack d"], v: Float[Tensor, "*stack d"], xs: Float[Tensor, "*data n d"]
) -> dict[str, Float[Tensor, "*stack"]]:
    """tr(C H C) of diagonal networks of loss zero, for the three scales c of the table above."""
    s = xs.square().mean(-2)
    beta = (u * v).abs()
    return {
        "standard": (s * (u**2 + v**2)).sum(-1),
        "adaptive": 2 * (s * beta**2).sum(-1),
        "balanced": 2 * (s * beta).sum(-1),
    }


def flow_standard_trace(
    u_start: Float[Tensor, "*stack d"], beta: Float[Tensor, "*stack d"], xs: Float[Tensor, "*data n d"]
) -> Float[Tensor, "*stack"]:
    """The standard trace where gradient flow from (u_start, 0) ends at β: Σ S_jj √(u_j(0)⁴ + 4 β_j²)."""
    return (xs.square().mean(-2) * (u_start**4 + 4 * beta**2).sqrt()).sum(-1)
