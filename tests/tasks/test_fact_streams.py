"""Streams with facts: every token where it belongs, facts shared equally among templates, and what is refused."""

import pytest
import torch

from lib.tasks.fact_streams import STRUCTURES, build_world, draw, last_symbols, pairs, streams, untrained_pairs

SIZES = dict(n_templates=3, n_facts=6, n_symbols=4, length=9, concentration=0.5)


def world_of(structure, seeds=(0, 1), **changed):
    return build_world(list(seeds), structure, **SIZES | changed)


@pytest.mark.parametrize(("structure", "chains", "positions"), [("chains", 3, 1), ("positions", 1, 3), ("both", 3, 3)])
def test_templates_differ_in_what_the_structure_says(structure, chains, positions):
    world = world_of(structure)
    for seed in range(2):
        assert len(world.rows[seed].unique(dim=0)) == chains
        assert len(world.positions[seed, :, 0].unique()) == positions
    assert (world.positions[..., 0] >= 1).all()
    assert (world.positions[..., 0] <= 4).all()
    assert (world.positions[..., 0] + 2 <= world.positions[..., 1]).all()
    assert (world.positions[..., 1] < 9).all()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_sequence_holds_its_fact_at_its_template_s_positions_and_symbols_elsewhere(structure):
    world = world_of(structure)
    batch = draw(world, streams([0, 1], "test"), pairs(world, 2), 50)
    for seed in range(2):
        for tokens, fact, template in zip(batch.tokens[seed], batch.facts[seed], batch.templates[seed], strict=True):
            i, j = world.positions[seed, template].tolist()
            assert tokens[i] == world.source[fact]
            assert tokens[j] == world.target[seed, fact]
            others = [int(x) for t, x in enumerate(tokens) if t not in (i, j)]
            assert max(others) < 4


def test_the_chain_goes_on_after_a_fact_s_tokens():
    world = world_of("both", seeds=[3], length=40, n_symbols=3)
    batch = draw(world, streams([3], "test"), pairs(world, 3), 4000)
    last = last_symbols(batch.tokens, 3)[0]
    for template in range(3):
        i, j = world.positions[0, template].tolist()
        for t in (i, j):  # the symbol after a token of the fact follows the symbol before it
            if t + 1 < 40 and t + 1 != j:
                mine = batch.templates[0] == template
                before, after = last[mine, t], batch.tokens[0, mine, t + 1]
                for a in range(3):
                    counts = torch.bincount(after[before == a], minlength=3)
                    if counts.sum() > 100:
                        spread = (world.rows[0, template, a] * (1 - world.rows[0, template, a]) / counts.sum()).sqrt()
                        assert ((counts / counts.sum() - world.rows[0, template, a]).abs() < 5 * spread + 1e-3).all()


@pytest.mark.parametrize("diversity", [1, 2, 3])
def test_templates_share_the_facts_equally(diversity):
    world = world_of("chains")
    trained = pairs(world, diversity)
    assert trained.shape == (2, 6 * diversity, 2)
    for seed in range(2):
        assert torch.bincount(trained[seed, :, 1]).tolist() == [2 * diversity] * 3
        assert torch.bincount(trained[seed, :, 0]).tolist() == [diversity] * 6
        assert len(trained[seed].unique(dim=0)) == 6 * diversity


def test_pairs_of_training_and_the_others_are_all_pairs_and_grow_with_diversity():
    world = world_of("both")

    def as_sets(found):
        return [{tuple(pair) for pair in seed.tolist()} for seed in found]

    for few, many, rest in zip(
        as_sets(pairs(world, 1)), as_sets(pairs(world, 2)), as_sets(pairs(world, 2, seen=False)), strict=True
    ):
        assert few < many
        assert not many & rest
        assert len(many | rest) == 18


def test_answers_are_a_bijection_and_shuffled_targets_are_not_tied_to_sources():
    world = world_of("positions", seeds=[0])
    assert sorted(world.answers[0].tolist()) == list(range(6))
    batch = draw(world, streams([0], "test"), pairs(world, 1), 6000, shuffle=True)
    j = world.positions[0, batch.templates[0], 1]
    targets = batch.tokens[0].gather(1, j[:, None])[:, 0] - 10
    for fact in range(6):
        shares = torch.bincount(targets[batch.facts[0] == fact], minlength=6) / (batch.facts[0] == fact).sum()
        assert (shares - 1 / 6).abs().max() < 0.07


def test_untrained_facts_are_in_no_pair_of_training_and_keep_their_targets_to_themselves():
    world = world_of("both", n_untrained=2)
    assert (world.n_facts, world.n_trained, world.n_tokens) == (8, 6, 20)
    for diversity in (1, 3):
        assert pairs(world, diversity)[..., 0].max() == 5
    assert sorted(map(tuple, untrained_pairs(world)[0].tolist())) == [(n, k) for n in (6, 7) for k in range(3)]
    assert sorted(world.answers[0, 6:].tolist()) == [6, 7]
    batch = draw(world, streams([0, 1], "test"), pairs(world, 2), 400, shuffle=True)
    assert batch.tokens.max() < 18
    with pytest.raises(ValueError, match="n_untrained"):
        untrained_pairs(world_of("both"))
    with pytest.raises(ValueError, match="n_untrained"):
        world_of("both", n_untrained=-1)


def test_a_seed_s_world_and_sequences_do_not_depend_on_its_neighbours():
    def tokens(seeds):
        world = world_of("both", seeds=seeds)
        return draw(world, streams(seeds, "test"), pairs(world, 1), 5).tokens

    assert torch.equal(tokens([7, 8])[1:], tokens([8]))


def test_every_source_position_is_as_likely_as_another():
    world = build_world(
        list(range(600)), "positions", n_templates=2, n_facts=2, n_symbols=2, length=6, concentration=1.0
    )
    shares = torch.bincount(world.positions[..., 0].flatten(), minlength=6) / 1200
    assert shares[0] == shares[4] == shares[5] == 0
    assert (shares[1:4] - 1 / 3).abs().max() < 0.06


@pytest.mark.parametrize(
    ("structure", "changed", "message"),
    [
        ("chain", {}, "structure"),
        ("both", {"n_templates": 1}, "n_templates"),
        ("both", {"n_facts": 7}, "n_facts"),
        ("both", {"n_facts": 0}, "n_facts"),
        ("both", {"length": 5}, "length"),
        ("chains", {"length": 4}, "length"),
        ("both", {"concentration": 0.0}, "concentration"),
        ("both", {"n_symbols": 1}, "n_symbols"),
    ],
)
def test_what_is_no_world_is_refused(structure, changed, message):
    with pytest.raises(ValueError, match=message):
        world_of(structure, **changed)


def test_pairs_and_batches_that_do_not_exist_are_refused():
    world = world_of("both")
    for diversity in (0, 4):
        with pytest.raises(ValueError, match="diversity"):
            pairs(world, diversity)
    with pytest.raises(ValueError, match="diversity"):
        pairs(world, 3, seen=False)
    with pytest.raises(ValueError, match="batch"):
        draw(world, streams([0, 1], "test"), pairs(world, 1), 0)
    with pytest.raises(ValueError, match="symbol"):
        last_symbols(torch.tensor([5, 0]), 3)
