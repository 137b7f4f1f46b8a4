r"""Facts as tuples: a subject, some grammar, and the attribute of the type that the grammar hints at.

    tuple of type k:   s  g_1 … g_n  a,    a = A[s, k]
    g_i  a filler with probability ρ; else a form of type k with probability 1 - ε; else a form of another type
    sequence:          tuples of different subjects;  pretraining: each tuple's type is drawn alone;
                       contextual: one type for all tuples, and nothing between s and a that tells it

Source: arXiv 2603.20969 (subject-grammar-attribute tuples, types tied to the statistics of grammar). Sizes, fillers and the
way in which grammar is noisy are ours.

| paper               | code                      | meaning                                              |
|---------------------|---------------------------|------------------------------------------------------|
| subject s           | `subjects`                | numbers 0…n_subjects-1, which are also its tokens    |
| attribute type k    | `types`                   | what is asked of the subject                         |
| attribute A[s, k]   | `Facts.answers`           | values of different types are different tokens       |
| grammar g           | `grammar`                 | `n_forms` tokens per type, and fillers of no type    |
| ε, ρ                | `noise`, `filler_share`   | wrong forms, and fillers, among the grammar          |

Tokens are numbered: subjects, forms (type by type), fillers, values (type by type). Every seed draws from its own generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

from lib.seeds import generator_for


def streams(seeds: Sequence[int], purpose: str) -> list[Generator]:
    """One generator per seed, to draw from again and again."""
    return [generator_for(seed, f"attribute tuples: {purpose}") for seed in seeds]


@dataclass(frozen=True)
class Facts:
    """A table of facts per seed, and the vocabulary in which they are told.

    Attributes:
        table: (seed, subject, type), the number of the attribute among its type's values.
        n_values: values of each type.
        n_forms: grammar tokens of each type.
        n_fillers: grammar tokens of no type.
    """

    table: Int[Tensor, "seed subject type"]
    n_values: int
    n_forms: int
    n_fillers: int

    @property
    def n_subjects(self) -> int:
        return self.table.shape[1]

    @property
    def n_types(self) -> int:
        return self.table.shape[2]

    @property
    def first_form(self) -> int:
        return self.n_subjects

    @property
    def first_filler(self) -> int:
        return self.first_form + self.n_types * self.n_forms

    @property
    def first_value(self) -> int:
        return self.first_filler + self.n_fillers

    @property
    def n_tokens(self) -> int:
        return self.first_value + self.n_types * self.n_values

    @property
    def answers(self) -> Int[Tensor, "seed subject type"]:
        """Tokens of the attributes."""
        return self.first_value + self.n_values * torch.arange(self.n_types) + self.table

    def type_of(self, values: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The type that a value's token belongs to."""
        return (values - self.first_value) // self.n_values


def draw_facts(
    seeds: Sequence[int], n_subjects: int, n_types: int, n_values: int, n_forms: int = 3, n_fillers: int = 4
) -> Facts:
    """A table of independent, uniform attributes per seed.

    Raises:
        ValueError: Fewer than one subject, form or filler, or fewer than two types or values.

    >>> draw_facts([0, 1], n_subjects=5, n_types=3, n_values=4).n_tokens
    30
    """
    least = dict(n_subjects=1, n_types=2, n_values=2, n_forms=1, n_fillers=1)
    sizes = dict(n_subjects=n_subjects, n_types=n_types, n_values=n_values, n_forms=n_forms, n_fillers=n_fillers)
    for name, size in sizes.items():
        if size < least[name]:
            raise ValueError(f"{name} is {size}; it must be at least {least[name]}")
    tables = [torch.randint(n_values, (n_subjects, n_types), generator=g) for g in streams(seeds, "table")]
    return Facts(torch.stack(tables), n_values, n_forms, n_fillers)


def different_subjects(
    generators: Sequence[Generator], batch: int, n_tuples: int, first: int, last: int
) -> Int[Tensor, "seed batch n_tuples"]:
    """Subjects first…last-1, none of them twice in a sequence: no answer can be copied from the context.

    Raises:
        ValueError: Fewer subjects than tuples (the set of subjects may be empty), or a negative number.
    """
    if first < 0 or last - first < n_tuples:
        raise ValueError(
            f"subjects {first}…{last - 1} are {max(last - first, 0)}; {n_tuples} different ones are needed for n_tuples"
        )
    keys = torch.stack([torch.rand(batch, last - first, generator=g) for g in generators])
    return first + keys.topk(n_tuples).indices


def grammar(
    generators: Sequence[Generator],
    facts: Facts,
    types: Int[Tensor, "seed batch tuple"],
    n_grammar: int,
    noise: float,
    filler_share: float,
) -> Int[Tensor, "seed batch tuple n_grammar"]:
    """Grammar that hints at the types.

    Args:
        generators: One per seed.
        facts: Gives the vocabulary.
        types: Of each tuple.
        n_grammar: Tokens between subject and attribute; 0 for none.
        noise: Probability ε that a form is one of another type, each as likely.
        filler_share: Probability ρ that a token is a filler.

    Raises:
        ValueError: A negative number of tokens, or probabilities outside [0, 1].
    """
    if n_grammar < 0:
        raise ValueError(f"n_grammar is {n_grammar}; it must be at least 0")
    if not (0 <= noise <= 1 and 0 <= filler_share <= 1):
        raise ValueError(f"noise and filler_share are {noise} and {filler_share}; they must lie in [0, 1]")
    shape = (4, *types.shape[1:], n_grammar)
    wrong, is_filler, which, other = torch.stack([torch.rand(shape, generator=g) for g in generators], 1)
    shift = 1 + (other * (facts.n_types - 1)).long()
    told = torch.where(wrong < noise, types[..., None] + shift, types[..., None]) % facts.n_types
    forms = facts.first_form + told * facts.n_forms + (which * facts.n_forms).long()
    fillers = facts.first_filler + (which * facts.n_fillers).long()
    return torch.where(is_filler < filler_share, fillers, forms)


