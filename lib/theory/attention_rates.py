r"""How fast one layer of attention converges to its hard-margin direction, for each step rule: laws without free constants.

A layer with a fixed decoder is trained on sequences with one optimal token each. Close to saturation the attention on token
t of sequence i is exp(-⟨φ_k, W⟩) with φ_k = (x_opt - x_t) z_iᵀ, so that, with σ the logistic function,

    L - L* ≈ Σ_k c_k e^{-⟨φ_k, W⟩},      -∇L ≈ Σ_k c_k e^{-⟨φ_k, W⟩} φ_k,      c_k = (γ_opt - γ_t) σ(-γ_opt) / n.

Every descent path with small steps then runs along (for the active constraints, λ_k > 0, with φ_k independent)

    W(τ) = τ W_mm + W̃,      ⟨φ_k, W̃⟩ = log(c_k / λ_k),      L - L* = e^{-τ} Σ_k λ_k = e^{-τ} ‖W_mm‖²,      ∇L = -e^{-τ} W_mm,

because c_k e^{-⟨φ_k, W̃⟩} = λ_k makes the gradient W_mm = Σ_k λ_k φ_k. Constraints with λ_k = 0 are left behind: they
change no rate, and W̃ by a part that depends on the whole path. Only the clock τ differs between step rules:

| rule                                | τ after t steps            | factor per step on L - L* and on 1 - a_opt   |
|-------------------------------------|----------------------------|----------------------------------------------|
| gradient descent, η                 | log(η t)                   | none; they are ‖W_mm‖²/(ηt), Σ_k λ_k/(c_k ηt) |
| normalised gradient descent, η      | η t / ‖W_mm‖ + constant    | e^{-η/‖W_mm‖}                                |
| Polyak's step with factor η         | η t + constant             | e^{-η}                                       |
| line search that doubles its step   | (log 2) t + constant       | 1/2                                          |

Polyak: (L - L*)/‖∇L‖ = ‖W_mm‖. Line search: with x = s ‖∇L‖²/(L - L*) a step multiplies the loss by e^{-x}, and so the next
trial 2 s has x' = 2 x e^{-x}, whose fixed point x = log 2 meets Armijo's condition e^{-x} ≤ 1 - c x for every c ≤ 0.72.

**How long a step may be** (`step_limit`). Let margins deviate from the path by δ, and let K be the Gram matrix of the φ_k. A
step of Polyak's rule changes δ to δ - η K diag(λ) δ (to first order, up to a shift along the path), so that descent is drawn
to the path only for η < 2 / λ_max(K diag(λ)); for normalised GD the limit is ‖W_mm‖ times this. Gradient descent has no
such limit in the end, since its steps shrink; with a large η it can be thrown far from the path at first, and stays there.

Sources: Soudry et al. 2018, arXiv 1710.10345 (the same expansion for logistic regression); Vasudeva et al. 2024, arXiv
2402.05738 (rates for attention). The constants are ours: the paper states orders.

| paper or above | code                | shape        |
|----------------|---------------------|--------------|
| φ_k            | `features`          | (m, d²)      |
| c_k            | `pulls`             | (m,)         |
| λ_k            | `multipliers`       | (m,)         |
| W_mm, W̃        | `W_mm`, `offset`    | (d, d)       |
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.special import expit
from torch import Tensor

from lib.theory.hard_margin import hard_margin_multipliers
from lib.theory.token_selection import check_scores, check_selection, constraint_pairs, direction_error, outer_products

LINE_SEARCH_RATE = float(np.log(2))  # of a search that tries twice the last step first


class Path(NamedTuple):
    """The path W(τ) = τ W_mm + W̃ of one instance and its constants."""

    W_mm: Float[ndarray, "d d"]
    offset: Float[ndarray, "d d"]
    multipliers: Float[ndarray, " m"]
    pulls: Float[ndarray, " m"]
    sequences: ndarray  # (m,), the sequence of each constraint
    features: Float[ndarray, "m d_squared"]

    @property
    def norm(self) -> float:
        """‖W_mm‖_F, the inverse of the largest margin."""
        return float(np.linalg.norm(self.W_mm))

    @property
    def step_limit(self) -> float:
        """η of Polyak's step above which the path does not attract; for normalised GD times ‖W_mm‖."""
        gram = self.features @ self.features.T
        root = np.sqrt(self.multipliers)
        return float(2 / np.linalg.eigvalsh(gram * root * root[:, None])[-1])

    def loss_gap(self, tau: Float[ndarray, " t"]) -> Float[ndarray, " t"]:
        """L - L* at times τ."""
        return np.exp(-tau) * self.norm**2

    def missing(self, tau: Float[ndarray, " t"]) -> Float[ndarray, "t n"]:
        """Attention off the optimal token of each sequence at times τ."""
        shares = np.bincount(self.sequences, self.multipliers / self.pulls)
        return np.exp(-tau)[:, None] * shares

    def tau_at_norm(self, norms: Float[ndarray, " t"]) -> Float[ndarray, " t"]:
        """τ where the path has the given norms ‖W‖.

        Raises:
            ValueError: A norm that the path never has, because it passes the origin at a distance.
        """
        along = (self.offset * self.W_mm).sum() / self.norm
        across = np.sqrt(max((self.offset**2).sum() - along**2, 0.0))
        if (norms < across).any():
            raise ValueError(f"norms must be at least {across:.4g}, the path's distance from the origin")
        return (np.sqrt(norms**2 - across**2) - along) / self.norm

    def direction_error(self, tau: Float[ndarray, " t"]) -> Float[ndarray, " t"]:
        """‖W/‖W‖ - W_mm/‖W_mm‖‖ at times τ; it falls as 1/‖W‖."""
        return direction_error(tau[:, None, None] * self.W_mm + self.offset, self.W_mm)


