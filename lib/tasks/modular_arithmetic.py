r"""Modular arithmetic: which class is a + b, a - b or a b modulo p? All ordered pairs of Z_p, some for training.

| papers           | code             | meaning                                              |
|------------------|------------------|------------------------------------------------------|
| p, M             | `modulus`        | number of residues, and of classes                   |
| (a, b)           | `Pairs.a`, `Pairs.b` | 0…p-1, all p² ordered pairs                      |
| y                | `Pairs.ys`       | the class, 0…p-1                                     |
| training share   | `train_fraction` | ⌊share · p²⌋ pairs are for training, the rest for testing |

Source: Power et al. 2022, arXiv 2201.02177 (the task); Prieto et al. 2025, arXiv 2501.04697; Tian 2025, arXiv 2509.21519.

A network reads a pair as two one-hot vectors side by side, `one_hot_pairs`. Its first layer then only adds two columns of
its matrix, W[:, a] + W[:, p + b]: gathering them is cheaper than multiplying by zeros.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from lib.seeds import generator_for

OPERATIONS = {"add": torch.add, "subtract": torch.sub, "product": torch.mul}


class Pairs(NamedTuple):
    """Pairs of residues and their classes."""

    a: Int[Tensor, "*seed n"]
    b: Int[Tensor, "*seed n"]
    ys: Int[Tensor, "*seed n"]

    def to(self, device: str | torch.device) -> "Pairs":
        """The same pairs on a device."""
        return Pairs(*(part.to(device) for part in self))


class Split(NamedTuple):
    """Pairs to train on and pairs to test on, each seed with its own."""

    train: Pairs
    test: Pairs

    def to(self, device: str | torch.device) -> "Split":
        """The same split on a device."""
        return Split(self.train.to(device), self.test.to(device))


def all_pairs(modulus: int, operation: str = "add") -> Pairs:
    """Every ordered pair, b running fastest.

    Args:
        modulus: p; a prime for "product" if every class but 0 is to be equally frequent.
        operation: One of `OPERATIONS`.

    Raises:
        ValueError: An unknown operation, or a modulus below 2.

    >>> [part.tolist() for part in all_pairs(2, "add")]
    [[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]]
    """
    if operation not in OPERATIONS:
        raise ValueError(f"operation is {operation!r}; it must be one of {', '.join(OPERATIONS)}")
    if modulus < 2:
        raise ValueError(f"modulus is {modulus}; it must be at least 2")
    a, b = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus)).unbind(-1)
    return Pairs(a, b, OPERATIONS[operation](a, b) % modulus)


def split_pairs(seeds: Sequence[int], modulus: int, train_fraction: float, operation: str = "add") -> Split:
    """A random choice of training pairs for each seed; the others are its test pairs.

    Args:
        seeds: One split per seed, independent of the others.
        modulus: p.
        train_fraction: Share of the p² pairs to train on, in (0, 1).
        operation: One of `OPERATIONS`.

    Raises:
        ValueError: A share that leaves no pair for training or none for testing, or as `all_pairs`.

    >>> train, test = split_pairs([0, 1], 5, 0.4)
    >>> train.ys.shape, test.ys.shape
    (torch.Size([2, 10]), torch.Size([2, 15]))
    """
    pairs = all_pairs(modulus, operation)
    n = len(pairs.ys)
    # An n / p² that was computed by division must give back n.
    n_train = int(train_fraction * n + 1e-9) if 0 < train_fraction < 1 else 0
    if not 0 < n_train < n:
        raise ValueError(
            f"train_fraction is {train_fraction}; of {n} pairs at least one must be left for training and one for testing"
        )
    orders = [torch.randperm(n, generator=generator_for(seed, "modular arithmetic: split")) for seed in seeds]
    order = torch.stack(orders)
    return Split(*(Pairs(*(part[chosen] for part in pairs)) for chosen in (order[:, :n_train], order[:, n_train:])))


def one_hot_pairs(pairs: Pairs, modulus: int) -> Float[Tensor, "*seed n d"]:
    """The inputs of a network: the one-hot vectors of a and of b side by side, d = 2p.

    >>> one_hot_pairs(all_pairs(2), 2)[1].tolist()
    [1.0, 0.0, 0.0, 1.0]
    """
    return torch.cat([one_hot(pairs.a, modulus), one_hot(pairs.b, modulus)], -1).float()
