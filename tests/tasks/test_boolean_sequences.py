"""Nearest-neighbour labels against a loop, teaching sequences, tokens."""

import pytest
import torch

from lib.tasks import boolean_sequences as task
from lib.tasks.boolean_functions import conjunction_labels, streams


def test_nearest_neighbour_labels_follow_the_definition_point_by_point():
    xs, ys, _ = task.nearest_neighbours(streams([0, 1], "t"), 20, 14, 4, n_random=5)
    for prompt, labels in zip(xs.flatten(0, 1), ys.flatten(0, 1), strict=True):
        for i in range(1, 14):
            similarities = [float(prompt[i] @ prompt[j]) for j in range(i)]
            nearest = similarities.index(max(similarities))  # the earliest of several
            if i >= 5 or max(similarities) == 4:
                assert labels[i] == labels[nearest]


def test_the_first_labels_are_fair_coins_unless_the_input_was_seen():
    ys = task.nearest_neighbours(streams([0], "t"), 4000, 2, 10, n_random=2).ys
    assert ys.mean().item() == pytest.approx(0, abs=0.05)
    assert (ys[..., 0] == ys[..., 1]).float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_a_teaching_sequence_is_one_positive_and_k_negatives_that_lack_one_variable_each():
    xs, ys, terms = task.teaching_sequences(streams([0], "t"), 300, 12, 6)
    for prompt, labels, term in zip(xs[0], ys[0], terms[0], strict=True):
        k = int(term.sum())
        assert torch.equal(prompt[0], 2 * term - 1)
        assert labels[: k + 1].tolist() == [1.0] + [-1.0] * k
        lacking = prompt[1 : k + 1] != prompt[0]
        assert torch.equal(lacking.long().sum(1), torch.ones(k, dtype=torch.long))
        assert torch.equal(lacking.any(0), term > 0)
        assert torch.equal(labels, conjunction_labels(prompt, term))


def test_after_the_teaching_sequence_examples_are_ordinary():
    _, ys, terms = task.teaching_sequences(streams([0], "t"), 8000, 12, 6)
    after = ~task.is_taught(terms, 12)
    k = terms.sum(-1, keepdim=True).expand_as(ys)
    for size in (1, 2):
        share = (ys[after & (k == size)] > 0).float().mean().item()
        assert share == pytest.approx(0.4 + 0.6 * 0.5**size, abs=0.01)


def test_tokens_hold_the_question_and_the_example_before_it():
    xs, ys = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4)
    tokens = task.example_tokens(xs, ys)
    assert tokens.shape == (2, 3, 4, 11)
    assert torch.equal(tokens[..., :5], xs)
    assert torch.equal(tokens[..., 1:, 5:10], xs[..., :-1, :])
    assert torch.equal(tokens[..., 1:, 10], ys[..., :-1])
    assert (tokens[..., 0, 5:] == 0).all()
    assert task.example_tokens(xs[..., :1, :], ys[..., :1]).shape == (2, 3, 1, 11)


def test_prompts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="n_random is 6; it must be within 1…5"):
        task.nearest_neighbours(streams([0], "t"), 2, 5, 4, n_random=6)
    with pytest.raises(ValueError, match="n_random is 0"):
        task.nearest_neighbours(streams([0], "t"), 2, 5, 4, n_random=0)
    with pytest.raises(ValueError, match="n_points is 6; a teaching sequence can have n_dims"):
        task.teaching_sequences(streams([0], "t"), 2, 6, 6)
