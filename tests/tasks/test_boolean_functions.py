"""The laws of the Boolean function classes and their labels, against direct evaluation."""

import pytest
import torch

from lib.tasks import boolean_functions as task

N = 20000  # prompts of a Monte Carlo check; the standard error of a share is at most 0.0036


def draw(sampler, *arguments, seeds=(0,), **options):
    return sampler(task.streams(seeds, "t"), *arguments, **options)


def holds(term, x):
    return all(w == 0 or w == value for w, value in zip(term, x, strict=True))


def test_labels_are_what_the_definitions_say_example_by_example():
    cases = {
        task.conjunctions: lambda w, x: holds(w, x),
        task.disjunctions: lambda w, x: any(a != 0 and a == b for a, b in zip(w, x, strict=True)),
        task.majorities: lambda w, x: sum(a * b for a, b in zip(w, x, strict=True)) > 0,
        task.halfspaces: lambda w, x: sum(a * b for a, b in zip(w, x, strict=True)) > 0,
        task.thresholds: lambda w, x: sum(a * b for a, b in zip(w[:-1], x, strict=True)) > w[-1],
        task.parities: lambda w, x: sum(a == 1 and b == 1 for a, b in zip(w, x, strict=True)) % 2 == 1,
        task.dnfs: lambda w, x: any(holds(term, x) for term in w),
    }
    for sampler, truth in cases.items():
        xs, ys, rules = (part[0].tolist() for part in draw(sampler, 30, 6, 4))
        for prompt, labels, rule in zip(xs, ys, rules, strict=True):
            assert [truth(rule, x) for x in prompt] == [y == 1 for y in labels], sampler.__name__


def test_a_disjunction_holds_when_one_of_its_literals_does():
    xs, ys, terms = draw(task.disjunctions, 50, 6, 4)
    expected = (xs == terms[..., None, :]) & (terms[..., None, :] != 0)
    assert torch.equal(ys > 0, expected.any(-1))
    xs, ys, subsets = draw(task.sparse_disjunctions, 50, 6, 5, n_relevant=2)
    assert torch.equal(subsets.sum(-1), torch.full((1, 50), 2.0))
    assert torch.equal(ys < 0, ((xs == -1) | (subsets[..., None, :] == 0)).all(-1))


def test_cnf_is_the_dual_of_dnf():
    xs, ys, terms = draw(task.cnfs, 50, 6, 4, forced=0.2)
    clauses = (xs[..., None, :, :] == terms[..., None, :]) & (terms[..., None, :] != 0)
    assert torch.equal(ys > 0, clauses.any(-1).all(-2))


def test_the_share_of_positive_conjunctions_is_the_exact_one():
    ys = draw(task.conjunctions, N, 1, 6).ys
    natural = (0.7 + 0.3 / 2) ** 6  # a variable is absent, or present and satisfied
    assert (ys > 0).float().mean().item() == pytest.approx(0.3 + 0.7 * natural, abs=0.015)
    assert (draw(task.disjunctions, N, 1, 6).ys < 0).float().mean().item() == pytest.approx(
        0.3 + 0.7 * natural, abs=0.015
    )


def test_literals_thresholds_and_weights_have_their_laws():
    terms = draw(task.conjunctions, N, 1, 4, p_literal=0.4).rule
    assert [(terms == v).float().mean().item() for v in (0, 1, -1)] == pytest.approx([0.6, 0.2, 0.2], abs=0.01)
    assert (draw(task.conjunctions, 50, 1, 4, monotone=True).rule >= 0).all()
    theta = draw(task.thresholds, N, 1, 3).rule[..., -1]
    assert [(theta == t - 2.5).float().mean().item() for t in range(6)] == pytest.approx([1 / 6] * 6, abs=0.015)
    weights = draw(task.halfspaces, N, 1, 3).rule
    assert [(weights == v).float().mean().item() for v in range(-3, 4)] == pytest.approx([1 / 7] * 7, abs=0.01)
    subsets = draw(task.parities, N, 1, 5, n_relevant=2).rule
    assert torch.equal(subsets.sum(-1), torch.full((1, N), 2.0))
    assert torch.allclose(subsets.mean((0, 1)), torch.full((5,), 0.4), atol=0.015)
    assert draw(task.parities, N, 1, 5).rule.mean().item() == pytest.approx(0.5, abs=0.01)


def test_forcing_changes_relevant_variables_only_and_always_makes_positive():
    xs, ys, terms = draw(task.conjunctions, 200, 5, 6, forced=1.0)
    assert (ys == 1).all()
    free = (terms == 0)[..., None, :].expand_as(xs)
    assert xs[free].mean().item() == pytest.approx(0, abs=0.06)
    assert (draw(task.dnfs, 200, 5, 6, forced=1.0).ys == 1).all()
    assert (draw(task.cnfs, 200, 5, 6, forced=1.0).ys == -1).all()


def test_a_seed_s_prompts_do_not_depend_on_its_neighbours():
    for sampler in (task.conjunctions, task.thresholds, task.parities, task.cnfs):
        both, solo = draw(sampler, 4, 5, 6, seeds=(3, 7)), draw(sampler, 4, 5, 6, seeds=(7,))
        assert all(torch.equal(a[1], b[0]) for a, b in zip(both, solo, strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: task.parities(g, 2, 3, 4, n_relevant=5), "n_relevant is 5; it must be within 0…4"),
        (lambda g: task.sparse_disjunctions(g, 2, 3, 3), "n_relevant is 4; it must be within 0…3"),
        (lambda g: task.conjunctions(g, 2, 3, 4, forced=1.5), "forced is 1.5; it is a probability"),
        (lambda g: task.majorities(g, 2, 3, 4, p_relevant=-0.1), "p_literal is -0.1; it is a probability"),
        (lambda g: task.conjunctions(g, 2, 0, 4), "n_points is 0; it must be at least 1"),
        (lambda g: task.conjunctions(g, 0, 2, 4), "batch is 0; it must be at least 1"),
        (lambda g: task.halfspaces(g, 2, 3, 4, bound=0), "bound is 0; it must be at least 1"),
        (lambda g: task.dnfs(g, 2, 3, 4, n_terms=0), "n_terms is 0; it must be at least 1"),
    ],
)
def test_laws_that_do_not_exist_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(task.streams([0], "t"))
