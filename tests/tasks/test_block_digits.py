"""BlockMNIST: one block tells the label, the other does not, and we know which."""

import numpy as np
import pytest
import torch

from lib.seeds import generator_for
from lib.tasks.block_digits import block_digits, in_null_block, null_pattern

# Ten digits that are flat images of brightness 20 times the digit.
LABELS = np.repeat(np.arange(10), 5)
POOL = (np.broadcast_to((20 * LABELS)[:, None, None, None], (50, 1, 28, 28)).astype(np.uint8), LABELS)


def streams(*seeds):
    return [generator_for(seed, "blocks") for seed in seeds]


def test_the_signal_block_holds_the_digit_and_the_null_block_the_pattern():
    blocks = block_digits(POOL, streams(0, 1), 40, size=7)
    null = in_null_block(blocks.top, 98)
    assert blocks.xs.shape == (2, 40, 98)
    brightness = blocks.xs[~null].reshape(2, 40, 49).mean(-1) * 255 / 20
    assert torch.allclose(brightness, blocks.ys.float(), atol=1e-4)
    assert (blocks.xs[null].reshape(-1, 49) == null_pattern(7).flatten()).all()
    assert 0.3 < float(blocks.top.float().mean()) < 0.7


def test_the_share_below_is_kept_and_the_digits_do_not_depend_on_it():
    top, bottom = (block_digits(POOL, streams(3), 30, size=7, below=below) for below in (0.0, 1.0))
    assert top.top.all()
    assert not bottom.top.any()
    assert (top.ys == bottom.ys).all()
    assert (top.xs[..., :49] == bottom.xs[..., 49:]).all()


def test_no_image_is_drawn_twice_and_classes_count_from_zero():
    blocks = block_digits(POOL, streams(0), 10, size=7, digits=(3, 8))
    assert blocks.ys[0].bincount().tolist() == [5, 5]


def test_a_seed_does_not_depend_on_its_neighbours():
    alone, pair = block_digits(POOL, streams(5), 9), block_digits(POOL, streams(4, 5), 9)
    assert (alone.xs[0] == pair.xs[1]).all()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"below is 1.5; it must lie in 0…1"):
        block_digits(POOL, streams(0), 5, below=1.5)
    with pytest.raises(ValueError, match=r"digits is \[1, 1\]; it must hold at least two, all different"):
        block_digits(POOL, streams(0), 5, digits=(1, 1))
    with pytest.raises(ValueError, match=r"n_points is 11; it must lie in 1…10"):
        block_digits(POOL, streams(0), 11, digits=(0, 1))
    with pytest.raises(ValueError, match="size is 5; it must divide"):
        block_digits(POOL, streams(0), 5, size=5)
    with pytest.raises(ValueError, match="n_pixels is 5; it must be even"):
        in_null_block(torch.ones(2, dtype=torch.bool), 5)
