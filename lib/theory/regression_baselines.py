"""What a learner without a transformer predicts from the points of a prompt: one signature for every baseline.

    baseline(xs, ys, queries) -> predictions

with xs (…, n_points, n_dims), ys (…, n_points), queries (…, n_queries, n_dims), predictions (…, n_queries).
No points is a prompt too: then every baseline predicts 0.

Source: Garg et al. 2022, arXiv 2208.01066, Section 3 (least squares, averaging, 3 nearest neighbours).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Baseline = Callable[..., Tensor]


def zero(
    xs: Float[Tensor, "*stack n_points n_dims"],
    ys: Float[Tensor, "*stack n_points"],
    queries: Float[Tensor, "*stack n_queries n_dims"],
) -> Float[Tensor, "*stack n_queries"]:
    """0 whatever the points say: the loss of knowing nothing."""
    return torch.zeros_like(queries[..., 0])


def least_squares(
    xs: Float[Tensor, "*stack n_points n_dims"],
    ys: Float[Tensor, "*stack n_points"],
    queries: Float[Tensor, "*stack n_queries n_dims"],
) -> Float[Tensor, "*stack n_queries"]:
    """xᵀ X⁺ y, the minimum-norm solution while there are fewer points than dimensions."""
    if xs.shape[-2] == 0:
        return zero(xs, ys, queries)
    # In float64, since a prompt with as many points as dimensions can be nearly singular.
    weights = torch.linalg.pinv(xs.double()) @ ys.double()[..., None]
    return (queries.double() @ weights)[..., 0].to(ys.dtype)


def ridge(
    xs: Float[Tensor, "*stack n_points n_dims"],
    ys: Float[Tensor, "*stack n_points"],
    queries: Float[Tensor, "*stack n_queries n_dims"],
    *,
    penalty: float,
) -> Float[Tensor, "*stack n_queries"]:
    """xᵀ (XᵀX + penalty I)⁻¹ Xᵀ y; with penalty = noise variance / weight variance it is the Bayes prediction.

    Raises:
        ValueError: `penalty` is not positive (use `least_squares` for 0).
    """
    if not penalty > 0:
        raise ValueError(f"penalty is {penalty}; it must be positive (least_squares is the limit 0)")
    xs64 = xs.double()
    gram = xs64.mT @ xs64 + penalty * torch.eye(xs.shape[-1], dtype=torch.float64, device=xs.device)
    weights = torch.linalg.solve(gram, xs64.mT @ ys.double()[..., None])
    return (queries.double() @ weights)[..., 0].to(ys.dtype)


def averaging(
    xs: Float[Tensor, "*stack n_points n_dims"],
    ys: Float[Tensor, "*stack n_points"],
    queries: Float[Tensor, "*stack n_queries n_dims"],
) -> Float[Tensor, "*stack n_queries"]:
    """xᵀ (1/n) Σ_j y_j x_j: consistent for whitened inputs, and one step of gradient descent at rate 1/n."""
    return gradient_descent(xs, ys, queries, rate=1 / max(xs.shape[-2], 1))


def nearest_neighbours(
    xs: Float[Tensor, "*stack n_points n_dims"],
    ys: Float[Tensor, "*stack n_points"],
    queries: Float[Tensor, "*stack n_queries n_dims"],
    *,
    n_neighbours: int = 3,
) -> Float[Tensor, "*stack n_queries"]:
    """The mean target of the nearest points, of all of them while there are fewer than `n_neighbours`.

    Raises:
        ValueError: `n_neighbours` is below 1.
    """
    if n_neighbours < 1:
        raise ValueError(f"n_neighbours is {n_neighbours}; it must be at least 1")
    if xs.shape[-2] == 0:
        return zero(xs, ys, queries)
    distances = torch.cdist(queries, xs)
    nearest = distances.topk(min(n_neighbours, xs.shape[-2]), largest=False).indices
    return ys[..., None, :].expand(distances.shape).gather(-1, nearest).mean(-1)


def gradient_descent(
    xs: Float[Tensor, "*stack n_points n_dims"],
    ys: Float[Tensor, "*stack n_points"],
    queries: Float[Tensor, "*stack n_queries n_dims"],
    *,
    rate: float,
    n_steps: int = 1,
) -> Float[Tensor, "*stack n_queries"]:
    """Prediction after steps of gradient descent from w = 0 on ½ Σ_j (wᵀ x_j - y_j)²: a sum, so rate ~ 1/n_points.

    Raises:
        ValueError: `n_steps` is below 1.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; it must be at least 1")
    weights = rate * (xs.mT @ ys[..., None])
    for _ in range(n_steps - 1):
        weights = weights + rate * (xs.mT @ (ys[..., None] - xs @ weights))
    return (queries @ weights)[..., 0]


def each_prefix(
    baseline: Baseline, xs: Float[Tensor, "*stack n_points n_dims"], ys: Float[Tensor, "*stack n_points"]
) -> Float[Tensor, "*stack n_points"]:
    """Prediction of each point from the points before it, as a causal model makes them.

    Args:
        baseline: Any function of this module; bind its options with `functools.partial`.
        xs: Points.
        ys: Targets.

    Returns:
        Predictions of ys.
    """
    predictions = [baseline(xs[..., :n, :], ys[..., :n], xs[..., n : n + 1, :])[..., 0] for n in range(xs.shape[-2])]
    return torch.stack(predictions, dim=-1)
