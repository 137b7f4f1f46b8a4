"""What restricted linear attention promises: the polynomial view, and equality with real attention."""

import numpy as np
import pytest
import torch

from lib.models import restricted_attention as restricted
from lib.models import solver_weights
from lib.models.linear_attention import linear_attention
from lib.models.restricted_attention import RestrictedTransformer
from lib.tasks import in_context_regression as task
from lib.theory import iterative_solvers as solvers


def prompts(seeds, batch=6, n_points=9, n_dims=3, noise_std=0.0):
    covariances = task.rotated_covariances(task.streams(seeds, "covariances"), batch, n_dims, 1.0, 4.0)
    xs = task.gaussian_inputs(task.streams(seeds, "xs"), batch, n_points, n_dims, covariances)
    return xs, task.linear_targets(task.streams(seeds, "ws"), xs, noise_std=noise_std)[0]


def attend(xs, ys, blocks):
    """The prediction of a stack of linear attention layers on merged tokens, the query being no key."""
    tokens = task.merged_tokens(xs, ys)
    for W_KQ, W_PV in blocks:
        tokens = tokens + linear_attention(tokens, tokens[..., :-1, :], W_KQ, W_PV)
    return -tokens[..., -1, -1]


@pytest.mark.parametrize("noise_std", [0.0, 0.5])
@pytest.mark.parametrize("looped", [False, True])
def test_it_equals_linear_attention_with_the_block_weights(looped, noise_std):
    xs, ys = prompts([0, 1], noise_std=noise_std)
    model = RestrictedTransformer(3, 3, [0, 1], init_step=0.2, init_noise=0.3, looped=looped)
    blocks = [solver_weights.restricted_blocks(A, xs.shape[-2] - 1) for A in model.layers()]
    expected = attend(xs, ys, blocks)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(model(xs, ys), expected, atol=1e-5, rtol=1e-4)


def test_a_layer_is_its_definition_point_by_point():
    xs, ys = prompts([0], batch=1, n_points=5)
    model = RestrictedTransformer(3, 2, [0], init_step=0.2, init_noise=0.5)
    points, residuals = xs[0, 0], ys[0, 0].clone()
    for A in model.layers():
        moves = [sum(residuals[i] * (points[i] @ A[0] @ points[j]) for i in range(4)) / 4 for j in range(5)]
        residuals = residuals - torch.stack(moves)
    torch.testing.assert_close(model(xs, ys)[0, 0], ys[0, 0, -1] - residuals[-1], atol=1e-5, rtol=1e-4)


def test_the_error_maps_give_the_errors_of_the_forward_pass_at_every_depth():
    xs, _ = prompts([0, 1])
    ys, weights = task.linear_targets(task.streams([0, 1], "other ws"), xs)
    model = RestrictedTransformer(3, 4, [0, 1], init_step=0.2, init_noise=0.3)
    maps = restricted.error_maps(model.layers(), restricted.sample_covariance(xs))
    assert len(maps) == 5
    for n_layers in (1, 2, 4):
        errors = ((weights[..., None, :] @ maps[n_layers]).squeeze(-2) * xs[..., -1, :]).sum(-1)
        torch.testing.assert_close(ys[..., -1] - model(xs, ys, n_layers), errors, atol=1e-5, rtol=1e-4)


def test_with_equal_steps_the_error_map_has_the_residual_polynomial_s_eigenvalues():
    xs, _ = prompts([0])
    gram = restricted.sample_covariance(xs)
    steps = np.array([0.1, 0.3, 0.2])
    maps = restricted.error_maps([a * torch.eye(3)[None] for a in torch.tensor(steps, dtype=torch.float32)], gram)
    expected = solvers.residual_polynomial(torch.linalg.eigvalsh(gram).double().numpy(), steps)
    got = torch.linalg.eigvalsh(maps[-1]).double().numpy()
    np.testing.assert_allclose(np.sort(got), np.sort(expected), atol=1e-4)


