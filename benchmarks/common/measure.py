"""Processor time of a piece of work, and the rate of the machine's matrix products to compare it with."""

import time
from collections.abc import Callable

import torch


def seconds(work: Callable[[], object], least: float = 2.0) -> float:
    """Processor seconds of one call, after a warm-up, over at least `least` seconds."""
    work()
    n, start = 0, time.process_time()
    while time.process_time() - start < least:
        work()
        n += 1
    return (time.process_time() - start) / n


def ceiling() -> float:
    """Floating-point operations per second of a large matrix product, two 1024 × 1024 matrices in float32."""
    a = torch.randn(1024, 1024)
    return 2 * 1024**3 / seconds(lambda: a @ a, least=1.0)
