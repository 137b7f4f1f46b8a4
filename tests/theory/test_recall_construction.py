"""The construction is exact above its sharpness, in every format, and each head does what it is there for."""

import pytest
import torch

from lib.tasks.attribute_tuples import (
    contextual,
    different_subjects,
    draw_facts,
    grammar,
    is_answer,
    pretraining,
    sentences,
    some_types,
    streams,
)
from lib.theory.recall_ceilings import type_posterior
from lib.theory.recall_construction import CONTEXT, FACT, FINETUNED, GRAMMAR, PRETRAINED, construct, least_sharpness

SEEDS = [0, 1]
FACTS = draw_facts(SEEDS, n_subjects=30, n_types=3, n_values=5)
NET = construct(FACTS, n_positions=40)
BETA = least_sharpness(40) + 0.01


def hits(xs, gains, sharpness=BETA):
    """Whether each attribute is the first choice: (seed, sequence, tuple)."""
    choice = NET(xs, gains, sharpness)[..., :-1, :].argmax(-1) + FACTS.first_value
    told = is_answer(FACTS, xs[..., 1:])
    return (choice == xs[..., 1:])[told].reshape(*xs.shape[:2], -1)


def with_grammar(n, lengths=(1, 2, 3, 3, 1, 2)):
    return pretraining(streams(SEEDS, "test"), FACTS, n, list(lengths), 0.0, 0.0, 0, 30)


@pytest.mark.parametrize("gains", [PRETRAINED, FINETUNED])
def test_factual_recall_is_exact_with_and_without_the_context_head(gains):
    assert hits(with_grammar(500), gains).all()


@pytest.mark.parametrize("lengths", [[0] * 8, [1] * 8, [2] * 8, [0, 1, 2, 3, 3, 2, 1, 0]])
def test_the_context_head_makes_contextual_recall_exact_for_all_subjects_in_every_format(lengths):
    xs = contextual(streams(SEEDS, "test"), FACTS, 500, lengths, [0, 2], 0, 30)
    assert hits(xs, FINETUNED)[..., 1:].all()
    assert abs(hits(xs, FINETUNED)[..., 0].float().mean() - 1 / 3) < 0.06


def test_without_it_the_own_attributes_tie_and_nothing_else_comes_near():
    xs = contextual(streams(SEEDS, "test"), FACTS, 100, [2] * 6, [0, 2], 0, 30)
    logits = NET(xs, PRETRAINED, 60.0)[..., torch.arange(6) * 4 + 2, :]
    own = FACTS.answers[torch.arange(2)[:, None, None], xs[..., ::4]] - FACTS.first_value
    assert torch.allclose(logits.gather(-1, own), torch.ones(()).double(), atol=1e-9)
    assert torch.allclose(logits.sum(-1), torch.full((), 3.0).double(), atol=1e-9)


def test_below_the_bound_it_need_not_hold():
    assert not hits(with_grammar(500), FINETUNED, sharpness=0.2).all()


def test_each_head_reads_what_it_should():
    facts = FACTS
    form, filler = facts.first_form + 4, facts.first_filler  # a form of type 1
    xs = torch.tensor([5, form, int(facts.answers[0, 5, 1]), 7, filler, filler]).expand(2, 1, -1)

    def alone(head):
        return NET.stream(xs, [float(h == head) for h in range(3)], 60.0)[0, 0, -1]

    own = torch.zeros(18).double()
    own[facts.answers[0, 7] - facts.first_value] = 1
    assert torch.allclose(alone(FACT), own)
    assert alone(GRAMMAR).abs().max() < 1e-9  # the form stands before the present subject
    assert torch.allclose(alone(CONTEXT)[-3:], torch.tensor([0.0, 1.0, 0.0]).double())
    assert alone(CONTEXT)[:-3].abs().max() < 1e-9


def test_where_types_conflict_the_context_s_majority_decides_as_it_does_for_bayes():
    g = streams(SEEDS, "test")
    subjects, types = different_subjects(g, 400, 7, 0, 30), some_types(g, 3, 400, 7, shared=False)
    between = torch.full((2, 400, 7, 1), FACTS.first_filler)
    xs = sentences(FACTS, subjects, types, between)
    counts = torch.nn.functional.one_hot(types[..., :6], 3).sum(-2)
    clear = counts.topk(2).values.diff(dim=-1)[..., 0] < 0
    chosen = NET(xs, FINETUNED, 60.0)[..., -2, :].argmax(-1) // FACTS.n_values
    assert (chosen == type_posterior(counts, 0.1).argmax(-1))[clear].all()


def test_the_grammar_head_errs_where_the_latest_form_is_wrong():
    g = streams(SEEDS, "test")
    subjects, types = different_subjects(g, 4000, 1, 0, 30), some_types(g, 3, 4000, 1, shared=False)
    xs = sentences(FACTS, subjects, types, grammar(g, FACTS, types, 2, 0.05, 0.0))
    assert abs(hits(xs, PRETRAINED).float().mean() - 0.95) < 0.01


def test_what_is_refused():
    xs = with_grammar(1)
    with pytest.raises(ValueError, match="n_positions is 1"):
        construct(FACTS, 1)
    with pytest.raises(ValueError, match=r"gains is \[1.0\]"):
        NET(xs, [1.0], 1.0)
    with pytest.raises(ValueError, match="sharpness is 0"):
        NET(xs, FINETUNED, 0.0)
