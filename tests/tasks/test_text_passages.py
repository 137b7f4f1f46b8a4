"""What the passages promise."""

import pytest
import torch

from lib.errors import CorruptFile
from lib.tasks import text_passages as task


def test_a_passage_holds_more_words_of_its_own_opinion():
    words, ys = task.opinions([0, 1], n=500, length=12, vocabulary=50, n_opinion=5)
    positive, negative = ((words >= low) & (words < low + 5) for low in (1, 6))
    balance = positive.sum(-1) - negative.sum(-1)
    assert torch.equal(balance.sign().float(), ys)
    assert set(balance.abs().unique().tolist()) == {1, 3}
    assert (words[..., 0] == 0).all() and (words[..., 1:] > 0).all() and words.max() < 50
    assert ys.mean().abs() < 4 / 1000**0.5


def test_opinions_stand_anywhere():
    words, _ = task.opinions([0], n=2000, length=8, vocabulary=50, n_opinion=5)
    share = (words < 11)[0, :, 1:].double().mean(0)
    assert share.tolist() == pytest.approx([3 / 7] * 7, abs=5 * (0.25 / 2000) ** 0.5)


def test_a_seed_draws_the_same_alone_and_in_company():
    together, alone = (task.opinions(seeds, 4, 8, 20, 4) for seeds in ([3, 7], [7]))
    assert torch.equal(together.words[1:], alone.words) and torch.equal(together.ys[1:], alone.ys)


TEXT = "KING:\nWar, war! O war\n\nARCHIDAMUS:\nJoy and joy, and war\n\nPAULINA:\nand joy\n"


def test_names_of_speakers_are_left_out_and_rare_words_are_one():
    training, _ = task.passages_of(TEXT, length=3, vocabulary=5)
    # war (4 times), joy, and (3 each; in the order of appearance), everything else: 1
    assert training.words.tolist() == [[0, 2, 2], [0, 1, 2], [0, 3, 4], [0, 3, 4], [0, 2, 4]]
    assert training.ys.tolist() == [-1, -1, 1, 1, 1]


def test_every_fifth_block_of_passages_is_for_testing():
    text = "KING:\n" + "a b " * 400 + "\nARCHIDAMUS:\n" + "c d " * 200
    training, test = task.passages_of(text, length=3, vocabulary=10)
    assert len(training.ys) + len(test.ys) == 600
    assert (test.ys == -1).sum() == 80 and (test.ys == 1).sum() == 40


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "tinyshakespeare"
    folder.mkdir()
    (folder / "input.txt").write_text(TEXT)
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    with pytest.raises(CorruptFile, match=r"input\.txt has SHA-256"):
        task.plays(length=8, vocabulary=100)


def test_passages_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="n and length are 5 and 3"):
        task.opinions([0], 5, 3, 20, 4)
    with pytest.raises(ValueError, match="n_opinion and vocabulary are 10 and 20"):
        task.opinions([0], 5, 8, 20, 10)
    with pytest.raises(ValueError, match="length and vocabulary are 1 and 100"):
        task.plays(1, 100)
    with pytest.raises(ValueError, match="no line 'ARCHIDAMUS:'"):
        task.passages_of("nothing", 3, 10)
