"""Features and copying: a prediction is what its formula says, a member is what it is alone, hidden targets stay hidden."""

import pytest
import torch

from lib.models.linear_attention_variants import (
    CopyingTransformer,
    FeatureRegressor,
    MLPTransformer,
    token_sensitivities,
)
from lib.tasks.in_context_regression import linear_targets, sines, streams, uniform_inputs
from lib.theory.gd_plus_plus import construction, implicit_weights


def waves(seeds=(0, 1), batch=6):
    return sines(streams(seeds, "test of features"), batch, 8)


def prompts(seeds=(0, 1), batch=6, n_points=5, n_dims=3):
    generators = streams(seeds, "test of copying")
    xs = uniform_inputs(generators, batch, n_points, n_dims)
    return xs, linear_targets(generators, xs)[0]


def test_the_constructed_feature_regressor_takes_one_gradient_step_from_its_initial_model():
    xs, ys = waves()
    model = FeatureRegressor(5, 16, seeds=[0, 1], constructed=True)
    features = model.tokens(xs, torch.zeros_like(ys)).detach()
    m, r = features[..., :-1], features[..., -1]
    weights = torch.zeros(2, 6, 5, requires_grad=True)
    residuals = ys + r - (m @ weights[..., None])[..., 0]
    (gradient,) = torch.autograd.grad(residuals[..., :-1].square().sum() / 2, weights)
    step = -model.rate.detach()[..., None] * gradient
    expected = -r[..., -1] + (m[..., -1, :] * step).sum(-1)
    torch.testing.assert_close(model(xs, ys), expected)
    assert (expected + r[..., -1]).abs().max() > 1e-3


def test_free_attention_at_the_construction_is_the_constructed_model():
    xs, ys = waves()
    free, held = (FeatureRegressor(5, 16, seeds=[0, 1], constructed=c) for c in (False, True))
    W_KQ, W_PV = construction(5, rate=0.01)
    with torch.no_grad():
        assert (free(xs, ys) - held(xs, ys)).abs().max() > 1e-3
        free.W_KQ.copy_(W_KQ.expand(2, 6, 6))
        free.W_PV.copy_(W_PV.expand(2, 6, 6))
    torch.testing.assert_close(free(xs, ys), held(xs, ys))


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (lambda seeds: FeatureRegressor(5, 16, seeds), waves),
        (lambda seeds: FeatureRegressor(5, 16, seeds, constructed=True), waves),
        (lambda seeds: CopyingTransformer(3, 5, seeds), prompts),
        (lambda seeds: MLPTransformer(3, 2, 8, seeds, init_std=0.3), prompts),
    ],
    ids=["features", "constructed", "copying", "MLPs"],
)
def test_a_stacked_member_is_what_it_is_alone(make, draw):
    def trained(seeds):
        xs, ys = draw(seeds)
        model = make(seeds)
        descent = torch.optim.Adam(model.parameters(), lr=0.003)
        for _ in range(5):
            descent.zero_grad()
            (model(xs, ys) - ys[..., -1]).square().mean(-1).sum().backward()
            descent.step()
        return model(xs, ys).detach()

    torch.testing.assert_close(trained([3, 7])[1:], trained([7]), rtol=1e-5, atol=1e-5)
    assert (trained([3]) - trained([7])).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("model", "draw"),
    [
        (FeatureRegressor(5, 16, [0, 1]), waves),
        (CopyingTransformer(3, 5, [0, 1]), prompts),
        (MLPTransformer(3, 2, 8, [0, 1], init_std=0.3), prompts),
    ],
    ids=["features", "copying", "MLPs"],
)
def test_the_target_of_the_query_is_not_looked_at(model, draw):
    xs, ys = draw()
    shown = ys.clone()
    shown[..., -1] = 100.0
    assert model(xs, shown).equal(model(xs, ys))
    shown[..., 0] = 100.0
    assert not model(xs, shown).allclose(model(xs, ys))


def test_a_first_layer_that_copies_makes_gradient_descent_possible_on_standard_tokens():
    """Weights by hand: each y attends to the token before it and takes over its x; then the construction steps."""
    xs, ys = prompts(n_points=5, n_dims=3)
    model, rate, n_tokens = CopyingTransformer(3, 5, seeds=[0, 1]), 0.7, 9
    W_KQ, W_PV = construction(3, rate)
    before = torch.diag(torch.ones(n_tokens - 1), diagonal=1)  # a query at position i + 1 meets the key at i
    before[:, ::2] = 0  # tokens of x look nowhere in particular …
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        model.copy_KQ[:, 4:, 4:] = 1000 * before
        model.copy_OV[:, :3, :3] = torch.eye(3)
        model.W_KQ[:, :4, :4] = W_KQ
        model.W_PV[:, :4, :4] = W_PV
    # … so that they take over a mean of x: it reaches the query, but y = 0 keeps it out of the step's sum.
    query = xs[..., -1, :] + xs[..., :-1, :].sum(-2) / 8
    expected = rate * ((xs[..., :-1, :] @ query[..., None])[..., 0] * ys[..., :-1]).sum(-1)
    torch.testing.assert_close(model(xs, ys).detach(), expected, rtol=1e-4, atol=1e-5)
    sensitivities = token_sensitivities(model.copying_layer, model.tokens(xs, ys))
    assert (sensitivities[:, 1, 0] > 10 * sensitivities[:, 1, 2:].amax(-1)).all()


