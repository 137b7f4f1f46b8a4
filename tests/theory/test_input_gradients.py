"""Attributions, rankings and what they keep."""

import pytest
import torch

from lib.models.mlp import MLP
from lib.theory.input_gradients import attributions, kept, ranks, share_of


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_attributions_are_slopes_of_the_predicted_logit_over_the_mean():
    model, xs = MLP([4, 8, 3], seeds=[0, 1]).double(), randn(2, 5, 4).double()
    A, h = attributions(model, xs), 1e-6
    assert A.shape == xs.shape
    for j in range(4):
        moved = torch.zeros(4, dtype=torch.float64).index_fill(0, torch.tensor([j]), h)
        with torch.no_grad():
            c = model(xs).argmax(-1, keepdim=True)
            up, down = model(xs + moved), model(xs - moved)
        slope = ((up - down).gather(-1, c)[..., 0] - (up - down).mean(-1)) / (2 * h)
        torch.testing.assert_close(A[..., j], slope.abs(), atol=1e-6, rtol=1e-5)


def test_top_and_bottom_share_no_input_up_to_a_half_and_meet_there():
    order = ranks(randn(3, 7, 10).abs())
    assert (order.sort(-1).values == torch.arange(10)).all()
    top, bottom = kept(order, 0.5, "top"), kept(order, 0.5, "bottom")
    assert (top ^ bottom).all()
    assert (kept(order, 0.3, "top").sum(-1) == 3).all()
    assert kept(order, 1.0, "bottom").all()
    assert not kept(order, 0.0, "top").any()


def test_the_largest_value_has_rank_zero():
    values = randn(6, 9)
    assert (ranks(values).argmin(-1) == values.argmax(-1)).all()


def test_rows_of_zeros_do_not_count():
    values = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert share_of(values, torch.tensor([[True, False]] * 2)).item() == 0.5
    assert share_of(values * 0, torch.tensor([[True, False]] * 2)).item() == 0


def test_what_makes_no_sense_is_refused():
    order = ranks(torch.ones(1, 3))
    with pytest.raises(ValueError, match="end is 'middle'; it must be 'top' or 'bottom'"):
        kept(order, 0.5, "middle")
    with pytest.raises(ValueError, match=r"share is 1.1; it must lie in 0…1"):
        kept(order, 1.1, "top")
