"""The square network: its gradients against autograd, members on their own, the start of a linear layer of torch."""

import pytest
import torch

from lib.models.square_network import SquareNetwork, squared_error
from lib.tasks.modular_arithmetic import one_hot_pairs, split_pairs

TRAIN, TEST = split_pairs([0, 4], 7, 0.6)
XS = one_hot_pairs(TRAIN, 7)


def test_gradients_are_those_of_autograd():
    model = SquareNetwork(7, 9, [0, 4]).double()
    xs = XS.double()
    found = model.gradients(xs, TRAIN.ys)
    features = model.features(xs)
    features.retain_grad()
    losses = squared_error(features @ model.output.mT, TRAIN.ys)
    losses.sum().backward()
    torch.testing.assert_close(found.loss, losses.detach())
    torch.testing.assert_close(found.hidden, model.hidden.grad)
    torch.testing.assert_close(found.output, model.output.grad)
    torch.testing.assert_close(found.to_features, -XS.shape[1] / 2 * features.grad)


def test_the_loss_is_the_published_one():
    """Σ of squared centred logits, minus twice the centred logit of the class, plus 1 - 1/M."""
    logits = SquareNetwork(7, 9, [0, 4])(XS).detach()
    centred = logits - logits.mean(-1, keepdim=True)
    published = (centred.square().sum(-1) - 2 * centred.gather(-1, TRAIN.ys[..., None])[..., 0]).mean(-1) + 1 - 1 / 7
    torch.testing.assert_close(squared_error(logits, TRAIN.ys), published)
    torch.testing.assert_close(squared_error(torch.ones(2, 3, 7), TRAIN.ys[:, :3]), torch.full((2,), 6 / 7))


def test_a_member_trained_in_a_stack_is_the_member_trained_alone():
    def trained(seeds, xs, ys):
        model = SquareNetwork(7, 9, seeds)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-4)
        for _ in range(30):
            found = model.gradients(xs, ys)
            model.hidden.grad, model.output.grad = found.hidden, found.output
            optimizer.step()
        return model

    both, alone = trained([0, 4], XS, TRAIN.ys), trained([4], XS[1:], TRAIN.ys[1:])
    torch.testing.assert_close(both.hidden[1:], alone.hidden, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(both.output[1:], alone.output, rtol=1e-5, atol=1e-5)


def test_weights_start_uniform_within_the_inverse_root_of_the_inputs():
    model = SquareNetwork(50, 400, [1])
    for weights, n_in in ((model.hidden, 100), (model.output, 400)):
        assert weights.abs().max() <= n_in**-0.5
        assert weights.var().item() == pytest.approx(1 / (3 * n_in), rel=0.05)


@pytest.mark.parametrize(("modulus", "width"), [(1, 4), (5, 0)])
def test_a_network_of_nothing_is_refused(modulus, width):
    with pytest.raises(ValueError, match=f"modulus is {modulus} and width {width}; they must be at least 2 and 1"):
        SquareNetwork(modulus, width, [0])
