"""Attention-free models: causality, stacking, and their mixers against direct sums."""

import pytest
import torch

from lib.models.long_convolution import MIXERS, AttentionFree, causal_convolution, retention_weights

SIZES = dict(n_in=3, n_out=2, n_positions=8, width=12, n_layers=2, n_heads=3)


def tokens(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("taps", [3, 7])
def test_the_convolution_equals_the_sum(taps):
    filters, signal = tokens(2, 5, taps), tokens(2, 5, 7, 3)
    expected = torch.zeros_like(signal)
    for t in range(7):
        for s in range(max(t - taps + 1, 0), t + 1):
            expected[:, :, t] += filters[:, :, t - s, None] * signal[:, :, s]
    assert torch.allclose(causal_convolution(filters, signal), expected, atol=1e-5)


def test_retention_equals_its_recursion():
    """S ← γ S + k vᵀ, y = q S: a state of fixed size is all that is kept."""
    q, k, v = tokens(3, 2, 6, 4)
    weights = retention_weights(2, 6)
    decays = weights[:, 1, 0]
    state, rows = torch.zeros(2, 4, 4), []
    for t in range(6):
        state = decays[:, None, None] * state + k[:, t, :, None] * v[:, t, None, :]
        rows.append((q[:, t, None, :] @ state)[:, 0])
    assert torch.allclose(((q @ k.mT) * weights) @ v, torch.stack(rows, 1), atol=1e-5)


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_position_never_sees_what_comes_after_it(mixer):
    model, xs = AttentionFree(mixer, **SIZES, seeds=[0]), tokens(1, 4, 6, 3)
    with torch.no_grad():
        for w in model.weights.values():
            w.add_(0.3 * torch.randn(w.shape, generator=torch.Generator().manual_seed(w.numel())))
    changed = xs.clone()
    changed[..., 4:, :] += 1.0
    assert torch.allclose(model(xs)[..., :4, :], model(changed)[..., :4, :], atol=1e-5)
    assert not torch.allclose(model(xs)[..., 4:, :], model(changed)[..., 4:, :], atol=1e-3)
    earlier = xs.clone()
    earlier[..., 0, :] += 1.0
    assert not torch.allclose(model(xs)[..., 5, :], model(earlier)[..., 5, :], atol=1e-4)


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_stacked_member_equals_the_solo_model_in_outputs_and_gradients(mixer):
    xs = tokens(2, 4, 6, 3)
    both, solo = AttentionFree(mixer, **SIZES, seeds=[0, 5]), AttentionFree(mixer, **SIZES, seeds=[5])
    out, alone = both(xs), solo(xs[1:])
    assert out.shape == (2, 4, 6, 2)
    assert torch.allclose(out[1], alone[0], atol=1e-5)
    out.square().sum().backward()
    alone.square().sum().backward()
    for name, w in solo.weights.items():
        assert torch.allclose(both.weights[name].grad[1], w.grad[0], atol=1e-4), name


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_weight_takes_part(mixer):
    model = AttentionFree(mixer, **SIZES, seeds=[0])
    model(tokens(1, 4, 8, 3)).square().sum().backward()
    assert all(w.grad.abs().sum() > 0 for w in model.weights.values())


def test_filters_of_a_short_prompt_are_the_first_part_of_the_long_ones():
    model = AttentionFree("long convolution", **SIZES, seeds=[0])
    assert torch.allclose(model.filters(0, 8)[..., :5], model.filters(0, 5), atol=1e-6)


def test_sizes_and_prompts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="mixer is 'attention'; it must be one of long convolution, retention"):
        AttentionFree("attention", **SIZES, seeds=[0])
    with pytest.raises(ValueError, match="n_heads is 5; it must divide the width 12"):
        AttentionFree("retention", **SIZES | dict(n_heads=5), seeds=[0])
    with pytest.raises(ValueError, match="n_layers is 0; it must be at least 1"):
        AttentionFree("retention", **SIZES | dict(n_layers=0), seeds=[0])
    model = AttentionFree("retention", **SIZES, seeds=[0])
    with pytest.raises(ValueError, match="the prompt has 9 tokens; the model has n_positions = 8"):
        model(tokens(1, 2, 9, 3))
    with pytest.raises(ValueError, match="tokens have size 4; the model was made for n_in = 3"):
        model(tokens(1, 2, 8, 4))


@pytest.mark.parametrize("mixer", MIXERS)
def test_the_start_is_scaled_where_channels_mix_and_nowhere_else(mixer):
    plain, scaled = AttentionFree(mixer, **SIZES, seeds=[0]), AttentionFree(mixer, **SIZES, seeds=[0])
    scaled.scale_start(3.0)
    for name, w in plain.weights.items():
        mixes = any(part in name for part in ("qkv_W", "mixed_W", "up_W", "down_W", "read_in_W", "read_out_W"))
        assert torch.equal(scaled.weights[name], (3 if mixes else 1) * w), name
    with pytest.raises(ValueError, match=r"factor is 0\.0; it must be positive"):
        plain.scale_start(0.0)
