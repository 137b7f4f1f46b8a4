r"""What one layer of softmax attention can do on linear regression prompts: the loss in two numbers per head.

Trained heads have W_KQ = ω I on the inputs and read only the target, with weight μ (`circuit_numbers`). Then

    f = Σ_h μ_h Σ_i softmax_i(ω_h x_iᵀ x_q) y_i

Source: He, Pan, Chen, Yang 2025, arXiv 2503.12734; the published code for the constants.
Exact risks (`risk` and below) are ours, from the moments of the Wishart distribution.

| paper                       | code                   | meaning                                                    |
|-----------------------------|------------------------|------------------------------------------------------------|
| ω⁽ʰ⁾, μ⁽ʰ⁾                  | `omega`, `mu`          | (*stack, head); ω contains the scale 1/√(d + 1)            |
| L                           | `n_points`             | points of the context, without the query                   |
| d, σ²                       | `n_dims`, `noise_var`  | x ~ N(0, I), w ~ N(0, I/d), so that the targets have 1 + σ² |
| L̃(ω, μ)                     | `approximate_loss`     | exact as d → ∞ with d/L fixed; includes the query's noise   |
| 2 ω μ of a pair of heads    | `step`                 | Σ_h ω_h μ_h: the learning rate of one step of descent       |

How far L̃ holds: it puts |x_q|² = d and drops terms of order 1/L, so it is too small by about 9 % at d = 5,
L = 40, by a share ∝ 1/d beyond; the tests measure both, at ω√d ≤ 1. It places the best heads well at any size.

The mechanism: Σ_h μ_h = 0 cancels what does not depend on the query, and at small ω the rest is
step · (1/L) Σ_i y_i (x_i - x̄)ᵀ x_q, one step of gradient descent on centred inputs (`debiased_gradient_descent`).
"""

import torch
from jaxtyping import Float
from torch import Tensor


def circuit_numbers(
    W_KQ: Float[Tensor, "*stack head D D"], W_OV: Float[Tensor, "*stack head out D"], scale: float
) -> tuple[Float[Tensor, "*stack head"], Float[Tensor, "*stack head"]]:
    """(ω, μ) of each head of a trained model with one target.

    Args:
        W_KQ: Key-query products on tokens (x, y).
        W_OV: Output-value products.
        scale: Factor on the scores.

    Returns:
        (mean of the diagonal of scale · W_KQ on the inputs, last entry of W_OV).
    """
    n_dims = W_KQ.shape[-1] - 1
    diagonal = scale * W_KQ[..., :n_dims, :n_dims].diagonal(dim1=-2, dim2=-1)
    return diagonal.mean(-1), W_OV[..., 0, -1]


def approximate_loss(
    omega: Float[Tensor, "*stack head"],
    mu: Float[Tensor, "*stack head"],
    n_points: int,
    n_dims: int,
    noise_var: float,
) -> Float[Tensor, "*stack"]:
    """1 + σ² - 2 μᵀω + μᵀ (ω ωᵀ + (1 + σ²)/L · exp(d ω ωᵀ)) μ, with exp entry by entry.

    Raises:
        ValueError: A size below 1 or a negative noise.
    """
    _check(n_points, n_dims, noise_var)
    fit = (mu * omega).sum(-1)
    spread = (mu[..., :, None] * _overlap(omega, n_dims) * mu[..., None, :]).sum((-2, -1))
    return 1 + noise_var - 2 * fit + fit.square() + (1 + noise_var) / n_points * spread


def optimal_mu(
    omega: Float[Tensor, "*stack head"], n_points: int, n_dims: int, noise_var: float
) -> Float[Tensor, "*stack head"]:
    """The μ that minimises `approximate_loss` at given ω, which must differ from head to head."""
    _check(n_points, n_dims, noise_var)
    outer = omega[..., :, None] * omega[..., None, :]
    return torch.linalg.solve(outer + (1 + noise_var) / n_points * _overlap(omega, n_dims), omega)


def single_head_optimum(n_points: int, n_dims: int, noise_var: float) -> tuple[float, float]:
    """(ω, μ) = (1/√d, √d / (1 + e (1 + σ²) d / L)): a kernel smoother whose bandwidth no longer prompts change.

    >>> omega, mu = single_head_optimum(40, 5, 0.1)
    >>> round(omega, 4), round(mu, 4)
    (0.4472, 1.6277)
    """
    _check(n_points, n_dims, noise_var)
    e = torch.tensor(1.0, dtype=torch.float64).exp().item()
    return n_dims**-0.5, n_dims**0.5 / (1 + e * (1 + noise_var) * n_dims / n_points)


def two_head_mu(
    omega: Float[Tensor, "*stack"], n_points: int, n_dims: int, noise_var: float
) -> Float[Tensor, "*stack"]:
    """The best μ of a pair (ω, -ω), (μ, -μ): the valley ω / (2 (ω² + (1 + σ²)/L · sinh(d ω²)))."""
    _check(n_points, n_dims, noise_var)
    return omega / (2 * (omega.square() + (1 + noise_var) / n_points * (n_dims * omega.square()).sinh()))


