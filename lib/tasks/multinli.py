"""Sentence pairs of MultiNLI: does the second follow from the first, contradict it, or neither?

Source: Williams, Nangia, Bowman 2018, arXiv 1704.05426; `multinli_1.0.zip`, 227 MB, with one JSON object per line. The test
set is the "matched" development set, as usual: labels of the test sets are not public. Pairs on which the annotators found
no majority are left out.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from lib.data import RemoteFile, fetch
from lib.seeds import generator_for

LABELS = ("entailment", "neutral", "contradiction")
MULTINLI = RemoteFile(
    "multinli",
    "multinli_1.0.zip",
    "https://cims.nyu.edu/~sbowman/multinli/multinli_1.0.zip",
    "049f507b9e36b1fcb756cfd5aeb3b7a0cfcb84bf023793652987f7e7e0957822",
)
_FILES = {"train": "multinli_1.0/multinli_1.0_train.jsonl", "test": "multinli_1.0/multinli_1.0_dev_matched.jsonl"}


class Pairs(NamedTuple):
    """Premises, hypotheses and the numbers of their labels in `LABELS`."""

    premises: Sequence[str]
    hypotheses: Sequence[str]
    labels: Int[Tensor, " n"]


@lru_cache(maxsize=2)  # checking and parsing take seconds, and one process reads the same file for every run
def _rows(file: RemoteFile, split: str) -> list[dict[str, str]]:
    with zipfile.ZipFile(io.BytesIO(fetch(file, decompress=False))) as archive:
        rows = [json.loads(line) for line in archive.read(_FILES[split]).splitlines()]
    return [row for row in rows if row["gold_label"] in LABELS]


def pairs(split: str, n: int, seed: int) -> Pairs:
    """A random part of MultiNLI.

    Args:
        split: "train" or "test".
        n: Pairs, at most as many as there are (392,702 and 9,815).
        seed: Which part.

    Returns:
        Pairs in random order.

    Raises:
        ValueError: Another split, or an `n` outside of the set.
        CorruptFile, DatasetUnavailable: See `lib.data.fetch`.
    """
    if split not in _FILES:
        raise ValueError(f"split is {split!r}; it must be 'train' or 'test'")
    rows = _rows(MULTINLI, split)
    if not 1 <= n <= len(rows):
        raise ValueError(f"n is {n}; it must lie in 1…{len(rows)}, the number of pairs of the split {split!r}")
    order = torch.randperm(len(rows), generator=generator_for(seed, f"multinli {split}"))[:n].tolist()
    chosen = [rows[i] for i in order]
    labels = torch.tensor([LABELS.index(row["gold_label"]) for row in chosen])
    return Pairs([row["sentence1"] for row in chosen], [row["sentence2"] for row in chosen], labels)
