"""One hidden layer: both scalings, and that the rich one does not depend on the width."""

import pytest
import torch

from lib.models.one_hidden_layer import OneHiddenLayer


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("regime", ["rich", "lazy"])
def test_it_is_the_sum_over_its_neurons_and_starts_at_zero(regime):
    model, xs = OneHiddenLayer(3, 10, regime, seeds=[0, 4]), randn(2, 5, 3)
    assert model.function(xs).abs().max() < 1e-6
    with torch.no_grad():
        model.output.add_(randn(2, 1, 10))
    scale = 10 ** (-1.0 if regime == "rich" else -0.5)
    for member in range(2):
        total = torch.zeros(5)
        for a, row in zip(model.output[member, 0], model.hidden[member], strict=True):
            total += scale * a * torch.relu(xs[member] @ row[:3] + row[3])
        torch.testing.assert_close(model.function(xs)[member], total)
    torch.testing.assert_close(model(xs)[..., 1] - model(xs)[..., 0], model.function(xs))
    torch.testing.assert_close(model.hidden.norm(dim=-1), torch.ones(2, 10))


def test_a_step_of_the_unit_learning_rate_moves_rich_networks_of_any_width_alike():
    """The neural tangent kernel times the learning rate is a mean over neurons, so it converges with the width."""
    xs, moved = randn(1, 6, 3), []
    for width in (20000, 40000):
        model = OneHiddenLayer(3, width, "rich", seeds=[0])
        model.function(xs)[0, 0].backward()
        with torch.no_grad():
            for w in model.parameters():
                w -= 0.01 * model.unit_lr * w.grad
        moved.append(model.function(xs).detach())
    torch.testing.assert_close(*moved, rtol=0.05, atol=1e-4)
    assert moved[0].abs().max() > 1e-3


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="regime is 'hot'; it must be one of rich, lazy"):
        OneHiddenLayer(3, 8, "hot", [0])
    with pytest.raises(ValueError, match="n_in is 0; it must be at least 1"):
        OneHiddenLayer(0, 8, "rich", [0])
    with pytest.raises(ValueError, match="width is 7; it must be even"):
        OneHiddenLayer(3, 7, "rich", [0])
