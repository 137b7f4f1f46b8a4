"""Sentences say what is true with the templates that a fact has, and impossible worlds are refused."""

import pytest
import torch

from lib.tasks.fact_sentences import (
    Vocabulary,
    all_questions,
    draw_facts,
    every_template,
    questions,
    sentences,
    streams,
    with_shuffled_answers,
)

SIZES = dict(n_subjects=12, n_relations=2, n_templates=6, n_answers=5, n_slots=2, n_words=3)
VOCABULARY = Vocabulary(**SIZES)
SETTINGS = [(1, 3), (4, 6)]


@pytest.fixture
def facts():
    return draw_facts([0, 1], VOCABULARY, SETTINGS, n_known=10)


def test_every_sentence_states_a_fact_with_one_of_its_templates(facts):
    tokens, targets = sentences(streams([0, 1], "test"), facts, batch=400)
    assert tokens.shape == targets.shape == (2, 2, 400, 4)
    assert torch.equal(tokens[..., 1:] - VOCABULARY.n_subjects, targets[..., :-1])
    subjects, templates = tokens[..., 0], tokens[..., -1] - VOCABULARY.first_template
    assert set(subjects.unique().tolist()) == set(range(facts.n_known))
    relations, numbers = templates // 6, templates % 6
    for i, (k, r) in enumerate(SETTINGS):
        for j in range(2):
            for s, d, t, a in zip(subjects[i, j], relations[i, j], numbers[i, j], targets[i, j, :, -1], strict=True):
                assert int(t) < r
                assert int(t) in facts.templates[i, j, s, d, :k]
                assert int(a) == VOCABULARY.first_answer + int(facts.answers[i, j, s, d])


def test_all_of_a_fact_s_templates_are_used_equally_often(facts):
    tokens, _ = sentences(streams([0, 1], "test"), facts, batch=30_000)
    chosen = tokens[1, 0, tokens[1, 0, :, 0] == 3, -1] - VOCABULARY.first_template
    counts = torch.bincount(chosen, minlength=12).reshape(2, 6)
    used = facts.used()[1, 0, 3]
    assert ((counts > 0) == (used > 0)).all()
    expected = len(chosen) / 8
    assert ((counts[used > 0] - expected).abs() < 5 * expected**0.5).all()


def test_templates_are_distinct_and_each_is_equally_likely():
    vocabulary = Vocabulary(**SIZES | dict(n_subjects=4000))
    used = draw_facts([0], vocabulary, [(2, 5)], n_known=4000).used()[0, 0]
    assert (used.sum(-1) == 2).all()
    assert torch.allclose(used[..., :5].mean((0, 1)), torch.full((5,), 2 / 5), atol=0.03)
    assert used[..., 5:].sum() == 0


def test_words_name_their_slot_and_the_question_comes_last(facts):
    tokens, answers = questions(streams([0, 1], "test"), facts, [2, 10], batch=200)
    assert tokens.shape == (2, 2, 2, 200, 4)
    slots = (tokens[..., 1:3] - VOCABULARY.n_subjects) // VOCABULARY.n_words
    assert (slots == torch.tensor([0, 1])).all()
    assert (tokens[..., -1] == VOCABULARY.question).all()
    assert int(tokens[0, ..., 0].max()) == 1
    assert int(tokens[1, ..., 0].max()) == 9
    expected = VOCABULARY.first_answer + facts.answers[..., 0].gather(-1, tokens[1, ..., 0])
    assert torch.equal(answers[1], expected)


def test_every_subject_is_asked_once_and_every_template_is_tried(facts):
    tokens, answers = all_questions(streams([0, 1], "test"), facts)
    assert torch.equal(tokens[0, 0, :, 0], torch.arange(12))
    assert torch.equal(answers - VOCABULARY.first_answer, facts.answers[..., 0])
    tried = every_template(streams([0, 1], "test"), facts, relation=1)
    assert tried.shape == (2, 2, 60, 4)
    assert torch.equal(tried[0, 0, :, -1].unique(), VOCABULARY.first_template + 6 + torch.arange(6))


def test_shuffling_keeps_the_answers_and_moves_them(facts):
    shuffled = with_shuffled_answers(facts, [0, 1])
    assert torch.equal(shuffled.answers.sort(2).values, facts.answers.sort(2).values)
    assert not torch.equal(shuffled.answers, facts.answers)


def test_a_member_depends_neither_on_its_neighbours_nor_on_other_settings(facts):
    alone = draw_facts([1], VOCABULARY, SETTINGS[1:], n_known=10)
    assert torch.equal(alone.answers[0, 0], facts.answers[1, 1])
    assert torch.equal(alone.templates[0, 0], facts.templates[1, 1])
    both = sentences(streams([0, 1], "test"), facts, batch=9)[0]
    assert torch.equal(sentences(streams([1], "test"), alone, batch=9)[0][0, 0], both[1, 1])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(n_answers=1), "n_answers is 1; it must be at least 2"),
        (dict(n_words=0), "n_words is 0; it must be at least 1"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(**SIZES | changed)


@pytest.mark.parametrize(
    ("settings", "n_known", "message"),
    [
        ([], 10, "settings is empty"),
        ([(1, 7)], 10, "R = 7; it must lie in 1…6"),
        ([(4, 3)], 10, "K = 4 with R = 3"),
        ([(1, 3)], 13, "n_known is 13; it must lie in 1…12"),
    ],
)
def test_facts_that_cannot_be_are_refused(settings, n_known, message):
    with pytest.raises(ValueError, match=message):
        draw_facts([0], VOCABULARY, settings, n_known)


@pytest.mark.parametrize("n_finetuned", [[], [0], [11]])
def test_a_finetuning_set_is_neither_empty_nor_unknown(facts, n_finetuned):
    with pytest.raises(ValueError, match="it must lie in 1…10"):
        questions(streams([0, 1], "test"), facts, n_finetuned, batch=3)


def test_an_empty_batch_is_refused(facts):
    with pytest.raises(ValueError, match="batch is 0"):
        sentences(streams([0, 1], "test"), facts, batch=0)
