"""The stacked GPT against torch's own layers, and what it promises."""

import pytest
import torch
from torch import nn

from lib.models.gpt import GPT

SIZES = dict(n_in=3, n_out=2, n_positions=8, width=12, n_layers=2, n_heads=3)


def tokens(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_it_equals_torch_s_transformer_encoder_with_the_same_weights():
    model = GPT(**SIZES, seeds=[4])
    with torch.no_grad():  # at GPT-2's scale the blocks hardly act, and any error in them would hide
        for w in model.weights.values():
            w.add_(0.3 * torch.randn(w.shape, generator=torch.Generator().manual_seed(w.numel())))
    weights = {name: w.detach()[0] for name, w in model.weights.items()}
    xs = tokens(5, 6, 3)
    h = xs @ weights["read_in_W"].T + weights["read_in_b"] + weights["position"][:6]
    for i in range(2):
        layer = nn.TransformerEncoderLayer(12, 3, 48, dropout=0.0, norm_first=True, batch_first=True, activation="gelu")
        names = {
            "self_attn.in_proj_weight": "qkv_W", "self_attn.in_proj_bias": "qkv_b",
            "self_attn.out_proj.weight": "attention_W", "self_attn.out_proj.bias": "attention_b",
            "linear1.weight": "up_W", "linear1.bias": "up_b", "linear2.weight": "down_W", "linear2.bias": "down_b",
            "norm1.weight": "norm1_W", "norm1.bias": "norm1_b", "norm2.weight": "norm2_W", "norm2.bias": "norm2_b",
        }  # fmt: skip
        layer.load_state_dict({theirs: weights[f"{i}_{ours}"] for theirs, ours in names.items()})
        h = layer(h, src_mask=nn.Transformer.generate_square_subsequent_mask(6), is_causal=True)
    h = nn.functional.layer_norm(h, (12,), weights["norm_W"], weights["norm_b"])
    expected = h @ weights["read_out_W"].T + weights["read_out_b"]
    assert torch.allclose(model(xs)[0], expected, atol=1e-5)


def test_a_position_never_sees_what_comes_after_it():
    model, xs = GPT(**SIZES, seeds=[0]), tokens(1, 4, 6, 3)
    changed = xs.clone()
    changed[..., 4:, :] += 1.0
    assert torch.allclose(model(xs)[..., :4, :], model(changed)[..., :4, :], atol=1e-6)
    assert not torch.allclose(model(xs)[..., 4:, :], model(changed)[..., 4:, :], atol=1e-3)


def test_a_stacked_member_equals_the_solo_model_in_outputs_and_gradients():
    xs = tokens(2, 4, 6, 3)
    both, solo = GPT(**SIZES, seeds=[0, 5], n_copies=3), GPT(**SIZES, seeds=[5])
    out, alone = both(xs), solo(xs[1:])
    assert out.shape == (3, 2, 4, 6, 2)
    assert torch.allclose(out[2, 1], alone[0], atol=1e-5)
    out.square().sum().backward()
    alone.square().sum().backward()
    for name, w in solo.weights.items():
        assert torch.allclose(both.weights[name].grad[2, 1], w.grad[0], atol=1e-5), name


def test_every_weight_takes_part():
    model = GPT(**SIZES, seeds=[0])
    model(tokens(1, 4, 8, 3)).square().sum().backward()
    assert all(w.grad.abs().sum() > 0 for w in model.weights.values())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(n_heads=24), r"n_heads is 24; it must divide the width 12 \(so 1…12\)"),
        (dict(n_heads=5), "n_heads is 5; it must divide the width 12"),
        (dict(n_layers=0), "n_layers is 0; it must be at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        GPT(**SIZES | changed, seeds=[0])


def test_prompts_that_do_not_fit_are_refused():
    model = GPT(**SIZES, seeds=[0])
    with pytest.raises(ValueError, match="the prompt has 9 tokens; the model has n_positions = 8"):
        model(tokens(1, 2, 9, 3))
    with pytest.raises(ValueError, match="tokens have size 4; the model was made for n_in = 3"):
        model(tokens(1, 2, 8, 4))


def test_the_start_is_scaled_where_it_says_and_nowhere_else():
    plain, scaled = GPT(**SIZES, seeds=[0]), GPT(**SIZES, seeds=[0])
    scaled.scale_start(weights=2.0, read_in=3.0, position=5.0)
    for name, w in plain.weights.items():
        factor = 1 if "_b" in name or "norm" in name else {"position": 5, "read_in_W": 3}.get(name, 2)
        assert torch.equal(scaled.weights[name], factor * w), name


def test_a_start_scaled_to_nothing_is_refused():
    with pytest.raises(ValueError, match="all must be positive"):
        GPT(**SIZES, seeds=[0]).scale_start(weights=0.0, read_in=1.0, position=1.0)
