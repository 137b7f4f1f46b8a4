"""Pairs of residues: labels by brute force, splits without overlap, seeds on their own."""

import pytest
import torch

from lib.tasks.modular_arithmetic import OPERATIONS, all_pairs, one_hot_pairs, split_pairs


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("p", [5, 23])
def test_labels_are_those_of_python_s_integers(operation, p):
    rule = {"add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "product": lambda a, b: a * b}[operation]
    expected = [(a, b, rule(a, b) % p) for a in range(p) for b in range(p)]
    assert [tuple(row) for row in torch.stack(all_pairs(p, operation), -1).tolist()] == expected


def test_training_and_test_pairs_are_all_pairs_once():
    p = 11
    for share in (0.3, 0.5):
        train, test = split_pairs([0, 1, 2], p, share, "subtract")
        assert train.ys.shape == (3, int(share * p * p))
        for member in range(3):
            codes = torch.cat([part.a[member] * p + part.b[member] for part in (train, test)])
            assert codes.sort().values.tolist() == list(range(p * p))
            assert ((train.a[member] - train.b[member]) % p == train.ys[member]).all()


def test_sizes_at_113_are_those_of_the_papers():
    assert [split_pairs([0], 113, share).train.ys.shape[1] for share in (0.4, 0.6, 0.7)] == [5107, 7661, 8938]


def test_a_share_computed_from_a_number_of_pairs_gives_that_number():
    for p in (23, 71, 127):
        for n in range(1, p * p, 97):
            assert split_pairs([0], p, n / p**2).train.ys.shape[1] == n


def test_a_seed_s_split_does_not_depend_on_its_neighbours():
    alone, beside = split_pairs([7], 13, 0.4), split_pairs([3, 7], 13, 0.4)
    assert torch.equal(alone.train.a[0], beside.train.a[1])
    assert not torch.equal(beside.train.a[0], beside.train.a[1])


def test_a_matrix_on_one_hot_pairs_gathers_two_columns():
    p = 7
    train = split_pairs([0, 1], p, 0.5).train
    W = torch.randn(2, 4, 2 * p, generator=torch.Generator().manual_seed(0))
    gathered = torch.stack([W[i][:, train.a[i]] + W[i][:, p + train.b[i]] for i in range(2)]).mT
    torch.testing.assert_close(one_hot_pairs(train, p) @ W.mT, gathered)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, 0.001])
def test_a_share_that_leaves_nothing_is_refused(share):
    with pytest.raises(ValueError, match=rf"train_fraction is {share}; of 25 pairs at least one"):
        split_pairs([0], 5, share)


def test_unknown_operations_and_small_moduli_are_refused():
    with pytest.raises(ValueError, match="operation is 'divide'; it must be one of add, subtract, product"):
        all_pairs(5, "divide")
    with pytest.raises(ValueError, match="modulus is 1; it must be at least 2"):
        all_pairs(1)
