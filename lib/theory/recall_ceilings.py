r"""What the best possible reader of attribute tuples can know: ceilings of accuracy, floors of loss, the type's posterior.

Types are uniform. A grammar token is a filler with probability ρ, else a form of the tuple's type with probability 1 - ε,
else one of another type. All that a form tells is its family f, so a tuple's grammar is a pattern of families (f_1 … f_n):

    p(f | k) = Π_i p(f_i | k),   p(filler | k) = ρ,   p(j | k) = (1 - ρ)(1 - ε if j = k else ε / (K - 1))
    factual recall, best accuracy:  Σ_f max_k p(f | k) / K          (1/K if all that stands there is fillers)
    value's entropy:                Σ_f p(f) H(k | f)               (values of different types are different tokens)

Contextual recall: tuples of one type k, each told rightly with probability 1 - η, else of another type:

    p(k | c_1 … c_K) ∝ ((1 - η)(K - 1) / η)^{c_k},                  c_k the number of context values of type k

so that log p(a | s, context) = log p(a | s) + log p(k(a) | context) + constant: the context adds to the logits one number
per type, the same for all subjects. With η = 0 one value settles the type: the best accuracy is 1/K at the first tuple and
1 from then on.

Source: derived here for the setting of arXiv 2603.20969. Symbols: K `n_types`, ε `noise`, ρ `filler_share`, n `n_grammar`.
"""

import math
from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor


def pattern_probabilities(
    n_types: int, n_grammar: int, noise: float, filler_share: float
) -> Float[Tensor, "pattern type"]:
    """p(f | k) of each pattern of families; family n_types is the fillers.

    Raises:
        ValueError: Fewer than two types, a negative number of tokens, or probabilities outside [0, 1].

    >>> pattern_probabilities(2, 1, noise=0.1, filler_share=0.0)
    tensor([[0.9000, 0.1000],
            [0.1000, 0.9000],
            [0.0000, 0.0000]], dtype=torch.float64)
    """
    if n_types < 2 or n_grammar < 0:
        raise ValueError(f"n_types and n_grammar are {n_types} and {n_grammar}; they must be at least 2 and 0")
    if not (0 <= noise <= 1 and 0 <= filler_share <= 1):
        raise ValueError(f"noise and filler_share are {noise} and {filler_share}; they must lie in [0, 1]")
    forms = torch.full((n_types, n_types), noise / (n_types - 1), dtype=torch.float64)
    forms.fill_diagonal_(1 - noise)
    one = torch.cat([(1 - filler_share) * forms, torch.full((1, n_types), filler_share, dtype=torch.float64)])
    patterns = list(product(range(n_types + 1), repeat=n_grammar))
    return torch.stack([one[list(f)].prod(0) if f else torch.ones(n_types, dtype=torch.float64) for f in patterns])


def factual_ceiling(n_types: int, n_grammar: int, noise: float, filler_share: float = 0.0) -> float:
    """The best accuracy of factual recall.

    >>> round(factual_ceiling(3, 2, noise=0.05), 6), round(factual_ceiling(3, 0, noise=0.05), 6)
    (0.95, 0.333333)
    """
    return float(pattern_probabilities(n_types, n_grammar, noise, filler_share).amax(1).sum() / n_types)


def value_entropy(n_types: int, n_grammar: int, noise: float, filler_share: float) -> float:
    """Entropy of the attribute given its subject and grammar, in nats."""
    joint = pattern_probabilities(n_types, n_grammar, noise, filler_share) / n_types
    return float(_entropy(joint) - _entropy(joint.sum(1)))


def grammar_entropy(
    n_types: int, n_forms: int, n_fillers: int, n_grammar: int, noise: float, filler_share: float
) -> float:
    """Entropy of a tuple's grammar tokens together, its type unknown, in nats."""
    patterns = pattern_probabilities(n_types, n_grammar, noise, filler_share).mean(1)
    within = filler_share * math.log(n_fillers) + (1 - filler_share) * math.log(n_forms)
    return float(_entropy(patterns)) + n_grammar * within


def pretraining_floor(
    n_known: int,
    n_types: int,
    n_forms: int,
    n_fillers: int,
    lengths: Sequence[int],
    noise: float,
    filler_share: float,
) -> float:
    """The least mean loss of the next token over a pretraining sequence, its first token left out, in nats.

    By the chain rule the entropy of a sequence is that of the order of its lengths, which can be read off it, plus that of
    its subjects (different ones: the j-th is one of n_known - j + 1), plus each tuple's grammar and value.

    Raises:
        ValueError: No tuple, or fewer subjects than tuples.
    """
    if not 1 <= len(lengths) <= n_known:
        raise ValueError(f"lengths has {len(lengths)} tuples; there must be 1…{n_known}, the subjects (n_known)")
    total = math.lgamma(len(lengths) + 1) - sum(math.lgamma(lengths.count(n) + 1) for n in set(lengths))
    total += sum(math.log(n_known - j) for j in range(1, len(lengths)))
    for n in lengths:
        total += grammar_entropy(n_types, n_forms, n_fillers, n, noise, filler_share)
        total += value_entropy(n_types, n, noise, filler_share)
    return total / (2 * len(lengths) + sum(lengths) - 1)


def type_posterior(counts: Int[Tensor, "*prompt type"], noise: float) -> Float[Tensor, "*prompt type"]:
    """p(k | context) from the number of context values of each type, each of another type than k with probability η.

    Raises:
        ValueError: A noise outside (0, 1 - 1/K); at 0 contexts of two types are impossible.

    >>> type_posterior(torch.tensor([[0, 0, 0], [1, 0, 0]]), noise=0.2)
    tensor([[0.3333, 0.3333, 0.3333],
            [0.8000, 0.1000, 0.1000]], dtype=torch.float64)
    """
    n_types = counts.shape[-1]
    if not 0 < noise < 1 - 1 / n_types:
        raise ValueError(f"noise is {noise}; it must lie in (0, {1 - 1 / n_types:.3g}) for {n_types} types")
    return (counts.double() * math.log((1 - noise) * (n_types - 1) / noise)).softmax(-1)


def between_share(
    points: Float[Tensor, "*stack point width"], types: Int[Tensor, "*stack point"], n_types: int
) -> Float[Tensor, "*stack"]:
    """Share of the points' variance that lies between the means of their types: 0 if type leaves no trace, at most 1.

    For points without any structure it is (K - 1) / (n - 1) on average, not 0.
    """
    centred = points - points.mean(-2, keepdim=True)
    member = torch.nn.functional.one_hot(types, n_types).to(points.dtype)  # (*stack, point, type)
    sizes = member.sum(-2)
    means = member.mT @ centred / sizes.clamp_min(1)[..., None]
    return (sizes[..., None] * means.square()).sum((-1, -2)) / centred.square().sum((-1, -2))


def _entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum()
