r"""The exact Bayes-optimal predictor of a finite class of Boolean functions, by its version space.

A class is a list of hypotheses h: each a truth table f_h on all 2^n inputs, a prior weight, and the law p_h(x) of the
inputs when h is the function. After examples (x_1, y_1), …, (x_t, y_t) and the question x,

    P(y = +1 | all of it)  ∝  sum over h with f_h(x) = +1 of  π_h · prod_j p_h(x_j) [f_h(x_j) = y_j] · p_h(x),

and its sign is the best guess that anyone can make who knows how the prompts are drawn. The hypotheses that survive
the brackets are the version space. Inputs count as evidence: conjunctions are shown with a share φ of examples forced
positive,

    2^n p_h(x) = (1 - φ) + φ 2^k [f_h(x) = +1]        (k literals: forcing halves the inputs once per literal),

so a positive example speaks for long terms, and the question itself may say that it is positive. A learner that takes
the labels alone as evidence uses p_h = constant (`label_evidence_only`).

In the sum over a prompt, the expected log-loss of this predictor is the mutual information of h and labels, given the
inputs: in bits at most the entropy of the prior (`entropy_bits`), so at most log2 of the number of hypotheses.

| symbol    | code           | shape or meaning                                           |
|-----------|----------------|------------------------------------------------------------|
| f_h(x)    | `tables`       | (hypothesis, 2^n), ±1, inputs in the order of `all_inputs` |
| π_h       | `prior`        | (hypothesis,), sums to one                                 |
| 2^n p_h(x) | `density`     | (hypothesis, 2^n), one throughout when inputs are uniform  |

Classes: 3^n conjunctions; 2^n majorities; 3^n · 2b thresholds; C(n, k) or 2^n parities. Integer half-spaces (7^n) and
three-term DNFs (27^n) are too many. Checked against sums over hypotheses one by one in the tests. Source of the laws:
arXiv 2310.03016, see `lib.tasks.boolean_functions`.
"""

from dataclasses import dataclass, replace
from itertools import combinations, product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.tasks.boolean_functions import conjunction_labels, linear_labels, parity_labels

LARGEST_TABLE = 2**28  # entries; a gigabyte in float32


@dataclass(frozen=True)
class FunctionClass:
    """Hypotheses with their truth tables, prior and input laws; see the module's table."""

    tables: Float[Tensor, "hypothesis inputs"]
    prior: Float[Tensor, " hypothesis"]
    density: Float[Tensor, "hypothesis inputs"]

    @property
    def n_dims(self) -> int:
        return self.tables.shape[1].bit_length() - 1

    def entropy_bits(self) -> float:
        """Entropy of the prior."""
        return float(-(self.prior * self.prior.clamp_min(1e-45).log2()).sum())

    def label_evidence_only(self) -> "FunctionClass":
        """The same class for a learner that draws no conclusion from the inputs."""
        return replace(self, density=torch.ones_like(self.density))

    def dual(self) -> "FunctionClass":
        """The class of all -f(-x), inputs negated: disjunctions from conjunctions, CNFs from DNFs."""
        return replace(self, tables=-self.tables.flip(1), density=self.density.flip(1))


# -- classes -----------------------------------------------------------------------------------------------------------


