r"""Teaching sequences: how few examples single out one function of a class (Goldman and Kearns 1995).

The teaching dimension of f in a class H is the least number of examples (x, f(x)) with which no other member of H
agrees. For monotone conjunctions of n variables with k relevant ones it is

    k + 1  for k < n,        n  for k = n.

*Lower bound.* For every relevant variable there must be a negative example that lacks it alone, else the term without
it survives: k examples. For k < n there must be a positive one as well, else a longer term survives. *Upper bound.*
`lib.tasks.boolean_sequences.taught` has exactly these; at k = n the positive one is superfluous.

**More than the version space.** A learner who knows *how* examples are chosen needs fewer: the first one of `taught`
is the indicator of the relevant variables itself, so that one example names the function. `mixture_predictive` is the
exact predictor of prompts of which a share begins with a teaching sequence, and says how surely a prompt is known to
be one of them.

Source: arXiv 2310.03016, Section 4.
"""

from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from lib.tasks.boolean_functions import conjunction_labels
from lib.tasks.boolean_sequences import is_taught, taught
from lib.theory.version_space import FunctionClass, filtered


def teaching_dimension(tables: Float[Tensor, "hypothesis inputs"], target: int) -> int:
    """Size of the smallest set of inputs on which no other row of `tables` agrees with row `target`, by trying all sets.

    Raises:
        ValueError: A target that another row equals.

    >>> teaching_dimension(torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]), 1)
    2
    """
    differs = (torch.cat([tables[:target], tables[target + 1 :]]) != tables[target]).bool()
    if not differs.any(1).all():
        raise ValueError(f"target {target} has the same table as another hypothesis; no examples tell them apart")
    if len(differs) == 0:
        return 0
    for size in range(1, tables.shape[1] + 1):
        for chosen in combinations(range(tables.shape[1]), size):
            if differs[:, list(chosen)].any(1).all():
                return size
    raise AssertionError("all inputs together tell any two tables apart")


def monotone_conjunction_dimension(n_relevant: int, n_dims: int) -> int:
    """Teaching dimension of a monotone conjunction: k + 1, or n when all variables are relevant.

    Raises:
        ValueError: More relevant variables than there are.

    >>> [monotone_conjunction_dimension(k, 3) for k in range(4)]
    [1, 2, 3, 3]
    """
    if not 0 <= n_relevant <= n_dims:
        raise ValueError(f"n_relevant is {n_relevant}; it must be within 0…{n_dims}, the number of variables")
    return min(n_relevant + 1, n_dims)


def mixture_predictive(
    ordinary: FunctionClass,
    xs: Float[Tensor, "*stack n_points n_dims"],
    ys: Float[Tensor, "*stack n_points"],
    p_taught: float,
    p_literal: float = 0.3,
    forced: float = 0.4,
) -> tuple[Float[Tensor, "*stack n_points"], Float[Tensor, "*stack n_points"]]:
    """Exact prediction when a share of the prompts begins with a teaching sequence.

    The question x_i belongs to the evidence. A taught prompt has one possible term, the one that its first input spells.

    Args:
        ordinary: The monotone conjunctions of the other prompts, with their law.
        xs: Inputs.
        ys: Labels.
        p_taught: Share of the prompts that `lib.tasks.boolean_sequences.teaching_sequences` drew, strictly between 0 and 1.
        p_literal: Of the taught terms.
        forced: Share of forced positives after the teaching sequence.

    Returns:
        P(y_i = +1 | past, x_i), and P(the prompt is taught | past, x_i).

    Raises:
        ValueError: A share that is not strictly between 0 and 1.
    """
    if not 0 < p_taught < 1:
        raise ValueError(f"p_taught is {p_taught}; it must be strictly between 0 and 1")
    n_points, n_dims = xs.shape[-2:]
    terms = (xs[..., 0, :] > 0).float()
    n_relevant = terms.sum(-1, keepdim=True)
    labels = conjunction_labels(xs, terms)
    in_sequence = is_taught(terms, n_points)
    in_sequence[..., 0] = True
    as_taught = (xs == taught(terms, n_points)).all(-1)
    # 2^n p(x_i | past) of a taught prompt; its first input has the probability of its term.
    density = (1 - forced) + forced * 2**n_relevant * (labels > 0)
    density = torch.where(in_sequence, as_taught * 2.0**n_dims, density).double()
    density[..., 0] = (2**n_dims * p_literal**n_relevant * (1 - p_literal) ** (n_dims - n_relevant))[..., 0]
    p_plus, ordinary_density = (part.double() for part in filtered(ordinary, xs, ys))
    p_label = torch.where(ys > 0, p_plus, 1 - p_plus)

    def before(logs: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(logs[..., :1]), logs[..., :-1].cumsum(-1)], -1)

    log_odds = before((density * (labels == ys)).log() - (ordinary_density * p_label).log())
    log_odds = log_odds + density.log() - ordinary_density.log()
    p_is_taught = torch.sigmoid(log_odds + torch.tensor(p_taught / (1 - p_taught)).log())
    return (
        (p_is_taught * (labels > 0) + (1 - p_is_taught) * p_plus).float(),
        p_is_taught.float(),
    )
