r"""Curvature of the logistic loss of multi-head attention: how its negative part shrinks with the number of heads.

For Φ̃ = H^{-p} Σ_h φ(·; θ_h), n sequences, and ℓ'_i, ℓ''_i at the margin y_iΦ̃(X_i),

    ∇²L = (1/n) Σ_i ℓ''_i ∇Φ̃_i ∇Φ̃_iᵀ  +  H^{-p} blockdiag_h(B_h),       B_h = (1/n) Σ_i ℓ'_i y_i ∇²φ(X_i; θ_h):

the only part that can be negative is block-diagonal over heads, so that λ_min(∇²L) ≥ H^{-p} min_h λ_min(B_h). Since
|ℓ'| ≤ ℓ for the logistic loss, this is *self-bounded weak convexity*, on which the guarantees of Deora, Ghaderi, Taheri,
Thrampoulidis 2023, arXiv 2310.12680, rest:

    λ_min(∇²L) ≥ -κ H^{-1/2} L       at p = 1/2.

**A constant** (`weak_convexity_constant`; ours, and loose). Let ‖x_t‖ ≤ R. Along (δW, δU), which moves scores by at most
R²‖δW‖, the second derivative of φ is 2 Σ_t Cov(δs_t, X δu_t) + Σ_t E[(δs_t - Eδs_t)² (X u_t - E X u_t)], moments under
each row's attention. That is at most 2 √T R³ ‖δW‖ ‖δU‖ + 2 √T R⁵ ‖U‖ ‖δW‖², hence κ = √T R³ (1 + 2 R² max_h ‖U_h‖_F).

**Exactly, at the start W = U = 0** (`start_curvature`; ours). Attention is uniform, ∂φ/∂U = 1 x̄ᵀ, ∂φ/∂W = 0, and the
Hessian of φ couples W and U only, through (C_i δW)_t = Cov(X_i) δWᵀ x_t with Cov(X) = XᵀX/T - x̄x̄ᵀ. For C = (1/2n) Σ y_i C_i

    -λ_min(∇²L) = H^{-p} ‖C‖    for H ≥ 2 (a difference of two heads, which outputs do not see),
     λ_max(∇²L) → H^{1-2p} · (T/4) λ_max(Σ_i x̄_i x̄_iᵀ / n)    for H → ∞.

So with p = 1/2 smoothness does not depend on H while non-convexity falls as H^{-1/2}. Their ratio falls as H^{p-1}.

| paper            | code      | shape                     |
|------------------|-----------|---------------------------|
| X, y             | `tokens`, `labels` | (member, n, T, d), (member, n) |
| R                | `radius`  | largest norm of a token   |
| H^{-p}           | `scale`   | p = 1/2 in the paper      |
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lib.models.multi_head_attention import loss_gradient
from lib.theory.lanczos import lanczos_extremes


def loss_curvature(
    tokens: Float[Tensor, "member n T d"],
    labels: Float[Tensor, "member n"],
    W: Float[Tensor, "member head d d"],
    U: Float[Tensor, "member head T d"],
    start: Float[Tensor, "member p"],
    n_steps: int,
    scale: float | None = None,
) -> tuple[Float[Tensor, " member"], Float[Tensor, " member"]]:
    """Lowest and highest eigenvalue of the Hessian of each member's loss, by Lanczos on Hessian-vector products.

    Args:
        tokens, labels, W, U, scale: The model and its data; see `lib.models.multi_head_attention`.
        start: A Gaussian vector of p = head (d d + T d) entries per member.
        n_steps: Of Lanczos.
    """
    leaves = W.detach().requires_grad_(), U.detach().requires_grad_()
    with torch.enable_grad():  # the gradient is in closed form, so that one backward pass through it is a product
        _, gradient = loss_gradient(tokens, labels, *leaves, scale)

    def matvec(vector: Tensor) -> Tensor:
        along = vector.split([W[0].numel(), U[0].numel()], dim=1)
        shaped = along[0].reshape(W.shape), along[1].reshape(U.shape)
        products = torch.autograd.grad(gradient, leaves, shaped, retain_graph=True)
        return torch.cat([product.flatten(1) for product in products], dim=1)

    return lanczos_extremes(matvec, start, n_steps)


def start_curvature(
    tokens: Float[Tensor, "member n T d"], labels: Float[Tensor, "member n"]
) -> tuple[Float[Tensor, " member"], Float[Tensor, " member"]]:
    """Curvature at W = U = 0: (‖C‖, (T/4) λ_max(Σ x̄x̄ᵀ/n)).

    Then -λ_min is H^{-p} times the first for H ≥ 2, and λ_max tends to H^{1-2p} times the second.
    """
    n_tokens = tokens.shape[2]
    middle = tokens.mean(2, keepdim=True)
    covariance = tokens.mT @ tokens / n_tokens - middle.mT @ middle
    # C as a matrix from δW, read as (a, b), to δU, read as (t, c): Σ_i y_i x_ita Cov_cb / 2n
    C = torch.einsum("mi,mita,micb->mtcab", labels / (2 * labels.shape[1]), tokens, covariance)
    coupling = torch.linalg.matrix_norm(C.flatten(3, 4).flatten(1, 2), ord=2)
    second = (middle.mT @ middle).mean(1)
    return coupling, n_tokens / 4 * torch.linalg.eigvalsh(second)[:, -1]


def weak_convexity_constant(
    tokens: Float[Tensor, "member n T d"], U: Float[Tensor, "member head T d"]
) -> Float[Tensor, " member"]:
    """The κ above, with the largest token of the data as R and the largest head of U: λ_min ≥ -κ H^{-1/2} L."""
    radius = tokens.norm(dim=-1).amax((1, 2))
    return tokens.shape[2] ** 0.5 * radius**3 * (1 + 2 * radius**2 * U.flatten(2).norm(dim=2).amax(1))