def all_inputs(n_dims: int) -> Float[Tensor, "inputs n_dims"]:
    """Every input of {-1, +1}^n, row i holding the bits of i, the highest first; negating an input mirrors its row.

    >>> all_inputs(2).tolist()
    [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    if not 1 <= n_dims <= 20:
        raise ValueError(f"n_dims is {n_dims}; it must be within 1…20 for tables of all inputs")
    bits = torch.arange(2**n_dims)[:, None] >> torch.arange(n_dims - 1, -1, -1)
    return 2.0 * (bits & 1) - 1


def index_of(xs: Float[Tensor, "*stack n_dims"]) -> Int[Tensor, "*stack"]:
    """Row of each input in `all_inputs`."""
    n_dims = xs.shape[-1]
    return ((xs > 0).long() << torch.arange(n_dims - 1, -1, -1)).sum(-1)


def conjunction_class(
    n_dims: int, p_literal: float = 0.3, forced: float = 0.3, monotone: bool = False
) -> FunctionClass:
    """All 3^n conjunctions (2^n monotone ones) as `boolean_functions.conjunctions` draws them."""
    terms = _grid([0.0, 1.0] if monotone else [0.0, 1.0, -1.0], n_dims)
    tables = conjunction_labels(all_inputs(n_dims), terms)
    return FunctionClass(tables, _literal_prior(terms, p_literal, monotone), forced_density(tables, terms, forced))


def sparse_disjunction_class(n_dims: int, n_relevant: int = 4, forced: float = 0.3) -> FunctionClass:
    """Disjunctions of `n_relevant` variables."""
    terms = _subsets(n_dims, n_relevant)
    tables = conjunction_labels(all_inputs(n_dims), terms)
    return FunctionClass(tables, _uniform(len(terms)), forced_density(tables, terms, forced)).dual()


def majority_class(n_dims: int, p_relevant: float = 0.3) -> FunctionClass:
    """All 2^n majorities of a subset."""
    weights = _grid([0.0, 1.0], n_dims)
    return _merged(linear_labels(all_inputs(n_dims), weights), _literal_prior(weights, p_relevant, monotone=True))


def threshold_class(n_dims: int, p_relevant: float = 0.3, bound: int = 3) -> FunctionClass:
    """All 0-1 threshold functions; those with equal tables are one hypothesis."""
    weights = _grid([0.0, 1.0, -1.0], n_dims)
    prior = _literal_prior(weights, p_relevant, monotone=False)
    tables = [
        linear_labels(all_inputs(n_dims), weights, torch.full((len(weights), 1), theta + 0.5))
        for theta in range(-bound, bound)
    ]
    return _merged(torch.cat(tables), prior.repeat(2 * bound) / (2 * bound))


def parity_class(n_dims: int, n_relevant: int | None = None) -> FunctionClass:
    """Parities of `n_relevant` variables, or of every subset."""
    subsets = _grid([0.0, 1.0], n_dims) if n_relevant is None else _subsets(n_dims, n_relevant)
    tables = parity_labels(all_inputs(n_dims).expand(len(subsets), -1, -1), subsets)
    return FunctionClass(tables, _uniform(len(subsets)), torch.ones_like(tables))


def forced_density(
    tables: Float[Tensor, "hypothesis inputs"],
    terms: Float[Tensor, "hypothesis n_dims"],
    forced: float,
) -> Float[Tensor, "hypothesis inputs"]:
    """2^n p_h(x) = (1 - φ) + φ 2^k [the term holds at x], where `tables` are the truth tables of the terms."""
    if not 0 <= forced <= 1:
        raise ValueError(f"forced is {forced}; it is a probability and must be within 0…1")
    return (1 - forced) + forced * 2 ** terms.abs().sum(-1, keepdim=True) * (tables > 0)


# -- prediction --------------------------------------------------------------------------------------------------------


def predictive(
    hypotheses: FunctionClass, xs: Float[Tensor, "*stack n_points n_dims"], ys: Float[Tensor, "*stack n_points"]
) -> Float[Tensor, "*stack n_points"]:
    """P(y_i = +1 | x_1, y_1, …, x_{i-1}, y_{i-1}, x_i) at every position of every prompt; see `filtered`."""
    return filtered(hypotheses, xs, ys)[0]


def filtered(
    hypotheses: FunctionClass, xs: Float[Tensor, "*stack n_points n_dims"], ys: Float[Tensor, "*stack n_points"]
) -> tuple[Float[Tensor, "*stack n_points"], Float[Tensor, "*stack n_points"]]:
    """The predictive probability of a positive label, and 2^n p(x_i | x_1, y_1, …, x_{i-1}, y_{i-1}), at every position.

    Raises:
        ValueError: Inputs of another dimension than the class's, or labels that no hypothesis gives.
    """
    n_dims = hypotheses.n_dims
    if xs.shape[-1] != n_dims:
        raise ValueError(f"xs have {xs.shape[-1]} dimensions; the class was made for n_dims = {n_dims}")
    rows, labels = index_of(xs).reshape(-1, xs.shape[-2]), ys.reshape(-1, ys.shape[-1])
    # One row per input: p_h(x) [f_h(x) = ±1] for all h, so that an example is a row to multiply with.
    positive = (hypotheses.density * (hypotheses.tables > 0)).T.contiguous()
    negative = (hypotheses.density * (hypotheses.tables < 0)).T.contiguous()
    answers, densities = torch.empty(rows.shape), torch.empty(rows.shape)
    chunk = max(1, 2**22 // len(hypotheses.prior))  # some tens of megabytes at a time
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        weights = hypotheses.prior.expand(len(rows[part]), -1)
        for i in range(rows.shape[1]):  # the recursion over examples
            for_plus, for_minus = weights * positive[rows[part, i]], weights * negative[rows[part, i]]
            plus, minus = for_plus.sum(-1), for_minus.sum(-1)
            densities[part, i] = plus + minus
            answers[part, i] = plus / (plus + minus)
            weights = torch.where(labels[part, i, None] > 0, for_plus, for_minus)
            total = weights.sum(-1, keepdim=True)
            if not (total > 0).all():
                raise ValueError("ys hold labels that no hypothesis of the class gives to these xs")
            weights = weights / total
    return answers.reshape(ys.shape), densities.reshape(ys.shape)


def survivors(
    hypotheses: FunctionClass, xs: Float[Tensor, "*stack n_points n_dims"], ys: Float[Tensor, "*stack n_points"]
) -> Int[Tensor, "*stack"]:
    """How many hypotheses agree with all examples of each prompt: the size of the version space."""
    rows, labels = index_of(xs).reshape(-1, xs.shape[-2]), ys.reshape(-1, ys.shape[-1])
    counts = [(hypotheses.tables[:, row] == label).all(1).sum() for row, label in zip(rows, labels, strict=True)]
    return torch.stack(counts).reshape(ys.shape[:-1])


def _grid(values: list[float], n_dims: int) -> Float[Tensor, "hypothesis n_dims"]:
    if not n_dims >= 1 or len(values) ** n_dims * 2**n_dims > LARGEST_TABLE:
        raise ValueError(f"n_dims is {n_dims}; {len(values)}^n hypotheses on 2^n inputs do not fit in memory")
    return torch.tensor(list(product(values, repeat=n_dims)))


def _subsets(n_dims: int, n_relevant: int) -> Float[Tensor, "hypothesis n_dims"]:
    if not 0 <= n_relevant <= n_dims:
        raise ValueError(f"n_relevant is {n_relevant}; it must be within 0…{n_dims}, the number of variables")
    rows = torch.tensor(list(combinations(range(n_dims), n_relevant)), dtype=torch.long)
    return torch.zeros(len(rows), n_dims).scatter_(1, rows, 1.0)


def _uniform(size: int) -> Float[Tensor, " hypothesis"]:
    return torch.full((size,), 1 / size)


def _literal_prior(
    terms: Float[Tensor, "hypothesis n_dims"], p_literal: float, monotone: bool
) -> Float[Tensor, " hypothesis"]:
    present = p_literal if monotone else p_literal / 2
    return torch.where(terms != 0, present, 1 - p_literal).prod(-1)


def _merged(tables: Float[Tensor, "hypothesis inputs"], prior: Float[Tensor, " hypothesis"]) -> FunctionClass:
    """Hypotheses with equal tables become one, with their weights added; inputs are uniform."""
    generator = torch.Generator().manual_seed(0)
    fingerprints = tables.double() @ torch.randn(tables.shape[1], generator=generator, dtype=torch.float64)
    order = fingerprints.argsort()
    new = torch.cat([torch.ones(1, dtype=torch.bool), fingerprints[order].diff() > 1e-9])
    member = torch.empty_like(order).scatter_(0, order, new.cumsum(0) - 1)
    weights = torch.zeros(int(new.sum())).index_add_(0, member, prior)
    merged = tables[order[new]]
    return FunctionClass(merged, weights, torch.ones_like(merged))
