"""Exact readers of streams against the enumeration of all sequences, floors against both, and what is refused."""

from itertools import pairwise, product
from math import log

import pytest
import torch

from lib.tasks.fact_streams import STRUCTURES, build_world, draw, pairs, streams
from lib.theory.stream_floors import (
    chain_entropy,
    divergence,
    final_ambiguity,
    loss_floor,
    next_token,
    symbol_mixture,
    template_posterior,
    true_rows,
)


def small(structure, seed=0):
    return build_world([seed], structure, n_templates=2, n_facts=4, n_symbols=2, length=6, concentration=0.7)


def law(world, believed):
    """Probability of every (sequence, template), from the definition."""
    joint = {}
    for fact, template in believed[0].tolist():
        i, j = world.positions[0, template].tolist()
        for symbols in product(range(2), repeat=4):
            p = 1 / len(believed[0]) / 2
            for a, b in pairwise(symbols):
                p *= world.rows[0, template, a, b].item()
            tokens = list(symbols)
            tokens.insert(i, 2 + fact)
            tokens.insert(j, 6 + world.answers[0, fact].item())
            joint[tuple(tokens), template] = joint.get((tuple(tokens), template), 0.0) + p
    return joint


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("diversity", [1, 2])
def test_the_posterior_and_the_next_token_are_those_of_the_enumeration(structure, diversity):
    world = small(structure)
    believed = pairs(world, diversity)
    joint = law(world, believed)
    assert sum(joint.values()) == pytest.approx(1, abs=1e-6)
    sequences = sorted({tokens for tokens, _ in joint})[::7]
    tokens = torch.tensor([sequences])
    posterior, following = template_posterior(world, tokens, believed), next_token(world, tokens, believed)
    for b, xs in enumerate(sequences):
        for t in range(6):
            prefix = {key: p for key, p in joint.items() if key[0][: t + 1] == xs[: t + 1]}
            total = sum(prefix.values())
            for k in range(2):
                exact = sum(p for (_, template), p in prefix.items() if template == k) / total
                assert posterior[0, b, t, k].item() == pytest.approx(exact, abs=1e-5)
            if t < 5:
                exact = torch.zeros(world.n_tokens, dtype=torch.float64)
                for (others, _), p in prefix.items():
                    exact[others[t + 1]] += p / total
                assert torch.allclose(following[0, b, t], exact, atol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("diversity", [1, 2])
def test_the_floor_is_the_entropy_of_the_enumeration(structure, diversity):
    world = small(structure, seed=1)
    joint = law(world, pairs(world, diversity))
    of_tokens = {}
    for (tokens, _), p in joint.items():
        of_tokens[tokens] = of_tokens.get(tokens, 0.0) + p
    entropy = -sum(p * log(p) for p in of_tokens.values())
    ambiguity = -sum(p * log(p / of_tokens[tokens]) for (tokens, _), p in joint.items())
    if structure != "chains" or diversity == 1:
        assert ambiguity == pytest.approx(0, abs=1e-9)
    floor = loss_floor(world, diversity, ambiguity)
    assert floor.item() == pytest.approx((entropy - log(2)) / 5, abs=1e-6)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("diversity", [1, 3])
def test_on_training_sequences_the_memoriser_gains_log_k_over_div_at_most_and_exactly_where_templates_are_told(
    structure, diversity
):
    """Losses of both exact readers by Monte Carlo, against their closed-form floors."""
    world = build_world([5], structure, n_templates=4, n_facts=8, n_symbols=3, length=12, concentration=0.5)
    trained = pairs(world, diversity)
    batch = draw(world, streams([5], "test"), trained, 4000)
    targets = batch.tokens[..., 1:, None]
    totals = []
    for believed, div in ((trained, diversity), (pairs(world, 4), 4)):
        losses = -next_token(world, batch.tokens, believed).gather(-1, targets)[..., 0].log().mean(-1)[0]
        ambiguity = final_ambiguity(world, batch.tokens, believed)
        floor = loss_floor(world, div, ambiguity).item()
        assert losses.mean().item() == pytest.approx(floor, abs=5 * losses.std().item() / 4000**0.5 + 0.01)
        totals.append(11 * losses)
    gain = (totals[1] - totals[0]).mean().item()
    if structure == "chains":
        assert 0 < gain < log(4 / diversity)
    else:
        assert gain == pytest.approx(log(4 / diversity), abs=1e-6)


def test_out_of_distribution_the_memoriser_holds_impossible_what_it_sees():
    world = small("both")
    batch = draw(world, streams([0], "test"), pairs(world, 1, seen=False), 5)
    assert torch.isfinite(template_posterior(world, batch.tokens, pairs(world, 2))).all()
    with pytest.raises(ValueError, match="none of the believed pairs"):
        template_posterior(world, batch.tokens, pairs(world, 1))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_no_prediction_depends_on_later_tokens(structure):
    world = small(structure)
    believed = pairs(world, 2)
    batch = draw(world, streams([0], "test"), believed, 200)
    following = next_token(world, batch.tokens, believed)
    for t in (1, 3):
        prefixes, where = batch.tokens[0, :, : t + 1].unique(dim=0, return_inverse=True)
        for prefix in range(len(prefixes)):
            same = following[0, where == prefix, t]
            assert torch.allclose(same, same[:1].expand_as(same), atol=1e-9)
    assert torch.allclose(following.sum(-1), torch.ones_like(following[..., 0]))


def test_the_exact_mixture_is_nearest_to_the_true_rows():
    """In the mean over sequences no other reader of the symbols comes nearer: not the row of a guessed template, say."""
    world = build_world([2], "chains", n_templates=3, n_facts=3, n_symbols=4, length=14, concentration=0.5)
    everything = pairs(world, 3)
    batch = draw(world, streams([2], "test"), everything, 2000)
    true, mixture = true_rows(world, batch).double(), symbol_mixture(world, batch.tokens, everything)
    is_symbol = batch.tokens[..., 1:] < 4
    exact = divergence(true, mixture)[is_symbol].mean()
    flat = template_posterior(world, batch.tokens, everything)[:, :, :-1].mean((0, 1, 2))
    unread = torch.einsum("k,kav->av", flat, world.rows[0].double())[batch.tokens[..., :-1].clamp_max(3)]
    uniform = divergence(true, torch.full_like(true, 0.25))[is_symbol].mean()
    assert exact < divergence(true, 0.9 * mixture + 0.1 * unread)[is_symbol].mean()
    assert exact < uniform
    # Near the end the chain is known better than at the beginning.
    kl = divergence(true, mixture).mean((0, 1))[is_symbol[0, 0]]
    assert kl[-3:].mean() < kl[:3].mean()


def test_the_entropy_of_a_chain_is_that_of_its_enumeration():
    rows = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    entropy = 0.0
    for xs in product(range(2), repeat=5):
        p = 0.5
        for a, b in pairwise(xs):
            p *= rows[a, b].item()
        entropy -= p * log(p)
    assert chain_entropy(rows, 5).item() == pytest.approx(entropy, abs=1e-6)
    with pytest.raises(ValueError, match="n is 0"):
        chain_entropy(rows, 0)


def test_shuffled_targets_cost_log_n_facts_and_an_impossible_diversity_is_refused():
    world = small("positions")
    extra = loss_floor(world, 1, shuffled=True) - loss_floor(world, 1)
    assert extra.item() == pytest.approx(log(4) / 5)
    with pytest.raises(ValueError, match="diversity"):
        loss_floor(world, 3)
