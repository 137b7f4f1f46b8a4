r"""Train a stack of small classifiers, and refit their last layers.

A stack is a set of networks that share one program: weights have shape (*stack, out, in), where the stack is
(seeds,) or (lrs, seeds). The loss is summed over the stack, so one backward pass trains every member
independently. Members of one seed share its data and its minibatches, whatever their learning rate.

A member whose loss exceeds `DIVERGED_LOSS` or stops being finite has diverged. From then on its weights are NaN, its
gradient is zero (so that matrix optimizers never meet a NaN), and its accuracy is that of chance.

The last-layer refit ("decoding") asks what the features hold, not what the trained head makes of them. It is
ridge-penalised multinomial logistic regression,

    min_W  (1/n) Σ_i -log softmax(W h_i)[y_i]  +  (ρ/2) ||W||²,     h = features / their root mean square,

by accelerated majorise-minimise steps: the Hessian never exceeds ½ I ⊗ (HᵀH/n) + ρ I (Böhning 1992, Ann.
Inst. Stat. Math. 44:197), so one Cholesky factor per member replaces Newton's matrices and line searches.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.evaluation import Log
from lib.models.linear import cross_entropy
from lib.progress import progress
from lib.seeds import generator_for

DIVERGED_LOSS = 1e4  # nats; chance is a few, and far beyond this the squares of gradients overflow float32


def minibatches(n_points: int, batch_size: int, n_steps: int, seeds: Sequence[int]) -> Int[Tensor, "step seed batch"]:
    """Which points each seed sees at each step: epochs without replacement, each in a new random order.

    A batch that an epoch's end would cut is left out, as data loaders with ``drop_last`` do.

    Args:
        n_points: Size of the training set.
        batch_size: Points per step, at most `n_points`.
        n_steps: Steps.
        seeds: One stream per seed, independent of the others.

    Returns:
        Indices into the training set.

    Raises:
        ValueError: `batch_size` outside 1…n_points.
    """
    if not 1 <= batch_size <= n_points:
        raise ValueError(f"batch_size is {batch_size}; it must lie in 1…{n_points}, the number of points")
    per_epoch = n_points // batch_size
    n_epochs = -(-n_steps // per_epoch)

    def stream(seed: int) -> Tensor:
        g = generator_for(seed, "batches")
        orders = [torch.randperm(n_points, generator=g)[: per_epoch * batch_size] for _ in range(n_epochs)]
        return torch.cat(orders).reshape(-1, batch_size)[:n_steps]

    return torch.stack([stream(seed) for seed in seeds], dim=1)


def group_accuracy(
    logits: Float[Tensor, "*stack n n_classes"],
    ys: Int[Tensor, "*#stack n"],
    groups: Int[Tensor, "*#stack n"],
    n_groups: int = 2,
) -> Float[Tensor, "*stack group"]:
    """Share of each group's points whose largest logit is the right class.

    Args:
        logits: A row per point. A member with a logit that is not finite is counted at chance, 1 / n_classes.
        ys: Classes.
        groups: The group of each point, 0…n_groups-1; every group has a point.
        n_groups: Number of groups.

    Returns:
        Accuracies in 0…1.
    """
    right = (logits.argmax(-1) == ys).to(logits.dtype)
    member = F.one_hot(groups, n_groups).to(logits.dtype)
    accuracy = (right[..., None] * member).sum(-2) / member.sum(-2)
    finite = logits.isfinite().all(-1).all(-1)[..., None]
    return torch.where(finite, accuracy, 1 / logits.shape[-1])


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    xs: Float[Tensor, "seed n *shape"],
    ys: Int[Tensor, "seed n"],
    batches: Int[Tensor, "step seed batch"],
    *,
    evaluate: Callable[[], Tensor],
    log_steps: Sequence[int],
    label: str = "training",
) -> dict[str, Tensor]:
    """Train a stack on cross-entropy and log what `evaluate` finds.

    Args:
        model: Stacked over (..., seed), parameters (..., seed, out, in); trained in place.
        optimizer: Steps the model's parameters.
        xs: Training inputs of each seed.
        ys: Their classes.
        batches: Points of each step, see `minibatches`.
        evaluate: Returns a tensor (*stack, ...) about the model as it is, called without gradients.
        log_steps: Numbers of steps done at which to evaluate, increasing; 0 is before the first step.
        label: Name of the progress bar.

    Returns:
        ``"log"`` (len(log_steps), *stack, ...), if there are any; ``"loss"`` (step, *stack) of each minibatch before its
        step, NaN from the step at which a member diverged; ``"diverged"`` (*stack), boolean.

    Raises:
        ValueError: `log_steps` is not increasing or leaves 0…n_steps.
    """
    log = Log(evaluate, log_steps, len(batches))
    rows = torch.arange(len(xs), device=xs.device)[:, None]
    losses = []
    weights = list(model.parameters())
    diverged = torch.zeros(weights[0].shape[:-2], dtype=torch.bool, device=weights[0].device)
    log.after(0)
    for step, batch in enumerate(progress(batches.to(xs.device), label), start=1):
        loss = cross_entropy(model(xs[rows, batch]), ys[rows, batch])
        gradients = torch.autograd.grad(loss.sum(), weights)
        with torch.no_grad():
            diverged |= ~(loss < DIVERGED_LOSS)
            for g in gradients:
                diverged |= ~g.sum((-2, -1)).isfinite()  # one pass; a NaN or an infinity survives the sum
            for w, g in zip(weights, gradients, strict=True):
                w.grad = torch.where(diverged[..., None, None], 0.0, g) if diverged.any() else g
        optimizer.step()
        if diverged.any():
            with torch.no_grad():
                for w in weights:
                    w[diverged] = torch.nan
        losses.append(torch.where(diverged, torch.nan, loss.detach()))
        log.after(step)
    return log.results() | {"loss": torch.stack(losses), "diverged": diverged}


def refit_last_layer(
    features: Float[Tensor, "*stack n width"],
    ys: Int[Tensor, "*#stack n"],
    *,
    n_classes: int,
    ridge: float = 1e-3,
    n_iterations: int = 200,
) -> Float[Tensor, "*stack n_classes width"]:
    """The last layer that multinomial logistic regression fits to given features.

    Args:
        features: What the last layer reads, on data balanced in whatever should not count.
        ys: Classes.
        n_classes: Number of classes.
        ridge: ρ, against features of root mean square 1; in scikit-learn's terms C = 1 / (n ρ).
        n_iterations: Accelerated steps.

    Returns:
        Weights that apply to `features` as given (the scale is folded in). A member whose features are not
        finite gets zeros.

    Raises:
        ValueError: `ridge` is not positive.

    Source: Böhning 1992 (bound on the Hessian); Nesterov 1983 (acceleration).
    """
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}; it must be positive")
    finite = features.isfinite().all(-1).all(-1)[..., None, None]
    hs = torch.where(finite, features, 0.0).double()
    scale = hs.square().mean(dim=(-2, -1), keepdim=True).sqrt().clamp_min(1e-30)
    hs, n = hs / scale, hs.shape[-2]
    targets = F.one_hot(ys.expand(hs.shape[:-1]), n_classes).double()
    eye = torch.eye(hs.shape[-1], dtype=hs.dtype, device=hs.device)
    factor = torch.linalg.cholesky(hs.mT @ hs / (2 * n) + ridge * eye)
    W = ahead = hs.new_zeros(*hs.shape[:-2], n_classes, hs.shape[-1])
    for i in range(n_iterations):
        residual = torch.softmax(hs @ ahead.mT, dim=-1) - targets
        gradient = residual.mT @ hs / n + ridge * ahead
        W, before = ahead - torch.cholesky_solve(gradient.mT, factor).mT, W
        ahead = W + i / (i + 3) * (W - before)
    return (W / scale).to(features.dtype)
