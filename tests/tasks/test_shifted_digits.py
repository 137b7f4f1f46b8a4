"""Shifted digits: what each shift does, and that it does no more."""

import pytest
import torch

from lib.tasks.shifted_digits import DEGREES, NOISE_STD, SHIFTS, shifted, translations


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def bar(n=200, size=14):
    "A vertical bar in the middle."
    images = torch.zeros(n, size, size)
    images[:, 2:12, 6:8] = 1
    return images


def direction(images):
    "Angle of the leading axis of ink, in degrees from the vertical."
    rows, columns = torch.meshgrid(torch.arange(14.0) - 6.5, torch.arange(14.0) - 6.5, indexing="ij")
    moments = [(images * a * b).sum((-2, -1)) for a, b in ((rows, rows), (rows, columns), (columns, columns))]
    return torch.rad2deg(torch.atan2(2 * moments[1], moments[0] - moments[2]) / 2)


def test_noise_has_its_standard_deviation_and_no_mean():
    change = shifted(bar(), "noise", generator()) - bar()
    assert float(change.std()) == pytest.approx(NOISE_STD, rel=0.02)
    assert float(change.mean()) == pytest.approx(0, abs=0.01)


def test_rotation_turns_both_ways_by_its_angle_and_keeps_the_ink():
    turned = shifted(bar(), "rotation", generator())
    assert torch.allclose(direction(turned).abs(), torch.full((200,), DEGREES), atol=1.5)
    assert 0.3 < (direction(turned) > 0).float().mean() < 0.7
    assert torch.allclose(turned.sum((-2, -1)), bar().sum((-2, -1)), rtol=0.05)


def test_translation_moves_by_one_pixel_in_four_directions():
    moved = shifted(bar(), "translation", generator())
    rows, columns = moved.sum(-1) > 0, moved.sum(-2) > 0
    first = torch.stack([rows.float().argmax(-1), columns.float().argmax(-1)], -1)
    assert {tuple(pair) for pair in first.tolist()} == {(1, 6), (3, 6), (2, 5), (2, 7)}
    assert torch.equal(translations(bar())[0], bar())


def test_fog_raises_the_ground_and_keeps_white_white():
    fogged = shifted(bar(), "fog", generator())
    assert torch.allclose(fogged[:, 5, 6:8], torch.ones(200, 2))
    assert torch.allclose(fogged[:, 0].amax(-1), torch.tensor(0.4))
    assert torch.allclose(fogged[:, 0].amin(-1), torch.tensor(0.0))


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_same_generator_gives_the_same_images(shift):
    assert torch.equal(shifted(bar(), shift, generator(1)), shifted(bar(), shift, generator(1)))


def test_an_unknown_shift_is_refused():
    with pytest.raises(ValueError, match="shift is 'snow'"):
        shifted(bar(), "snow", generator())
