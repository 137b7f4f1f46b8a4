"""Signal coordinates: one entry is the label, all others are noise."""

import pytest

from lib.seeds import generator_for
from lib.tasks.signal_coordinates import draw


def streams(*seeds):
    return [generator_for(seed, "signal") for seed in seeds]


def test_the_signal_coordinate_is_the_label_and_the_rest_is_small():
    points = draw(streams(0, 1), 200, n_relevant=3, n_noise=2, noise_std=0.01)
    assert points.xs.shape == (2, 200, 5)
    assert (points.xs.gather(-1, points.signal[..., None])[..., 0] == points.ys).all()
    rest = points.xs.scatter(-1, points.signal[..., None], 0.0)
    assert 0 < float(rest.abs().max()) < 0.06
    assert sorted(points.signal.unique().tolist()) == [0, 1, 2]
    assert 0.4 < float((points.ys > 0).float().mean()) < 0.6


def test_a_seed_does_not_depend_on_its_neighbours():
    assert (draw(streams(5), 20, 4).xs[0] == draw(streams(4, 5), 20, 4).xs[1]).all()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="n_points is 0; it must be at least 1"):
        draw(streams(0), 0, 2)
    with pytest.raises(ValueError, match="n_relevant is 0; it must be at least 1"):
        draw(streams(0), 5, 0)
    with pytest.raises(ValueError, match="n_noise is -1; it must be at least 0"):
        draw(streams(0), 5, 2, -1)
    with pytest.raises(ValueError, match=r"noise_std is -0.1; it must not be negative"):
        draw(streams(0), 5, 2, 0, -0.1)
