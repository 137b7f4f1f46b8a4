"""Which device a run uses."""

import os

from lib.errors import shown

DEVICES = ("auto", "cpu", "cuda")


def resolve(name: str) -> str:
    """Turn auto, cpu or cuda into the device that is used.

    Args:
        name: `auto` takes a CUDA GPU where there is one.

    Returns:
        "cpu" or "cuda".

    Raises:
        ValueError: an unknown name, or cuda on a machine without a CUDA GPU.
    """
    if name not in DEVICES:
        raise ValueError(f"DEVICE={shown(name)} is unknown; use {', '.join(DEVICES)}")
    if name == "cpu" or (name == "auto" and not os.path.exists("/dev/nvidiactl")):
        return "cpu"  # without importing torch, which takes a second that a run with nothing to do can save
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise ValueError("DEVICE=cuda, but PyTorch finds no CUDA GPU here; use DEVICE=cpu or DEVICE=auto")
    return "cpu"
