r"""One layer of attention that recalls facts, by hand: a fact head, a grammar head, and a context head to be switched on.

    head h at position t reads   Σ_j softmax_j( β (c_h[x_j] - m_h (t - j)) ) w_h[x_j]        over j ≤ t
    fact head      reads the latest subject s, writes Σ_k e_{A[s, k]}: all its attributes, of every type
    grammar head   reads the latest form since that subject, writes the type code of the form; without a form, nothing
    context head   reads all values so far alike, writes the type codes of the values
    logit of value v of type k = e_v-coordinate + k-th coordinate of the type code

The type code has K dimensions and is the same for all subjects. With the first two heads a tuple with grammar is answered
exactly, and one without it is a K-way tie. The third head breaks the tie, for all subjects at once: no weight of it knows a
subject. No position, no norm, no MLP; scores depend on the token that is read and on how far back it stands (slopes as in
ALiBi, Press et al. 2022, arXiv 2108.12409).

Exactness. In each of the first two heads what is to be read leads by at least 1 before β, and in the third the values lead
all else by 1: at most δ = T e^{-β} of a head's attention goes astray among T positions. With gains (1, 2, 1) and 5 δ < 1
the right value has the largest logit (`least_sharpness`):
    own value against another of its type        (1 - δ) - δ > 0
    right type against another, grammar told     2 (1 - 2δ) - 1 - δ > 0
    right type against another, context told     (1 - 2δ) - 2δ - δ > 0

Source: arXiv 2603.20969 announces an attention-only construction; its weights could not be had, these are ours.

| here          | code                        |
|---------------|-----------------------------|
| c_h, m_h      | `content`, `slope`          |
| w_h           | `write`                     |
| β, gains      | `sharpness`, `gains`        |
| T             | `n_positions`               |
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lib.tasks.attribute_tuples import Facts

FACT, GRAMMAR, CONTEXT = range(3)
PRETRAINED = (1.0, 2.0, 0.0)  # gains of the three heads
FINETUNED = (1.0, 2.0, 1.0)


@dataclass(frozen=True)
class RecallNet:
    """The construction for one table per seed.

    Attributes:
        content: What a token's kind adds to the score with which each head reads it.
        slope: What each head takes off per position further back.
        write: What each head writes when it reads a token: one coordinate per value, then one per type.
        unembedding: From these coordinates to one logit per value.
    """

    content: Float[Tensor, "head token"]
    slope: Float[Tensor, " head"]
    write: Float[Tensor, "seed head token width"]
    unembedding: Float[Tensor, "value width"]

    def stream(
        self, tokens: Int[Tensor, "seed batch time"], gains: Sequence[float], sharpness: float
    ) -> Float[Tensor, "seed batch time width"]:
        """What the heads write together, at every position.

        Raises:
            ValueError: Another number of gains than heads, or a sharpness that is not positive.
        """
        if len(gains) != len(self.slope):
            raise ValueError(f"gains is {list(gains)}; it must hold {len(self.slope)} numbers, one per head")
        if not sharpness > 0:
            raise ValueError(f"sharpness is {sharpness}; it must be positive")
        time = tokens.shape[-1]
        distance = torch.arange(time)[:, None] - torch.arange(time)
        total = torch.zeros((), dtype=self.write.dtype)
        for h, gain in enumerate(gains):
            scores = sharpness * (self.content[h][tokens][..., None, :] - self.slope[h] * distance)
            attention = scores.masked_fill(distance < 0, -torch.inf).softmax(-1)
            written = torch.stack([table[seen] for table, seen in zip(self.write[:, h], tokens, strict=True)])
            total = total + gain * attention @ written
        return total

    def __call__(
        self, tokens: Int[Tensor, "seed batch time"], gains: Sequence[float], sharpness: float
    ) -> Float[Tensor, "seed batch time value"]:
        """Logits of all values, at every position."""
        return self.stream(tokens, gains, sharpness) @ self.unembedding.T


def construct(facts: Facts, n_positions: int) -> RecallNet:
    """The weights.

    Args:
        facts: The tables to be stored, and the vocabulary.
        n_positions: Longest sequence for which the heads keep apart what they read from what they do not.

    Raises:
        ValueError: Fewer than two positions.
    """
    if n_positions < 2:
        raise ValueError(f"n_positions is {n_positions}; it must be at least 2")
    far, n_all = float(n_positions), facts.n_types * facts.n_values
    tokens = torch.arange(facts.n_tokens)
    subject, value = tokens < facts.first_form, tokens >= facts.first_value
    form = (tokens >= facts.first_form) & (tokens < facts.first_filler)
    content = torch.stack(
        [
            far * subject,  # beats whatever else stands within n_positions; among subjects the latest wins
            far * subject + (far + 0.5) * form,  # a form after the subject leads it, a form before it does not
            1.0 * value,
        ]
    ).double()
    write = torch.zeros(len(facts.table), 3, facts.n_tokens, n_all + facts.n_types, dtype=torch.float64)
    write[:, FACT, : facts.n_subjects, :n_all] = F.one_hot(facts.answers - facts.first_value, n_all).sum(2).double()
    types_of_forms = torch.arange(facts.n_types).repeat_interleave(facts.n_forms)
    types_of_values = torch.arange(facts.n_types).repeat_interleave(facts.n_values)
    write[:, GRAMMAR, form, n_all:] = F.one_hot(types_of_forms, facts.n_types).double()
    write[:, CONTEXT, value, n_all:] = F.one_hot(types_of_values, facts.n_types).double()
    unembedding = torch.cat([torch.eye(n_all), F.one_hot(types_of_values, facts.n_types)], 1).double()
    return RecallNet(content, torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64), write, unembedding)


def least_sharpness(n_positions: int) -> float:
    """β above which the construction is exact on sequences of that length: 5 T e^{-β} = 1."""
    return math.log(5 * n_positions)
