"""A notebook's parameters: what its parameters cell declares, and which values they take.

A parameter takes values of its type, and of these the ones that the notebook shows to make sense:

| parameter                       | takes                                                                               |
|---------------------------------|-------------------------------------------------------------------------------------|
| whole number                    | 1 or more; 0 or more where the cell holds a 0; negative ones where the cell does    |
| number                          | 0 or more; negative ones where the cell holds one                                   |
| list                            | the same for each entry, where a 0 in the card counts, too; empty where the cell is |
| list of whole numbers, `…seeds` | one or more different numbers of 32 bits                                            |
"""

import ast
import contextlib
import io
import json
import math
import tokenize
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lib.errors import Refused, shown

LARGEST = 10**9  # a whole number: more steps, points or neurons than any machine here could hold or finish
LARGEST_SEED = 2**32 - 1  # what NumPy's generators take
LONGEST = 10_000  # entries of a list, characters of a text

_KINDS = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One annotated literal of a parameters cell: `steps: int = 400  # optimizer steps`."""

    name: str
    type: str  # int, float, str, bool, or list of one of these
    value: Any
    help: str
    least: float = -math.inf  # least number that is taken
    may_be_empty: bool = True

    @property
    def is_seeds(self) -> bool:
        return self.type == "list[int]" and self.name.endswith("seeds")

    @property
    def most(self) -> int:
        """Largest whole number that is taken."""
        return LARGEST_SEED if self.is_seeds else LARGEST

    def allowed(self) -> str:
        """What is taken, in words."""
        item = self.type.removeprefix("list[").removesuffix("]")
        low = "" if self.least == -math.inf else f" of at least {self.least:g}"
        words = {
            "int": f"a whole number{low} and at most {self.most}",
            "float": f"a finite number{low}",
            "bool": "true or false",
            "str": f"a text in one line of at most {LONGEST} characters",
        }
        one = words.get(item, "nothing: a parameter is int, float, str, bool, or a list of one of these")
        if item == self.type:
            return one
        different = "different " if self.is_seeds else ""
        return f"a list of {'at' if self.may_be_empty else 'one to at'} most {LONGEST} {different}entries, each {one}"

    def check(self, value: Any, where: str) -> Any:
        """Return the value when the parameter takes it; a whole number serves as a float.

        Raises:
            Refused: the type differs, or the value is not among those that are taken.
        """
        if not self.type.startswith("list["):
            return self._check_item(value, self.type, f"{where}: parameter {self.name}")
        if not isinstance(value, list):
            self._refuse(f"{where}: parameter {self.name}", f"be {self.type}", value)
        if len(value) > LONGEST or not (value or self.may_be_empty):
            self._refuse(f"{where}: parameter {self.name}", f"not have {len(value)} entries", value)
        values = [
            self._check_item(one, self.type[5:-1], f"{where}: each entry of parameter {self.name}") for one in value
        ]
        if self.is_seeds and len(set(values)) < len(values):
            self._refuse(f"{where}: parameter {self.name}", "not name a seed twice", value)
        return values

    def _check_item(self, value: Any, kind: str, what: str) -> Any:
        if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
            try:
                value = float(value)
            except OverflowError:
                value = math.inf
        if not isinstance(value, _KINDS.get(kind, ())) or (kind != "bool" and isinstance(value, bool)):
            self._refuse(what, f"be {kind}", value)
        if kind == "float" and not math.isfinite(value):
            self._refuse(what, "be a finite number", value)
        if kind in ("int", "float") and value < self.least:
            self._refuse(what, f"be at least {self.least:g}", value)
        if kind == "int" and not -self.most <= value <= self.most:
            self._refuse(what, f"be at most {self.most}", value)
        if kind == "str" and (len(value) > LONGEST or not value.isprintable()):
            self._refuse(what, "be text in one line", value)
        return value

    def _refuse(self, what: str, demand: str, value: Any) -> None:
        hint = ""
        if isinstance(value, str) and "float" in self.type:
            hint = " (in YAML write 1.0e-3, not 1e-3)"
        if isinstance(value, bool) and "str" in self.type:
            hint = " (in YAML put text such as 'no' or 'on' in quotes)"
        raise Refused(
            f"{what} must {demand}, got {shown(value)} ({type(value).__name__}){hint}; it takes {self.allowed()}"
        )

    def parse(self, text: str) -> Any:
        """Value of a parameter given as text on a command line.

        Raises:
            Refused: the text is no value that the parameter takes.

        Example:
            >>> Parameter("lrs", "list[float]", [], "").parse("[1e-3, 1]")
            [0.001, 1.0]
        """
        value: Any = text
        if self.type != "str":
            with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of strange escapes and the like: what they are is told below
                value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        return self.check(value, "PARAMS")

    def as_used(self, values: Iterable[Any]) -> "Parameter":
        """The list that also takes zeros, if one of these lists holds one."""
        zero = any(entry == 0 and type(entry) is int for value in values if isinstance(value, list) for entry in value)
        return replace(self, least=min(self.least, 0.0)) if zero and self.type == "list[int]" else self


def _declared(name: str, kind: str, value: Any, comment: str, where: str) -> Parameter:
    """A parameter of a cell, with the bounds that its value there gives."""
    parameter = Parameter(name, kind, value, comment)
    parameter.check(value, where)
    entries = value if isinstance(value, list) else [value]
    numbers = [entry for entry in entries if isinstance(entry, int | float)]
    least = 0.0 if "float" in kind or 0 in numbers or parameter.is_seeds else 1.0
    return replace(
        parameter,
        least=-math.inf if min(numbers, default=0) < 0 else least,
        may_be_empty=not entries and not parameter.is_seeds,
    )


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook's JSON.

    Raises:
        Refused: the file is missing or is no notebook.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
            _ = cell["cell_type"], "parameters" in cell["metadata"].get("tags", [])
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
    except (SyntaxError, ValueError, tokenize.TokenError, MemoryError, RecursionError) as error:
        raise Refused(f"{path}: the parameters cell is not Python ({error})") from error
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    declared = {}
    for node in nodes:
        try:
            name, kind, value = node.target.id, ast.unparse(node.annotation), ast.literal_eval(node.value)
            comment = comments[node.end_lineno]
        except (AttributeError, ValueError, KeyError, TypeError) as error:
            raise Refused(
                f"{path}: write each parameter as 'name: type = value  # what it is', not {shown(ast.unparse(node))}"
            ) from error
        if name in declared:
            raise Refused(f"{path}: the parameters cell declares {name!r} twice")
        declared[name] = _declared(name, kind, value, comment, str(path))
    for name in ("scale", "device", "seeds"):
        if name not in declared:
            raise Refused(f"{path}: the parameters cell must declare {name!r}")
    return declared
