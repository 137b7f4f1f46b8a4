"""Descent on scores is descent on W."""

import pytest
import torch
from torch.nn.functional import relu, softplus

from lib.descend import descend
from lib.models.relu_attention import descend_on_scores, relu_heads
from lib.models.token_attention import attend
from lib.optimizers import NormalizedGD
from lib.tasks.token_sequences import unit_tokens


def setting(seeds: list[int], n: int = 3, T: int = 4, d: int = 5) -> tuple:
    data = unit_tokens(seeds, n, T, d)
    W = torch.randn(len(seeds), d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return data.xs, data.zs, data.ys, relu_heads(seeds, d), W


def test_the_path_is_that_of_automatic_differentiation_through_W():
    xs, zs, ys, V, W = setting([0, 1, 2, 3])
    trained = W.clone().requires_grad_()

    def loss(step: int) -> torch.Tensor:
        context, _ = attend(xs, zs, trained)
        return softplus(-ys * relu(context @ V).sum(-1)).mean(-1)

    log = [0, 1, 10, 60]
    slow = descend(loss, NormalizedGD([trained], lr=0.1), 60, evaluate=trained.clone, log_steps=log)["log"]
    fast = descend_on_scores(xs, zs, ys, V, W, lr=0.1, n_steps=60, log_steps=log)
    torch.testing.assert_close(fast, slow, rtol=1e-7, atol=1e-7)
    assert (fast[1] - fast[0]).norm(dim=(-2, -1)).sub(0.1).abs().max() < 1e-12


def test_the_direction_survives_saturated_attention():
    # One sequence, two tokens: the gradient always points along (x_1 - x_2) zᵀ, also where attention to x_2 is 1e-200.
    xs = torch.tensor([[[[1.0, 0.0], [0.0, 0.5]]]], dtype=torch.float64)
    zs, ys = torch.tensor([[[0.6, 0.8]]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    V = torch.eye(2, dtype=torch.float64)[None]
    direction = torch.outer(xs[0, 0, 0] - xs[0, 0, 1], zs[0, 0])
    direction /= direction.norm()
    W = 400 * direction[None]
    assert attend(xs, zs, W)[1].amin() < -400
    (end,) = descend_on_scores(xs, zs, ys, V, W, lr=0.1, n_steps=10, log_steps=[10])
    torch.testing.assert_close(end[0], W[0] + direction, rtol=0, atol=1e-9)


def test_an_instance_does_not_depend_on_its_neighbours():
    xs, zs, ys, V, W = setting([0, 1, 2])
    together = descend_on_scores(xs, zs, ys, V, W, lr=0.1, n_steps=50, log_steps=[50])
    alone = descend_on_scores(xs[1:2], zs[1:2], ys[1:2], V[1:2], W[1:2], lr=0.1, n_steps=50, log_steps=[50])
    torch.testing.assert_close(together[:, 1:2], alone, rtol=1e-9, atol=1e-9)


def test_where_the_head_is_dead_nothing_moves():
    xs, zs, ys, _, W = setting([0])
    V = torch.zeros(1, 5, 2, dtype=torch.float64)
    (end,) = descend_on_scores(xs, zs, ys, V, W, lr=0.1, n_steps=3, log_steps=[3])
    torch.testing.assert_close(end, W)


@pytest.mark.parametrize(("place", "name"), [(1, "zs"), (2, "ys"), (3, "V"), (4, "W")])
def test_shapes_that_do_not_fit_are_refused(place: int, name: str):
    tensors = list(setting([0, 1]))
    tensors[place] = tensors[place][:1]
    with pytest.raises(ValueError, match=rf"{name} has shape \(1, .*for xs \(2, 3, 4, 5\) it must be \(2, "):
        descend_on_scores(*tensors, lr=0.1, n_steps=3, log_steps=[3])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lr": 0.0}, "lr are 3 and 0.0"),
        ({"n_steps": 0}, "n_steps and lr are 0"),
        ({"log_steps": [2, 1]}, "log_steps is"),
        ({"log_steps": [4]}, "within 0…3"),
    ],
)
def test_what_is_no_training_is_refused(settings: dict, told: str):
    with pytest.raises(ValueError, match=told):
        descend_on_scores(*setting([0]), **({"lr": 0.1, "n_steps": 3, "log_steps": [3]} | settings))
