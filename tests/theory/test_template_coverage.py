"""Coverage in closed form against drawn finetuning sets, and the bound against the exact tail."""

import itertools
from math import exp, log

import pytest
import torch

from lib.tasks.fact_sentences import Vocabulary, draw_facts, sentences, streams
from lib.theory.template_coverage import (
    all_covered,
    answers_met,
    any_covered,
    covering_accuracy,
    entropy_floor,
    hoeffding,
    paper_variable,
    seldom_met,
    share_covered,
)

CASES = [(1, 4, 3), (2, 6, 4), (3, 8, 5), (4, 4, 1)]


@pytest.mark.parametrize(("k", "r", "n"), CASES)
def test_coverage_is_what_drawn_sets_show(k, r, n):
    generator = torch.Generator().manual_seed(0)
    subsets = torch.rand(20_000, n + 1, r, generator=generator).argsort(-1)[..., :k]
    used = torch.zeros(20_000, n + 1, r).scatter_(-1, subsets, 1.0)
    met = used[:, :n].amax(1).gather(-1, subsets[:, n])  # which of the last subject's templates the others use
    for formula, drawn in (
        (share_covered, met.mean()),
        (any_covered, met.amax(-1).mean()),
        (all_covered, met.amin(-1).mean()),
    ):
        assert formula(k, r, n) == pytest.approx(float(drawn), abs=0.015)


@pytest.mark.parametrize(("k", "r", "n"), [(2, 4, 2), (1, 3, 2)])
def test_coverage_is_what_enumeration_gives(k, r, n):
    """All finetuning sets of n subjects, for the fact that uses templates 0…k-1."""
    met = []
    for subjects in itertools.product(itertools.combinations(range(r), k), repeat=n):
        met.append(sum(t in set().union(*subjects) for t in range(k)))
    assert any_covered(k, r, n) == pytest.approx(sum(m > 0 for m in met) / len(met))
    assert all_covered(k, r, n) == pytest.approx(sum(m == k for m in met) / len(met))
    assert share_covered(k, r, n) == pytest.approx(sum(met) / k / len(met))


def test_hoeffding_bounds_the_exact_tail_everywhere():
    for k, r, n in itertools.product((1, 2, 4, 8), (8, 16, 32), (1, 10, 25, 100)):
        assert seldom_met(k, r, n) <= hoeffding(k, r, n) + 1e-12
        assert hoeffding(k, r, n) ** log(r) == pytest.approx(exp(-paper_variable(k, r, n) / 2))


def test_an_ideal_store_extracts_what_its_cells_show():
    """One cell per template and one softmax regression of the question on the cells, for drawn facts."""
    k, r, n, answers = 1, 12, 4, 5
    vocabulary = Vocabulary(n_subjects=700, n_relations=2, n_templates=r, n_answers=answers, n_slots=1, n_words=1)
    right = []
    for seed in range(12):
        facts = draw_facts([seed], vocabulary, [(k, r)], n_known=700)
        cells = torch.einsum(
            "sdr,sda->sadr", facts.used()[0, 0], torch.nn.functional.one_hot(facts.answers[0, 0], answers).float()
        )
        trigger = torch.zeros(2, r, requires_grad=True)
        for _ in range(20):
            logits = torch.einsum("sadr,dr->sa", cells[:n], trigger)
            loss = torch.nn.functional.cross_entropy(logits, facts.answers[0, 0, :n, 0])
            (gradient,) = torch.autograd.grad(loss, trigger)
            trigger = (trigger - gradient).detach().requires_grad_()
        # Ties are broken by half a chance: the true answer is compared with the other fact's.
        logits = torch.einsum("sadr,dr->sa", cells[n:], trigger.detach())
        true, other = (logits.gather(1, facts.answers[0, 0, n:, d : d + 1])[:, 0] for d in (0, 1))
        same = facts.answers[0, 0, n:, 0] == facts.answers[0, 0, n:, 1]
        right.append(float(((true > other) + 0.5 * (true == other)).where(~same, torch.tensor(1.0)).mean()))
    # A finetuned subject whose two facts have one answer teaches nothing, so its cells stay: slightly fewer subjects count.
    low, high = covering_accuracy(k, r, n - 2, answers), covering_accuracy(k, r, n, answers)
    assert low < sum(right) / len(right) < high + 0.01


def test_answers_are_met_as_drawn():
    drawn = torch.randint(6, (20_000, 7), generator=torch.Generator().manual_seed(0))
    share = torch.nn.functional.one_hot(drawn, 6).amax(1).float().mean()
    assert answers_met(6, 7) == pytest.approx(float(share), abs=0.01)


def test_the_floor_is_the_entropy_of_what_follows():
    vocabulary = Vocabulary(n_subjects=2, n_relations=2, n_templates=5, n_answers=9, n_slots=2, n_words=3)
    facts = draw_facts([0], vocabulary, [(4, 5)], n_known=2)
    tokens, targets = sentences(streams([0], "test"), facts, batch=60_000)
    subject = tokens[0, 0, :, 0] == 0
    for position, floor in enumerate(entropy_floor(2, 3, 2, 4)[:3]):
        share = torch.bincount(targets[0, 0, subject, position]).double() / subject.sum()
        assert float(-(share * share.clamp_min(1e-12).log()).sum()) == pytest.approx(floor, abs=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: share_covered(5, 4, 1), "multiplicity is 5; it must lie in 1…4"),
        (lambda: hoeffding(1, 4, -1), "n_finetuned is -1"),
        (lambda: entropy_floor(2, 0, 2, 1), "n_words is 0"),
        (lambda: covering_accuracy(1, 4, 1, 1), "n_answers is 1"),
        (lambda: answers_met(1, 4), "n_answers is 1"),
        (lambda: answers_met(4, -1), "n_finetuned is -1"),
    ],
)
def test_sizes_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
