"""Learners without training, against slow and plain versions of themselves and their mistake bounds."""

import pytest
import torch

from lib.tasks import boolean_functions as task
from lib.tasks.boolean_sequences import nearest_neighbours
from lib.theory import boolean_learners as learners
from lib.theory.version_space import parity_class, predictive


def generators():
    return task.streams([0, 1], "t")


def test_elimination_follows_valiant_literal_by_literal():
    xs, ys, _ = task.conjunctions(generators(), 20, 12, 4)
    found = learners.elimination(xs, ys)
    for prompt, labels, answers in zip(*(part.flatten(0, 1).tolist() for part in (xs, ys, found)), strict=True):
        literals = {(i, sign) for i in range(4) for sign in (1.0, -1.0)}
        for x, y, answer in zip(prompt, labels, answers, strict=True):
            assert answer == (1 if all(x[i] == sign for i, sign in literals) else -1)
            if y == 1:
                literals = {(i, sign) for i, sign in literals if x[i] == sign}


def test_elimination_errs_on_positives_only_and_at_most_n_plus_one_times():
    xs, ys, _ = task.conjunctions(generators(), 500, 40, 6)
    wrong = learners.elimination(xs, ys) != ys
    assert not (wrong & (ys < 0)).any()
    assert wrong.sum(-1).max() <= 7


def test_gaussian_elimination_is_never_wrong_and_silent_at_most_n_times():
    xs, ys, _ = task.parities(generators(), 200, 30, 7)
    answers = learners.gaussian_elimination(xs, ys)
    assert ((answers == ys) | (answers == 0)).all()
    assert (answers == 0).sum(-1).max() <= 7
    # Where all parities that are left agree, and only there, it speaks.
    p = predictive(parity_class(7), xs, ys)
    assert torch.equal(answers != 0, (p < 1e-4) | (p > 1 - 1e-4))


def test_gaussian_elimination_refuses_what_is_no_parity():
    with pytest.raises(ValueError, match="not the labels of a parity"):
        learners.gaussian_elimination(torch.ones(1, 2, 3), torch.tensor([[1.0, -1.0]]))


def test_the_perceptron_corrects_itself_after_mistakes_only():
    xs, ys, _ = task.halfspaces(generators(), 10, 15, 4)
    found = learners.perceptron(xs, ys)
    for prompt, labels, answers in zip(xs.flatten(0, 1), ys.flatten(0, 1), found.flatten(0, 1), strict=True):
        w, b = torch.zeros(4), 0.0
        for x, y, answer in zip(prompt, labels, answers, strict=True):
            guess = torch.sign(w @ x + b)
            assert guess == answer
            if guess != y:
                w, b = w + y * x, b + y


def test_averaging_and_the_majority_see_earlier_examples_only():
    xs, ys, _ = task.majorities(generators(), 10, 9, 5)
    for learner in (learners.averaging, learners.label_majority, learners.nearest_neighbour, learners.perceptron):
        answers = learner(xs, ys)
        assert (answers[..., 0] == 0).all()
        changed = learner(xs, torch.cat([ys[..., :-1], -ys[..., -1:]], -1))
        assert torch.equal(answers, changed)
    expected = torch.sign((xs[..., 4, :] * (xs[..., :4, :] * ys[..., :4, None]).sum(-2)).sum(-1))
    assert torch.equal(learners.averaging(xs, ys)[..., 4], expected)
    assert torch.equal(learners.label_majority(xs, ys)[..., 5], ys[..., :5].sum(-1).sign())


def test_nearest_neighbour_solves_its_own_task():
    xs, ys, _ = nearest_neighbours(generators(), 50, 20, 8, n_random=8)
    assert torch.equal(learners.nearest_neighbour(xs, ys)[..., 8:], ys[..., 8:])


def test_no_answer_is_half_a_success():
    assert learners.accuracy(torch.tensor([3.0, -1.0, 0.0]), torch.ones(3)).tolist() == [1.0, 0.0, 0.5]
