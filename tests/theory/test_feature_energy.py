"""The energy of a hidden unit: closed form against definition, maxima against ascent, phases, missing features."""

import math

import pytest
import torch

from lib.tasks.modular_arithmetic import Pairs, all_pairs, one_hot_pairs
from lib.theory.feature_energy import (
    ascend,
    data_energy,
    energy,
    highest_energy,
    mode_powers,
    pure_mode,
    purity,
    sampled_levels,
    six_per_frequency,
    winner,
)


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def by_hand(w, pairs, modulus):
    "½ ‖Ỹᵀ σ(X w)‖² with matrices."
    X = one_hot_pairs(pairs, modulus).double()
    Y = torch.nn.functional.one_hot(pairs.ys, modulus).double()
    return ((Y - Y.mean(0)).T @ (X @ w).square()).square().sum() / 2


@pytest.mark.parametrize("modulus", [2, 5, 8, 11])
def test_the_closed_form_is_the_definition_on_all_pairs(modulus):
    ws, pairs = randn(6, 2 * modulus), all_pairs(modulus)
    torch.testing.assert_close(energy(ws), data_energy(ws, pairs))
    torch.testing.assert_close(energy(ws), torch.stack([by_hand(w, pairs, modulus) for w in ws]))


def test_on_some_pairs_it_is_the_definition_too():
    pairs = Pairs(*(part[torch.arange(0, 49, 3)] for part in all_pairs(7)))
    ws = randn(4, 14)
    torch.testing.assert_close(data_energy(ws, pairs), torch.stack([by_hand(w, pairs, 7) for w in ws]))


def test_powers_sum_to_the_squared_length():
    for modulus in (6, 7):
        ws = randn(5, 2 * modulus)
        torch.testing.assert_close(sum(mode_powers(ws)).sum(-1), ws.square().sum(-1))


def test_its_gradient_is_that_of_finite_differences():
    w, step = randn(14).requires_grad_(), 1e-5
    energy(w).backward()
    shifts = step * torch.eye(14, dtype=torch.float64)
    slopes = (energy(w.detach() + shifts) - energy(w.detach() - shifts)) / (2 * step)
    torch.testing.assert_close(w.grad, slopes, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("modulus", "k", "expected"), [(7, 2, 7 / 4), (8, 3, 2.0), (8, 4, 4.0)])
def test_a_pure_mode_of_any_phases_has_the_highest_energy_and_no_slope_along_the_sphere(modulus, k, expected):
    assert highest_energy(modulus, k) == expected
    for phases in ((0.3, 1.9), (0.0, 0.0)):
        w = pure_mode(modulus, k, *phases).requires_grad_()
        assert energy(w).item() == pytest.approx(expected)
        energy(w).backward()
        torch.testing.assert_close(w.grad, 4 * expected * w.detach())


def test_no_direction_leads_up_from_a_pure_mode_and_two_are_flat():
    modulus, w = 9, pure_mode(9, 2, 0.4, 1.0)
    hessian = torch.autograd.functional.hessian(energy, w)
    tangent = torch.eye(18, dtype=torch.float64) - w[:, None] * w
    along = tangent @ (hessian - 4 * highest_energy(modulus, 2) * torch.eye(18, dtype=torch.float64)) @ tangent
    values = torch.linalg.eigvalsh(along)
    assert values.max() < 1e-9
    assert (values.abs() < 1e-9).sum() == 3  # w itself, and the two phases


@pytest.mark.parametrize("modulus", [7, 8])
def test_ascent_ends_in_the_mode_that_the_closed_form_names_with_the_phases_of_the_start(modulus):
    ws = randn(60, 2 * modulus)
    ends, trace = ascend(energy, ws, n_steps=3000, step=0.02)
    share, k = purity(ends)
    assert (trace[1:] >= trace[:-1] - 1e-9).all()
    assert share.min() > 1 - 1e-9
    # Steps are finite: a start between two basins may fall to the other side.
    assert (k == winner(ws)).double().mean() > 0.95
    starts, finals = (torch.fft.rfft(x.reshape(-1, 2, modulus)) for x in (ws, ends))
    rows = torch.arange(len(ws))
    turned = torch.angle(finals[rows, :, k] / starts[rows, :, k])
    assert turned.abs().max() < 1e-6
    for i in range(len(ws)):
        assert trace[-1, i].item() == pytest.approx(highest_energy(modulus, int(k[i])))


