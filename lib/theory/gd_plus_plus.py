r"""Gradient descent and GD++ on linear regression, written as the weights of linear self-attention layers.

Source: arXiv 2212.07677 (von Oswald et al.), Proposition 1 and the section on GD++. Tokens are e_j = (x_j, y_j), the
query is (x_q, 0) and is no key. A layer adds sum_i W_PV e_i (e_iᵀ W_KQ e_j) to every token e_j. With

    W_KQ = diag(I, 0),    W_PV = diag(-gamma I, -eta)

that is x_j <- (I - gamma S) x_j and y_j <- y_j - eta x_jᵀ b, where S = sum_i x_i x_iᵀ and b = sum_i y_i x_i. For gamma = 0
the second part is one step of gradient descent on sum_i (y_i - wᵀ x_i)²/2 from w = 0, with its effect moved from the
weights to the targets: what a point has lost from its target is what the weights now predict. So minus the query's last
entry is the prediction, and further layers are further steps. GD++ (gamma > 0) also transforms the inputs, which
compresses the spectrum of S between the steps (`lib.theory.gd_plus_plus_spectrum`).

| paper                    | code                                   |
|--------------------------|----------------------------------------|
| W_Kᵀ W_Q                 | `W_KQ`                                 |
| P W_V                    | `W_PV`                                 |
| eta (over N)             | `rates`: multiplies the sum over points, not the mean |
| gamma                    | `shrinkages`, one per step like the rates |
| sensitivity ∂ŷ/∂x_q      | `sensitivity`; for GD++ `implicit_weights` |
| model cos, model diff, preds diff | `alignment`                   |
| beta                     | `key_query_scale`                      |

Prediction and query are linear in one another for every model here without softmax, so the sensitivity is the weight
vector of the linear model that the context has made.

Differences: the paper divides eta by N, and its Proposition writes W_V with the row (W_0, -I) for a start w = W_0; the
start is zero here, as in all of its experiments. Its code ties gamma and eta of GD++ at the start and then trains them.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Layer = tuple[Tensor, Tensor]  # (W_KQ, W_PV)


def construction(n_dims: int, rate: float, shrinkage: float = 0.0, dtype: torch.dtype = torch.float32) -> Layer:
    """Weights (W_KQ, W_PV), of shape (n_dims + 1, n_dims + 1), of the layer that takes one step of GD++; GD by default.

    Args:
        n_dims: length of x.
        rate: eta, which multiplies the sum over the context's points.
        shrinkage: gamma.
        dtype: of the weights.

    Raises:
        ValueError: n_dims is below 1.

    >>> W_KQ, W_PV = construction(n_dims=2, rate=0.5)
    >>> W_PV.diagonal().tolist()
    [-0.0, -0.0, -0.5]
    """
    if n_dims < 1:
        raise ValueError(f"n_dims must be at least 1, got {n_dims}")
    ones = torch.ones(n_dims, dtype=dtype)
    return torch.diag(torch.cat([ones, ones.new_zeros(1)])), -torch.diag(
        torch.cat([shrinkage * ones, ones.new_full((1,), rate)])
    )


def implicit_weights(
    xs: Float[Tensor, "*batch n_points n_dims"],
    ys: Float[Tensor, "*batch n_points"],
    rates: Float[Tensor, " n_steps"],
    shrinkages: Float[Tensor, " n_steps"] | None = None,
) -> Float[Tensor, "*batch n_dims"]:
    """Weights w of the linear model that GD++ has made of a context after all its steps: the prediction is wᵀ x_q.

    A query is transformed as the context's inputs are, x_q <- (I - gamma S) x_q, and step k predicts eta x_qᵀ b more.

    Args:
        xs: the context's inputs, without the query.
        ys: the context's targets.
        rates: eta of each step.
        shrinkages: gamma of each step; None is plain gradient descent.

    >>> xs, ys = torch.eye(2), torch.tensor([1.0, 3.0])
    >>> implicit_weights(xs, ys, rates=torch.tensor([0.5, 0.5])).tolist()
    [0.75, 2.25]
    """
    shrinkages = torch.zeros_like(rates) if shrinkages is None else shrinkages
    weights = torch.zeros_like(xs[..., 0, :])
    transform = torch.eye(xs.shape[-1], dtype=xs.dtype, device=xs.device)  # of the query, so far
    for rate, shrinkage in zip(rates, shrinkages, strict=True):
        gram = xs.mT @ xs
        moment = xs.mT @ ys[..., None]
        weights = weights + rate * (transform @ moment)[..., 0]
        ys = ys - rate * (xs @ moment)[..., 0]
        transform = transform - shrinkage * transform @ gram
        xs = xs - shrinkage * xs @ gram
    return weights


def predict(
    xs: Float[Tensor, "*batch n_points n_dims"],
    ys: Float[Tensor, "*batch n_points"],
    queries: Float[Tensor, "*batch n_queries n_dims"],
    rates: Float[Tensor, " n_steps"],
    shrinkages: Float[Tensor, " n_steps"] | None = None,
) -> Float[Tensor, "*batch n_queries"]:
    """Predictions of GD++ (of GD without shrinkages) for queries that are no part of the context."""
    return (queries @ implicit_weights(xs, ys, rates, shrinkages)[..., None])[..., 0]


def sensitivity(
    model: Callable[[Tensor, Tensor], Tensor],
    xs: Float[Tensor, "*batch n_points n_dims"],
    ys: Float[Tensor, "*batch n_points"],
) -> Float[Tensor, "*batch n_dims"]:
    """How the prediction for the last point changes with that point's inputs, ∂ŷ_q/∂x_q.

    Args:
        model: maps (xs, ys) to one prediction per prompt, for its last point.
        xs: inputs; the last point is the query.
        ys: targets; the model must not look at the last one.
    """
    with torch.enable_grad():
        xs = xs.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model(xs, ys).sum(), xs)
    return gradient[..., -1, :]


def alignment(
    predictions: Float[Tensor, "*stack batch"],
    sensitivities: Float[Tensor, "*stack batch n_dims"],
    reference_predictions: Float[Tensor, "*stack batch"],
    reference_sensitivities: Float[Tensor, "*stack batch n_dims"],
) -> dict[str, Float[Tensor, "*stack"]]:
    """How alike two models are on the same prompts: the three curves of the paper's Figure 2, means over prompts.

    Returns:
        `prediction_difference`: |ŷ - ŷ'|; `cosine` of the sensitivities; `sensitivity_difference`: length of their
        difference.

    >>> unit = torch.tensor([[1.0, 0.0]])
    >>> [value.item() for value in alignment(torch.ones(1), unit, torch.zeros(1), 2 * unit).values()]
    [1.0, 1.0, 1.0]
    """
    return {
        "prediction_difference": (predictions - reference_predictions).abs().mean(-1),
        "cosine": torch.cosine_similarity(sensitivities, reference_sensitivities, dim=-1).mean(-1),
        "sensitivity_difference": (sensitivities - reference_sensitivities).norm(dim=-1).mean(-1),
    }


def key_query_scale(W_KQ: Float[Tensor, "*stack D D"]) -> Float[Tensor, "*stack"]:
    """The paper's beta: mean diagonal entry of W_KQ that acts on inputs. Scale can move between the two matrices."""
    return W_KQ.diagonal(dim1=-2, dim2=-1)[..., :-1].mean(-1)


