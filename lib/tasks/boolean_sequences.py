r"""Prompts whose examples are not independent: nearest-neighbour labels and teaching sequences; and prompts as
tokens.

**Nearest neighbour.** The first s labels are random (equal inputs get equal labels); every later label is that of the
most similar earlier input, x_i·x_j largest (cosine, since all inputs have the same norm), of several the earliest. No
function of a class stands behind the labels: to answer, a model must look up.

**Teaching sequence** of a monotone conjunction with relevant set S, |S| = k < n: the input whose relevant variables
alone are +1 (positive), then k inputs that each lack one of them (negative). The positive example excludes every term
with a variable outside S, each negative one all terms without that variable: after k + 1 examples one term is left,
and fewer do not suffice (`lib.theory.teaching`). Ordinary examples follow, 40 % of them forced positive.

Source: Bhattamishra, Patel, Blunsom, Kanade, arXiv 2310.03016, Sections 2 (nearest neighbours) and 4 (teaching
sequences).

| paper | code         | meaning                                     |
|-------|--------------|---------------------------------------------|
| s     | `n_random`   | labels that are drawn and not looked up     |
| S     | `rule`       | indicator of the relevant variables         |
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from lib.tasks.boolean_functions import (
    Prompts,
    conjunction_labels,
    partly_satisfied,
    random_terms,
    uniform_inputs,
)


def nearest_neighbours(
    generators: Sequence[Generator], batch: int, n_points: int, n_dims: int, n_random: int
) -> Prompts:
    """Prompts of the nearest-neighbour task; `rule` holds the random labels.

    Args:
        generators: One per seed.
        batch: Prompts per seed.
        n_points: Examples per prompt.
        n_dims: Variables.
        n_random: Examples with a random label.

    Raises:
        ValueError: A size below 1, or not 1 <= n_random <= n_points.
    """
    if not 1 <= n_random <= n_points:
        raise ValueError(f"n_random is {n_random}; it must be within 1…{n_points}, the examples of a prompt")
    xs = uniform_inputs(generators, batch, n_points, n_dims)
    labels = uniform_inputs(generators, batch, n_random, 1)[..., 0]
    nearest, similarity = nearest_earlier(xs)
    # Whose label does an example carry? Its own if it is one of the first and new, else its neighbour's, and so on back.
    own = torch.arange(n_points) < n_random
    own = own & (similarity < n_dims)
    source = torch.where(own, torch.arange(n_points), nearest)
    for _ in range(max(n_points - 1, 1).bit_length()):  # each round doubles how far back a pointer reaches
        source = source.gather(-1, source)
    return Prompts(xs, labels.gather(-1, source), labels)


def nearest_earlier(
    xs: Float[Tensor, "*stack n_points n_dims"],
) -> tuple[Int[Tensor, "*stack n_points"], Float[Tensor, "*stack n_points"]]:
    """Index of the most similar earlier input, of several the earliest, and x_i·x_j; the first has itself and -inf."""
    n_points = xs.shape[-2]
    later = torch.ones(n_points, n_points, dtype=torch.bool).triu()
    similarity, nearest = (xs @ xs.mT).masked_fill(later, -torch.inf).max(-1)
    # `max` may return any of several maxima.
    ranked = (xs @ xs.mT).masked_fill(later, -torch.inf) == similarity[..., None]
    nearest = torch.where(ranked, torch.arange(n_points), n_points).amin(-1)
    return torch.where(similarity.isinf(), torch.arange(n_points), nearest), similarity


def teaching_sequences(
    generators: Sequence[Generator],
    batch: int,
    n_points: int,
    n_dims: int,
    p_literal: float = 0.3,
    forced: float = 0.4,
) -> Prompts:
    """Monotone conjunctions; each prompt begins with a teaching sequence of k + 1 examples.

    Raises:
        ValueError: A size below 1, a probability outside 0…1, or prompts too short for the longest teaching sequence.
    """
    if n_points < n_dims + 1:
        raise ValueError(
            f"n_points is {n_points}; a teaching sequence can have n_dims + 1 = {n_dims + 1} examples, so at least that"
        )
    terms = random_terms(generators, (batch, n_dims), p_literal, monotone=True)
    xs = partly_satisfied(generators, terms, n_points, forced)
    xs = torch.where(is_taught(terms, n_points)[..., None], taught(terms, n_points), xs)
    return Prompts(xs, conjunction_labels(xs, terms), terms)


def taught(terms: Float[Tensor, "*stack n_dims"], n_points: int) -> Float[Tensor, "*stack n_points n_dims"]:
    """The teaching inputs: x_0 = 2w - 1, and x_t = x_0 with the t-th relevant variable flipped; x_0 again beyond.

    >>> taught(torch.tensor([1.0, 0.0, 1.0]), 3).tolist()
    [[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0], [1.0, -1.0, -1.0]]
    """
    rank = terms.cumsum(-1)[..., None, :]
    flipped = (terms[..., None, :] > 0) & (rank == torch.arange(n_points)[:, None])
    return torch.where(flipped, -1.0, 2 * terms[..., None, :] - 1)


def is_taught(terms: Float[Tensor, "*stack n_dims"], n_points: int) -> Tensor:
    """Which positions belong to the teaching sequence, (*stack, n_points): the first k + 1."""
    return torch.arange(n_points) <= terms.sum(-1, keepdim=True)


def example_tokens(
    xs: Float[Tensor, "*stack n_points n_dims"], ys: Float[Tensor, "*stack n_points"]
) -> Float[Tensor, "*stack n_points 2*n_dims+1"]:
    """One token (x_i, x_{i-1}, y_{i-1}) per example: a question, and the example before it; y_i is predicted from token i.

    A causal model sees all earlier examples and the question, as with `interleaved_tokens`, in half as many tokens. The
    first token has zeros in the place of the example before it.

    >>> example_tokens(torch.ones(2, 1), torch.tensor([7.0, 8.0])).tolist()
    [[1.0, 0.0, 0.0], [1.0, 1.0, 7.0]]
    """
    pairs = torch.cat([xs, ys[..., None]], -1)
    return torch.cat([xs, F.pad(pairs, (0, 0, 1, -1))], -1)
