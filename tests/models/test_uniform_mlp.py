"""Networks started as torch.nn.Linear starts them: forward pass by hand, pairs as one-hot vectors, members on their own."""

import pytest
import torch
from torch.nn import Linear, ReLU, Sequential

from lib.models.uniform_mlp import UniformMLP, read_pairs
from lib.tasks.modular_arithmetic import one_hot_pairs, split_pairs


@pytest.mark.parametrize("bias", [False, True])
def test_the_forward_pass_is_that_of_torch_s_layers(bias):
    model = UniformMLP([6, 5, 4, 3], seeds=[0, 1], bias=bias)
    xs = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0))
    for member in range(2):
        layers = [Linear(n_in, n_out, bias=bias) for n_in, n_out in ((6, 5), (5, 4), (4, 3))]
        for i, layer in enumerate(layers):
            layer.weight.data = model.weights[i][member].detach()
            if bias:
                layer.bias.data = model.biases[i][member, 0].detach()
        alone = Sequential(layers[0], ReLU(), layers[1], ReLU(), layers[2])
        torch.testing.assert_close(model(xs)[member], alone(xs[member]))


def test_pairs_are_read_as_one_hot_vectors():
    p = 7
    train = split_pairs([0, 1], p, 0.5).train
    for n_copies in (None, 3):
        model = UniformMLP([2 * p, 8, p], seeds=[0, 1], n_copies=n_copies)
        torch.testing.assert_close(model(train), model(one_hot_pairs(train, p)))
        gathered = torch.autograd.grad(model(train).square().sum(), model.weights[0])
        multiplied = torch.autograd.grad(model(one_hot_pairs(train, p)).square().sum(), model.weights[0])
        torch.testing.assert_close(gathered, multiplied, rtol=1e-4, atol=1e-5)


def test_entries_start_uniform_between_plus_and_minus_one_over_root_in():
    model = UniformMLP([400, 300, 10], seeds=[0], bias=True)
    for parameter in (model.weights[0], model.biases[0]):
        entries = parameter.detach() * 20
        assert entries.abs().max() <= 1
        assert entries.square().mean().item() == pytest.approx(1 / 3, rel=0.2)


def test_a_member_does_not_depend_on_its_neighbours_and_copies_are_equal():
    alone, beside = UniformMLP([4, 3, 2], [7], bias=True), UniformMLP([4, 3, 2], [1, 7], n_copies=2, bias=True)
    for one, two in zip(alone.parameters(), beside.parameters(), strict=True):
        assert torch.equal(one[0], two[0, 1])
        assert torch.equal(two[0], two[1])


def test_widths_and_odd_inputs_are_checked():
    with pytest.raises(ValueError, match=r"widths is \[3\]; it must hold at least two numbers"):
        UniformMLP([3], [0])
    with pytest.raises(ValueError, match=r"widths is \[3, 0\]; it must hold at least two numbers, all at least 1"):
        UniformMLP([3, 0], [0])
    with pytest.raises(ValueError, match="the first layer reads 5 inputs; two one-hot vectors have an even number"):
        read_pairs(torch.zeros(1, 2, 5), split_pairs([0], 3, 0.5).train)
