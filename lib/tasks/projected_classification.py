r"""Projected classification: many tasks made from one base data set, by a random projection and a random labelling.

    task t:   A_t ∈ R^(m×d) with entries N(0, 1/d),   π_t a permutation of the K classes
    prompt:   x_i = A_t s_i,   y_i = π_t(c_i)   for examples (s_i, c_i) drawn from the base data set
    token i:  (x_i, one-hot(y_(i-1))), from which a causal model predicts y_i

A prompt starts with an input whose label nobody can know; what the labels mean is told by the examples alone.

Source: Kirsch, Harrison, Sohl-Dickstein, Metz 2022, arXiv 2212.04458, Section 3.

| paper                          | code                   | note                                             |
|--------------------------------|------------------------|--------------------------------------------------|
| base data set D                | `Base`                 | images, or Gaussian clusters                     |
| projection A, permutation ρ    | `Tasks`                | per seed; `draw_tasks`                           |
| number of tasks                | `n_tasks`              | 0 draws a new task for every prompt              |
| D = ((x_1, y_1), …)            | `xs`, `ys`             | (seed, batch, n_points, m), (seed, batch, n_points) |
| biased training distribution   | `bias`                 | fraction of tasks that keep the base's own labels |

The paper's projections keep the dimension, m = d. Every seed draws from its own generator.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from lib.data import digits
from lib.seeds import generator_for


class Base(NamedTuple):
    """Examples from which tasks are made: inputs (example, d) and classes 0…K-1 (example,)."""

    inputs: Float[Tensor, "example d"]
    labels: Int64[Tensor, "example"]

    @property
    def n_classes(self) -> int:
        return int(self.labels.max()) + 1


class Tasks(NamedTuple):
    """Tasks of each seed: projections (seed, task, m, d) and labellings (seed, task, K), class c -> labelling[c]."""

    projections: Float[Tensor, "seed task m d"]
    labellings: Int64[Tensor, "seed task K"]


def streams(seeds: Sequence[int], purpose: str) -> list[Generator]:
    """One generator per seed, to draw from again and again."""
    return [generator_for(seed, f"projected classification: {purpose}") for seed in seeds]


def cluster_centres(n_classes: int, n_dims: int, separation: float) -> Float[Tensor, "K d"]:
    """Centres of Gaussian clusters: separation · √d along the first K axes, less their common mean.

    Projected by entries N(0, 1/d) they are jointly Gaussian, with the Gram matrix of `lib.theory.class_means.simplex_gram`
    in each dimension. Which axes they lie along does not matter: a Gaussian projection prefers none.

    Raises:
        ValueError: Fewer than two classes, more classes than dimensions, or a separation that is not positive.
    """
    if not 2 <= n_classes <= n_dims:
        raise ValueError(f"n_classes is {n_classes}; it must lie in 2…n_dims = {n_dims}")
    if not separation > 0:
        raise ValueError(f"separation is {separation}; it must be positive")
    axes = torch.eye(n_dims)[:n_classes]
    return separation * n_dims**0.5 * (axes - axes.mean(0))


def gaussian_clusters(n_classes: int, n_dims: int, n_per_class: int, separation: float, generator: Generator) -> Base:
    """A base set of Gaussian clusters around `cluster_centres` with unit noise.

    Projected, the noise has the covariance A Aᵀ, which goes to I as d grows: there `lib.theory.class_means` is the exact
    Bayes classifier of unlimited tasks.

    Args:
        n_classes: K.
        n_dims: d, at least K.
        n_per_class: Examples of each class.
        separation: Distance of two centres over √(2 d), and so of their projections over √(2 m) noises, roughly.
        generator: Draws the noise.

    Raises:
        ValueError: Sizes or a separation that `cluster_centres` refuses, or no example.
    """
    centres = cluster_centres(n_classes, n_dims, separation)
    _at_least_one(n_per_class=n_per_class)
    labels = torch.arange(n_classes).repeat_interleave(n_per_class)
    return Base(centres[labels] + torch.randn(len(labels), n_dims, generator=generator), labels)


def small_digits(source: str, classes: Sequence[int], pool: int = 4) -> tuple[Base, Base]:
    """Handwritten digits, averaged over squares of pixels and standardised: training and test part.

    Each pixel loses the training part's mean over the chosen classes, and all are divided by one number, the root mean
    square of what is left: the classes' geometry stays.

    Args:
        source: ``"mnist"`` or ``"digits"``, see `lib.data.mnist_or_digits`.
        classes: Digits that take part; they become classes 0, 1, … in this order.
        pool: Side of the squares; it divides 28. 4 leaves 7 × 7 = 49 of 784 dimensions.

    Raises:
        ValueError: Fewer than two classes, one that is no digit or comes twice, or a pool that does not divide 28.
    """
    if len(set(classes)) != len(classes) or len(classes) < 2 or not set(classes) <= set(range(10)):
        raise ValueError(f"classes is {list(classes)}; it must hold at least two different digits 0…9")
    if pool < 1 or 28 % pool:
        raise ValueError(f"pool is {pool}; it must divide the images' side 28")
    parts = []
    for images, labels in digits(source):
        kept = np.isin(labels, list(classes))
        squares = images[kept, 0].reshape(-1, 28 // pool, pool, 28 // pool, pool).mean((2, 4))
        position = {digit: i for i, digit in enumerate(classes)}
        parts.append((squares.reshape(len(squares), -1), [position[label] for label in labels[kept].tolist()]))
    train, test = parts
    return standardised(*train), standardised(*test, like=train[0])


def standardised(inputs: np.ndarray, labels: Sequence[int] | np.ndarray, like: np.ndarray | None = None) -> Base:
    """A base set whose dimensions have mean zero and whose root mean square over all dimensions is one.

    Args:
        inputs: (example, d).
        labels: Classes 0…K-1.
        like: Take mean and scale from these inputs instead.

    Raises:
        ValueError: No two classes, lengths that differ, or inputs that are all the same.
    """
    if len(inputs) != len(labels):
        raise ValueError(
            f"there are {len(inputs)} inputs and {len(labels)} labels; there must be as many of one as of the other"
        )
    if len(set(np.asarray(labels).tolist())) < 2:
        raise ValueError("labels name fewer than two classes; there is nothing to classify")
    like = inputs if like is None else like
    mean = like.mean(0)
    scale = np.sqrt(np.square(like - mean).mean())
    if not scale > 0:
        raise ValueError("inputs are all the same; there is nothing to project")
    return Base(
        torch.as_tensor((inputs - mean) / scale, dtype=torch.float32), torch.as_tensor(np.asarray(labels)).long()
    )


def draw_tasks(
    generators: Sequence[Generator], n_tasks: int, n_out: int, n_dims: int, n_classes: int, bias: float = 0.0
) -> Tasks:
    """Random tasks: projections with entries N(0, 1/n_dims) and uniform permutations of the classes.

    Args:
        generators: One per seed.
        n_tasks: Tasks per seed.
        n_out: m, dimension of the projected inputs.
        n_dims: d, dimension of the base set.
        n_classes: K.
        bias: Probability that a task keeps the base set's own labels instead (the paper's intervention); 0 is unbiased.

    Raises:
        ValueError: A size below one, fewer than two classes, or a bias outside 0…1.
    """
    _at_least_one(n_tasks=n_tasks, n_out=n_out, n_dims=n_dims)
    if n_classes < 2:
        raise ValueError(f"n_classes is {n_classes}; a task needs at least 2")
    if not 0 <= bias <= 1:
        raise ValueError(f"bias is {bias}; it is a probability, 0…1")
    projections = torch.empty(len(generators), n_tasks, n_out, n_dims)
    keys = torch.empty(len(generators), n_tasks, n_classes)
    keeps = torch.empty(len(generators), n_tasks)
    for i, g in enumerate(generators):
        projections[i].normal_(0, n_dims**-0.5, generator=g)
        keys[i].uniform_(generator=g)
        keeps[i].uniform_(generator=g)
    labellings = torch.where((keeps < bias)[..., None], torch.arange(n_classes), keys.argsort(-1))
    return Tasks(projections, labellings)


def draw_prompts(
    generators: Sequence[Generator], base: Base, tasks: Tasks, batch: int, n_points: int
) -> tuple[Float[Tensor, "seed batch n_points m"], Int64[Tensor, "seed batch n_points"]]:
    """Prompts, each from one of the tasks, with examples drawn from the base set with replacement.

    Args:
        generators: One per seed.
        base: The base set.
        tasks: As many tasks as prompts: every prompt has its own. Otherwise each prompt draws one.
        batch: Prompts per seed.
        n_points: Examples per prompt.

    Returns:
        (xs, ys), on the base set's device.

    Raises:
        ValueError: A size below one, or tasks made for another dimension, number of classes or number of seeds.
    """
    _at_least_one(batch=batch, n_points=n_points)
    n_seeds, n_tasks, _, n_dims = tasks.projections.shape
    if n_dims != base.inputs.shape[1] or tasks.labellings.shape[-1] != base.n_classes or n_seeds != len(generators):
        raise ValueError(
            f"tasks are for {n_seeds} seeds, {n_dims} dimensions and {tasks.labellings.shape[-1]} classes; there are "
            f"{len(generators)} generators, and the base set has {base.inputs.shape[1]} and {base.n_classes}"
        )
    examples = torch.empty(n_seeds, batch, n_points, dtype=torch.int64)
    chosen = torch.empty(n_seeds, batch, dtype=torch.int64)
    for i, g in enumerate(generators):
        examples[i].random_(0, len(base.labels), generator=g)
        chosen[i].random_(0, n_tasks, generator=g)
    if n_tasks == batch:
        chosen = torch.arange(batch).expand(n_seeds, batch)
    seed = torch.arange(n_seeds)[:, None]
    device = base.inputs.device
    examples = examples.to(device)
    # One batched product: no prompt's projection is ever applied to more than its own examples.
    xs = base.inputs[examples] @ tasks.projections[seed, chosen].mT.to(device)
    ys = tasks.labellings[seed, chosen].to(device).gather(-1, base.labels[examples])
    return xs, ys


def prompt_tokens(
    xs: Float[Tensor, "*stack n_points m"], ys: Int64[Tensor, "*stack n_points"], n_classes: int
) -> Float[Tensor, "*stack n_points size"]:
    """Tokens (x_i, one-hot(y_(i-1))); the first carries no label.

    Raises:
        ValueError: A label outside 0…n_classes-1.

    >>> prompt_tokens(torch.ones(2, 1), torch.tensor([1, 0]), 2).tolist()
    [[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]
    """
    if ys.numel() and not 0 <= int(ys.min()) <= int(ys.max()) < n_classes:
        raise ValueError(f"ys run from {int(ys.min())} to {int(ys.max())}; they must lie in 0…{n_classes - 1}")
    before = F.one_hot(ys[..., :-1], n_classes).to(xs.dtype)
    return torch.cat([xs, F.pad(before, (0, 0, 1, 0))], dim=-1)


def _at_least_one(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")
