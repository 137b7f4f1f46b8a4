"""The closed forms agree with counting and with sampling."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from lib.tasks.attribute_tuples import draw_facts, pretraining, streams
from lib.theory.recall_ceilings import (
    between_share,
    factual_ceiling,
    grammar_entropy,
    pattern_probabilities,
    pretraining_floor,
    type_posterior,
    value_entropy,
)


def joint_by_counting(n_types, n_forms, n_fillers, n, noise, rho):
    """p(grammar tokens, type), token by token."""
    joint = {}
    for k in range(n_types):
        one = {("filler", i): rho / n_fillers for i in range(n_fillers)}
        for j, i in product(range(n_types), range(n_forms)):
            one[j, i] = (1 - rho) * (1 - noise if j == k else noise / (n_types - 1)) / n_forms
        for told in product(one, repeat=n):
            joint[told, k] = math.prod(one[g] for g in told) / n_types
    return joint


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_ceiling_and_entropies_agree_with_counting_every_grammar(n):
    sizes = dict(n_types=3, n_forms=2, n_fillers=2)
    joint = joint_by_counting(3, 2, 2, n, 0.1, 0.3)
    marginal = Counter()
    best = Counter()
    for (told, _), p in joint.items():
        marginal[told] += p
        best[told] = max(best[told], p)
    assert math.isclose(sum(marginal.values()), 1)
    assert math.isclose(factual_ceiling(3, n, 0.1, 0.3), sum(best.values()))
    entropy = stats.entropy(list(marginal.values()))
    assert math.isclose(grammar_entropy(**sizes, n_grammar=n, noise=0.1, filler_share=0.3), entropy, abs_tol=1e-12)
    assert math.isclose(value_entropy(3, n, 0.1, 0.3), stats.entropy(list(joint.values())) - entropy, abs_tol=1e-12)


def test_up_to_two_forms_the_ceiling_is_the_share_of_right_forms_and_three_vote():
    assert math.isclose(factual_ceiling(3, 1, 0.05), 0.95)
    assert math.isclose(factual_ceiling(3, 2, 0.05), 0.95)
    assert factual_ceiling(3, 3, 0.05) > 0.98
    assert math.isclose(factual_ceiling(4, 2, 0.05, filler_share=1.0), 0.25)


def test_without_noise_or_with_only_fillers_the_value_is_certain_or_a_guess():
    assert math.isclose(value_entropy(3, 2, 0.0, 0.0), 0, abs_tol=1e-12)
    assert math.isclose(value_entropy(3, 2, 0.1, 1.0), math.log(3))


def test_the_floor_is_the_entropy_of_all_sequences():
    facts = draw_facts([0], n_subjects=3, n_types=2, n_values=200, n_forms=1, n_fillers=1)
    lengths, noise, rho = [0, 1], 0.2, 0.3
    xs = pretraining(streams([0], "test"), facts, 400_000, lengths, noise, rho, 0, 3)[0]
    _, counts = np.unique(xs.numpy(), axis=0, return_counts=True)
    entropy = stats.entropy(counts) + (len(counts) - 1) / (2 * counts.sum())  # Miller and Madow's correction
    floor = pretraining_floor(3, 2, 1, 1, lengths, noise, rho)
    assert abs(floor * (xs.shape[1] - 1) + math.log(3) - entropy) < 0.005  # log 3: the first subject


def test_the_posterior_is_bayes_rule():
    noise = 0.2
    for counts in product(range(4), repeat=3):
        likelihood = np.array(
            [math.prod((1 - noise if j == k else noise / 2) ** c for j, c in enumerate(counts)) for k in range(3)]
        )
        assert np.allclose(type_posterior(torch.tensor(counts), noise), likelihood / likelihood.sum())


def test_the_between_share_is_that_of_an_analysis_of_variance():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2, 60, 4, generator=generator)
    types = torch.arange(60) % 3
    points[1] += 2 * torch.eye(3, 4)[types]
    share = between_share(points, types.expand(2, -1), 3)
    for member in range(2):
        ratios = [
            stats.f_oneway(*[points[member, types == k, d].double().numpy() for k in range(3)]).statistic
            for d in range(4)
        ]
        total = points[member].double().var(0, correction=0) * 60
        between = [t * f * 2 / (f * 2 + 57) for t, f in zip(total.tolist(), ratios, strict=True)]
        assert math.isclose(float(share[member]), sum(between) / float(total.sum()), rel_tol=1e-4)
    noise = torch.randn(500, 40, 10, generator=generator)
    assert abs(between_share(noise, (torch.arange(40) % 3).expand(500, -1), 3).mean() - 2 / 39) < 0.003


def test_what_has_no_meaning_is_refused():
    with pytest.raises(ValueError, match=r"n_types and n_grammar are 1 and 2"):
        pattern_probabilities(1, 2, 0.1, 0.1)
    with pytest.raises(ValueError, match=r"noise and filler_share are -0\.1"):
        factual_ceiling(3, 2, -0.1)
    with pytest.raises(ValueError, match="lengths has 4 tuples"):
        pretraining_floor(3, 2, 1, 1, [1] * 4, 0.1, 0.1)
    with pytest.raises(ValueError, match="noise is 0"):
        type_posterior(torch.tensor([1, 0]), 0.0)
