r"""GD and GD++ seen through the spectrum of the context: population losses, best rates, and why GD++ is faster.

Source: arXiv 2212.07677, the section on GD++ and the figure of its spectra; the recursions and the reduction below are
derived here. Setting of `lib.theory.gd_plus_plus`: y = wᵀx without noise, w ~ N(0, I), E x xᵀ = s I with s =
`second_moment`, S = sum_i x_i x_iᵀ.

**Reduction.** All matrices in GD++ are polynomials of S, so they commute. Write the transformed input as A_k x and the
remaining target as xᵀ B_k w. Then A_{k+1} = A_k (I - gamma_k S_k) and B_{k+1} = B_k (I - eta_k S_k) with S_k = A_k² S,
and the prediction error at the query is x_qᵀ B_K w. In an eigenvalue lambda of S:

    lambda_{k+1} = lambda_k (1 - gamma_k lambda_k)²,    b_{k+1} = b_k (1 - eta_k lambda_k),    b_0 = 1,

and because query and w are independent of the context, the half squared loss is exactly

    L = (s/2) E sum_i b_K(lambda_i)²,

an average over spectra alone: neither w nor a query need be drawn.

**Why GD++ is faster.** b_K is a polynomial in lambda with b_K(0) = 1 that should be small where the eigenvalues lie. K steps
of GD give degree K. With gamma > 0, lambda_k has degree 3^k and b_K degree (3^K - 1)/2: 4 instead of 2 for two layers, 121
instead of 5 for five. Of the map lambda (1 - gamma lambda)² only the part below its first maximum at 1/(3 gamma) is
rising: larger eigenvalues come down, small ones stay, and the next step can take a larger rate.

**One step.** E tr S = N d s and E tr S² = N d (m4 + (d - 1) s² + (N - 1) s²) give the best rate E tr S / E tr S², the one
of `lib.theory.one_step`.

| paper                   | code                     |
|-------------------------|--------------------------|
| eigenvalues of X Xᵀ     | `eigenvalues`            |
| eta, gamma              | `rates`, `shrinkages`    |
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lib.theory import optimal_polynomials


def spectrum(xs: Float[Tensor, "*batch n_points n_dims"]) -> Float[Tensor, "*batch n_dims"]:
    """Eigenvalues of S = sum_i x_i x_iᵀ of each context, ascending, none below zero."""
    return torch.linalg.eigvalsh(xs.mT @ xs).clamp(min=0)


def curvatures(
    eigenvalues: Float[Tensor, "*batch"], shrinkages: Float[Tensor, " n_steps"]
) -> Float[Tensor, "*batch n_curvatures"]:
    """What each eigenvalue has become before the first step, after the first step, …: lambda_0, …, lambda_K.

    >>> curvatures(torch.tensor([1.0]), torch.tensor([0.5])).tolist()
    [[1.0, 0.25]]
    """
    path = [eigenvalues]
    for shrinkage in shrinkages:
        path.append(path[-1] * (1 - shrinkage * path[-1]) ** 2)
    return torch.stack(path, dim=-1)


def remainder(
    eigenvalues: Float[Tensor, "*batch"],
    rates: Float[Tensor, " n_steps"],
    shrinkages: Float[Tensor, " n_steps"] | None = None,
) -> Float[Tensor, "*batch"]:
    """The share b_K(lambda) of the target that GD++ has not learnt in each eigendirection after all its steps.

    >>> remainder(torch.tensor([1.0, 2.0]), rates=torch.tensor([0.5, 0.5])).tolist()
    [0.25, 0.0]
    """
    shrinkages = torch.zeros_like(rates) if shrinkages is None else shrinkages
    path = curvatures(eigenvalues, shrinkages)[..., :-1]
    return (1 - rates * path).prod(-1)


def loss(
    eigenvalues: Float[Tensor, "batch n_dims"],
    second_moment: float,
    rates: Float[Tensor, " n_steps"],
    shrinkages: Float[Tensor, " n_steps"] | None = None,
) -> Float[Tensor, ""]:
    """Half mean squared error at the query, (s/2) E sum_i b_K(lambda_i)²; the mean is over the spectra given.

    Pooled spectra have one column: multiply by the number of dimensions.

    >>> loss(torch.ones(4, 3), second_moment=2.0, rates=torch.zeros(1)).item()
    3.0
    """
    return second_moment / 2 * remainder(eigenvalues, rates, shrinkages).square().sum(-1).mean()


def pooled(eigenvalues: Float[Tensor, "*batch"], n_groups: int = 2500) -> Float[Tensor, " n_groups 1"]:
    """Eigenvalues of all contexts in one sorted row, cut into equal groups, each replaced by its mean.

    Losses and fits depend on the pooled distribution alone; 2,500 groups change a loss by 4e-4 of itself.

    Raises:
        ValueError: the groups are not of one size, or there are none.

    >>> pooled(torch.tensor([[3.0, 1.0], [2.0, 0.0]]), n_groups=2).tolist()
    [[0.5], [2.5]]
    """
    if n_groups < 1 or eigenvalues.numel() % n_groups:
        raise ValueError(f"n_groups must divide the number of eigenvalues, {eigenvalues.numel()}, got {n_groups}")
    return eigenvalues.flatten().sort().values.reshape(n_groups, -1).mean(1, keepdim=True)


def fit(
    eigenvalues: Float[Tensor, "batch n_dims"], n_steps: int, shared: bool = True, shrink: bool = False
) -> tuple[Float[Tensor, " n_steps"], Float[Tensor, " n_steps"]]:
    """The rates (and shrinkages) with the least loss over the spectra given, by L-BFGS from one-step GD's best rate.

    It is a local search over positive values. With one or two free steps it finds the best; with many steps and
    shrinkages that are free the polynomial has enormous degree and many minima, some at absurd rates. Shared values of
    many steps of GD++ are sought from those of one step less: from afar the search may run away.

    Args:
        eigenvalues: in double precision; pooled ones make it fast.
        n_steps: K.
        shared: one eta and one gamma for all steps, as a looped layer has; otherwise one per step.
        shrink: GD++; otherwise gamma = 0.

    Returns:
        rates and shrinkages, one per step; the last shrinkage acts on nothing, and is 0 unless it is shared.

    Raises:
        ValueError: n_steps is below 1, or the eigenvalues are not in double precision.
        FloatingPointError: the search ran away.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps}")
    if eigenvalues.dtype != torch.float64:
        raise ValueError(f"eigenvalues must be float64, got {eigenvalues.dtype}")
    rate = eigenvalues.mean() / eigenvalues.square().mean()
    start = torch.stack([rate, rate / 5])[:, None]
    if shared and shrink and n_steps > 2:
        start = torch.stack(fit(eigenvalues, n_steps - 1, shrink=True))[:, :1]
    if not shared:  # equal rates are a saddle
        start = start * torch.linspace(0.9, 1.1, n_steps, dtype=torch.float64)
    free = torch.ones_like(start)
    free[1] = float(shrink)
    if not shared:
        free[1, -1] = 0.0
    logs = start.log().requires_grad_()
    search = torch.optim.LBFGS([logs], max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        objective = loss(eigenvalues, 1.0, *(logs.exp() * free).expand(2, n_steps))
        objective.backward()
        return objective

    search.step(closure)
    rates, shrinkages = (logs.detach().exp() * free).expand(2, n_steps).clone()
    if not (rates.isfinite().all() and shrinkages.isfinite().all()):
        raise FloatingPointError(
            f"the search for {n_steps} steps ran away; take fewer free values, or train them slowly"
        )
    return rates, shrinkages


def least_loss(eigenvalues: Float[Tensor, "batch n_dims"], second_moment: float, degree: int) -> float:
    """Least loss of any method whose remainder b is one polynomial of this degree, b(0) = 1, for all contexts.

    A bound from below for K steps of GD (degree K) and of GD++ (degree (3^K - 1)/2), see `lib.theory.optimal_polynomials`.

    Raises:
        ValueError: the degree is below 1 or above the number of distinct eigenvalues, or an eigenvalue is not positive.

    >>> least_loss(torch.tensor([[1.0, 2.0]], dtype=torch.float64), second_moment=1.0, degree=2) < 1e-12
    True
    """
    nodes = eigenvalues.double().flatten().numpy()
    masses = np.full_like(nodes, 1 / nodes.size)
    least = optimal_polynomials.risk(optimal_polynomials.best_steps(nodes, masses, degree), nodes, masses)
    return second_moment / 2 * eigenvalues.shape[-1] * least


def marchenko_pastur(
    eigenvalues: Float[Tensor, "*batch"], n_points: int, n_dims: int, second_moment: float
) -> Float[Tensor, "*batch"]:
    """Density of the eigenvalues of S, for N >= d, when N and d are large: s N times Marchenko and Pastur's law.

    Args:
        eigenvalues: where; at 0 the density is infinite for N = d, and 0 is returned.
        n_points: N.
        n_dims: d.
        second_moment: s.

    Raises:
        ValueError: n_points is below n_dims; the law then has a mass at zero.
    """
    if n_points < n_dims:
        raise ValueError(f"n_points must be at least n_dims = {n_dims}, got {n_points}")
    low, high = (second_moment * (math.sqrt(n_points) + sign * math.sqrt(n_dims)) ** 2 for sign in (-1, 1))
    inside = (eigenvalues > low) & (eigenvalues < high) & (eigenvalues > 0)
    at = torch.where(inside, eigenvalues, torch.full_like(eigenvalues, (low + high) / 2))
    density = ((high - at) * (at - low)).sqrt() / (2 * math.pi * second_moment * n_dims * at)
    return torch.where(inside, density, torch.zeros_like(density))
