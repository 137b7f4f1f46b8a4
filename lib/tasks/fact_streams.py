r"""Facts in streams: pairs of fact tokens set into sequences of a Markov chain, and which contexts each fact is seen in.

    template k = (chain P_k, positions i_k < j_k),   fact n = (source a_n, target b_n = f(a_n)),   f a bijection
    sequence of (n, k): length - 2 symbols of chain P_k, with a_n set in at i_k and b_n at j_k; the chain goes on after each
    training pairs: every fact in `diversity` of the K templates;   out of distribution: every fact in the others

Source: Behnia et al. 2025, arXiv 2510.16096. The paper's structures are called MC10Pos1, MC1Pos10 and MC10Pos10, for ten
templates that differ in chains, in positions, or in both.

| paper                      | code                 | meaning                                              |
|----------------------------|----------------------|------------------------------------------------------|
| contextual structure       | `structure`          | "chains", "positions" or "both": what templates differ in |
| number of templates        | `n_templates`        | 10 in the paper's names                              |
| diversity level DIV        | `diversity`          | templates that a fact occurs in, in training         |
| source, target token       | `world.source`, `world.target` | their numbers in the vocabulary                |

Vocabulary: symbols of the chains 0…n_symbols-1, then one source and one target token per fact. Source positions differ from
template to template where positions vary, so that whoever sees the source can know where the target is due; they lie in the
first half, and targets follow two or more positions later.
Templates are dealt out in Latin squares: at every diversity every template holds equally many facts, and a fact's
templates at a lower diversity are among those at a higher one. Every seed draws from its own generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from lib.seeds import generator_for
from lib.tasks.markov_chains import sequences, transition_rows

STRUCTURES = ("chains", "positions", "both")


def streams(seeds: Sequence[int], purpose: str) -> list[Generator]:
    """One generator per seed, to draw from again and again."""
    return [generator_for(seed, f"fact streams: {purpose}") for seed in seeds]


@dataclass(frozen=True)
class World:
    """Templates and facts of every seed.

    Attributes:
        rows: (seed, template, n_symbols, n_symbols), transition probabilities.
        positions: (seed, template, 2), of source and target in a sequence, counted from 0.
        order: (seed, trained fact, template), each fact's templates, the first `diversity` of which it is trained in.
        answers: (seed, fact), which target token belongs to each source token.
        length: tokens of a sequence.
        n_untrained: facts, the last ones, that no training pair holds.
    """

    rows: Float[Tensor, "seed template n_symbols n_symbols"]
    positions: Int[Tensor, "seed template 2"]
    order: Int[Tensor, "seed trained template"]
    answers: Int[Tensor, "seed fact"]
    length: int
    n_untrained: int = 0

    @property
    def n_templates(self) -> int:
        return self.rows.shape[1]

    @property
    def n_symbols(self) -> int:
        return self.rows.shape[-1]

    @property
    def n_facts(self) -> int:
        return self.answers.shape[-1]

    @property
    def n_trained(self) -> int:
        return self.n_facts - self.n_untrained

    @property
    def n_tokens(self) -> int:
        """Size of the vocabulary."""
        return self.n_symbols + 2 * self.n_facts

    @property
    def source(self) -> Int[Tensor, "fact"]:
        """Token of each fact's source, the same for all seeds."""
        return self.n_symbols + torch.arange(self.n_facts)

    @property
    def target(self) -> Int[Tensor, "seed fact"]:
        """Token of each fact's target."""
        return self.n_symbols + self.n_facts + self.answers


