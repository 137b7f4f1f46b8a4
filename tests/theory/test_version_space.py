"""The exact predictor against sums over hypotheses one by one, and what it promises."""

from itertools import product

import pytest
import torch

from lib.tasks import boolean_functions as task
from lib.theory import version_space as vs


def generators():
    return task.streams([0], "t")


def brute_force_conjunctions(prompt, labels, n_dims, p_literal, forced):
    """P(y = +1) at every position, from the definition, in plain Python."""
    answers = []
    for i in range(len(prompt)):
        mass = {1: 0.0, -1: 0.0}
        for term in product([0, 1, -1], repeat=n_dims):
            weight, k = 1.0, sum(map(abs, term))
            for w in term:
                weight *= 1 - p_literal if w == 0 else p_literal / 2
            for j in range(i + 1):
                label = 1 if all(w in (0, x) for w, x in zip(term, prompt[j], strict=True)) else -1
                if j < i and label != labels[j]:
                    weight = 0.0
                weight *= (1 - forced) * 2.0**-n_dims + forced * (label == 1) * 2.0 ** (k - n_dims)
            mass[label] += weight
        answers.append(mass[1] / (mass[1] + mass[-1]))
    return answers


@pytest.mark.parametrize("forced", [0.0, 0.3])
def test_predictions_equal_the_sum_over_all_conjunctions(forced):
    xs, ys, _ = task.conjunctions(generators(), 12, 6, 3, p_literal=0.4, forced=forced)
    found = vs.predictive(vs.conjunction_class(3, 0.4, forced), xs, ys)
    for prompt, labels, answers in zip(xs[0].tolist(), ys[0].tolist(), found[0].tolist(), strict=True):
        assert answers == pytest.approx(brute_force_conjunctions(prompt, labels, 3, 0.4, forced), abs=1e-5)


EXACT = {
    "conjunction": (task.conjunctions, vs.conjunction_class(5), {}),
    "monotone": (task.conjunctions, vs.conjunction_class(5, monotone=True), {"monotone": True}),
    "disjunction": (task.disjunctions, vs.conjunction_class(5).dual(), {}),
    "sparse disjunction": (task.sparse_disjunctions, vs.sparse_disjunction_class(5, 2), {"n_relevant": 2}),
    "majority": (task.majorities, vs.majority_class(5), {}),
    "threshold": (task.thresholds, vs.threshold_class(5), {}),
    "parity": (task.parities, vs.parity_class(5), {}),
    "sparse parity": (task.parities, vs.parity_class(5, 2), {"n_relevant": 2}),
}


@pytest.mark.parametrize("name", EXACT)
def test_predictions_are_calibrated_on_prompts_of_the_class(name):
    """Among predictions near p, a share p is positive: only the right prior and the right input law give this."""
    sampler, hypotheses, options = EXACT[name]
    xs, ys, _ = sampler(generators(), 4000, 8, 5, **options)
    p, positive = vs.predictive(hypotheses, xs, ys).flatten(), (ys > 0).float().flatten()
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = (p >= low) & (p < low + 0.2001)
        if inside.sum() > 200:
            error = (positive[inside] - p[inside]).mean().item()
            assert abs(error) < 4 * 0.5 / inside.sum().item() ** 0.5 + 1e-4, (name, low)


@pytest.mark.parametrize("name", EXACT)
def test_log_loss_of_a_prompt_is_at_most_the_entropy_of_the_prior(name):
    sampler, hypotheses, options = EXACT[name]
    xs, ys, _ = sampler(generators(), 2000, 30, 5, **options)
    p = vs.predictive(hypotheses, xs, ys)
    bits = -torch.where(ys > 0, p, 1 - p).clamp_min(1e-30).log2().sum(-1).mean().item()
    assert bits < hypotheses.entropy_bits() * 1.02
    assert hypotheses.prior.sum().item() == pytest.approx(1, abs=1e-5)
    if name == "parity":  # uniform inputs, injective tables: nothing is left after 30 examples
        assert bits == pytest.approx(5, abs=0.1)


def test_densities_are_densities_and_the_forced_law_is_met():
    for hypotheses in (vs.conjunction_class(4), vs.sparse_disjunction_class(4, 2)):
        assert torch.allclose(hypotheses.density.mean(1), torch.ones(len(hypotheses.prior)), atol=1e-5)
    xs, ys, _ = task.conjunctions(generators(), 40000, 1, 3)
    _, density = vs.filtered(vs.conjunction_class(3), xs, ys)
    counts = torch.bincount(vs.index_of(xs).flatten(), minlength=8) / 40000 * 8
    for row in range(8):
        expected = density[vs.index_of(xs) == row][0].item()
        assert counts[row].item() == pytest.approx(expected, abs=0.06)


def test_evidence_from_inputs_pays_on_conjunctions_and_is_none_on_majorities():
    xs, ys, _ = task.conjunctions(generators(), 3000, 8, 5)
    full = vs.conjunction_class(5)
    right = [((vs.predictive(c, xs, ys) > 0.5) == (ys > 0)).float().mean() for c in (full, full.label_evidence_only())]
    assert right[0] > right[1]
    majority = vs.majority_class(4)
    assert torch.equal(majority.density, majority.label_evidence_only().density)


def test_the_version_space_shrinks_to_the_function_itself():
    xs, ys, _ = task.parities(generators(), 20, 40, 4)
    counts = [vs.survivors(vs.parity_class(4), xs[..., :t, :], ys[..., :t]) for t in (1, 4, 40)]
    assert (counts[0] >= counts[1]).all() and (counts[2] == 1).all()


def test_equal_tables_become_one_hypothesis():
    hypotheses = vs.threshold_class(3)
    assert len(hypotheses.tables.unique(dim=0)) == len(hypotheses.tables)
    assert len(hypotheses.prior) < 3**3 * 6


def test_inputs_are_found_in_their_table():
    assert torch.equal(vs.index_of(vs.all_inputs(5)), torch.arange(32))
    assert torch.equal(vs.index_of(-vs.all_inputs(5)), torch.arange(32).flip(0))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="xs have 4 dimensions; the class was made for n_dims = 3"):
        vs.predictive(vs.majority_class(3), torch.ones(2, 5, 4), torch.ones(2, 5))
    with pytest.raises(ValueError, match="ys hold labels that no hypothesis"):
        vs.predictive(vs.conjunction_class(2), torch.ones(1, 2, 2), torch.tensor([[1.0, -1.0]]))
    with pytest.raises(ValueError, match="n_dims is 14; 3\\^n hypotheses on 2\\^n inputs do not fit"):
        vs.conjunction_class(14)
    with pytest.raises(ValueError, match="n_relevant is 4; it must be within 0…3"):
        vs.parity_class(3, 4)
    with pytest.raises(ValueError, match="forced is 2"):
        vs.conjunction_class(3, forced=2.0)
    with pytest.raises(ValueError, match="n_dims is 0"):
        vs.all_inputs(0)
