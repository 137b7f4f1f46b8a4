r"""Passages of words with two classes: synthetic opinions, and Shakespeare's comedies against his other plays.

| data       | words                                         | class                                                 |
|------------|-----------------------------------------------|-------------------------------------------------------|
| `opinions` | random: positive, negative and neutral ones   | whether more positive or more negative words are in it |
| `plays`    | Tiny Shakespeare, without the speakers' names | 1: comedy or romance; -1: tragedy or history          |

Words are numbers; 0 is the query token that stands first in every passage, 1 the rare words of `plays`.

The file of Tiny Shakespeare holds ten plays one after the other: Coriolanus, Richard III, Richard II, Romeo and Juliet,
Henry VI part 3, then The Winter's Tale, Measure for Measure, The Taming of the Shrew, The Tempest (some cut short). The
second group begins with the first line of `FIRST_COMEDY`. Test passages are every fifth block of 20 passages, so that a
test passage is rarely next to a training passage.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.data import RemoteFile, fetch
from lib.seeds import generator_for

FIRST_COMEDY = "ARCHIDAMUS:"  # The Winter's Tale begins with him
SHAKESPEARE = RemoteFile(
    "tinyshakespeare",
    "input.txt",
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
_NAME = re.compile(r"^[A-Z][A-Za-z' ]*:$", re.MULTILINE)
_BLOCK = 20  # passages


class Passages(NamedTuple):
    """Passages and classes, stacked over seeds where the data are drawn."""

    words: Int[Tensor, "*seed n length"]
    ys: Float[Tensor, "*seed n"]


def opinions(seeds: Sequence[int], n: int, length: int, vocabulary: int, n_opinion: int) -> Passages:
    """Passages of neutral words with three opinion words, of which two or three agree with the class.

    Args:
        seeds: One data set per seed.
        n: Passages.
        length: Words of a passage, the query token included.
        vocabulary: Different words, the query token included.
        n_opinion: Positive words; there are as many negative ones, and the rest is neutral.

    Raises:
        ValueError: No passage, fewer than four words, no opinion word, or no neutral word.

    >>> opinions([0, 1], n=6, length=8, vocabulary=20, n_opinion=4).words.shape
    torch.Size([2, 6, 8])
    """
    if len(seeds) < 1:
        raise ValueError("seeds is empty; at least one is needed")
    if n < 1 or length < 4:
        raise ValueError(f"n and length are {n} and {length}; they must be at least 1 and 4")
    if n_opinion < 1 or vocabulary < 2 * n_opinion + 2:
        raise ValueError(
            f"n_opinion and vocabulary are {n_opinion} and {vocabulary}; there must be at least 1 and 2 * n_opinion + 2"
        )

    def draw(seed: int) -> tuple[Tensor, Tensor]:
        g = generator_for(seed, "opinions")
        words = torch.randint(1 + 2 * n_opinion, vocabulary, (n, length), generator=g)
        positive = torch.randint(2, (n,), generator=g).bool()
        unanimous = torch.randint(2, (n,), generator=g).bool()
        agrees = torch.stack([torch.ones(n, dtype=torch.bool)] * 2 + [unanimous], dim=1)
        spoken = torch.randint(1, 1 + n_opinion, (n, 3), generator=g) + n_opinion * (agrees ^ positive[:, None])
        places = torch.rand(n, length - 1, generator=g).argsort(-1)[:, :3] + 1
        words.scatter_(1, places, spoken)
        words[:, 0] = 0
        return words, 2.0 * positive - 1

    return Passages(*map(torch.stack, zip(*map(draw, seeds), strict=True)))


def passages_of(text: str, length: int, vocabulary: int) -> tuple[Passages, Passages]:
    """Training and test passages of a text of plays; see `plays`."""
    comedy = text.find(FIRST_COMEDY)
    if comedy < 1:
        raise ValueError(f"the text has no line {FIRST_COMEDY!r}, where the comedies begin")
    groups = [re.findall(r"[a-z']+", _NAME.sub("", part).lower()) for part in (text[:comedy], text[comedy:])]
    common = Counter(word for words in groups for word in words).most_common(vocabulary - 2)
    number = {word: i for i, (word, _) in enumerate(common, start=2)}
    split: dict[bool, tuple[list[Tensor], list[Tensor]]] = {False: ([], []), True: ([], [])}
    for words, y in zip(groups, (-1.0, 1.0), strict=True):
        numbers = torch.tensor([number.get(word, 1) for word in words])
        n = len(numbers) // (length - 1)
        passages = torch.nn.functional.pad(numbers[: n * (length - 1)].reshape(n, -1), (1, 0))
        is_test = torch.arange(n) // _BLOCK % 5 == 4
        for test, (all_passages, all_ys) in split.items():
            all_passages.append(passages[is_test == test])
            all_ys.append(torch.full((len(all_passages[-1]),), y))
    training, test = (Passages(torch.cat(words), torch.cat(ys)) for words, ys in split.values())
    return training, test


def plays(length: int, vocabulary: int) -> tuple[Passages, Passages]:
    """Passages of Shakespeare's plays.

    Args:
        length: Words of a passage, the query token included.
        vocabulary: Different words; the most frequent ones, the query token and one for all others.

    Returns:
        Training and test passages; passages are the same for every seed.

    Raises:
        ValueError: Fewer than two words, or no word of its own in the vocabulary.
        CorruptFile, DatasetUnavailable: See `lib.data.fetch`.
    """
    if length < 2 or vocabulary < 3:
        raise ValueError(f"length and vocabulary are {length} and {vocabulary}; they must be at least 2 and 3")
    return passages_of(fetch(SHAKESPEARE, decompress=False).decode(), length, vocabulary)