def asymptotic_path(
    xs: Float[ndarray, "n T d"],
    zs: Float[ndarray, "n d"],
    scores: Float[ndarray, "..."],
    selected: Bool[ndarray, "n T"],
    start: Float[ndarray, "..."] | None = None,
) -> Path:
    """The path that descent from `start` follows in the end.

    Args:
        xs: Tokens.
        zs: Queries.
        scores: γ, the tokens' decoded values times the label.
        selected: The optimal token of each sequence.
        start: Where descent starts; what lies outside the span of the features never changes. None for zero.

    Returns:
        The path; its `W_mm` solves the attention SVM. Where a constraint is not active (λ_k = 0, rare in high dimension),
        `offset` lacks a part along it.

    Raises:
        Infeasible: No W selects these tokens.
        ValueError: A selected token that is not better than another of its sequence, scores or a start of another shape, or
            as `check_selection`.
    """
    xs, zs, selected = check_selection(xs, zs, selected)
    check_scores(scores, selected)
    inequalities, equalities = constraint_pairs(xs, zs, selected)
    if len(equalities[0]):
        raise ValueError("selected has several tokens in one sequence; the path is known for one each")
    best = scores[selected]
    gaps = (best[:, None] - scores)[~selected]
    if not (gaps > 0).all():
        raise ValueError("selected must be the token with the best score of each sequence, and better than all others")
    sequences = np.nonzero(~selected)[0]
    pulls = gaps * expit(-best[sequences]) / len(xs)
    features = outer_products(inequalities)
    multipliers = hard_margin_multipliers(features @ features.T)
    active = multipliers > 0
    offset = np.linalg.lstsq(features[active], np.log(pulls[active] / multipliers[active]), rcond=None)[0]
    if start is not None:
        if np.shape(start) != (xs.shape[-1],) * 2:
            raise ValueError(f"start has shape {np.shape(start)}; it must be {(xs.shape[-1],) * 2}")
        offset = offset + start.ravel() - np.linalg.lstsq(features, features @ start.ravel(), rcond=None)[0]
    d = xs.shape[-1]
    W_mm = (multipliers @ features).reshape(d, d)
    return Path(W_mm, offset.reshape(d, d), multipliers, pulls, sequences, features)


def logistic_gap(best: Float[Tensor, "*stack n"], shortfall: Float[Tensor, "*stack n"]) -> Float[Tensor, "*stack n"]:
    """log(1 + e^{-(best - shortfall)}) - log(1 + e^{-best}), to full relative precision also where it is 1e-300.

    Args:
        best: Decoded value of the optimal token, times the label.
        shortfall: How far the layer's output stays below it, Σ_t a_t (γ_opt - γ_t).

    Returns:
        What the logistic loss of each sequence lies above its value at saturated attention; its gradient is the loss's own.

    >>> logistic_gap(torch.tensor([1.0]), torch.tensor([1e-30]))
    tensor([2.6894e-31])
    """
    return torch.log1p(torch.sigmoid(-best) * torch.expm1(shortfall))