def some_fillers(
    generators: Sequence[Generator], facts: Facts, batch: int, n_tuples: int, n_grammar: int, which: Sequence[int]
) -> Int[Tensor, "seed batch n_tuples n_grammar"]:
    """Fillers in the place of grammar, uniform among those numbered in `which`.

    Raises:
        ValueError: No filler, or a number outside 0…n_fillers-1.
    """
    if not which or not all(0 <= i < facts.n_fillers for i in which):
        raise ValueError(f"which is {list(which)}; it must name fillers 0…{facts.n_fillers - 1}")
    draws = [torch.randint(len(which), (batch, n_tuples, n_grammar), generator=g) for g in generators]
    return facts.first_filler + torch.tensor(which)[torch.stack(draws)]


def some_types(
    generators: Sequence[Generator], n_types: int, batch: int, n_tuples: int, shared: bool
) -> Int[Tensor, "seed batch n_tuples"]:
    """Types of the tuples of each sequence: one for all of them if `shared`, else each drawn alone."""
    draws = [torch.randint(n_types, (batch, 1 if shared else n_tuples), generator=g) for g in generators]
    return torch.stack(draws).expand(-1, -1, n_tuples)


def sentences(
    facts: Facts,
    subjects: Int[Tensor, "*copy seed batch tuple"],
    types: Int[Tensor, "seed batch tuple"],
    between: Int[Tensor, "seed batch tuple n_grammar"],
    lengths: Int[Tensor, "seed batch tuple"] | None = None,
) -> Int[Tensor, "*copy seed batch time"]:
    """The tuples s, between, A[s, k] of a sequence, one after the other.

    Args:
        facts: The table.
        subjects: Of each tuple.
        types: Of each tuple.
        between: What stands between subject and attribute.
        lengths: How much of it, for each tuple; all of it if left out. Sequences must have equal sums.

    >>> facts = draw_facts([0], n_subjects=9, n_types=2, n_values=3)
    >>> nothing = torch.zeros(1, 1, 4, 0, dtype=torch.long)
    >>> sentences(facts, torch.tensor([[[3, 1, 4, 5]]]), torch.zeros(1, 1, 4, dtype=torch.long), nothing).shape
    torch.Size([1, 1, 8])
    """
    members = torch.arange(len(facts.table))[:, None, None]
    answers = facts.answers[members, subjects, types]
    between = between.expand(*subjects.shape, -1)
    tokens = torch.cat([subjects[..., None], between, answers[..., None]], -1).flatten(-2)
    if lengths is None:
        return tokens
    kept = torch.arange(between.shape[-1]) < lengths[..., None]
    always = kept.new_ones(*lengths.shape, 1)
    dropped = ~torch.cat([always, kept, always], -1).flatten(-2)
    n_time = 2 * lengths.shape[-1] + int(lengths[0, 0].sum())
    places = dropped.byte().argsort(stable=True, dim=-1)[..., :n_time]  # what is kept, in its order
    return tokens.gather(-1, places.expand(*tokens.shape[:-1], -1))


def shuffled(generators: Sequence[Generator], lengths: Sequence[int], batch: int) -> Int[Tensor, "seed batch tuple"]:
    """The lengths in random order, one order per sequence.

    Raises:
        ValueError: No tuple, or a negative length.
    """
    if not lengths or min(lengths) < 0:
        raise ValueError(f"lengths is {list(lengths)}; it must hold the grammar's length, at least 0, of each tuple")
    order = torch.stack([torch.rand(batch, len(lengths), generator=g) for g in generators]).argsort(-1)
    return torch.tensor(lengths)[order]


def pretraining(
    generators: Sequence[Generator],
    facts: Facts,
    batch: int,
    lengths: Sequence[int],
    noise: float,
    filler_share: float,
    first: int,
    last: int,
) -> Int[Tensor, "seed batch time"]:
    """Sequences of facts about subjects first…last-1, each of a type of its own, told by its grammar.

    A sequence has one tuple with lengths[0] grammar tokens, one with lengths[1], …, in random order.
    """
    n_tokens = shuffled(generators, lengths, batch)
    subjects = different_subjects(generators, batch, len(lengths), first, last)
    types = some_types(generators, facts.n_types, batch, len(lengths), shared=False)
    told = grammar(generators, facts, types, max(lengths), noise, filler_share)
    return sentences(facts, subjects, types, told, n_tokens)


def contextual(
    generators: Sequence[Generator],
    facts: Facts,
    batch: int,
    lengths: Sequence[int],
    fillers: Sequence[int],
    first: int,
    last: int,
    shared: bool = True,
) -> Int[Tensor, "seed batch time"]:
    """Sequences about subjects first…last-1 whose grammar is fillers: only the values tell the type that they share.

    With `shared` false the type is drawn for each tuple alone: the same format, and nothing to infer.
    """
    n_tokens = shuffled(generators, lengths, batch)
    subjects = different_subjects(generators, batch, len(lengths), first, last)
    types = some_types(generators, facts.n_types, batch, len(lengths), shared)
    between = some_fillers(generators, facts, batch, len(lengths), max(lengths), fillers)
    return sentences(facts, subjects, types, between, n_tokens)


def is_answer(facts: Facts, tokens: Int[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Which tokens are attributes; they are predicted one position earlier."""
    return tokens >= facts.first_value
