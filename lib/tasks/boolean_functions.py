r"""In-context Boolean functions: prompts (x_1, y_1), …, (x_T, y_T) with x in {-1, +1}^n and y = f(x), f new for every
prompt.

| class              | f(x) = +1 when                       | law of f                              | law of x             |
|--------------------|--------------------------------------|---------------------------------------|----------------------|
| conjunction        | x_i = w_i wherever w_i ≠ 0           | w_i is 0, ±1: prob. 1-p, p/2, p/2     | 30 % forced positive |
| disjunction        | x_i = w_i for some i with w_i ≠ 0    | the same                              | 30 % forced negative |
| sparse disjunction | the same                             | w_i = 1 for k of n variables          | 30 % forced negative |
| 3-DNF (3-CNF)      | one of (all) three parts hold        | three w, each as above                | 35 % (30 %) forced   |
| majority           | w·x > 0, ties are -1                 | w_i = 1 with prob. p                  | uniform              |
| 0-1 threshold      | w·x > θ                              | w as above, θ in {-2.5, -1.5, …, 2.5} | uniform              |
| integer half-space | w·x > 0, ties are -1                 | w_i uniform on {-3, …, 3}             | uniform              |
| parity             | an odd number of relevant x_i are +1 | all subsets, or k of n variables      | uniform              |

Source: Bhattamishra, Patel, Blunsom, Kanade, arXiv 2310.03016, Section 2 and Appendix. Forcing an example positive
sets its relevant variables as the term wants them and leaves the others as they were drawn; without it, conjunctions
of many literals would almost never be true. So the inputs tell something about f, too: `lib.theory.version_space`
takes this into account. For a DNF the forced examples of one prompt all satisfy the same term.

Disjunctions are conjunctions with x and y negated, in law as well, and CNFs are DNFs in the same way: they are made
like that.

| paper | code           | shape or meaning                              |
|-------|----------------|-----------------------------------------------|
| n     | `n_dims`       | variables                                     |
| x_j   | `xs`           | (seed, batch, n_points, n_dims), entries ±1   |
| y_j   | `ys`           | (seed, batch, n_points), ±1                   |
| w     | `rule`         | (seed, batch, n_dims), or with an axis of terms before the last |
| p     | `p_literal`, `p_relevant` | that a variable is relevant        |

Every seed draws from its own generator (`streams`), so its prompts do not depend on the seeds stacked beside it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from lib.seeds import generator_for


class Prompts(NamedTuple):
    """Prompts and the functions that labelled them."""

    xs: Float[Tensor, "seed batch n_points n_dims"]
    ys: Float[Tensor, "seed batch n_points"]
    rule: Float[Tensor, "seed batch *rule"]


def streams(seeds: Sequence[int], purpose: str) -> list[Generator]:
    """One generator per seed, to draw from again and again."""
    return [generator_for(seed, f"Boolean functions: {purpose}") for seed in seeds]


def conjunctions(
    generators: Sequence[Generator],
    batch: int,
    n_points: int,
    n_dims: int,
    p_literal: float = 0.3,
    forced: float = 0.3,
    monotone: bool = False,
) -> Prompts:
    """Conjunctions of literals; the empty one is always true.

    Args:
        generators: One per seed.
        batch: Prompts per seed.
        n_points: Examples per prompt.
        n_dims: Variables.
        p_literal: Probability that a variable takes part.
        forced: Probability that an example is made positive.
        monotone: Whether no literal is negated.

    Raises:
        ValueError: A size below 1, or a probability outside 0…1.
    """
    terms = random_terms(generators, (batch, n_dims), p_literal, monotone)
    xs = partly_satisfied(generators, terms, n_points, forced)
    return Prompts(xs, conjunction_labels(xs, terms), terms)


def disjunctions(
    generators: Sequence[Generator],
    batch: int,
    n_points: int,
    n_dims: int,
    p_literal: float = 0.3,
    forced: float = 0.3,
) -> Prompts:
    """Disjunctions of literals, a share of the examples forced negative; the empty one is never true."""
    return negated(conjunctions(generators, batch, n_points, n_dims, p_literal, forced))


def sparse_disjunctions(
    generators: Sequence[Generator],
    batch: int,
    n_points: int,
    n_dims: int,
    n_relevant: int = 4,
    forced: float = 0.3,
) -> Prompts:
    """Disjunctions of exactly `n_relevant` variables, none negated.

    Raises:
        ValueError: As for `conjunctions`, or more relevant variables than there are.
    """
    terms = random_subsets(generators, batch, n_dims, n_relevant)
    xs = partly_satisfied(generators, terms, n_points, forced)
    return negated(Prompts(xs, conjunction_labels(xs, terms), terms))


def dnfs(
    generators: Sequence[Generator],
    batch: int,
    n_points: int,
    n_dims: int,
    n_terms: int = 3,
    p_literal: float = 0.2,
    forced: float = 0.35,
) -> Prompts:
    """Disjunctions of `n_terms` conjunctions. Term 0 is the one that forced examples satisfy: terms have no order.

    Raises:
        ValueError: As for `conjunctions`.
    """
    _at_least_one(n_terms=n_terms)
    terms = random_terms(generators, (batch, n_terms, n_dims), p_literal)
    mask = chosen(generators, batch, n_points, forced)
    xs = satisfied(uniform_inputs(generators, batch, n_points, n_dims), terms[..., 0, :], mask)
    ys = conjunction_labels(xs[..., None, :, :], terms).amax(-2)
    return Prompts(xs, ys, terms)


def cnfs(
    generators: Sequence[Generator],
    batch: int,
    n_points: int,
    n_dims: int,
    n_terms: int = 3,
    p_literal: float = 0.2,
    forced: float = 0.3,
) -> Prompts:
    """Conjunctions of `n_terms` disjunctions; forced examples violate clause 0. See `dnfs`."""
    return negated(dnfs(generators, batch, n_points, n_dims, n_terms, p_literal, forced))


def negated(prompts: Prompts) -> Prompts:
    """The dual function -f(-x), on the negated inputs."""
    return Prompts(-prompts.xs, -prompts.ys, prompts.rule)


def majorities(
    generators: Sequence[Generator], batch: int, n_points: int, n_dims: int, p_relevant: float = 0.3
) -> Prompts:
    """Majorities of a random subset of the variables; a tie counts as -1."""
    weights = random_terms(generators, (batch, n_dims), p_relevant, monotone=True)
    xs = uniform_inputs(generators, batch, n_points, n_dims)
    return Prompts(xs, linear_labels(xs, weights), weights)


def thresholds(
    generators: Sequence[Generator], batch: int, n_points: int, n_dims: int, p_relevant: float = 0.3, bound: int = 3
) -> Prompts:
    """0-1 threshold functions: w in {-1, 0, 1}^n and θ uniform on {-bound, …, bound - 1} + 1/2, the last entry of `rule`."""
    _at_least_one(bound=bound)
    weights = random_terms(generators, (batch, n_dims), p_relevant)
    xs = uniform_inputs(generators, batch, n_points, n_dims)
    theta = _filled(generators, (batch, 1), lambda row, g: row.random_(-bound, bound, generator=g)) + 0.5
    return Prompts(xs, linear_labels(xs, weights, theta), torch.cat([weights, theta], -1))


def halfspaces(generators: Sequence[Generator], batch: int, n_points: int, n_dims: int, bound: int = 3) -> Prompts:
    """Half-spaces with weights uniform on {-bound, …, bound}; a tie counts as -1."""
    _at_least_one(bound=bound)
    weights = _filled(generators, (batch, n_dims), lambda row, g: row.random_(-bound, bound + 1, generator=g))
    xs = uniform_inputs(generators, batch, n_points, n_dims)
    return Prompts(xs, linear_labels(xs, weights), weights)


def parities(
    generators: Sequence[Generator], batch: int, n_points: int, n_dims: int, n_relevant: int | None = None
) -> Prompts:
    """Parities of exactly `n_relevant` variables, or of a subset that is uniform over all 2^n.

    Raises:
        ValueError: A size below 1, or more relevant variables than there are.
    """
    if n_relevant is None:
        subsets = random_terms(generators, (batch, n_dims), 0.5, monotone=True)
    else:
        subsets = random_subsets(generators, batch, n_dims, n_relevant)
    xs = uniform_inputs(generators, batch, n_points, n_dims)
    return Prompts(xs, parity_labels(xs, subsets), subsets)


def uniform_inputs(
    generators: Sequence[Generator], batch: int, n_points: int, n_dims: int
) -> Float[Tensor, "seed batch n_points n_dims"]:
    """Inputs uniform on {-1, +1}^n_dims.

    Raises:
        ValueError: A size below 1.
    """
    _at_least_one(batch=batch, n_points=n_points, n_dims=n_dims)
    bits = _filled(generators, (batch, n_points, n_dims), lambda row, g: row.bernoulli_(0.5, generator=g))
    return 2 * bits - 1


def random_terms(
    generators: Sequence[Generator], shape: tuple[int, ...], p_literal: float, monotone: bool = False
) -> Float[Tensor, "seed *shape"]:
    """Literals per variable: 0 with probability 1 - p_literal, else +1 or, unless monotone, -1 with equal chances."""
    _at_least_one(batch=shape[0], n_dims=shape[-1])
    _probability(p_literal=p_literal)
    draw = _filled(generators, shape, lambda row, g: row.uniform_(generator=g))
    present = (draw < p_literal).float()
    return present if monotone else present * torch.where(draw < p_literal / 2, 1.0, -1.0)


def random_subsets(
    generators: Sequence[Generator], batch: int, n_dims: int, n_relevant: int
) -> Float[Tensor, "seed batch n_dims"]:
    """Indicators of `n_relevant` variables, uniform over all such subsets."""
    _at_least_one(batch=batch, n_dims=n_dims)
    if not 0 <= n_relevant <= n_dims:
        raise ValueError(f"n_relevant is {n_relevant}; it must be within 0…{n_dims}, the number of variables")
    draw = _filled(generators, (batch, n_dims), lambda row, g: row.uniform_(generator=g))
    return (draw.argsort(-1).argsort(-1) < n_relevant).float()


def chosen(
    generators: Sequence[Generator], batch: int, n_points: int, probability: float
) -> Bool[Tensor, "seed batch n_points"]:
    """Which examples are forced, independently of all else."""
    _probability(forced=probability)
    return _filled(generators, (batch, n_points), lambda row, g: row.uniform_(generator=g)) < probability


def satisfied(
    xs: Float[Tensor, "seed batch n_points n_dims"],
    terms: Float[Tensor, "seed batch n_dims"],
    mask: Bool[Tensor, "seed batch n_points"],
) -> Float[Tensor, "seed batch n_points n_dims"]:
    """The inputs, those of the mask changed where they contradict the term."""
    terms = terms[..., None, :]
    return torch.where(mask[..., None] & (terms != 0), terms, xs)


def partly_satisfied(
    generators: Sequence[Generator], terms: Float[Tensor, "seed batch n_dims"], n_points: int, forced: float
) -> Float[Tensor, "seed batch n_points n_dims"]:
    """Uniform inputs, each changed with probability `forced` so that the prompt's term holds.

    Raises:
        ValueError: No point, or a probability outside 0…1.
    """
    batch, n_dims = terms.shape[1:]
    xs = uniform_inputs(generators, batch, n_points, n_dims)
    return satisfied(xs, terms, chosen(generators, batch, n_points, forced))


def conjunction_labels(
    xs: Float[Tensor, "*a n_points n_dims"], terms: Float[Tensor, "*b n_dims"]
) -> Float[Tensor, "*c n_points"]:
    """+1 where no literal is contradicted.

    >>> conjunction_labels(torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([1.0, -1.0])).tolist()
    [1.0, -1.0]
    """
    return linear_labels(xs, terms, terms.abs().sum(-1, keepdim=True) - 0.5)


def linear_labels(
    xs: Float[Tensor, "*a n_points n_dims"],
    weights: Float[Tensor, "*b n_dims"],
    threshold: Float[Tensor, "*b 1"] | float = 0.0,
) -> Float[Tensor, "*c n_points"]:
    """+1 where w·x exceeds the threshold, else -1."""
    return 2 * ((xs @ weights[..., None])[..., 0] > threshold).float() - 1


def parity_labels(
    xs: Float[Tensor, "*a n_points n_dims"], subsets: Float[Tensor, "*a n_dims"]
) -> Float[Tensor, "*a n_points"]:
    """+1 where an odd number of the relevant variables are +1.

    >>> parity_labels(torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0]]), torch.tensor([1.0, 1.0, 0.0])).tolist()
    [-1.0, 1.0]
    """
    return 2 * (((xs > 0).float() @ subsets[..., None])[..., 0] % 2) - 1


def _filled(
    generators: Sequence[Generator], shape: tuple[int, ...], fill: Callable[[Tensor, Generator], Tensor]
) -> Tensor:
    draws = torch.empty(len(generators), *shape)
    for row, g in zip(draws, generators, strict=True):
        fill(row, g)
    return draws


def _at_least_one(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")


def _probability(**probabilities: float) -> None:
    for name, probability in probabilities.items():
        if not 0 <= probability <= 1:
            raise ValueError(f"{name} is {probability}; it is a probability and must be within 0…1")
