"""Slabs: where coordinates lie, what they tell, and what shuffling takes away."""

import pytest
import torch

from lib.tasks.slabs import draw, interval_labels, interval_weights, intervals, randomised, streams


@pytest.mark.parametrize("k", [2, 3, 5, 6, 7])
def test_intervals_fill_the_range_with_gaps_of_twice_the_margin_and_alternate(k):
    ends, labels = intervals(k, 0.05), interval_labels(k)
    assert ends[0, 0] == -1 and float(ends[-1, 1]) == pytest.approx(1)
    assert torch.allclose(ends[1:, 0] - ends[:-1, 1], torch.full((k - 1,), 0.1, dtype=torch.float64))
    widths = ends[:, 1] - ends[:, 0]
    assert torch.allclose(widths, widths[0].expand(k))
    assert labels[-1] == 1 and (labels[1:] == -labels[:-1]).all()


@pytest.mark.parametrize("k", [2, 3, 5, 6, 7])
def test_every_point_lies_in_an_interval_of_its_label_and_every_interval_is_used_as_often_as_its_weight_says(k):
    (xs,), (ys,) = draw(streams([0], "test"), 20000, [k], [0.05])
    ends, labels = intervals(k, 0.05).float(), interval_labels(k)
    inside = (xs >= ends[:, 0] - 1e-6) & (xs <= ends[:, 1] + 1e-6)
    assert (inside.sum(1) == 1).all()
    which = inside.float().argmax(1)
    assert (labels[which] == ys).all()
    for label in (-1, 1):
        counts = torch.bincount(which[ys == label], minlength=k)[labels == label].float()
        assert torch.allclose(counts / counts.sum(), interval_weights(k)[labels == label], atol=0.02)
    if k % 2:  # no line tells anything
        assert abs(float((xs[:, 0] * ys).mean())) < 0.02


@pytest.mark.parametrize("k", [5, 7])
def test_no_square_tells_anything_about_five_and_seven_slabs(k):
    (xs,), (ys,) = draw(streams([0], "test"), 100000, [k], [0.05])
    squares = xs[:, 0].square()
    assert abs(float(squares[ys > 0].mean() - squares[ys < 0].mean())) < 0.005
    for label in (-1, 1):
        assert float(interval_weights(k)[interval_labels(k) == label].sum()) == 1


def test_a_flipped_coordinate_is_wrong_as_often_as_asked_for_and_the_other_never():
    (xs,), (ys,) = draw(streams([1], "test"), 20000, [2, 2], [0.1, 0.1], flips=[0.1, 0.0])
    assert float((xs[:, 0].sign() != ys).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert (xs[:, 1].sign() == ys).all()


def test_shuffled_coordinates_keep_their_values_and_lose_their_meaning():
    points = draw(streams([0, 5], "test"), 5000, [2, 2], [0.1, 0.1], n_noise=2)
    xs = randomised(points, [0], streams([0, 5], "shuffle"))
    assert torch.equal(xs[..., 1:], points.xs[..., 1:])
    assert torch.equal(xs[..., 0].sort(-1).values, points.xs[..., 0].sort(-1).values)
    assert float((xs[..., 0].sign() == points.ys).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_a_seed_does_not_depend_on_the_others():
    both, alone = (draw(streams(seeds, "test"), 10, [2, 3], [0.1, 0.1], n_noise=1) for seeds in ([0, 5], [5]))
    assert torch.equal(both.xs[1], alone.xs[0])


def test_what_makes_no_sense_is_refused():
    g = streams([0], "test")
    with pytest.raises(ValueError, match="n_slabs is 1; it must be at least 2"):
        intervals(1, 0.1)
    with pytest.raises(ValueError, match=r"margin is 0.5; for 3 slabs it must lie in \[0, 0.5\)"):
        intervals(3, 0.5)
    with pytest.raises(ValueError, match="n_points is 0"):
        draw(g, 0, [2], [0.1])
    with pytest.raises(ValueError, match=r"slabs, margins and flips have \(2, 1, 2\) entries"):
        draw(g, 5, [2, 3], [0.1])
    with pytest.raises(ValueError, match=r"flips is \[1.5\]; all must lie in 0…1"):
        draw(g, 5, [2], [0.1], flips=[1.5])
    with pytest.raises(ValueError, match=r"coordinates is \[1\]; all must lie in 0…0"):
        randomised(draw(g, 5, [2], [0.1]), [1], g)