def test_the_risk_is_the_mean_over_weights_and_queries():
    n = 40_000
    g = torch.Generator().manual_seed(0)
    error_map = torch.randn(3, 3, generator=g)
    covariance = torch.diag(torch.tensor([1.0, 2.0, 4.0]))
    weights, queries = torch.randn(2, n, 3, generator=g)
    squared = ((weights @ error_map) * (queries * covariance.diagonal().sqrt())).sum(-1).square()
    standard_error = squared.std() / n**0.5
    assert (squared.mean() - restricted.risk(error_map[None], covariance[None])[0]).abs() < 4 * standard_error


def test_a_loop_is_a_deep_model_with_tied_layers_and_goes_on_where_it_ends():
    xs, ys = prompts([0])
    looped = RestrictedTransformer(3, 3, [0], init_step=0.2, looped=True)
    deep = RestrictedTransformer(3, 3, [0], init_step=0.2)
    for A in deep.A:
        A.data = looped.A[0].data
    assert len(looped.A) == 1
    torch.testing.assert_close(looped(xs, ys), deep(xs, ys))
    torch.testing.assert_close(looped(xs, ys, 7), deep(xs, ys, 7))
    assert not torch.allclose(looped(xs, ys, 7), looped(xs, ys, 3))


def test_layers_start_apart_and_a_loop_at_the_mean_step():
    model = RestrictedTransformer(3, 6, [0, 1, 2], init_step=0.2)
    steps = model.steps()
    assert steps.shape == (6, 3)
    assert steps.std(0).min() > 0.03
    torch.testing.assert_close(
        RestrictedTransformer(3, 6, [0], init_step=0.2, looped=True, init_noise=0.0).steps(), torch.full((6, 1), 0.2)
    )


@pytest.mark.parametrize("looped", [False, True])
def test_a_stacked_member_equals_the_solo_model(looped):
    options = dict(n_dims=3, n_layers=3, init_step=0.2, looped=looped)
    xs, ys = prompts([0, 5])
    both, solo = RestrictedTransformer(seeds=[0, 5], **options), RestrictedTransformer(seeds=[5], **options)
    torch.testing.assert_close(both(xs, ys)[1], solo(xs[1:], ys[1:])[0], atol=1e-5, rtol=1e-5)
    gram = restricted.sample_covariance(xs)
    grown = [restricted.error_maps(m.layers(), s)[-1] for m, s in ((both, gram), (solo, gram[1:]))]
    torch.testing.assert_close(grown[0][1], grown[1][0], atol=1e-5, rtol=1e-5)


def test_the_query_s_own_target_is_never_seen():
    xs, ys = prompts([0])
    model = RestrictedTransformer(3, 2, [0], init_step=0.2)
    changed = ys.clone()
    changed[..., -1] = 100.0
    assert torch.equal(model(xs, ys), model(xs, changed))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: RestrictedTransformer(0, 1, [0], init_step=0.1), "n_dims and n_layers are 0 and 1; both must be"),
        (lambda: RestrictedTransformer(3, 0, [0], init_step=0.1), "n_dims and n_layers are 3 and 0"),
        (lambda: RestrictedTransformer(3, 1, [0], init_step=0.0), "init_step and init_noise are 0.0 and 0.05"),
        (lambda: RestrictedTransformer(3, 1, [0], init_step=1.0, init_noise=-1.0), "must be positive and at least 0"),
        (lambda: RestrictedTransformer(3, 1, [0], init_step=1.0).layers(0), "n_layers is 0; it must be at least 1"),
        (
            lambda: RestrictedTransformer(3, 1, [0], init_step=1.0)(torch.ones(1, 2, 5, 4), torch.ones(1, 2, 5)),
            "xs have 4 dimensions; the model was made for n_dims = 3",
        ),
        (lambda: restricted.sample_covariance(torch.ones(1, 3)), "n_points is 1; a prompt needs at least 2"),
    ],
)
def test_bad_input_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
