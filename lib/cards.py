"""A paper's card and its notebook's parameters: what can be run, with which values, and under which content key.

The card `notebooks/<theme>/<name>.yml` lies beside the notebook of the same name. The quick scale's values are those in the
notebook's parameters cell; the card gives what differs at the other scales.
"""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from lib import claims, keys, plain_yaml, sources
from lib.errors import Refused, shown
from lib.parameters import Parameter, code_cells, parameters_of, read_notebook
from lib.paths import BUILD, FIGURES, NOTEBOOKS, PACKAGE, ROOT


@dataclass(frozen=True)
class Card:
    """What is known of a paper before it is run."""

    path: Path
    content: dict[str, Any]

    @property
    def key(self) -> str:
        return self.content["key"]

    @property
    def notebook(self) -> Path:
        return self.path.with_suffix(".ipynb")

    @cached_property
    def declared(self) -> dict[str, Parameter]:
        """The notebook's parameters; they also take what the card's scales show to make sense."""
        scales = self.content["scales"].values()
        return {
            name: parameter.as_used(values[name] for values in scales if name in values)
            for name, parameter in parameters_of(self.notebook).items()
        }

    @cached_property
    def claims(self) -> dict[str, claims.Claim]:
        """Claims by id, in the card's order.

        Raises:
            Refused: a claim lacks a field, has an unknown one, or one of the wrong kind.
        """
        found = {}
        for number, row in enumerate(self.content["claims"], start=1):
            claim = _claim(row, f"{self.path}: claims, number {number}")
            if claim.id in found:
                raise Refused(f"{self.path}: two claims have the id {claim.id!r}; ids must be different")
            found[claim.id] = claim
        return found

    def parameters(self, scale: str, device: str = "cpu", overrides: dict[str, str] | None = None) -> dict[str, Any]:
        """Values of all parameters at a scale.

        Args:
            scale: quick, standard or paper.
            device: cpu or cuda.
            overrides: values given as text, by name.

        Raises:
            Refused: an unknown scale or parameter, or a value of the wrong type.
        """
        check_scale(scale)
        values = {name: parameter.value for name, parameter in self.declared.items()}
        changed = self.content["scales"].get(scale, {})
        self._refuse_unknown(changed, f"{self.path}, scale {scale}")
        values |= {
            name: self.declared[name].check(value, f"{self.path}, scale {scale}") for name, value in changed.items()
        }
        self._refuse_unknown(overrides or {}, "PARAMS")
        values |= {name: self.declared[name].parse(text) for name, text in (overrides or {}).items()}
        return values | {"scale": scale, "device": device}

    def _refuse_unknown(self, names: Iterable[str], where: str) -> None:
        free = [name for name in self.declared if name not in ("scale", "device")]
        for name in names:
            if name not in free:
                raise Refused(f"{where}: {self.key} has no parameter {shown(name)}; it has {', '.join(free)}")

    def content_key(self, parameters: dict[str, Any]) -> str:
        """Content key of everything that the notebook makes from these parameters."""
        cells = [_as_python(source) for source, _ in code_cells(read_notebook(self.notebook))]
        python = [cell for cell in cells if cell is not None]
        imports = set().union(*(sources.imported_modules(cell) for cell in python))
        files = sources.reached_files(imports)
        packages = keys.numeric_packages(files, set().union(*(sources.imported_packages(cell) for cell in python)))
        return keys.digest(
            {
                "cells": [sources.essential_source(cell) for cell in python],
                "broken": cells.count(None),  # such a notebook fails when it runs, and is never current
                "parameters": parameters,
                "card": self.content,
                "modules": keys.hashes(files),
                "style": keys.digest((PACKAGE / "style.mplstyle").read_text()),
                "versions": keys.versions(packages + keys.DRAWING_PACKAGES),
            }
        )

    def output(self, scale: str) -> Path:
        """Folder into which a run of this paper at a scale writes."""
        return BUILD / scale / self.path.stem

    @property
    def committed(self) -> Path:
        """Folder of the committed figures."""
        return FIGURES / self.path.stem