def test_what_others_have_learnt_is_no_maximum():
    ends, _ = ascend(lambda w: energy(w, learnt=[1, 3]), randn(50, 22), n_steps=200)
    share, k = purity(ends)
    assert share.min() > 0.999
    assert not set(k.tolist()) & {1, 3}
    assert energy(pure_mode(11, 3, 0.1, 0.2), learnt=[3]).item() == pytest.approx(0)


def test_with_one_class_the_square_memorises_the_likeliest_pair_and_relu_spreads_over_all():
    """Theorem 5: weights p_g on the pairs (g, h - g), here by repeating pairs."""
    counts, modulus, h = torch.tensor([5, 3, 2, 1, 1]), 5, 2
    g = torch.arange(modulus).repeat_interleave(counts)
    pairs = Pairs(g, (h - g) % modulus, torch.full_like(g, h))
    starts = randn(30, 10).abs()
    ends, _ = ascend(lambda w: data_energy(w, pairs, centred=False), starts, n_steps=400)
    expected = torch.zeros(10, dtype=torch.float64)
    expected[[0, 5 + h]] = 2**-0.5
    torch.testing.assert_close(ends, expected.expand(30, -1), rtol=0, atol=1e-6)
    ends, _ = ascend(lambda w: data_energy(w, pairs, torch.relu, centred=False), starts, n_steps=400)
    torch.testing.assert_close(ends[:, :5] / ends[:, :1], (counts / 5).expand(30, -1).double(), rtol=0, atol=1e-6)
    assert energy(ends).shape == (30,)


def test_levels_on_a_share_of_the_pairs_are_those_of_random_draws():
    modulus, share = 101, 0.4
    seen = torch.rand(modulus**2, generator=torch.Generator().manual_seed(1)) < share
    pairs = Pairs(*(part[seen] for part in all_pairs(modulus)))
    modes = torch.stack([pure_mode(modulus, k, 0.3, 0.1 * k) for k in range(1, 51)])
    fourier, indicator = sampled_levels(modulus, share)
    assert data_energy(modes, pairs).mean().item() == pytest.approx(fourier, rel=0.1)
    operands = torch.eye(2 * modulus, dtype=torch.float64)
    assert data_energy(operands, pairs).mean().item() == pytest.approx(indicator, rel=0.05)
    assert math.isclose(*sampled_levels(modulus, 2 / 3))


@pytest.mark.parametrize("modulus", [3, 7, 11])
def test_six_units_per_frequency_answer_every_pair_exactly(modulus):
    W, V = six_per_frequency(modulus)
    assert W.shape == (3 * (modulus - 1), 2 * modulus)
    pairs = all_pairs(modulus)
    answers = (one_hot_pairs(pairs, modulus).double() @ W.T).square() @ V.T
    exact = torch.nn.functional.one_hot(pairs.ys, modulus).double() - 1 / modulus
    torch.testing.assert_close(answers, exact)


def test_a_weight_of_zero_has_no_frequency():
    assert purity(torch.zeros(3, 10))[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: energy(torch.ones(7)), "last dimension 7"),
        (lambda: energy(torch.ones(14), learnt=[4]), r"learnt is \[4\]; frequencies must lie in 1…3"),
        (lambda: highest_energy(7, 4), "k is 4; it must lie in 1…3"),
        (lambda: pure_mode(7, 0, 0.0, 0.0), "k is 0"),
        (lambda: six_per_frequency(8), "modulus is 8; it must be odd"),
        (lambda: sampled_levels(7, 1.5), "share is 1.5"),
        (lambda: ascend(energy, torch.ones(14), n_steps=0), "n_steps is 0"),
        (lambda: ascend(energy, torch.ones(14), n_steps=1, step=0.0), "step 0.0"),
        (lambda: data_energy(torch.ones(14), Pairs(*torch.zeros(3, 0, dtype=int))), "pairs is empty"),
        (lambda: data_energy(torch.ones(14), Pairs(*torch.full((3, 2), 7))), "a of the pairs holds 7…7"),
    ],
)
def test_bad_input_is_refused_with_its_name_and_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()
