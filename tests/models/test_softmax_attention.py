"""Softmax attention: equal to torch's own, stacked equal to solo, and errors in words."""

import pytest
import torch
from torch import nn

from lib.models.softmax_attention import SoftmaxRegressor, attention_outputs, softmax_attention


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written_out(query, context, W_KQ, w_OV, scale):
    """The definition for one query of one prompt, head by head and token by token."""
    answer = 0.0
    for KQ, OV in zip(W_KQ, w_OV, strict=True):
        scores = [scale * token @ KQ @ query for token in context]
        total = sum(score.exp() for score in scores)
        answer = answer + sum(score.exp() / total * (OV @ token) for score, token in zip(scores, context, strict=True))
    return answer


def test_outputs_equal_the_definition_head_by_head():
    queries, context, W_KQ, w_OV = draw(3, 2, 4), draw(3, 5, 4, seed=1), draw(6, 4, 4, seed=2), draw(6, 4, seed=3)
    outputs = softmax_attention(queries, context, W_KQ, w_OV, scale=0.7)
    for prompt in range(3):
        for m in range(2):
            expected = written_out(queries[prompt, m], context[prompt], W_KQ, w_OV, 0.7)
            torch.testing.assert_close(outputs[prompt, m], expected)


def test_the_model_equals_torch_multi_head_attention_with_the_same_weights():
    n_dims, n_heads, batch, n_points = 3, 2, 7, 6
    model, size = SoftmaxRegressor(n_dims, n_heads, seeds=[4]).double(), 4
    xs, ys = draw(1, batch, n_points, n_dims), draw(1, batch, n_points, seed=1)
    reference = nn.MultiheadAttention(n_heads * size, n_heads, bias=False, kdim=size, vdim=size, batch_first=True)
    reference = reference.double()
    read_in = nn.Linear(size, n_heads * size, bias=False).double()  # torch wants queries of the full width
    with torch.no_grad():
        read_in.weight.copy_(model.query[0].flatten(0, 1))
        reference.q_proj_weight.copy_(torch.eye(n_heads * size))
        reference.k_proj_weight.copy_(model.key[0].flatten(0, 1))
        reference.v_proj_weight.copy_(model.value[0].flatten(0, 1))
        reference.out_proj.weight.zero_()
        reference.out_proj.weight[0] = model.projection[0, :, 0].flatten()
        context = torch.cat([xs, ys[..., None]], -1)[0, :, :-1]
        query = torch.cat([xs[0, :, -1:], torch.zeros(batch, 1, 1)], -1)
        expected = reference(read_in(query), context, context)[0][:, 0, 0]
    torch.testing.assert_close(model(xs, ys)[0].detach(), expected)


def test_gradients_are_those_of_finite_differences():
    arguments = [t.requires_grad_() for t in (draw(2, 1, 3), draw(2, 4, 3, seed=1), draw(2, 3, 3, seed=2))]
    assert torch.autograd.gradcheck(
        lambda *a: attention_outputs(*a, scale=0.5), (*arguments, draw(2, 2, 3, seed=3).requires_grad_())
    )


def test_settings_and_seeds_broadcast_against_shared_prompts():
    queries, context = draw(2, 3, 1, 4), draw(2, 3, 5, 4, seed=1)  # two seeds
    W_KQ, w_OV = draw(6, 7, 2, 3, 4, 4, seed=2), draw(6, 7, 2, 3, 4, seed=3)  # settings 6 × 7, two seeds, three heads
    outputs = softmax_attention(queries, context, W_KQ, w_OV, scale=0.5)
    assert outputs.shape == (6, 7, 2, 3, 1)
    alone = softmax_attention(queries[1], context[1], W_KQ[4, 5, 1], w_OV[4, 5, 1], scale=0.5)
    torch.testing.assert_close(outputs[4, 5, 1], alone)
    one_model = softmax_attention(queries, context, W_KQ[0, 0, 0], w_OV[0, 0, 0], scale=0.5)
    torch.testing.assert_close(
        one_model[0], softmax_attention(queries[0], context[0], W_KQ[0, 0, 0], w_OV[0, 0, 0], 0.5)
    )


