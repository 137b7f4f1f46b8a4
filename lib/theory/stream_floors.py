r"""What can be known in a stream that holds a fact: which template wrote it, what comes next, and the least loss of all.

With templates k = (chain, positions) and a set of training pairs (fact n, template k), all equally likely,

    w_k(t) ∝ P(x_0 … x_t, k) = P(k) P(fact | k)^[source seen] Π P_k(symbol | last symbol) · [positions agree],
    P(x_{t+1} | x_0 … x_t) = Σ_k w_k(t) P(x_{t+1} | k, fact, last symbol)

is exact: no predictor has a smaller mean loss. Two readers of one stream differ in the pairs that they believe possible.
The *memoriser* believes in the training pairs. The *generalist* believes in all, so for it facts say nothing about
templates. On the sequences of training the memoriser is better by exactly

    I(fact; template) = log(K / DIV)   nats per sequence,

wherever positions or symbols tell the templates apart; out of distribution it gives probability zero to what it sees.
Since x tells the fact, and where positions differ the template, too, the entropy of a whole sequence is closed form:

    H(x) = log(n_trained · DIV) + (1/K) Σ_k H_k(length - 2) - H(template | x),   H_k(n) = log V + Σ_{t<n} Σ_a μ_t(a) h_a

with h_a the entropy of row a and μ_t the law of symbol t, the first uniform. H(template | x) is 0 but where only chains
differ and DIV > 1; there it is the mean entropy of the exact posterior (`final_ambiguity`).

Source: the testbed is that of Behnia et al. 2025, arXiv 2510.16096; the formulas are derived here.

| symbol                    | code                    | shape                                    |
|---------------------------|-------------------------|------------------------------------------|
| pairs believed in         | `believed`              | (seed, pair, 2)                          |
| w_k(t)                    | `template_posterior`    | (seed, batch, length, template)          |
| P(x_{t+1} | x_0 … x_t)    | `next_token`            | (seed, batch, length - 1, n_tokens)      |
| … given a symbol is due   | `symbol_mixture`        | (seed, batch, length - 1, n_symbols)     |
| H_k(n)                    | `chain_entropy`         | (…)                                      |
| (H(x) - H(x_0))/(length-1) | `loss_floor`           | (seed,), nats per predicted token        |
"""

from math import log

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.tasks.fact_streams import Batch, World, last_symbols


def template_posterior(
    world: World, tokens: Int[Tensor, "seed batch length"], believed: Int[Tensor, "seed pair 2"]
) -> Float[Tensor, "seed batch length template"]:
    """The exact posterior over templates; entry t has seen tokens 0…t.

    Args:
        world: Templates and facts.
        tokens: Sequences.
        believed: The (fact, template) pairs held possible, equally likely.

    Returns:
        Probabilities in float64.

    Raises:
        ValueError: A sequence that is impossible under these pairs.
    """
    logs = _log_joint(world, tokens, believed)
    if torch.isneginf(logs.amax(-1)).any():
        raise ValueError("tokens hold a sequence that none of the believed pairs could have written")
    return logs.softmax(-1)


def _log_joint(world: World, tokens: Tensor, believed: Tensor) -> Tensor:
    """log P(x_0 … x_t, k), up to what does not depend on the template, (seed, batch, length, template)."""
    n_symbols = world.n_symbols
    time = torch.arange(tokens.shape[-1])
    before = last_symbols(tokens, n_symbols)[..., :-1]
    seed = torch.arange(len(tokens))[:, None, None]
    rows = world.rows.double()
    # P_k(x_t | last symbol), (seed, batch, length - 1, template)
    steps = rows[seed, :, before, tokens[..., 1:].clamp_max(n_symbols - 1)].log()
    is_symbol = (tokens < n_symbols)[..., None]
    logs = torch.where(is_symbol[:, :, 1:], steps, 0.0)
    logs = torch.cat([torch.zeros_like(logs[:, :, :1]), logs], 2)
    # A source exactly at i_k, a target exactly at j_k, symbols elsewhere.
    is_source = (tokens >= n_symbols) & (tokens < n_symbols + world.n_facts)
    for kind, column in ((is_source, 0), (tokens >= n_symbols + world.n_facts, 1)):
        due = time[:, None] == world.positions[:, None, None, :, column]
        logs = logs.masked_fill(kind[..., None] != due, -torch.inf)
    shares = _shares(world, believed)  # (seed, fact, template): P(fact | template)
    facts = (tokens - n_symbols).clamp(0, world.n_facts - 1)
    told = shares[seed, facts].log()  # (seed, batch, length, template)
    prior = shares.new_zeros(len(tokens), world.n_templates)
    prior.scatter_add_(1, believed[..., 1], torch.ones_like(believed[..., 1], dtype=shares.dtype))
    logs = logs + torch.where(is_source[..., None], told, 0.0)
    return logs.cumsum(2) + prior.log()[:, None, None]


def _shares(world: World, believed: Tensor) -> Tensor:
    """P(fact | template) under equally likely pairs; 0 for a template without any."""
    table = torch.zeros(len(believed), world.n_facts, world.n_templates, dtype=torch.float64)
    seed = torch.arange(len(believed))[:, None]
    table[seed, believed[..., 0], believed[..., 1]] = 1.0
    return table / table.sum(1, keepdim=True).clamp_min(1.0)