def _as_python(source: str) -> str | None:
    """A cell as plain Python, its magics and shell lines translated; None when it is not Python even then."""
    with contextlib.suppress(SyntaxError, ValueError):
        sources.parsed(source)
        return source
    from IPython.core.inputtransformer2 import TransformerManager  # here: few cells need it, and it takes a while

    with contextlib.suppress(SyntaxError, ValueError):
        translated = TransformerManager().transform_cell(source)
        sources.parsed(translated)
        return translated
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_name(value: Any, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: Any, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= _LARGEST_NUMBER


_NAME = "a name of letters, digits, hyphens and underscores"
_ARXIV = r"\d{4}\.\d{4,5}|[a-z.-]+/\d{7}|none|"
_FIELDS = {
    "key": (_NAME, lambda value: _is_name(value, r"[\w.-]+")),
    "title": ("text", _is_text),
    "authors": ("a list of names", lambda value: isinstance(value, list) and value and all(map(_is_text, value))),
    "year": ("a whole number from 1600 to 2100", lambda value: _is_whole(value, 1600, 2100)),
    "arxiv": ('text in quotes such as "2510.22980", or "none"', lambda value: _is_name(value, _ARXIV)),
    "headline": ("the name of a figure, without folder and ending", lambda value: _is_name(value, r"[\w-]+")),
    "scales": ("a mapping from quick, standard or paper to values", lambda value: isinstance(value, dict)),
    "claims": ("a list of claims", lambda value: isinstance(value, list)),
}

_CLAIM_FIELDS = {field.name: field.default is MISSING for field in fields(claims.Claim)}  # whether it is needed
_MOST_SEEDS = 10_000
_LARGEST_NUMBER = 1e300
_CLAIM_CHECKS = {
    "id": (_NAME, lambda value: _is_name(value, r"[\w.-]+")),
    "statement": ("text", _is_text),
    "where": ("text", _is_text),
    "quantity": ("text", _is_text),
    "expected": (
        "a number, or an inequality such as '>= 0.02'",
        lambda value: isinstance(value, str) or _is_number(value, -_LARGEST_NUMBER),
    ),
    "tolerance": ("a number of at least 0", lambda value: _is_number(value, 0.0)),
    "reason": ("text", _is_text),
    "n_seeds": (f"a whole number from 1 to {_MOST_SEEDS}", lambda value: _is_whole(value, 1, _MOST_SEEDS)),
    "scales": (
        f"a list of some of {', '.join(claims.SCALES)}",
        lambda value: isinstance(value, list) and value and all(one in claims.SCALES for one in value),
    ),
    "control": ("true or false", lambda value: isinstance(value, bool)),
    "tried": ("text", lambda value: isinstance(value, str)),
}


def _check(values: dict[str, Any], checks: dict[str, tuple[str, Any]], where: str) -> None:
    """Refuse the first value that its field does not take."""
    for field, (allowed, fits) in checks.items():
        if field in values and not fits(values[field]):
            hint = " (in YAML put text such as 'no' or 'on' in quotes)" if isinstance(values[field], bool) else ""
            raise Refused(f"{where}: {field} must be {allowed}, got {shown(values[field])}{hint}")


def _check_names(values: dict[Any, Any], needed: Iterable[str], known: Iterable[str], where: str) -> None:
    if missing := [name for name in needed if name not in values]:
        raise Refused(f"{where}: the field {missing[0]} is missing; there must be {', '.join(needed)}")
    if unknown := [name for name in values if name not in known]:
        raise Refused(f"{where}: the field {shown(unknown[0])} is unknown; there can be {', '.join(known)}")


def _claim(row: Any, where: str) -> claims.Claim:
    """A row of the card as a claim.

    Raises:
        Refused: the row lacks a field, has an unknown one, or one of the wrong kind.
    """
    if not isinstance(row, dict):
        raise Refused(f"{where} must be a mapping with the fields {', '.join(_CLAIM_FIELDS)}, got {shown(row)}")
    _check_names(row, [name for name, needed in _CLAIM_FIELDS.items() if needed], _CLAIM_FIELDS, where)
    _check(row, _CLAIM_CHECKS, where)
    try:
        return claims.Claim(**{**row, "scales": tuple(row.get("scales", claims.SCALES))})
    except (TypeError, ValueError) as error:
        raise Refused(f"{where}: {error}") from error


def read_card(path: Path) -> Card:
    """Read and check a card; the values of its scales are checked when they are asked for.

    Raises:
        Refused: the card cannot be read, or a field of it or of a claim is missing, unknown or of the wrong kind.
    """
    content = plain_yaml.read(path, "a card")
    if not isinstance(content, dict):
        raise Refused(f"{path} must be a mapping with the fields {', '.join(_FIELDS)}")
    _check_names(content, _FIELDS, _FIELDS, str(path))
    _check(content, _FIELDS, str(path))
    for scale, values in content["scales"].items():
        check_scale(scale, f"{path}: scales: ")
        if not isinstance(values, dict):
            raise Refused(f"{path}: scales: scale {scale} must map parameter names to values, got {shown(values)}")
    card = Card(path, content)
    _ = card.claims
    return card


def all_cards() -> dict[str, Card]:
    """Every paper that has a card, by key.

    Raises:
        Refused: a card is wrong, or two have one key.
    """
    cards: dict[str, Card] = {}
    for path in sorted(NOTEBOOKS.glob("*/*.yml")):
        card = read_card(path)
        for other in cards.values():
            if card.key == other.key or path.stem == other.path.stem:
                raise Refused(f"{path} and {other.path} must have different keys and different file names")
        cards[card.key] = card
    return cards


def check_scale(scale: Any, where: str = "") -> None:
    """Refuse an unknown scale.

    Raises:
        Refused: the scale is not quick, standard or paper.
    """
    if not isinstance(scale, str) or scale not in claims.SCALES:
        raise Refused(f"{where}scale {shown(scale)} is unknown; use {', '.join(claims.SCALES)}")


def relative(path: Path) -> str:
    """A path as a user would type it in the project's root."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
