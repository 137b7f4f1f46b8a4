r"""Which subspace a regression lives in: Gaussian evidence, its posterior, and the Bayesian mixture of predictors.

Under the hypothesis of size k the first k of d coordinates count:

    y_j = w_1 x_{j1} + … + w_k x_{jk} + ε_j,    w ~ N(0, I_k),    ε_j ~ N(0, σ²).

Its evidence is y_1 … y_m ~ N(0, X_k X_kᵀ + σ² I), a product of one-step predictions N(y_j; x_jᵀ μ, x_jᵀ S x_j + σ²), where
μ, S are the posterior mean and covariance of w after j - 1 points: recursive least squares gives all prefixes in one pass.
Bayes predicts Σ_k p(k | y_1 … y_m) x_qᵀ μ_k. For d/2 <= m < d noiseless points of the small kind both hypotheses interpolate
the data; the large one must share its evidence among all functions that do, so the small one wins.

Source: Deora et al. 2025, arXiv 2506.19351, Section 2 (nested linear regression); MacKay 1992 (evidence).

| paper          | code             | shape                                                |
|----------------|------------------|------------------------------------------------------|
| d/2, d         | `sizes`          | the hypotheses, increasing                           |
| σ²             | `noise_variance` | positive; small for nearly noiseless targets         |
|                | `means`          | (size, …, n_points): x_jᵀ μ from the points before j |
| log p(y | k)   | `log_evidences`  | (size, …, n_points), of the points before j, nats    |
"""

from collections.abc import Sequence
from itertools import pairwise
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor


def predict_and_weigh(
    xs: Float[Tensor, "*prompt n_points d"],
    ys: Float[Tensor, "*prompt n_points"],
    sizes: Sequence[int],
    noise_variance: float,
) -> tuple[Float[Tensor, "size *prompt n_points"], Float[Tensor, "size *prompt n_points"]]:
    """Every hypothesis's prediction of each point from the points before it, and its log evidence from those.

    Args:
        xs: Inputs.
        ys: Targets.
        sizes: Numbers of leading coordinates that count, one per hypothesis.
        noise_variance: σ².

    Returns:
        (means, log_evidences) in float64; entry j has seen j points.

    Raises:
        ValueError: A noise variance that is not positive, or sizes that do not increase within 1…d.
    """
    d = xs.shape[-1]
    if not noise_variance > 0:
        raise ValueError(f"noise_variance is {noise_variance}; it must be positive")
    if not sizes or any(a >= b for a, b in pairwise(sizes)) or not 1 <= sizes[0] <= sizes[-1] <= d:
        raise ValueError(f"sizes is {list(sizes)}; it must increase within 1…{d}, the inputs' dimensions")
    xs, ys = xs.double(), ys.double()
    masks = torch.tensor([[1.0] * k + [0.0] * (d - k) for k in sizes], dtype=torch.float64, device=xs.device)
    masks = masks.reshape(len(sizes), *[1] * (xs.ndim - 2), d)
    mean = torch.zeros(len(sizes), *xs.shape[:-2], d, dtype=torch.float64, device=xs.device)
    covariance = torch.diag_embed(masks.expand(mean.shape))
    evidence = torch.zeros(mean.shape[:-1], dtype=torch.float64, device=xs.device)
    means, evidences = [], []
    for x, y in zip(xs.unbind(-2), ys.unbind(-1), strict=True):
        means.append((mean * x).sum(-1))
        evidences.append(evidence)
        Sx = (covariance @ x[..., None])[..., 0]
        variance = (Sx * x).sum(-1) + noise_variance
        error = y - means[-1]
        evidence = evidence - 0.5 * (error.square() / variance + variance.log() + log(2 * pi))
        gain = Sx / variance[..., None]
        mean = mean + gain * error[..., None]
        covariance = covariance - gain[..., :, None] * Sx[..., None, :]
    return torch.stack(means, -1), torch.stack(evidences, -1)


def bayes_mixture(
    xs: Float[Tensor, "*prompt n_points d"],
    ys: Float[Tensor, "*prompt n_points"],
    sizes: Sequence[int],
    noise_variance: float,
) -> tuple[Float[Tensor, "*prompt n_points"], Float[Tensor, "size *prompt n_points"]]:
    """(prediction of each point, posterior over sizes), under equal prior odds; both have seen the points before.

    Raises:
        ValueError: As `predict_and_weigh`.
    """
    means, evidences = predict_and_weigh(xs, ys, sizes, noise_variance)
    posterior = evidences.softmax(0)
    return (posterior * means).sum(0), posterior