def rescaled(
    W_KQ: Float[Tensor, "*stack D D"], W_PV: Float[Tensor, "*stack D D"]
) -> tuple[Float[Tensor, "*stack D D"], Float[Tensor, "*stack D D"]]:
    """The same layer with the construction's scale, mean diagonal 1 in W_KQ: (W_KQ/beta, beta W_PV)."""
    beta = key_query_scale(W_KQ)[..., None, None]
    return W_KQ / beta, beta * W_PV


def extracted_rates(
    W_KQ: Float[Tensor, "*stack D D"], W_PV: Float[Tensor, "*stack D D"]
) -> tuple[Float[Tensor, "*stack"], Float[Tensor, "*stack"]]:
    """(eta, gamma) that a layer would have, were its off-diagonal entries zero.

    >>> [round(value.item(), 3) for value in extracted_rates(*construction(n_dims=3, rate=0.6, shrinkage=0.1))]
    [0.6, 0.1]
    """
    diagonal = -rescaled(W_KQ, W_PV)[1].diagonal(dim1=-2, dim2=-1)
    return diagonal[..., -1], diagonal[..., :-1].mean(-1)


def interpolated(
    W_KQ: Float[Tensor, "*stack D D"], W_PV: Float[Tensor, "*stack D D"], constructed: Layer, share: float = 0.5
) -> tuple[Float[Tensor, "*stack D D"], Float[Tensor, "*stack D D"]]:
    """Mean of a rescaled layer and the construction, in weight space; `share` is that of the construction.

    Raises:
        ValueError: share is outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    mine = rescaled(W_KQ, W_PV)
    return tuple((1 - share) * ours + share * theirs for ours, theirs in zip(mine, constructed, strict=True))
