"""What the unitary autoregression promises."""

import pytest
import torch

from lib.tasks import unitary_autoregression as task
from lib.tasks.in_context_regression import streams


def drawn(start, seeds=(0,), batch=4000, n_dims=3, length=4, scale=1.0):
    firsts = task.first_tokens(streams(seeds, "start"), batch, n_dims, start, scale)
    return firsts, task.sequences(streams(seeds, "phases"), firsts, length)


@pytest.mark.parametrize("start", task.STARTS)
def test_every_token_is_the_same_unitary_step_from_the_one_before(start):
    firsts, xs = drawn(start, length=50)
    assert torch.allclose(xs[..., 0, :].real.double(), firsts, atol=1e-6)
    assert xs[..., 0, :].imag.abs().max() == 0
    alive = firsts != 0
    steps = (xs[..., 1:, :] / xs[..., :-1, :]).movedim(-2, -1)[alive]
    assert torch.allclose(steps, steps[:, :1].expand_as(steps), atol=1e-5)
    assert torch.allclose(steps.abs(), torch.ones(()), atol=1e-5)


def test_phases_are_uniform_and_independent():
    _, xs = drawn("ones")
    first, second = xs[0, :, 1, 0], xs[0, :, 1, 1]
    for mean in (first.mean(), (first**2).mean(), (first * second.conj()).mean()):
        assert mean.abs() < 4 / 4000**0.5


def test_starts_have_their_moments_and_supports():
    gaussian, _ = drawn("gaussian", scale=0.5)
    assert gaussian.square().mean().item() == pytest.approx(0.25, abs=4 * 0.25 * (2 / 12000) ** 0.5)
    sparse, _ = drawn("sparse", scale=2.0)
    assert ((sparse != 0).sum(-1) == 1).all()
    assert set(sparse.unique().tolist()) == {-2.0, 0.0, 2.0}
    assert (sparse != 0).double().mean((0, 1)) == pytest.approx([1 / 3] * 3, abs=4 * (2 / 9 / 4000) ** 0.5)
    ones, _ = drawn("ones", scale=1.5)
    assert (ones == 1.5).all()
    signs, _ = drawn("signs")
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert signs.mean().abs() < 4 / 12000**0.5


def test_tokens_are_paired_with_the_token_before():
    _, xs = drawn("gaussian", batch=2)
    tokens = task.embedded(xs)
    assert torch.equal(tokens[..., :3], xs)
    assert torch.equal(tokens[..., 1:, 3:], xs[..., :-1, :])
    assert tokens[..., 0, 3:].abs().max() == 0


@pytest.mark.parametrize("start", task.STARTS)
def test_a_seed_draws_the_same_alone_and_in_company(start):
    _, together = drawn(start, seeds=(3, 7), batch=5)
    _, alone = drawn(start, seeds=(7,), batch=5)
    assert torch.equal(together[1:], alone)


def test_what_cannot_be_drawn_is_refused():
    generators = streams([0], "t")
    with pytest.raises(ValueError, match="start is 'dense'; it must be one of gaussian, sparse, ones, signs"):
        task.first_tokens(generators, 1, 1, "dense")
    with pytest.raises(ValueError, match="scale is 0"):
        task.first_tokens(generators, 1, 1, "ones", 0.0)
    with pytest.raises(ValueError, match="n_dims are 1 and 0"):
        task.first_tokens(generators, 1, 0, "ones")
    with pytest.raises(ValueError, match="length is 2; it must be at least 3"):
        task.sequences(generators, task.first_tokens(generators, 1, 1, "ones"), 2)
