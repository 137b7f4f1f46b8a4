"""A paper's card and its notebook's parameters: what can be run, with which values, and under which content key.

The card `notebooks/<theme>/<name>.yml` lies beside the notebook of the same name. The quick scale's values are those in the
notebook's parameters cell; the card gives what differs at the other scales.
"""

import ast
import contextlib
import io
import json
import math
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from lib import claims, keys
from lib.errors import Refused
from lib.paths import BUILD, FIGURES, NOTEBOOKS, PACKAGE, ROOT


@dataclass(frozen=True)
class Parameter:
    """One annotated literal of a parameters cell: `steps: int = 400  # optimizer steps`."""

    name: str
    type: str  # int, float, str, bool, or list of one of these
    value: Any
    help: str

    def check(self, value: Any, where: str) -> Any:
        """Return the value when it has the parameter's type; a whole number serves as a float.

        Raises:
            Refused: the type differs, or a number is not finite.
        """
        if self.type.startswith("list[") and isinstance(value, list):
            item = Parameter(self.name, self.type[5:-1], None, "")
            return [item.check(element, where) for element in value]
        if self.type == "float" and isinstance(value, int) and not isinstance(value, bool):
            try:
                value = float(value)
            except OverflowError:
                value = math.inf
        kinds = {"int": int, "float": float, "str": str, "bool": bool}
        fits = isinstance(value, kinds.get(self.type, ())) and (self.type == "bool" or not isinstance(value, bool))
        if not fits:
            hint = " (in YAML write 1.0e-3, not 1e-3)" if self.type == "float" and isinstance(value, str) else ""
            raise Refused(
                f"{where}: parameter {self.name} must be {self.type}, got {value!r} ({type(value).__name__}){hint}"
            )
        if self.type == "float" and not math.isfinite(value):
            raise Refused(f"{where}: parameter {self.name} must be a finite number, got {value!r}")
        return value

    def parse(self, text: str) -> Any:
        """Value of a parameter given as text on a command line.

        Raises:
            Refused: the text is no value of the parameter's type.

        Example:
            >>> Parameter("lrs", "list[float]", [], "").parse("[1e-3, 1]")
            [0.001, 1.0]
        """
        value: Any = text
        if self.type != "str":
            with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        return self.check(value, "PARAMS")


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook's JSON.

    Raises:
        Refused: the file is missing or is no notebook.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
            cell["cell_type"], cell["metadata"].get("tags", [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(f"{path} cannot be read as a notebook ({type(error).__name__}: {error})") from error
    return notebook


def code_cells(notebook: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Source and tags of each code cell."""
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    return [(cell["source"], cell["metadata"].get("tags", [])) for cell in cells]


def parameters_of(path: Path) -> dict[str, Parameter]:
    """Parameters that a notebook declares, by name.

    Raises:
        Refused: not exactly one parameters cell, or a line in it that is not an annotated literal with a comment.
    """
    tagged = [source for source, tags in code_cells(read_notebook(path)) if "parameters" in tags]
    if len(tagged) != 1:
        raise Refused(f"{path} must have exactly one cell tagged 'parameters', found {len(tagged)}")
    source = tagged[0]
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
        nodes = ast.parse(source).body
    except (SyntaxError, tokenize.TokenError) as error:
        raise Refused(f"{path}: the parameters cell is not Python ({error})") from error
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    declared = {}
    for node in nodes:
        try:
            name, kind, value = node.target.id, ast.unparse(node.annotation), ast.literal_eval(node.value)
            parameter = Parameter(name, kind, value, comments[node.end_lineno])
        except (AttributeError, ValueError, KeyError) as error:
            raise Refused(
                f"{path}: write each parameter as 'name: type = value  # what it is', not {ast.unparse(node)!r}"
            ) from error
        parameter.check(value, str(path))
        declared[name] = parameter
    for name in ("scale", "device", "seeds"):
        if name not in declared:
            raise Refused(f"{path}: the parameters cell must declare {name!r}")
    return declared


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
        return parameters_of(self.notebook)

    @cached_property
    def claims(self) -> dict[str, claims.Claim]:
        """Claims by id, in the card's order.

        Raises:
            Refused: a claim lacks a field, has an unknown one, or one of the wrong kind.
        """
        found = {}
        for row in self.content["claims"]:
            try:
                claim = claims.Claim(**{**row, "scales": tuple(row.get("scales", claims.SCALES))})
            except (TypeError, ValueError) as error:
                raise Refused(f"{self.path}: {error}") from error
            if claim.id in found:
                raise Refused(f"{self.path}: two claims are called {claim.id!r}")
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
                raise Refused(f"{where}: {self.key} has no parameter {name!r}; it has {', '.join(free)}")

    def content_key(self, parameters: dict[str, Any]) -> str:
        """Content key of everything that the notebook makes from these parameters."""
        cells = [_as_python(source) for source, _ in code_cells(read_notebook(self.notebook))]
        python = [cell for cell in cells if cell is not None]
        imports = set().union(*(keys.imported_modules(cell) for cell in python))
        files = keys.reached_files(imports)
        packages = keys.numeric_packages(files, set().union(*(keys.imported_packages(cell) for cell in python)))
        return keys.digest(
            {
                "cells": [keys.essential_source(cell) for cell in python],
                "broken": cells.count(None),  # such a notebook fails when it runs, and is never current
                "parameters": parameters,
                "card": self.content,
                "modules": keys.sources(files),
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
        ast.parse(source)
        return source
    from IPython.core.inputtransformer2 import TransformerManager  # here: few cells need it, and it takes a while

    with contextlib.suppress(SyntaxError, ValueError):
        translated = TransformerManager().transform_cell(source)
        ast.parse(translated)
        return translated
    return None


_FIELDS = {
    "key": (str, "text"),
    "title": (str, "text"),
    "authors": (list, "a list"),
    "year": (int, "a whole number"),
    "arxiv": (str, "text in quotes"),
    "headline": (str, "the name of a figure"),
    "scales": (dict, "a mapping from scale to values"),
    "claims": (list, "a list"),
}


# The same loader written in C, where PyYAML was built with it: ten times as fast.
_SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_card(path: Path) -> Card:
    """Read and check a card.

    Raises:
        Refused: the card cannot be read, lacks a field, or names an unknown scale.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _SAFE_LOADER)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read as a card: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(field in content for field in _FIELDS):
        raise Refused(f"{path} must be a mapping with the fields {', '.join(_FIELDS)}")
    for field, (kind, name) in _FIELDS.items():
        if isinstance(content[field], bool) or not isinstance(content[field], kind):
            raise Refused(f"{path}: {field} must be {name}, got {content[field]!r}")
    for scale, values in content["scales"].items():
        check_scale(scale)
        if not isinstance(values, dict):
            raise Refused(f"{path}: scale {scale} must map parameter names to values, got {values!r}")
    for row in content["claims"]:
        if not isinstance(row, dict):
            raise Refused(f"{path}: a claim must be a mapping, got {row!r}")
    return Card(path, content)


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


def check_scale(scale: str) -> None:
    """Refuse an unknown scale.

    Raises:
        Refused: the scale is not quick, standard or paper.
    """
    if not isinstance(scale, str) or scale not in claims.SCALES:
        raise Refused(f"scale {scale!r} is unknown; use {', '.join(claims.SCALES)}")


def relative(path: Path) -> str:
    """A path as a user would type it in the project's root."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