def two_head_loss(
    omega: Float[Tensor, "*stack"], n_points: int, n_dims: int, noise_var: float
) -> Float[Tensor, "*stack"]:
    """`approximate_loss` along the valley: it falls towards ω → 0, where the loss is 1 + σ² - `optimal_step`.

    >>> two_head_loss(torch.tensor([0.4, 0.2, 0.1]), 40, 5, 0.1)
    tensor([0.2324, 0.2216, 0.2209])
    """
    mu = two_head_mu(omega, n_points, n_dims, noise_var)
    return 1 + noise_var - 2 * omega * mu


def optimal_step(n_points: int, n_dims: int, noise_var: float) -> float:
    """lim 2 ω μ = 1 / (1 + (1 + σ²) d / L), which is also the exactly best step of debiased descent.

    >>> round(optimal_step(40, 5, 0.1), 4)
    0.8791
    """
    _check(n_points, n_dims, noise_var)
    return 1 / (1 + (1 + noise_var) * n_dims / n_points)


def debiased_gradient_descent(
    xs: Float[Tensor, "*stack n_points n_dims"],
    ys: Float[Tensor, "*stack n_points"],
    queries: Float[Tensor, "*stack n_queries n_dims"],
    *,
    preconditioner: float | Float[Tensor, "d d"],
) -> Float[Tensor, "*stack n_queries"]:
    """x_qᵀ Γ (1/L) Σ_i (x_i - x̄) y_i: one step from zero of descent with inputs centred.

    Args:
        xs: Points.
        ys: Targets.
        queries: Where to predict.
        preconditioner: Γ, or the number `step` for step · I.
    """
    gradient = (xs - xs.mean(-2, keepdim=True)).mT @ ys[..., None] / xs.shape[-2]
    if isinstance(preconditioner, Tensor):
        return (queries @ (preconditioner @ gradient))[..., 0]
    return preconditioner * (queries @ gradient)[..., 0]


def risk(
    preconditioner: Float[Tensor, "*stack d d"],
    covariance: Float[Tensor, "*stack d d"],
    weight_covariance: Float[Tensor, "*stack d d"],
    n_points: int,
    noise_var: float,
    centred: bool = True,
) -> Float[Tensor, "*stack"]:
    """Exact squared error of one preconditioned step, without the query's noise, for x ~ N(0, Σ) and w ~ N(0, B).

    With n degrees of freedom (L - 1 if inputs are centred, else L), E[S] = (n/L) Σ for the second moments S and
    E[S B S] = (n (n + 1) Σ B Σ + n tr(B Σ) Σ)/L².

    Args:
        preconditioner: Γ.
        covariance: Σ of the inputs.
        weight_covariance: B of the weights.
        n_points: Context points L.
        noise_var: Variance of the noise on the context's targets.
        centred: Debiased descent; False for plain descent.

    Raises:
        ValueError: Fewer than two points with centred inputs, or a negative noise.
    """
    cross, second = _moments(covariance, weight_covariance, n_points, noise_var, centred)
    bias = (covariance * weight_covariance.mT).sum((-2, -1)) - 2 * _trace(covariance, preconditioner, cross)
    return bias + _trace(covariance, preconditioner, second @ preconditioner.mT)


def optimal_preconditioner(
    covariance: Float[Tensor, "*stack d d"],
    weight_covariance: Float[Tensor, "*stack d d"],
    n_points: int,
    noise_var: float,
    centred: bool = True,
) -> Float[Tensor, "*stack d d"]:
    """The Γ of least `risk`; for B = I/d, centred, it is (Σ + (tr Σ + d σ²)/L · I)⁻¹, and Γ = `optimal_step` I for Σ = I.

    Raises:
        ValueError: Fewer than two points with centred inputs, or a negative noise.
    """
    cross, second = _moments(covariance, weight_covariance, n_points, noise_var, centred)
    return torch.linalg.solve(second, cross).mT


def _overlap(omega: Float[Tensor, "*stack head"], n_dims: int) -> Float[Tensor, "*stack head head"]:
    """exp(d ω ωᵀ): how much the points that two heads attend to coincide, compared with uniform attention."""
    return (n_dims * omega[..., :, None] * omega[..., None, :]).exp()


def _moments(
    covariance: Tensor, weight_covariance: Tensor, n_points: int, noise_var: float, centred: bool
) -> tuple[Tensor, Tensor]:
    """E[g wᵀ] and E[g gᵀ] of the gradient g = (1/L) Σ_i (x_i - x̄) y_i."""
    if n_points < 1 + centred:
        raise ValueError(f"n_points is {n_points}; it must be at least {1 + centred}")
    if noise_var < 0:
        raise ValueError(f"noise_var is {noise_var}; it must be at least 0")
    n = n_points - centred
    product = covariance @ weight_covariance
    trace = product.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    second = n * (n + 1) * (product @ covariance) + n * (trace + noise_var) * covariance
    return n / n_points * product, second / n_points**2


def _trace(A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    return (A @ B @ C).diagonal(dim1=-2, dim2=-1).sum(-1)


def _check(n_points: int, n_dims: int, noise_var: float) -> None:
    for name, size in (("n_points", n_points), ("n_dims", n_dims)):
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")
    if noise_var < 0:
        raise ValueError(f"noise_var is {noise_var}; it must be at least 0")
