"""What the reader of MultiNLI promises, on an archive of the same layout."""

import hashlib
import io
import json
import zipfile

import pytest

from lib.tasks import multinli


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Six training pairs, one without a majority, and one test pair, laid out as the published file is."""
    labels = ["entailment", "neutral", "contradiction", "-", "neutral", "entailment"]
    train = [{"gold_label": label, "sentence1": f"p{i}", "sentence2": f"h{i}"} for i, label in enumerate(labels)]
    test = [{"gold_label": "neutral", "sentence1": "p", "sentence2": "h"}]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        for name, rows in (("train", train), ("dev_matched", test)):
            content.writestr(f"multinli_1.0/multinli_1.0_{name}.jsonl", "\n".join(map(json.dumps, rows)))
    (tmp_path / "multinli").mkdir()
    (tmp_path / "multinli" / "multinli_1.0.zip").write_bytes(file.getvalue())
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    digest = hashlib.sha256(file.getvalue()).hexdigest()
    monkeypatch.setattr(multinli, "MULTINLI", multinli.MULTINLI._replace(sha256=digest))


def test_pairs_keep_their_labels_and_those_without_a_majority_are_left_out(archive):
    premises, hypotheses, labels = multinli.pairs("train", 5, seed=0)
    assert sorted(premises) == ["p0", "p1", "p2", "p4", "p5"]
    assert [h[1:] for h in hypotheses] == [p[1:] for p in premises]
    expected = {"p0": 0, "p1": 1, "p2": 2, "p4": 1, "p5": 0}
    assert labels.tolist() == [expected[p] for p in premises]


def test_a_seed_names_a_part_and_an_order(archive):
    parts = [multinli.pairs("train", 4, seed).premises for seed in (0, 0, 1, 2, 3)]
    assert parts[0] == parts[1] and len({tuple(part) for part in parts}) > 1


def test_parts_that_cannot_be_are_refused(archive):
    with pytest.raises(ValueError, match="split is 'dev'"):
        multinli.pairs("dev", 1, 0)
    with pytest.raises(ValueError, match=r"n is 2; it must lie in 1…1"):
        multinli.pairs("test", 2, 0)
