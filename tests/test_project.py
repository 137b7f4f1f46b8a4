"""The repository keeps its promises about itself: environments in step, a true catalogue, clean notebooks, no stray size."""

import csv
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from lib.cards import all_cards, read_card
from lib.paths import CATALOGUE, NOTEBOOKS, PACKAGE

ROOT = PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(
    re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line).groups()
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
)
CARDS = [path.relative_to(NOTEBOOKS).as_posix() for path in sorted(NOTEBOOKS.glob("*/*.yml"))]
ALL_NOTEBOOKS = [
    path.relative_to(NOTEBOOKS).as_posix()
    for path in sorted(NOTEBOOKS.rglob("*.ipynb"))
    if ".ipynb_checkpoints" not in path.parts
]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_locked_to_a_version_that_it_admits():
    locked = {canonical(name): Version(version) for name, version in LOCK.items()}
    wanted = PROJECT["dependencies"] + [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
    for requirement in map(Requirement, wanted):
        assert canonical(requirement.name) in locked, f"{requirement.name} is not in requirements.lock"
        assert locked[canonical(requirement.name)] in requirement.specifier


def test_the_installed_numeric_packages_are_the_locked_ones():
    from lib.keys import DRAWING_PACKAGES, NUMERIC_PACKAGES, versions

    locked = {canonical(name): version for name, version in LOCK.items()}
    for package, version in versions(NUMERIC_PACKAGES + DRAWING_PACKAGES).items():
        assert locked[package] == version


def test_conda_users_get_the_locked_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge"]
    python, pip, through_pip = environment["dependencies"]
    assert python.startswith("python" + PROJECT["requires-python"])
    assert pip == "pip"
    assert through_pip["pip"] == ["-r requirements.lock", "-e ."]


def test_the_catalogue_has_189_papers_with_states_that_are_true():
    with open(CATALOGUE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["key", "title", "year", "arxiv", "theme", "verdict", "reason", "state", "notebook"]
    assert len({row["key"] for row in rows}) == len(rows) == 189
    cards = {card.key: card for card in all_cards().values()}
    for row in rows:
        assert row["verdict"] in "ABCD"
        assert row["title"]
        assert row["reason"]
        assert row["state"] in ("planned", "done")
        assert (row["state"] == "done") == (row["key"] in cards) == bool(row["notebook"])
        if row["state"] == "done":
            card = cards[row["key"]]
            assert NOTEBOOKS / row["notebook"] == card.notebook
            assert card.notebook.is_file()
            assert (card.committed / "claims.json").is_file()
            assert (row["title"], row["arxiv"]) == (card.content["title"], card.content["arxiv"])
    assert cards.keys() <= {row["key"] for row in rows}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_names_claims_worth_judging(name: str):
    card = read_card(NOTEBOOKS / name)
    claims = list(card.claims.values())
    assert len(claims) >= 4
    assert any(claim.control for claim in claims)
    for scale in ("quick", "standard", "paper"):
        card.parameters(scale)
    assert len(card.parameters("standard")["seeds"]) >= 5
    assert (card.committed / f"{card.content['headline']}.png").is_file()


@pytest.mark.parametrize("name", CARDS)
def test_the_committed_ledger_and_record_have_the_formats_that_others_read(name: str):
    card = read_card(NOTEBOOKS / name)
    ledger = json.loads((card.committed / "claims.json").read_text())
    assert ledger.keys() == {"paper", "scale", "claims"}
    assert ledger["scale"] == "standard"
    fields = [
        "id",
        "statement",
        "where",
        "quantity",
        "expected",
        "tolerance",
        "reason",
        "measured",
        "interval",
        "n_seeds",
        "verdict",
        "control",
    ]
    for row in ledger["claims"]:
        assert set(fields) <= row.keys()
        assert row["verdict"] in ("reproduced", "not reproduced", "not judged at this scale")
        assert row["verdict"] != "not reproduced" or row.get("tried"), f"{row['id']}: say what was tried"
    record = json.loads((card.committed / "record.json").read_text())
    fields = (
        "paper scale parameters seeds keys commit versions device threads dtype wall_seconds peak_memory_bytes created"
    )
    assert set(fields.split()) <= record.keys()
    pictures = {path.stem for path in card.committed.glob("*.png")}
    assert pictures
    assert pictures == {path.stem for path in card.committed.glob("*.csv")}


@pytest.mark.parametrize("name", CARDS)
def test_a_paper_keeps_its_budget(name: str):
    record = json.loads((read_card(NOTEBOOKS / name).committed / "record.json").read_text())
    assert record["wall_seconds"] <= 240
    assert record["peak_memory_bytes"] <= 4e9


@pytest.mark.parametrize("name", ALL_NOTEBOOKS)
def test_a_notebook_is_clean(name: str):
    path = NOTEBOOKS / name
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert "papermill" not in notebook.metadata
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kept = []
    for cell in code:
        tags = cell.metadata.get("tags", [])
        assert all(output.output_type != "error" for output in cell.outputs)
        if cell.outputs:
            assert {"keep_output", "nbval-check-output"} <= set(tags)
            kept.append(cell)
    assert len(kept) == 1, "exactly one output is kept: the verdicts, as text"
    assert kept[0].outputs[0].output_type == "stream"
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|Users|tmp|work|mnt)/", text), "a path of one machine"


@pytest.mark.parametrize("name", [name for name in ALL_NOTEBOOKS if "/" in name])
def test_a_paper_notebook_has_its_parts_in_order(name: str):
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    card = read_card((NOTEBOOKS / name).with_suffix(".yml"))
    assert card.declared  # exactly one parameters cell, well formed
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    first = notebook.cells[0].source
    assert f"arxiv.org/abs/{card.content['arxiv']}" in first
    assert f"figures/{card.path.stem}/{card.content['headline']}.png" in first
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    wanted = ("What you will see", "The idea", "Verdict", "Try it", "Departures from the paper")
    positions = [next(i for i, heading in enumerate(headings) if part in heading) for part in wanted]
    assert positions == sorted(positions)
    assert text.count("<details>") >= 3, "exercises with folded solutions"


def test_links_between_files_lead_somewhere():
    pages = [ROOT / "README.md", *(NOTEBOOKS / name for name in ALL_NOTEBOOKS)]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if page.suffix == ".ipynb":
            text = "\n".join(
                cell.source for cell in nbformat.read(page, as_version=4).cells if cell.cell_type == "markdown"
            )
        for target in re.findall(r"\]\(([^)#\s]+)\)", text):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def size_of(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files if path.is_file() and "__pycache__" not in path.parts)


@pytest.mark.parametrize("name", CARDS)
def test_a_paper_is_small(name: str):
    """The library grows with its papers: each has its share, so that a clone of all 189 stays a matter of seconds."""
    card = read_card(NOTEBOOKS / name)
    assert size_of([card.path, card.notebook, *card.committed.rglob("*")]) < 1.2e6


def test_everything_but_the_papers_is_small():
    ignored = {".git", ".venv", "build", "papers_that_run.egg-info", "figures"}
    papers = {(NOTEBOOKS / name).with_suffix(suffix) for name in CARDS for suffix in (".yml", ".ipynb")}
    files: list[Path] = []
    for entry in ROOT.iterdir():
        if entry.name not in ignored and not entry.name.endswith("_cache"):
            files += [entry] if entry.is_file() else entry.rglob("*")
    assert size_of(path for path in files if path not in papers) < 3e6