def test_stacked_training_equals_solo_training():
    def trained(seeds: list[int]) -> torch.Tensor:
        model = SoftmaxRegressor(2, 3, seeds, n_copies=2)
        adam = torch.optim.Adam(model.parameters(), lr=0.01)
        xs = torch.stack([draw(8, 5, 2, seed=seed) for seed in seeds]).float()
        for _ in range(20):
            adam.zero_grad()
            (model(xs, xs[..., 0]) - xs[..., -1, 0]).square().mean(-1).sum().backward()
            adam.step()
        return model.products()[0].detach()

    together = trained([0, 1, 2])
    assert together.std() > 0
    torch.testing.assert_close(together[:, 1:2], trained([1]), rtol=0, atol=1e-5)


def test_the_hidden_target_of_the_query_changes_nothing():
    model, xs, ys = SoftmaxRegressor(3, 2, seeds=[0]), torch.randn(1, 4, 5, 3), torch.randn(1, 4, 5)
    with torch.no_grad():
        seen, hidden = model(xs, ys), model(xs, torch.cat([ys[..., :-1], 100 + ys[..., -1:]], -1))
        torch.testing.assert_close(seen, hidden, rtol=0, atol=0)
        assert not torch.equal(seen, model(xs, 2 * ys))


def test_several_targets_are_predicted_at_once():
    model, xs, ys = SoftmaxRegressor(3, 2, seeds=[0], n_targets=2), torch.randn(1, 4, 6, 3), torch.randn(1, 4, 6, 2)
    W_KQ, W_OV = (W.detach() for W in model.products())
    assert W_KQ.shape == (1, 2, 5, 5) and W_OV.shape == (1, 2, 2, 5)
    tokens = torch.cat([xs, ys], -1)
    query = torch.cat([xs[..., -1:, :], torch.zeros(1, 4, 1, 2)], -1)
    second = softmax_attention(query, tokens[..., :-1, :], W_KQ, W_OV[..., 1, :], 5**-0.5)[..., 0]
    torch.testing.assert_close(model.predictions(xs, ys)[..., 1].detach(), second)
    with pytest.raises(ValueError, match="n_targets is 2"):
        model(xs, ys[..., 0])


def test_draws_are_uniform_within_one_over_root_inputs():
    model = SoftmaxRegressor(5, 8, seeds=list(range(40)))
    for weights, fan_in in ((model.query, 6), (model.value, 6), (model.projection, 48)):
        bound = fan_in**-0.5
        assert weights.abs().max() <= bound
        # Four standard errors of the mean square of uniform draws.
        tolerance = 4 * bound**2 * (1 / 5 - 1 / 9) ** 0.5 / weights.numel() ** 0.5
        assert abs(weights.square().mean().item() - bound**2 / 3) < tolerance


def test_a_divided_width_sets_the_heads_and_the_scale():
    model = SoftmaxRegressor(5, 3, seeds=[0], width=6)
    assert model.key.shape == (1, 3, 2, 6) and model.scale == 2**-0.5
    assert SoftmaxRegressor(5, 3, seeds=[0]).key.shape == (1, 3, 6, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(n_dims=0, n_heads=1), "n_dims is 0; it must be at least 1"),
        (dict(n_dims=3, n_heads=0), "n_heads is 0; it must be at least 1"),
        (dict(n_dims=3, n_heads=1, n_targets=0), "n_targets is 0"),
        (dict(n_dims=3, n_heads=8, width=4), "width is 4; it must be a positive multiple of n_heads = 8"),
        (dict(n_dims=3, n_heads=3, width=4), "width is 4; it must be a positive multiple of n_heads = 3"),
    ],
)
def test_impossible_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxRegressor(seeds=[0], **arguments)


def test_prompts_that_do_not_fit_are_refused():
    model = SoftmaxRegressor(3, 2, seeds=[0])
    with pytest.raises(ValueError, match="made for n_dims = 3"):
        model(torch.ones(1, 2, 4, 5), torch.ones(1, 2, 4))
    with pytest.raises(ValueError, match="made for n_targets = 1"):
        model.predictions(torch.ones(1, 2, 4, 3), torch.ones(1, 2, 4, 2))
    with pytest.raises(ValueError, match="n_points is 1"):
        model(torch.ones(1, 2, 1, 3), torch.ones(1, 2, 1))


def test_attention_refuses_an_empty_context_and_a_scale_of_zero():
    weights = torch.ones(2, 4, 4), torch.ones(2, 4)
    with pytest.raises(ValueError, match="context holds 0 tokens"):
        softmax_attention(torch.ones(1, 1, 4), torch.ones(1, 0, 4), *weights, scale=1.0)
    with pytest.raises(ValueError, match=r"scale is 0\.0; it must be positive"):
        softmax_attention(torch.ones(1, 1, 4), torch.ones(1, 2, 4), *weights, scale=0.0)
