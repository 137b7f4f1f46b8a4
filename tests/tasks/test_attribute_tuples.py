"""Sequences tell the facts that they should, in the shares that they should, and what is refused."""

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
    shuffled,
    some_fillers,
    some_types,
    streams,
)

SEEDS = [3, 4]
FACTS = draw_facts(SEEDS, n_subjects=20, n_types=3, n_values=5)


def read(tokens):
    """The tuples (subject, what is between, value) of one sequence."""
    tuples, part = [], []
    for token in tokens.tolist():
        part.append(token)
        if token >= FACTS.first_value:
            tuples.append((part[0], part[1:-1], part[-1]))
            part = []
    assert not part
    return tuples


def test_tokens_are_numbered_without_gaps():
    assert FACTS.first_form == 20
    assert FACTS.first_filler == 20 + 9
    assert FACTS.first_value == 20 + 9 + 4
    assert FACTS.n_tokens == 20 + 9 + 4 + 15
    assert FACTS.type_of(FACTS.answers).eq(torch.arange(3)).all()
    assert FACTS.answers.min() >= FACTS.first_value
    assert FACTS.answers.max() < FACTS.n_tokens


def test_attributes_are_uniform_and_independent_of_the_seeds_beside_them():
    table = draw_facts([0], n_subjects=3000, n_types=3, n_values=5).table
    assert torch.allclose(
        torch.bincount(table.flatten(), minlength=5) / table.numel(), torch.full((5,), 0.2), atol=0.02
    )
    assert torch.equal(draw_facts([9, 3], 20, 3, 5).table[1:], FACTS.table[:1])


def test_every_tuple_of_pretraining_is_a_fact_and_its_lengths_are_those_asked_for():
    lengths = [0, 1, 1, 3]
    xs = pretraining(streams(SEEDS, "test"), FACTS, 50, lengths, noise=0.1, filler_share=0.3, first=2, last=18)
    assert xs.shape == (2, 50, 2 * 4 + 5)
    orders = set()
    for seed in range(2):
        for sequence in xs[seed]:
            tuples = read(sequence)
            assert sorted(len(between) for _, between, _ in tuples) == lengths
            orders.add(tuple(len(between) for _, between, _ in tuples))
            assert len({subject for subject, _, _ in tuples}) == 4
            for subject, between, value in tuples:
                assert 2 <= subject < 18
                assert all(FACTS.first_form <= g < FACTS.first_value for g in between)
                assert value in FACTS.answers[seed, subject]
    assert len(orders) == 12  # 4! / 2!


def test_the_types_of_pretraining_are_independent_and_those_of_a_contextual_sequence_are_one():
    xs = pretraining(streams(SEEDS, "test"), FACTS, 4000, [1, 1], 0.1, 0.3, 0, 20)
    kinds = FACTS.type_of(xs[is_answer(FACTS, xs)].reshape(2, 4000, 2))
    same = (kinds[..., 0] == kinds[..., 1]).float().mean()
    assert abs(same - 1 / 3) < 0.02
    for shared, expected in ((True, 1.0), (False, 1 / 3)):
        xs = contextual(streams(SEEDS, "test"), FACTS, 4000, [2, 2], [1, 3], 0, 20, shared)
        kinds = FACTS.type_of(xs[is_answer(FACTS, xs)].reshape(2, 4000, 2))
        assert abs((kinds[..., 0] == kinds[..., 1]).float().mean() - expected) < 0.02
        assert set((xs[:, :, 1] - FACTS.first_filler).unique().tolist()) == {1, 3}
        assert (FACTS.answers[torch.arange(2)[:, None], xs[..., 4], kinds[..., 1]] == xs[..., 7]).all()


def test_grammar_tells_its_type_with_the_right_frequencies():
    types = some_types(streams([0], "test"), 3, 20_000, 1, shared=False)
    told = grammar(streams([0], "test"), FACTS, types, 2, noise=0.1, filler_share=0.25)
    is_form = told < FACTS.first_filler
    assert abs(is_form.float().mean() - 0.75) < 0.01
    families = (told - FACTS.first_form) // FACTS.n_forms
    own = (families == types[..., None])[is_form]
    assert abs(own.float().mean() - 0.9) < 0.01
    for shift in (1, 2):
        assert abs((families == (types[..., None] + shift) % 3)[is_form].float().mean() - 0.05) < 0.01
    counts = torch.bincount(told.flatten() - FACTS.first_form, minlength=13) / told.numel()
    assert torch.allclose(counts, torch.tensor([0.75 / 9] * 9 + [0.25 / 4] * 4), atol=0.01)


def test_copies_may_differ_in_their_subjects():
    generators = streams(SEEDS, "test")
    subjects = torch.stack([different_subjects(generators, 6, 3, 0, n) for n in (5, 20)])
    types = some_types(generators, 3, 6, 3, shared=True)
    between = some_fillers(generators, FACTS, 6, 3, 1, [0])
    both = sentences(FACTS, subjects, types, between)
    assert both.shape == (2, 2, 6, 9)
    for copy in range(2):
        assert torch.equal(both[copy], sentences(FACTS, subjects[copy], types, between))


def test_a_seed_s_sequences_do_not_depend_on_its_neighbours():
    both = pretraining(streams(SEEDS, "test"), FACTS, 5, [0, 2], 0.1, 0.3, 0, 20)
    alone = pretraining(streams([4], "test"), draw_facts([4], 20, 3, 5), 5, [0, 2], 0.1, 0.3, 0, 20)
    assert torch.equal(both[1:], alone)


def test_what_is_no_fact_or_no_sequence_is_refused():
    g = streams(SEEDS, "test")
    types = some_types(g, 3, 2, 3, shared=True)
    for sizes, match in (((0, 3, 5), "n_subjects"), ((4, 1, 5), "n_types"), ((4, 3, 1), "n_values")):
        with pytest.raises(ValueError, match=match):
            draw_facts(SEEDS, *sizes)
    with pytest.raises(ValueError, match="n_forms is 0"):
        draw_facts(SEEDS, 4, 3, 5, n_forms=0)
    with pytest.raises(ValueError, match="n_fillers is 0"):
        draw_facts(SEEDS, 4, 3, 5, n_fillers=0)
    with pytest.raises(ValueError, match=r"subjects 0…-1 are 0; 2 different"):
        different_subjects(g, 4, 2, 0, 0)
    with pytest.raises(ValueError, match=r"subjects 5…7 are 3; 4 different"):
        contextual(g, FACTS, 4, [2] * 4, [0], 5, 8)
    with pytest.raises(ValueError, match="n_grammar is -1"):
        grammar(g, FACTS, types, -1, 0.1, 0.1)
    with pytest.raises(ValueError, match=r"noise and filler_share are 1\.1"):
        grammar(g, FACTS, types, 1, 1.1, 0.1)
    with pytest.raises(ValueError, match=r"which is \[4\]"):
        some_fillers(g, FACTS, 2, 3, 1, [4])
    with pytest.raises(ValueError, match=r"which is \[\]"):
        some_fillers(g, FACTS, 2, 3, 1, [])
    with pytest.raises(ValueError, match=r"lengths is \[\]"):
        shuffled(g, [], 2)
    with pytest.raises(ValueError, match=r"lengths is \[1, -1\]"):
        pretraining(g, FACTS, 2, [1, -1], 0.1, 0.1, 0, 20)