def test_without_positions_the_order_of_the_points_does_not_matter():
    xs, ys = prompts()
    order = [2, 0, 3, 1, 4]
    for positions in (True, False):
        model = CopyingTransformer(3, 5, seeds=[0, 1], positions=positions)
        moved = (model(xs[..., order, :], ys[..., order]) - model(xs, ys)).abs().max()
        assert (moved > 1e-4) == positions


def test_layers_with_silent_mlps_at_the_construction_take_steps_of_gd_plus_plus():
    xs, ys = prompts(batch=40)
    model, rates, shrinkages = MLPTransformer(3, 3, 8, seeds=[0, 1]), [0.7, 0.9, 1.1], [0.3, 0.2, 0.1]
    with torch.no_grad():
        for layer, rate, shrinkage in zip(model.layers, rates, shrinkages, strict=True):
            for name, weights in zip(("W_KQ", "W_PV"), construction(3, rate, shrinkage), strict=True):
                layer[name].copy_(weights.expand(2, 4, 4))
            layer["W_out"].zero_()
    weights = implicit_weights(xs[..., :-1, :], ys[..., :-1], torch.tensor(rates), torch.tensor(shrinkages))
    expected = (weights * xs[..., -1, :]).sum(-1)
    torch.testing.assert_close(model(xs, ys).detach(), expected, rtol=1e-4, atol=1e-5)
    assert expected.abs().max() > 0.1
    assert [W_PV[0, 3, 3].item() for _, W_PV in model.matrices()] == pytest.approx([-0.7, -0.9, -1.1])


def test_an_mlp_between_layers_adds_its_formula_to_every_token_and_tokens_are_clipped():
    """Attention silenced: a prediction is what the MLPs make of the query's own token (x_q, 0)."""
    xs, ys = prompts()
    model = MLPTransformer(3, 2, 8, seeds=[0, 1], init_std=0.5)
    with torch.no_grad():
        for layer in model.layers:
            layer["W_PV"].zero_()
            layer["bias"].normal_(generator=torch.Generator().manual_seed(0))
    token = torch.cat([xs[..., -1, :], torch.zeros_like(xs[..., -1, :1])], dim=-1)
    for layer in model.layers:
        hidden = torch.einsum("shd,sbd->sbh", layer["W_in"], token) + layer["bias"][:, None]
        token = token + torch.einsum("sdh,sbh->sbd", layer["W_out"], torch.nn.functional.gelu(hidden))
    torch.testing.assert_close(model(xs, ys), -token[..., -1])
    assert token[..., -1].abs().max() > 0.01
    model.bound = 0.001
    assert model(xs, ys).abs().max() <= 0.001


def test_sensitivities_of_a_shift_are_at_the_neighbour():
    tokens = torch.randn(2, 10, 4, 3, generator=torch.Generator().manual_seed(0))
    measured = token_sensitivities(lambda tokens: tokens.roll(1, dims=-2), tokens)
    torch.testing.assert_close(measured, 3**0.5 * torch.eye(4).roll(1, dims=0).expand(2, 4, 4))


def test_impossible_sizes_are_refused_by_name():
    with pytest.raises(ValueError, match="n_features and n_hidden are 0 and 4"):
        FeatureRegressor(0, 4, [0])
    with pytest.raises(ValueError, match=r"half_width is -1\.0; it must be positive"):
        FeatureRegressor(2, 4, [0], half_width=-1.0)
    with pytest.raises(ValueError, match="n_dims and n_points are 3 and 1"):
        CopyingTransformer(3, 1, [0])
    with pytest.raises(ValueError, match=r"init_std is 0\.0; it must be positive"):
        CopyingTransformer(3, 4, [0], init_std=0.0)
    with pytest.raises(ValueError, match="prompts have 5 points of 3 dimensions; the model was made for 6 of 3"):
        CopyingTransformer(3, 6, [0, 1])(*prompts())
    with pytest.raises(ValueError, match="n_dims, n_layers and n_hidden are 3, 0 and 8"):
        MLPTransformer(3, 0, 8, [0])
    with pytest.raises(ValueError, match=r"init_std and bound are 0\.02 and -1\.0"):
        MLPTransformer(3, 2, 8, [0], bound=-1.0)
    with pytest.raises(ValueError, match="xs have 3 dimensions; the model was made for n_dims = 2"):
        MLPTransformer(2, 2, 8, [0, 1])(*prompts())
