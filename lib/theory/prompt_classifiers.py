r"""What a classifier without meta-training predicts from the points of a prompt: one signature for all.

    classifier(xs, ys, n_classes) -> predicted label of every point, from the points strictly before it

All prefixes of all prompts at once. The first point has no prefix: every classifier says 0 there, which is right by chance.

    nearest neighbour   the label of the closest point
    nearest mean        the class whose points have the closest mean; classes not yet seen are never named
    ridge               largest entry of B̃ᵀ(x, 1), B̃ = (ZᵀZ + λI)⁻¹ Zᵀ Y, Z = (x, 1) of the prefix, Y its one-hot labels
    descent             logistic regression from zero weights, n_steps of gradient descent on the prefix's cross-entropy

The last is the paper's baseline of "SGD from scratch" for a linear model: the same data, the same number of examples, no
experience with other tasks. Source: arXiv 2212.04458, Table 1 and Figure on the learning curve within a prompt.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lib.theory.class_means import before_each

Inputs = Float[Tensor, "*stack n_points m"]
Labels = Int64[Tensor, "*stack n_points"]
Classifier = Callable[..., Tensor]


def nearest_neighbour(xs: Inputs, ys: Labels, n_classes: int) -> Labels:
    """Label of the closest of the points before."""
    _check(ys, n_classes)
    n = xs.shape[-2]
    distances = torch.cdist(xs, xs).masked_fill(torch.ones(n, n, dtype=torch.bool, device=xs.device).triu(), torch.inf)
    return _from_second(ys.gather(-1, distances.argmin(-1)))


def nearest_mean(xs: Inputs, ys: Labels, n_classes: int) -> Labels:
    """Class with the closest mean among the points before."""
    _check(ys, n_classes)
    counts, sums = before_each(xs, ys, n_classes)
    squares = (xs[..., None, :] - sums / counts.clamp_min(1)[..., None]).square().sum(-1)
    return _from_second(squares.masked_fill(counts == 0, torch.inf).argmin(-1))


def ridge(xs: Inputs, ys: Labels, n_classes: int, *, penalty: float) -> Labels:
    """Ridge regression of one-hot labels on (x, 1), fitted to the points before.

    Raises:
        ValueError: A penalty that is not positive, or labels that do not fit.
    """
    _check(ys, n_classes)
    if not penalty > 0:
        raise ValueError(f"penalty is {penalty}; it must be positive")
    points = F.pad(xs.double(), (0, 1), value=1.0)
    targets = F.one_hot(ys, n_classes).double()
    squares, products = points[..., None] * points[..., None, :], points[..., None] * targets[..., None, :]
    gram, moments = squares.cumsum(-3) - squares, products.cumsum(-3) - products
    identity = torch.eye(points.shape[-1], dtype=torch.float64, device=xs.device)
    weights = torch.linalg.solve(gram + penalty * identity, moments)
    return _from_second((points[..., None, :] @ weights)[..., 0, :].argmax(-1))


def descent(xs: Inputs, ys: Labels, n_classes: int, *, lr: float, n_steps: int) -> Labels:
    """Logistic regression on (x, 1) from zero weights: gradient descent on the mean cross-entropy of the points before.

    Raises:
        ValueError: A learning rate that is not positive, no step, or labels that do not fit.
    """
    _check(ys, n_classes)
    if not lr > 0 or n_steps < 1:
        raise ValueError(f"lr and n_steps are {lr} and {n_steps}; lr must be positive and n_steps at least 1")
    n, stack = xs.shape[-2], xs.shape[:-2]
    points = F.pad(xs, (0, 1), value=1.0)
    targets = F.one_hot(ys, n_classes).to(xs.dtype)[..., :, None, :]
    before = torch.ones(n, n, dtype=xs.dtype, device=xs.device).triu(1)  # (point, prefix)
    share = (before / before.sum(0).clamp_min(1))[..., None]
    weights = xs.new_zeros(*stack, points.shape[-1], n * n_classes)  # all prefixes of a prompt beside one another
    for _ in range(n_steps):
        likely = (points @ weights).unflatten(-1, (n, n_classes)).softmax(-1)  # (…, point, prefix, class)
        weights = weights - lr * points.mT @ (share * (likely - targets)).flatten(-2)
    logits = (points @ weights).unflatten(-1, (n, n_classes)).diagonal(dim1=-3, dim2=-2).mT
    return _from_second(logits.argmax(-1))


def _from_second(predictions: Tensor) -> Tensor:
    return F.pad(predictions[..., 1:], (1, 0))


def _check(ys: Tensor, n_classes: int) -> None:
    if n_classes < 2:
        raise ValueError(f"n_classes is {n_classes}; it must be at least 2")
    if ys.numel() and not 0 <= int(ys.min()) <= int(ys.max()) < n_classes:
        raise ValueError(f"ys run from {int(ys.min())} to {int(ys.max())}; they must lie in 0…{n_classes - 1}")
