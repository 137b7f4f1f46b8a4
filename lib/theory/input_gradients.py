r"""Which inputs does a gradient point at? Attributions, masks by rank, and DiffROAR's two ends.

    A(x) = |∇_x (f_c(x) - mean_j f_j(x))|,    c the predicted class
    DiffROAR(A, k) = P(only the top k kept) - P(only the bottom k kept)

P is the predictive power: the test accuracy of networks trained anew on masked images. Source: Shah et al. 2021, arXiv
2102.12781, Section 3. If A ranks inputs by how much they tell of the label, DiffROAR is positive; for a random ranking both
terms have one distribution, so that its mean is 0. The mean of all logits is taken off because a common shift changes no
prediction; with two classes A is half the slope of their difference.

| paper   | code                | shape          |
|---------|---------------------|----------------|
| A(x)    | `attributions`      | (*stack, n, d) |
| rank    | `ranks`             | 0 the largest  |
| k/d     | `share`             | in 0…1         |
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def attributions(model: nn.Module, xs: Float[Tensor, "*data n d"]) -> Float[Tensor, "*data n d"]:
    """Magnitude of the input gradient of the predicted class's logit, the mean of all logits taken off.

    Args:
        model: Stacked as the inputs are.
        xs: Inputs.
    """
    xs = xs.detach().clone().requires_grad_()
    logits = model(xs)
    chosen = logits.gather(-1, logits.argmax(-1, keepdim=True))[..., 0] - logits.mean(-1)
    return torch.autograd.grad(chosen.sum(), xs)[0].abs()


def ranks(values: Float[Tensor, "*stack n d"]) -> Int[Tensor, "*stack n d"]:
    """Place of each entry in its row, 0 for the largest.

    >>> ranks(torch.tensor([[0.2, 0.9, 0.5]])).tolist()
    [[2, 0, 1]]
    """
    return values.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)


def kept(order: Int[Tensor, "*stack n d"], share: float, end: str) -> Bool[Tensor, "*stack n d"]:
    """Which inputs stay when only one end of the ranking is kept.

    Args:
        order: See `ranks`.
        share: Share of the inputs that stay.
        end: "top" or "bottom".

    Raises:
        ValueError: An unknown end or a share outside 0…1.

    >>> kept(torch.tensor([[2, 0, 1, 3]]), 0.5, "top").int().tolist()
    [[0, 1, 1, 0]]
    """
    if end not in ("top", "bottom"):
        raise ValueError(f"end is {end!r}; it must be 'top' or 'bottom'")
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must lie in 0…1")
    d = order.shape[-1]
    k = round(share * d)
    return order < k if end == "top" else order >= d - k


def share_of(values: Float[Tensor, "*stack n d"], where: Bool[Tensor, "*#stack n d"]) -> Float[Tensor, "*stack"]:
    """Share of a row's total that lies in some of its entries, a mean over rows; rows of zeros count as nothing anywhere.

    >>> share_of(torch.tensor([[1.0, 3.0]]), torch.tensor([[True, False]])).item()
    0.25
    """
    total = values.sum(-1)
    share = torch.where(total > 0, (values * where).sum(-1) / total.clamp_min(1e-30), 0.0)
    return share.sum(-1) / (total > 0).sum(-1).clamp_min(1)
