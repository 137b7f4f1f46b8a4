"""Chains whose statistics are known, and what is refused."""

import pytest
import torch

from lib.tasks.markov_chains import contexts, order_of, sequences, streams, transition_rows


def test_rows_are_dirichlet():
    alpha, V = 0.7, 4
    rows = transition_rows(streams([0], "test"), batch=4000, n_symbols=V, order=1, concentration=alpha).flatten(0, 2)
    assert torch.allclose(rows.sum(-1), torch.ones(len(rows)), atol=1e-6)
    assert torch.allclose(rows.mean(0), torch.full((V,), 1 / V), atol=0.01)
    variance = (1 / V) * (1 - 1 / V) / (V * alpha + 1)
    assert torch.allclose(rows.var(0), torch.full((V,), variance), rtol=0.05)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("n_symbols", [2, 3])
def test_symbols_follow_the_row_of_their_context(order, n_symbols):
    generators = streams([0, 1], "test")
    rows = transition_rows(generators, 3, n_symbols, order)
    xs = sequences(generators, rows, length=20_000)
    where = contexts(xs, n_symbols, order)
    for seed in range(2):
        for prompt in range(3):
            for c in range(n_symbols**order):
                after = xs[seed, prompt][where[seed, prompt] == c]
                if len(after) < 200:
                    continue
                frequencies = torch.bincount(after, minlength=n_symbols) / len(after)
                spread = (rows[seed, prompt, c] * (1 - rows[seed, prompt, c]) / len(after)).sqrt()
                assert ((frequencies - rows[seed, prompt, c]).abs() < 5 * spread + 1e-3).all()


def test_the_first_symbols_are_uniform():
    generators = streams([0], "test")
    rows = transition_rows(generators, 30_000, 3, 2, concentration=0.1)
    first = sequences(generators, rows, length=3)[0, :, :2]
    pairs = torch.bincount(first[:, 0] * 3 + first[:, 1], minlength=9) / 30_000
    assert torch.allclose(pairs, torch.full((9,), 1 / 9), atol=0.01)


def test_a_context_is_the_number_of_the_symbols_before_it_and_the_newest_is_its_last_digit():
    xs = torch.tensor([[2, 0, 1, 1]])
    assert contexts(xs, 3, 2).tolist() == [[-1, -1, 2 * 3 + 0, 0 * 3 + 1]]
    assert contexts(xs, 3, 1).tolist() == [[-1, 2, 0, 1]]
    assert contexts(xs, 3, 0).tolist() == [[0, 0, 0, 0]]
    assert contexts(xs[:, :2], 3, 3).tolist() == [[-1, -1]]


def test_a_seed_s_chains_do_not_depend_on_its_neighbours():
    def draw(seeds):
        generators = streams(seeds, "test")
        return sequences(generators, transition_rows(generators, 4, 3, 2), length=30)

    assert torch.equal(draw([7, 8])[1:], draw([8]))


def test_a_chain_of_low_order_is_one_of_high_order():
    """Rows that ignore the oldest symbol, repeated for each value of it, give the same law: the nesting of the paper."""
    low = transition_rows(streams([0], "test"), 500, 3, 1)
    high = low.repeat(1, 1, 3, 1)  # the context's oldest symbol is its first digit
    a, b = (sequences(streams([s], "test"), rows, length=400) for s, rows in ((1, low), (2, high)))
    where_a, where_b = contexts(a, 3, 1), contexts(b, 3, 1)
    for c in range(3):
        mean_a, mean_b = ((x[w == c] == 0).float().mean() for x, w in ((a, where_a), (b, where_b)))
        assert abs(mean_a - mean_b) < 0.01


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(n_symbols=1), "n_symbols is 1; it must be at least 2"),
        (dict(order=-1), "order is -1; it must be at least 0"),
        (dict(batch=0), "batch is 0; it must be at least 1"),
        (dict(concentration=0.0), "concentration is 0.0; it must be positive"),
        (dict(n_symbols=20, order=4), "160000 contexts; at most 4096"),
    ],
)
def test_what_is_no_chain_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        transition_rows(streams([0], "test"), **dict(batch=2, n_symbols=3, order=1) | changed)


def test_a_sequence_shorter_than_its_first_context_is_refused():
    rows = transition_rows(streams([0], "test"), 2, 3, 2)
    with pytest.raises(ValueError, match="length is 2; it must be at least 3 for a chain of order 2"):
        sequences(streams([0], "test"), rows, length=2)


def test_a_number_of_rows_that_is_no_power_is_refused():
    with pytest.raises(ValueError, match="rows has 8 contexts; it must be a power of n_symbols = 3"):
        sequences(streams([0], "test"), torch.ones(1, 2, 8, 3) / 3, length=9)
    assert order_of(9, 3) == 2


def test_symbols_outside_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match=r"symbols reach from 0 to 3; they must lie in 0…2"):
        contexts(torch.tensor([0, 3]), 3, 1)