def build_world(
    seeds: Sequence[int],
    structure: str,
    n_templates: int,
    n_facts: int,
    n_symbols: int,
    length: int,
    concentration: float,
    n_untrained: int = 0,
) -> World:
    """Draw templates and facts.

    Args:
        seeds: One world per seed.
        structure: What templates differ in: "chains", "positions" or "both".
        n_templates: K.
        n_facts: Facts of training, a multiple of `n_templates`, so that the templates can share them equally.
        n_symbols: Of the chains.
        length: Tokens of a sequence, the two of the fact included.
        concentration: Of the Dirichlet law of the chains' rows; small ones make symbols predictable.
        n_untrained: Facts beside these whose tokens never occur in training, for a control.

    Raises:
        ValueError: An unknown structure, fewer than two templates, facts that they cannot share equally, a negative
            `n_untrained`, a length that has no room for so many different source positions, or as
            `lib.tasks.markov_chains.transition_rows`.

    >>> build_world([0, 1], "both", n_templates=3, n_facts=6, n_symbols=4, length=9, concentration=0.5).n_tokens
    16
    """
    if structure not in STRUCTURES:
        raise ValueError(f"structure is {structure!r}; it must be one of {', '.join(STRUCTURES)}")
    if n_templates < 2:
        raise ValueError(f"n_templates is {n_templates}; it must be at least 2")
    if n_facts < 1 or n_facts % n_templates:
        raise ValueError(f"n_facts is {n_facts}; it must be a positive multiple of n_templates = {n_templates}")
    if n_untrained < 0:
        raise ValueError(f"n_untrained is {n_untrained}; it must be at least 0")
    least = 5 if structure == "chains" else max(5, 2 * n_templates)
    if length < least:
        raise ValueError(
            f"length is {length}; structure {structure!r} with n_templates = {n_templates} needs at least {least}"
        )
    generators = streams(seeds, f"templates, {structure}")
    n_chains, n_pairs = (1 if structure == "positions" else n_templates), (1 if structure == "chains" else n_templates)
    rows = transition_rows(generators, n_chains, n_symbols, 1, concentration)
    positions = torch.stack([_position_pairs(n_pairs, length, g) for g in generators])
    return World(
        rows.expand(-1, n_templates, -1, -1),
        positions.expand(-1, n_templates, -1),
        torch.stack([_latin_order(n_facts, n_templates, g) for g in generators]),
        torch.stack([_answers(n_facts, n_untrained, g) for g in generators]),
        length,
        n_untrained,
    )


