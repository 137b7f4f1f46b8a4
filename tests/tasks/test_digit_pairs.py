"""Digits in pairs: both tell the label."""

import numpy as np
import pytest
import torch

from lib.tasks.digit_pairs import digit_pairs
from lib.tasks.slabs import streams

# Ten digits that are flat images of brightness 20 times the digit.
LABELS = np.repeat(np.arange(10), 3)
POOL = (np.broadcast_to((20 * LABELS)[:, None, None, None], (30, 1, 28, 28)).astype(np.uint8), LABELS)


def test_both_halves_show_the_digit_of_the_label():
    points = digit_pairs(POOL, streams([0, 1], "test"), 50, size=7, upper=(0, 1), lower=(4, 9))
    assert points.xs.shape == (2, 50, 2 * 49)
    middle = torch.tensor([0.5, 6.5])
    brightness = torch.stack([points.xs[..., :49].mean(-1), points.xs[..., 49:].mean(-1)], -1) * 255 / 20 + middle
    expected = torch.where(points.ys[..., None] > 0, torch.tensor([1.0, 9.0]), torch.tensor([0.0, 4.0]))
    assert torch.allclose(brightness, expected, atol=1e-4)
    assert 0.3 < float((points.ys > 0).float().mean()) < 0.7


def test_what_makes_no_sense_is_refused():
    g = streams([0], "test")
    with pytest.raises(ValueError, match="n_points is 0"):
        digit_pairs(POOL, g, 0)
    with pytest.raises(ValueError, match=r"upper is \(1, 1\); its two digits must differ"):
        digit_pairs(POOL, g, 5, upper=(1, 1))
    with pytest.raises(ValueError, match=r"lower is \(4, 11\); the pool has no digit 11"):
        digit_pairs(POOL, g, 5, lower=(4, 11))
    with pytest.raises(ValueError, match="size is 5; it must divide"):
        digit_pairs(POOL, g, 5, size=5)
