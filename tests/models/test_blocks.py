"""The layers that models share, against torch's own; how weights are drawn."""

import pytest
import torch
from torch import nn

from lib.models.blocks import Draws, causal_attention, linear, linear_of_norm, members, require_sizes


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights(**shapes):
    return {name: randn(2, *shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


def test_a_linear_layer_is_torch_s_member_by_member():
    w, xs = weights(out_W=(3, 4), out_b=(3,)), randn(2, 5, 4)
    for member in range(2):
        expected = nn.functional.linear(xs[member], w["out_W"][member], w["out_b"][member])
        torch.testing.assert_close(linear(w, "out", xs)[member], expected)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_of_a_norm_is_the_norm_and_then_the_layer(bias):
    w, xs = weights(out_W=(3, 4), norm_W=(4,), norm_b=(4,), out_b=(3,)), randn(2, 5, 4, seed=9)
    if not bias:
        del w["out_b"]
    for member in range(2):
        normed = nn.functional.layer_norm(xs[member], (4,), w["norm_W"][member], w["norm_b"][member])
        expected = nn.functional.linear(normed, w["out_W"][member], w["out_b"][member] if bias else None)
        torch.testing.assert_close(linear_of_norm(w, "out", "norm", xs)[member], expected, rtol=1e-4, atol=1e-5)


def test_attention_is_torch_s_and_a_causal_mask_of_zeros_changes_nothing():
    qkv = randn(2, 3 * 5, 12)  # two members, three sequences of five steps, two heads of size two
    mixed = causal_attention(qkv, n_heads=2, time=5)
    future = torch.full((5, 5), -torch.inf).triu(1).expand(6, 2, 5, 5)
    torch.testing.assert_close(causal_attention(qkv, n_heads=2, time=5, mask=future), mixed)
    q, k, v = qkv.reshape(6, 5, 3, 4).unbind(2)
    for head in range(2):
        mine = slice(2 * head, 2 * head + 2)
        scores = (q[..., mine] @ k[..., mine].mT / 2**0.5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        expected = (scores.softmax(-1) @ v[..., mine]).reshape(2, 15, 2)
        torch.testing.assert_close(mixed[..., mine], expected, rtol=1e-4, atol=1e-5)


def test_a_name_s_draw_depends_on_kind_and_seed_alone():
    both, alone = Draws("a", [0, 3]).linear("x", 4, 3), Draws("a", [3], n_copies=2).linear("x", 4, 3)
    assert torch.equal(both["x_W"][1], alone["x_W"][1, 0])
    assert not torch.equal(both["x_W"][1], Draws("b", [3]).linear("x", 4, 3)["x_W"][0])
    assert alone["x_b"].shape == (2, 1, 3) and not alone["x_b"].any()
    norm = Draws("a", [0]).norm("n", 5)
    assert (norm["n_W"] == 1).all() and not norm["n_b"].any()


def test_members_are_the_stack_in_one_axis():
    stacked = nn.ParameterDict(Draws("a", [0, 1], n_copies=3).linear("x", 4, 2))
    assert {name: w.shape for name, w in members(stacked, 2).items()} == {"x_W": (6, 2, 4), "x_b": (6, 2)}


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="n_layers is 0; it must be at least 1"):
        require_sizes({"n_layers": 0}, 4, 2)
    with pytest.raises(ValueError, match=r"n_heads is 3; it must divide the width 4 \(so 1…4\)"):
        require_sizes({}, 4, 3)
