r"""The Bayes classifier of a finite set of tasks: find out which task it is, by exact enumeration.

**Model.** A task t, uniform over 1…T, projects Gaussian clusters with centres c_k and unit noise by A_t and relabels
them by a permutation π_t:

    y uniform,    x | y, t ~ N(A_t c_(π_t⁻¹(y)), A_t A_tᵀ).

**Posterior.** w_t(i) ∝ prod_(j<i) p(x_j | y_j, t) after the points before i, and

    p(y_i = k | x_i, prefix) ∝ sum_t w_t(i) p(x_i | k, t).

The point's own input x_i speaks about the task, too: it enters through p(x_i | k, t). With T = 1 this is the linear
discriminant of a known task, the ceiling for every learner. A learner that identifies tasks is arXiv 2212.04458's second
phase; on a task outside its set it has nothing to say.

| symbol        | code                | shape              |
|---------------|---------------------|--------------------|
| A_t           | `projections`       | (task, m, d)       |
| π_t           | `labellings`        | (task, K): c -> π(c) |
| c_k           | `centres`           | (K, d)             |
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def log_densities(
    xs: Float[Tensor, "*stack n_points m"],
    projections: Float[Tensor, "task m d"],
    labellings: Int64[Tensor, "task K"],
    centres: Float[Tensor, "class d"],
) -> Float[Tensor, "*stack n_points task K"]:
    """log p(x | label k, task t) up to the constant -m/2 log 2π, in float64.

    Raises:
        ValueError: A projection to more dimensions than it starts from (its noise would have no density), or centres
            of another number or dimension.
    """
    n_out, n_dims = projections.shape[1:]
    if n_out > n_dims:
        raise ValueError(f"projections lead from {n_dims} to {n_out} dimensions; they must not lead to more")
    if centres.shape != (labellings.shape[1], n_dims):
        raise ValueError(
            f"centres have shape {tuple(centres.shape)}; "
            f"the tasks are for {labellings.shape[1]} classes in {n_dims} dimensions"
        )
    projections = projections.double()
    factor = torch.linalg.cholesky(projections @ projections.mT)
    # Whitened by the task's own noise: distances are then plain ones.
    means = torch.linalg.solve_triangular(factor, projections @ centres.double().mT, upper=False).mT  # (task, class, m)
    means = means.gather(1, labellings.argsort(1)[..., None].expand(-1, -1, n_out))  # label k belongs to class π⁻¹(k)
    identity = torch.eye(n_out, dtype=torch.float64, device=xs.device)
    whitener = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    white = torch.einsum("tab,...b->...ta", whitener, xs.double())
    squares = white.square().sum(-1)[..., None] - 2 * torch.einsum("...ta,tka->...tk", white, means)
    squares = squares + means.square().sum(-1)
    return -0.5 * squares - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)[:, None]


def identify(
    densities: Float[Tensor, "*stack n_points task K"], ys: Int64[Tensor, "*stack n_points"]
) -> tuple[Float[Tensor, "*stack n_points K"], Float[Tensor, "*stack n_points task"]]:
    """Posteriors over labels and tasks for every point, from `log_densities`.

    Returns:
        p(y_i = k | x_i, points before i), and p(t | points before i).
    """
    told = densities.gather(-1, ys[..., None, None].expand(*densities.shape[:-1], 1))[..., 0]  # log p(x_i | y_i, t)
    weights = told.cumsum(-2) - told
    labels = torch.logsumexp(weights[..., None] + densities, dim=-2)
    return labels.softmax(-1), weights.softmax(-1)
