"""What linear self-attention promises."""

import pytest
import torch

from lib.models.linear_attention import LinearTransformer, linear_attention
from lib.tasks import in_context_regression as task
from lib.theory import regression_baselines


def prompts(seeds, batch=6, n_points=8, n_dims=3):
    xs = task.gaussian_inputs(task.streams(seeds, "xs"), batch, n_points, n_dims)
    return xs, task.linear_targets(task.streams(seeds, "ws"), xs)[0]


@pytest.mark.parametrize("n_queries", [1, 9])  # scores first, Gram matrix first
def test_attention_is_the_double_sum_of_its_definition(n_queries):
    g = torch.Generator().manual_seed(0)
    queries, context = torch.randn(2, n_queries, 4, generator=g), torch.randn(2, 25, 4, generator=g)
    W_KQ, W_PV = torch.randn(2, 4, 4, generator=g)
    expected = torch.zeros_like(queries)
    for b in range(2):
        for m in range(n_queries):
            for i in range(25):
                expected[b, m] += W_PV @ context[b, i] * (context[b, i] @ W_KQ @ queries[b, m])
    assert torch.allclose(linear_attention(queries, context, W_KQ, W_PV), expected, rtol=1e-4, atol=1e-3)


def test_the_construction_computes_one_step_of_gradient_descent():
    xs, ys = prompts([0])
    model = LinearTransformer(3, 1, seeds=[0])
    with torch.no_grad():
        model.layers[0]["W_KQ"].copy_(torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])))
        model.layers[0]["W_PV"].copy_(torch.diag(torch.tensor([0.0, 0.0, 0.0, 0.1])))
    step = regression_baselines.gradient_descent(xs[..., :-1, :], ys[..., :-1], xs[..., -1:, :], rate=0.1)
    assert torch.allclose(model(xs, ys), step[..., 0], atol=1e-5)


def test_factors_and_their_products_are_the_same_model():
    xs, ys = prompts([0, 1])
    factored = LinearTransformer(3, 2, seeds=[0, 1], factored=True, init_std=0.3)
    merged = LinearTransformer(3, 2, seeds=[0, 1])
    for layer, (W_KQ, W_PV) in zip(merged.layers, factored.matrices(), strict=True):
        layer["W_KQ"].data, layer["W_PV"].data = W_KQ.detach(), W_PV.detach()
    assert torch.allclose(merged(xs, ys), factored(xs, ys), atol=1e-5)


def test_a_loop_is_a_deep_model_with_tied_layers():
    xs, ys = prompts([0])
    looped, deep = (LinearTransformer(3, 3, seeds=[0], looped=loop, init_std=0.2) for loop in (True, False))
    for layer in deep.layers:
        layer.load_state_dict(looped.layers[0].state_dict())
    assert len(list(looped.parameters())) == 2 and len(looped.matrices()) == 3
    assert torch.allclose(looped(xs, ys), deep(xs, ys), atol=1e-6)


def test_the_query_changes_the_context_s_sum_only_when_it_is_a_key():
    xs, ys = prompts([0])
    without, with_query = (
        LinearTransformer(3, 1, seeds=[0], query_is_key=flag, init_std=0.5) for flag in (False, True)
    )
    tokens = task.merged_tokens(xs, ys)
    query = tokens[..., -1:, :]
    extra = linear_attention(query, query, *without.matrices()[0])[..., 0, -1]
    assert extra.abs().max() > 0.01
    assert torch.allclose(with_query(xs, ys), without(xs, ys) + extra, atol=1e-5)


def test_the_query_s_own_target_is_never_seen():
    xs, ys = prompts([0])
    model = LinearTransformer(3, 2, seeds=[0], init_std=0.5, query_is_key=True)
    changed = ys.clone()
    changed[..., -1] = 100.0
    assert torch.equal(model(xs, ys), model(xs, changed))


@pytest.mark.parametrize("factored", [False, True])
def test_a_stacked_member_equals_the_solo_model(factored):
    options = dict(n_dims=3, n_layers=2, factored=factored, init_std=0.3)
    xs, ys = prompts([0, 5])
    both = LinearTransformer(seeds=[0, 5], n_copies=4, **options)(xs, ys)
    assert both.shape == (4, 2, 6)
    assert torch.allclose(both[2, 1], LinearTransformer(seeds=[5], **options)(xs[1:], ys[1:])[0], atol=1e-5)


def test_bad_input_is_refused_in_words():
    with pytest.raises(ValueError, match="n_dims and n_layers are 3 and 0; both must be at least 1"):
        LinearTransformer(3, 0, seeds=[0])
    with pytest.raises(ValueError, match=r"init_std is 0\.0; it must be positive"):
        LinearTransformer(3, 1, seeds=[0], init_std=0.0)
    model = LinearTransformer(3, 1, seeds=[0])
    with pytest.raises(ValueError, match="xs have 4 dimensions; the model was made for n_dims = 3"):
        model(torch.ones(1, 2, 5, 4), torch.ones(1, 2, 5))
    with pytest.raises(ValueError, match="n_points is 1; a prompt needs at least 2"):
        model(torch.ones(1, 2, 1, 3), torch.ones(1, 2, 1))


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("query_is_key", [False, True])
def test_the_answer_and_its_slopes_are_those_of_the_layers_applied_one_by_one(n_layers, query_is_key):
    xs, ys = (values.double() for values in prompts([0, 1], n_dims=4))
    xs.requires_grad_()
    model = LinearTransformer(4, n_layers, seeds=[0, 1], init_std=0.3, query_is_key=query_is_key).double()
    tokens = task.merged_tokens(xs, ys)
    for W_KQ, W_PV in model.matrices():
        context = tokens if query_is_key else tokens[..., :-1, :]
        tokens = tokens + linear_attention(tokens, context, W_KQ, W_PV)
    leaves = [xs, *model.parameters()]
    slopes, expected = (torch.autograd.grad(p.sum(), leaves) for p in (model(xs, ys), tokens[..., -1, -1]))
    assert torch.allclose(model(xs, ys), tokens[..., -1, -1], rtol=1e-9)
    for ours, theirs in zip(slopes, expected, strict=True):
        assert theirs.abs().max() > 1e-3
        assert torch.allclose(ours, theirs, rtol=1e-7, atol=1e-9)