def _position_pairs(n_pairs: int, length: int, generator: Generator) -> Int[Tensor, "pair 2"]:
    """Sources at different positions of the first half, position 0 aside, each with a target two or more positions later.

    So symbols follow every source; and no target is its source's neighbour, since a rule about neighbours holds in all
    places alike.
    """
    sources = 1 + torch.randperm(length // 2, generator=generator)[:n_pairs]
    gaps = (torch.rand(n_pairs, generator=generator) * (length - 2 - sources)).long()
    return torch.stack([sources, sources + 2 + gaps], -1)


def _answers(n_facts: int, n_untrained: int, generator: Generator) -> Int[Tensor, "fact"]:
    """A bijection, of the trained facts onto the first targets and of the others onto the rest."""
    trained = torch.randperm(n_facts, generator=generator)
    return torch.cat([trained, n_facts + torch.randperm(n_untrained, generator=generator)])


def _latin_order(n_facts: int, n_templates: int, generator: Generator) -> Int[Tensor, "fact template"]:
    """Rows of random Latin squares: in every block of K facts each column names every template once."""

    def shuffled() -> Tensor:
        return torch.randperm(n_templates, generator=generator)

    blocks = [
        shuffled()[(shuffled()[:, None] + shuffled()) % n_templates] for _ in range(n_facts // n_templates)
    ]  # fmt: skip
    return torch.cat(blocks)


def pairs(world: World, diversity: int, *, seen: bool = True) -> Int[Tensor, "seed pair 2"]:
    """The (fact, template) pairs of training, or all others.

    Args:
        world: Templates and facts.
        diversity: Templates that a fact is trained in.
        seen: Whether the pairs of training are wanted, or those out of distribution.

    Raises:
        ValueError: A diversity outside 1…n_templates, or pairs out of distribution when all are trained.
    """
    if not 1 <= diversity <= world.n_templates:
        raise ValueError(f"diversity is {diversity}; it must lie in 1…{world.n_templates}, the number of templates")
    if not seen and diversity == world.n_templates:
        raise ValueError(f"diversity is {diversity}: every fact is trained in every template, none is left to test on")
    templates = world.order[..., :diversity] if seen else world.order[..., diversity:]
    facts = torch.arange(world.n_trained)[:, None].expand_as(templates)
    return torch.stack([facts, templates], -1).flatten(1, 2)


def untrained_pairs(world: World) -> Int[Tensor, "seed pair 2"]:
    """The untrained facts in all templates.

    Raises:
        ValueError: A world in which every fact is trained.
    """
    if not world.n_untrained:
        raise ValueError("n_untrained is 0: this world has no untrained facts")
    facts, templates = torch.arange(world.n_trained, world.n_facts), torch.arange(world.n_templates)
    return torch.cartesian_prod(facts, templates).expand(len(world.rows), -1, -1)


@dataclass(frozen=True)
class Batch:
    """Sequences of every seed, with what they were made of."""

    tokens: Int[Tensor, "seed batch length"]
    facts: Int[Tensor, "seed batch"]
    templates: Int[Tensor, "seed batch"]


def draw(
    world: World,
    generators: Sequence[Generator],
    pairs: Int[Tensor, "seed pair 2"],
    batch: int,
    *,
    shuffle: bool = False,
) -> Batch:
    """Sequences of pairs drawn at random, every one with a fresh stream of symbols.

    Args:
        world: Templates and facts.
        generators: One per seed.
        pairs: To draw from, equally likely.
        batch: Sequences per seed.
        shuffle: Whether the target is drawn at random among those of training for every sequence: there is no fact to learn.

    Raises:
        ValueError: An empty batch, or no pairs.
    """
    if batch < 1 or pairs.shape[1] < 1:
        raise ValueError(f"batch is {batch}, and there are {pairs.shape[1]} pairs; both must be at least 1")
    chosen = torch.stack([torch.randint(pairs.shape[1], (batch,), generator=g) for g in generators])
    facts, templates = pairs.gather(1, chosen[..., None].expand(-1, -1, 2)).unbind(-1)
    seed = torch.arange(len(generators))[:, None]
    symbols = sequences(generators, world.rows[seed, templates], world.length - 2)
    targets = world.target[seed, facts]
    if shuffle:
        random = [torch.randint(world.n_trained, (batch,), generator=g) for g in generators]
        targets = world.n_symbols + world.n_facts + torch.stack(random)
    where = world.positions[seed, templates]
    time = torch.arange(world.length)
    is_source, is_target = (time == where[..., i, None] for i in (0, 1))
    # Symbols move back by one place after each token of the fact.
    index = time - (time > where[..., :1]).long() - (time > where[..., 1:]).long()
    tokens = symbols.gather(-1, index.clamp_max(world.length - 3))
    tokens = torch.where(is_source, world.source[facts][..., None], tokens)
    return Batch(torch.where(is_target, targets[..., None], tokens), facts, templates)


def last_symbols(tokens: Int[Tensor, "*sequence length"], n_symbols: int) -> Int[Tensor, "*sequence length"]:
    """The last symbol of the chain at or before each position; fact tokens are passed over.

    Raises:
        ValueError: A sequence that does not begin with a symbol.

    >>> last_symbols(torch.tensor([2, 9, 0, 8, 8]), n_symbols=3).tolist()
    [2, 2, 0, 0, 0]
    """
    if tokens.numel() and int(tokens[..., 0].max()) >= n_symbols:
        raise ValueError(f"sequences must begin with a symbol 0…{n_symbols - 1}, got {int(tokens[..., 0].max())}")
    time = torch.arange(tokens.shape[-1], device=tokens.device)
    where = torch.where(tokens < n_symbols, time, 0).cummax(-1).values
    return tokens.gather(-1, where)
