"""Evidence of Markov orders against brute force: Dirichlet integrals by Monte Carlo, counts by hand, Bayes by sampling."""

from itertools import pairwise
from math import lgamma, log

import pytest
import torch

from lib.tasks.markov_chains import sequences, streams, transition_rows
from lib.theory.markov_evidence import (
    bayes_mixture,
    bic_slope,
    evidence_of,
    log_evidence,
    log_evidence_of_counts,
    order_posterior,
    predictions,
)


def chains(order, length, batch=3, n_symbols=3, seed=0):
    generators = streams([seed], "test")
    return sequences(generators, transition_rows(generators, batch, n_symbols, order), length)[0]


def counted(xs, n_symbols, order, alpha):
    """The evidence from its definition, with a dictionary of counts."""
    counts = {}
    for t in range(order, len(xs)):
        counts.setdefault(tuple(xs[t - order : t]), [0] * n_symbols)[xs[t]] += 1
    total = -min(order, len(xs)) * log(n_symbols)
    for row in counts.values():
        total += lgamma(n_symbols * alpha) - lgamma(sum(row) + n_symbols * alpha)
        total += sum(lgamma(n + alpha) - lgamma(alpha) for n in row)
    return total


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_evidence_by_the_chain_rule_equals_that_of_the_counts(order, alpha):
    xs = chains(order=1, length=25)
    along = log_evidence(xs, 3, order, alpha)
    assert along.shape == (3, 26)
    for prompt in range(3):
        for t in (0, 1, 2, 13, 25):
            assert along[prompt, t].item() == pytest.approx(counted(xs[prompt, :t].tolist(), 3, order, alpha), abs=1e-9)
    assert torch.allclose(log_evidence_of_counts(xs, 3, order, alpha), along[:, -1])


def test_evidence_is_the_likelihood_averaged_over_the_prior():
    xs = torch.tensor([0, 1, 0, 0, 1, 0])
    rows = transition_rows(streams([0], "test"), 200_000, 2, 1, concentration=0.5)[0].double()
    likelihood = 0.5 * torch.ones(len(rows), dtype=torch.float64)
    for before, after in pairwise(xs):
        likelihood = likelihood * rows[:, before, after]
    spread = likelihood.std().item() / len(rows) ** 0.5
    assert log_evidence(xs, 2, 1, 0.5)[-1].exp().item() == pytest.approx(likelihood.mean().item(), abs=5 * spread)


def test_predictions_are_smoothed_counts_of_what_followed_the_context():
    xs = torch.tensor([0, 1, 0, 2, 0])
    after = predictions(xs, 3, 1, 1.0)
    assert torch.allclose(after[0], torch.full((3,), 1 / 3, dtype=torch.float64))  # no context yet
    assert torch.allclose(after[5], torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64) / 5)  # 0 was followed by 1 and 2
    assert torch.allclose(after[4], torch.full((3,), 1 / 3, dtype=torch.float64))  # nothing has followed 2 yet


def test_no_prediction_depends_on_later_symbols():
    xs = chains(order=2, length=20)
    changed = xs.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % 3
    for order in (0, 1, 2):
        assert torch.equal(predictions(xs, 3, order)[:, :13], predictions(changed, 3, order)[:, :13])


def test_the_mixture_is_bayes_optimal():
    """It beats each order's predictor on data that come from either, and its posterior is calibrated."""
    xs = torch.cat([chains(order, 40, batch=2000, seed=order) for order in (0, 1)])
    truth = torch.arange(2).repeat_interleave(2000)
    mixed, posterior = bayes_mixture(xs, 3, [0, 1])
    losses = [-evidence_of(p, xs)[:, -1].mean() for p in (mixed, predictions(xs, 3, 0), predictions(xs, 3, 1))]
    assert losses[0] < min(losses[1:])
    high = posterior[1, :, 10]
    assert torch.allclose(posterior.sum(0), torch.ones_like(high)[:, None].expand(-1, 41))
    for low, top in ((0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9)):
        chosen = (high >= low) & (high < top)
        share, expected, n = truth[chosen].double().mean(), high[chosen].mean(), chosen.sum()
        assert abs(share - expected) < 4 * (0.25 / n) ** 0.5


def test_the_mixture_s_evidence_is_the_average_of_the_orders_evidence():
    xs = chains(order=1, length=30)
    mixed, _ = bayes_mixture(xs, 3, [0, 2], prior=[0.3, 0.7])
    each = torch.stack([log_evidence(xs, 3, order)[:, -1] for order in (0, 2)])
    expected = (each + torch.tensor([0.3, 0.7], dtype=torch.float64).log()[:, None]).logsumexp(0)
    assert torch.allclose(evidence_of(mixed, xs)[:, -1], expected)


def test_the_evidence_of_long_sequences_approaches_its_bic_slope():
    generators = streams([0], "test")
    rows = transition_rows(generators, 300, 2, 1)
    xs = sequences(generators, rows, 10_000)[0]
    gains = [
        (log_evidence_of_counts(xs[:, :t], 2, 1) - log_evidence_of_counts(xs[:, :t], 2, 2)).mean()
        for t in (1000, 10_000)
    ]
    assert (gains[1] - gains[0]).item() / log(10) == pytest.approx(bic_slope(2, 1, 2), abs=0.15)


@pytest.mark.parametrize("prior", [[0.5], [0.5, 0.6], [1.0, 0.0]])
def test_a_prior_that_is_none_is_refused(prior):
    with pytest.raises(ValueError, match=r"prior is .*; it must hold 2 positive numbers that sum to 1"):
        order_posterior(torch.zeros(2, 4), prior)


def test_a_concentration_that_is_not_positive_is_refused():
    for function in (predictions, log_evidence, log_evidence_of_counts):
        with pytest.raises(ValueError, match=r"concentration is 0.0; it must be positive"):
            function(torch.zeros(4, dtype=torch.long), 2, 1, 0.0)


def test_orders_that_do_not_increase_have_no_slope():
    with pytest.raises(ValueError, match="low and high are 2 and 2"):
        bic_slope(2, 2, 2)
