import pytest
import torch
from torch import nn

from lib.models.recurrent import CELLS, Recurrent
from lib.seeds import generator_for

SIZES = dict(n_in=3, n_out=2, width=8, n_layers=2)


def tokens(*shape):
    return torch.randn(shape, generator=generator_for(0, "test"))


@pytest.mark.parametrize("cell", CELLS)
def test_a_member_equals_torchs_own_network_with_its_weights(cell):
    model, xs = Recurrent(cell, **SIZES, seeds=[3, 4]), tokens(2, 5, 6, 3)
    outputs = model(xs)
    for i in range(2):
        w = {name: v.detach()[i] for name, v in model.weights.items()}
        network = CELLS[cell](8, 8, 2, batch_first=True)
        network.load_state_dict({name: v for name, v in w.items() if not name.startswith("read")})
        hidden = network(nn.functional.linear(xs[i], w["read_in_W"], w["read_in_b"]))[0]
        expected = nn.functional.linear(hidden, w["read_out_W"], w["read_out_b"])
        torch.testing.assert_close(outputs[i], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_a_stacked_member_equals_the_solo_run(cell):
    both, solo = Recurrent(cell, **SIZES, seeds=[0, 5]), Recurrent(cell, **SIZES, seeds=[5])
    xs = tokens(5, 6, 3)
    torch.testing.assert_close(both(xs)[1:], solo(xs), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_no_output_depends_on_later_tokens(cell):
    model, xs = Recurrent(cell, **SIZES, seeds=[0]), tokens(1, 4, 6, 3)
    changed = xs.clone()
    changed[..., 4:, :] += 1
    torch.testing.assert_close(model(xs)[..., :4, :], model(changed)[..., :4, :])
    assert not torch.equal(model(xs)[..., 4, :], model(changed)[..., 4, :])


def test_every_parameter_receives_a_gradient():
    model = Recurrent("gru", **SIZES, seeds=[0, 1])
    model(tokens(4, 6, 3)).square().sum().backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in model.parameters())


def test_the_state_is_what_the_cell_keeps():
    assert Recurrent("lstm", **SIZES, seeds=[0]).state_size == 2 * 2 * 8
    assert Recurrent("gru", **SIZES, seeds=[0]).state_size == 2 * 8


@pytest.mark.parametrize("changed", [dict(n_in=0), dict(n_out=0), dict(width=0), dict(n_layers=0)])
def test_a_size_below_one_is_refused(changed):
    with pytest.raises(ValueError, match=f"{next(iter(changed))} is 0; it must be at least 1"):
        Recurrent("lstm", **SIZES | changed, seeds=[0])


def test_an_unknown_cell_is_refused():
    with pytest.raises(ValueError, match="cell is 'rnn'; it must be one of"):
        Recurrent("rnn", **SIZES, seeds=[0])


def test_tokens_of_another_size_are_refused():
    with pytest.raises(ValueError, match="tokens have size 4; the model was made for n_in = 3"):
        Recurrent("lstm", **SIZES, seeds=[0])(torch.zeros(1, 2, 4, 4))