def next_token(
    world: World, tokens: Int[Tensor, "seed batch length"], believed: Int[Tensor, "seed pair 2"]
) -> Float[Tensor, "seed batch predicted n_tokens"]:
    """The exact probabilities of the next token after each but the last, in float64.

    Raises:
        ValueError: As `template_posterior`.
    """
    posterior = template_posterior(world, tokens, believed)[:, :, :-1]
    n_seeds, batch, predicted, _ = posterior.shape
    seed = torch.arange(n_seeds)[:, None, None]
    time = 1 + torch.arange(predicted)
    due_source, due_target = (
        (time[:, None] == world.positions[:, None, None, :, i]).expand_as(posterior) for i in (0, 1)
    )
    predictions = posterior.new_zeros(n_seeds, batch, predicted, world.n_tokens)
    chain = posterior * ~(due_source | due_target)
    last = last_symbols(tokens, world.n_symbols)[..., :-1]
    predictions[..., : world.n_symbols] = _mixture(chain, world.rows.double()[seed, :, last])
    sources = torch.einsum("sbtk,sfk->sbtf", posterior * due_source, _shares(world, believed))
    predictions[..., world.n_symbols : world.n_symbols + world.n_facts] = sources
    # The source that was seen names the target.
    is_source = (tokens >= world.n_symbols) & (tokens < world.n_symbols + world.n_facts)
    fact = torch.where(is_source, tokens - world.n_symbols, 0).cummax(-1).values[..., :-1]
    target = world.target[seed, fact]
    return predictions.scatter_add(3, target[..., None], (posterior * due_target).sum(-1, keepdim=True))


def symbol_mixture(
    world: World, tokens: Int[Tensor, "seed batch length"], believed: Int[Tensor, "seed pair 2"]
) -> Float[Tensor, "seed batch predicted n_symbols"]:
    """The exact probabilities of the next symbol, given that a symbol comes next (0 where none can), in float64.

    Raises:
        ValueError: As `template_posterior`.
    """
    symbols = next_token(world, tokens, believed)[..., : world.n_symbols]
    return symbols / symbols.sum(-1, keepdim=True).clamp_min(1e-300)


def _mixture(weights: Tensor, rows: Tensor) -> Tensor:
    return (weights[..., None, :] @ rows)[..., 0, :]


def true_rows(world: World, batch: Batch) -> Float[Tensor, "seed batch predicted n_symbols"]:
    """The row of the chain that wrote each sequence, after its last symbol: what the next symbol is drawn from."""
    seed = torch.arange(len(batch.tokens))[:, None, None]
    return world.rows[seed, batch.templates[..., None], last_symbols(batch.tokens, world.n_symbols)[..., :-1]]


def divergence(
    true: Float[Tensor, "*where n_symbols"], prediction: Float[Tensor, "*where n_symbols"]
) -> Float[Tensor, "*where"]:
    """KL(true || prediction) in nats."""
    return (torch.xlogy(true, true) - torch.xlogy(true, prediction.clamp_min(1e-30))).sum(-1)


def chain_entropy(rows: Float[Tensor, "*chain n_symbols n_symbols"], n: int) -> Float[Tensor, "*chain"]:
    """Entropy, in nats, of n symbols of a chain whose first is uniform.

    Raises:
        ValueError: Fewer than one symbol.

    >>> round(float(chain_entropy(torch.full((2, 2), 0.5), n=3)), 6) == round(3 * log(2), 6)
    True
    """
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1")
    rows = rows.double()
    n_symbols = rows.shape[-1]
    row_entropy = torch.special.entr(rows).sum(-1)
    law = torch.full_like(row_entropy, 1 / n_symbols)
    total = torch.full_like(row_entropy[..., 0], log(n_symbols))
    for _ in range(n - 1):
        total = total + (law * row_entropy).sum(-1)
        law = (law[..., None, :] @ rows)[..., 0, :]
    return total


def loss_floor(
    world: World, diversity: int, ambiguity: float | Float[Tensor, "seed"] = 0.0, *, shuffled: bool = False
) -> Float[Tensor, "seed"]:
    """The least mean loss per predicted token, in nats, that any predictor has on sequences of training.

    Args:
        world: Templates and facts.
        diversity: Templates that a fact is trained in; `world.n_templates` gives the floor of the generalist, who does not
            use which fact goes with which template: its loss on training sequences at any diversity.
        ambiguity: H(template | x), see `final_ambiguity`.
        shuffled: Whether targets are drawn at random.

    Raises:
        ValueError: A diversity outside 1…n_templates.
    """
    if not 1 <= diversity <= world.n_templates:
        raise ValueError(f"diversity is {diversity}; it must lie in 1…{world.n_templates}, the number of templates")
    symbols = chain_entropy(world.rows, world.length - 2).mean(-1) - log(world.n_symbols)
    facts = log(world.n_trained * diversity) + (log(world.n_trained) if shuffled else 0.0)
    return (symbols + facts - ambiguity) / (world.length - 1)


def final_ambiguity(
    world: World, tokens: Int[Tensor, "seed batch length"], believed: Int[Tensor, "seed pair 2"]
) -> Float[Tensor, "seed"]:
    """H(template | x), in nats: the mean entropy of the exact posterior at the end of sequences of the believed pairs."""
    return torch.special.entr(template_posterior(world, tokens, believed)[:, :, -1]).sum(-1).mean(1)
