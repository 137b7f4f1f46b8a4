"""What a card or a command line may say, and how it is refused."""

from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.cards import Parameter, Refused, parameters_of, read_card

CARD = """key: walk
title: A walk
authors: [A. Walker]
year: 2026
arxiv: "0000.00000"
headline: positions
scales: {standard: {steps: 5}}
claims: []
"""
CELL = """scale: str = "quick"  # quick, standard or paper
device: str = "auto"  # auto, cpu or cuda
seeds: list[int] = [0, 1]  # seeds
steps: int = 3  # length
lr: float = 0.5  # size of a step"""


def write(folder: Path, card: str = CARD, cells: tuple[str, ...] = (CELL,)) -> Path:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]}) for cell in cells]
    nbformat.write(notebook, folder / "walk.ipynb")
    (folder / "walk.yml").write_text(card)
    return folder / "walk.yml"


def test_a_scale_takes_the_cell_then_the_card_then_the_command_line(tmp_path: Path):
    card = read_card(write(tmp_path))
    assert card.parameters("quick")["steps"] == 3
    assert card.parameters("standard")["steps"] == 5
    assert card.parameters("standard", overrides={"steps": "9", "lr": "1e-3"})["steps"] == 9
    assert card.parameters("quick", device="cuda") == {
        "scale": "quick", "device": "cuda", "seeds": [0, 1], "steps": 3, "lr": 0.5
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scales", "told"),
    [
        ("{huge: {steps: 5}}", "scale 'huge' is unknown; use quick, standard, paper"),
        ("{standard: {stepz: 5}}", "has no parameter 'stepz'; it has seeds, steps, lr"),
        ("{standard: {scale: paper}}", "has no parameter 'scale'"),
        ("{standard: {steps: 5.0}}", r"steps must be int, got 5.0 \(float\)"),
        ("{standard: {steps: yes}}", r"steps must be int, got True \(bool\)"),
        ("{standard: {lr: 1e-3}}", r"lr must be float, got '1e-3' \(str\) \(in YAML write 1.0e-3, not 1e-3\)"),
        ("{standard: {lr: .nan}}", "lr must be a finite number, got nan"),
        ("{standard: {seeds: [0, a]}}", "seeds must be int, got 'a'"),
        ("{standard: {seeds: 3}}", r"seeds must be list\[int\], got 3"),
        ("{standard: 5}", "scale standard must map parameter names to values"),
    ],
)
def test_a_card_with_a_wrong_scale_is_refused_with_the_key_at_fault(scales: str, told: str, tmp_path: Path):
    with pytest.raises(Refused, match=told):
        read_card(write(tmp_path, CARD.replace("{standard: {steps: 5}}", scales))).parameters("standard")


@pytest.mark.parametrize("card", ["", "- a list", "key: [unclosed", "key: only", "\x00"])
def test_what_is_no_card_is_refused_in_one_line(card: str, tmp_path: Path):
    with pytest.raises(Refused) as refusal:
        read_card(write(tmp_path, card))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ("[{id: a}]", "claims, number 1: the field statement is missing"),
        (
            "[{id: a, statement: b, where: c, quantity: d, expected: 1.0, tolerance: 0.0, reason: e, statment: f}]",
            "claims, number 1: the field 'statment' is unknown; there can be id, statement, where",
        ),
    ],
)
def test_a_claim_with_wrong_fields_is_refused(claims: str, told: str, tmp_path: Path):
    with pytest.raises(Refused, match=told):
        _ = read_card(write(tmp_path, CARD.replace("claims: []", f"claims: {claims}"))).claims


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ((), "exactly one cell tagged 'parameters', found 0"),
        ((CELL, CELL), "found 2"),
        ((CELL + "\nwidth = 3  # no type",), "write each parameter as"),
        ((CELL + "\nwidth: int = 3",), "write each parameter as"),
        ((CELL + "\nwidth: int = len([])  # not a literal",), "write each parameter as"),
        ((CELL + "\nwidth: int = 0.5  # not its type",), "width must be int"),
        ((CELL.replace("seeds:", "sedes:"),), "must declare 'seeds'"),
    ],
)
def test_a_parameters_cell_has_annotated_literals_with_comments(cells: tuple[str, ...], told: str, tmp_path: Path):
    with pytest.raises(Refused, match=told):
        parameters_of(write(tmp_path, cells=cells).with_suffix(".ipynb"))


def test_comments_become_help(tmp_path: Path):
    assert parameters_of(write(tmp_path).with_suffix(".ipynb"))["lr"].help == "size of a step"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int", "3", 3),
        ("float", "3", 3.0),
        ("float", "1e-3", 0.001),
        ("bool", "true", True),
        ("str", "3", "3"),
        ("list[float]", "[1,2.5]", [1.0, 2.5]),
        ("list[int]", "[]", []),
    ],
)
def test_text_is_read_by_the_parameter_s_type(kind: str, text: str, value: object):
    parsed = Parameter("x", kind, None, "").parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@given(st.sampled_from(["int", "float", "bool", "list[int]"]), st.text(max_size=30))
def test_any_text_is_read_or_refused_never_worse(kind: str, text: str):
    try:
        value = Parameter("x", kind, None, "").parse(text)
    except Refused as refusal:
        assert "parameter x must be" in str(refusal)
    else:
        assert Parameter("x", kind, None, "").check(value, "again") == value
