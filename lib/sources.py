"""What Python sources say: which of their text counts, what they import, and which files of `lib` that leads to.

Comments, docstrings and blank lines do not count.

Modules that decide where and when something runs, but not what comes out, do not count either (`MACHINERY`): a better
progress bar must not retrain every paper.
"""

import ast
import functools
import io
import textwrap
import tokenize
from collections.abc import Iterable
from pathlib import Path

from lib.paths import PACKAGE

MACHINERY = ("cards", "clusters", "devices", "errors", "keys", "paths", "progress", "records", "runs")


@functools.cache
def parsed(source: str) -> ast.Module:
    """The syntax tree of a source; several parts of a key ask for it.

    Raises:
        SyntaxError: it is not Python.
        ValueError: it holds a zero byte.
    """
    return ast.parse(source)


_KINDS = dict.fromkeys((ast.Constant, ast.JoinedStr), "strings")
_KINDS |= dict.fromkeys((ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef), "documented")
_KINDS |= dict.fromkeys((ast.Import, ast.ImportFrom), "imports")


@functools.cache
def _nodes(source: str) -> dict[str, list[ast.AST]]:
    """The few kinds of nodes that a key asks for, from one walk over the tree: it is walked for every file of `lib`."""
    found: dict[str, list[ast.AST]] = {name: [] for name in _KINDS.values()}
    for node in ast.walk(parsed(source)):
        if kind := _KINDS.get(type(node)):
            found[kind].append(node)
    return found


@functools.cache
def essential_source(source: str) -> str:
    """The source without comments, docstrings and blank lines.

    Found by position in the text, not by printing a syntax tree: printed trees differ between Python versions.

    Example:
        >>> print(essential_source('def f(x):  # doubles\\n    "Twice."\\n\\n    return 2 * x'))
        def f(x):
            return 2 * x
    """
    source = textwrap.dedent(source)
    lines = source.splitlines()
    inside_strings: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline) if "#" in source else ():
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    nodes = _nodes(source)
    for node in nodes["strings"]:
        inside_strings.update(range(node.lineno, node.end_lineno))
    for node in nodes["documented"]:
        if ast.get_docstring(node):
            docstring = node.body[0]
            first, last = docstring.lineno - 1, docstring.end_lineno - 1
            rest = lines[last].encode()[docstring.end_col_offset :].decode()
            lines[first] = lines[first].encode()[: docstring.col_offset].decode()
            lines[first + 1 : last + 1] = [""] * (last - first)
            lines[last] = lines[last] + rest if first != last else lines[first] + rest
    return "\n".join(
        line if row in inside_strings else line.rstrip()
        for row, line in enumerate(lines)
        if line.strip() or row in inside_strings
    )


@functools.cache
def imported_modules(source: str, package: str = "") -> frozenset[tuple[str, str | None]]:
    """Modules of `lib` that a source imports, as (module, name) pairs; the name is None for a module taken whole.

    Args:
        source: Python source.
        package: dotted name of the package that the source lies in, for relative imports.
    """
    found = set()
    for node in _nodes(source)["imports"]:
        if isinstance(node, ast.Import):
            found |= {(alias.name, None) for alias in node.names}
        else:
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {(module, alias.name) for alias in node.names}
    return frozenset((module, name) for module, name in found if module.split(".")[0] == PACKAGE.name)


@functools.cache
def imported_packages(source: str) -> frozenset[str]:
    """Top-level names of all that a source imports absolutely.

    Example:
        >>> sorted(imported_packages("import numpy.linalg, torch\\nfrom cvxpy import Variable"))
        ['cvxpy', 'numpy', 'torch']
    """
    found = set()
    for node in _nodes(source)["imports"]:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif not node.level:
            found.add(node.module.split(".")[0])
    return frozenset(found)


def _module_file(module: str) -> Path | None:
    stem = PACKAGE.parent.joinpath(*module.split("."))
    for file in (stem.with_suffix(".py"), stem / "__init__.py"):
        if file.is_file():
            return file
    return None


def reached_files(imports: Iterable[tuple[str, str | None]]) -> set[Path]:
    """All source files of `lib` that some imports reach, directly or through other modules.

    A name taken from a package that only re-exports it leads to the module that defines it, not to the package's other
    modules: so a notebook that uses one optimizer does not depend on the rest.
    """
    files: set[Path] = set()
    seen: set[tuple[str, str | None]] = set()
    queue = list(imports)
    while queue:
        module, name = queue.pop()
        if (module, name) in seen:
            continue
        seen.add((module, name))
        if name is not None and _module_file(f"{module}.{name}"):
            queue.append((f"{module}.{name}", None))
            continue
        file = _module_file(module)
        if file is None:
            continue
        is_package = file.name == "__init__.py"
        package = module if is_package else module.rpartition(".")[0]
        further = imported_modules(file.read_text(), package)
        if is_package and name is not None and (exporters := {pair for pair in further if pair[1] == name}):
            queue.extend(exporters)
            continue
        if file.stem in MACHINERY and file.parent == PACKAGE:
            continue
        files.add(file)
        queue.extend(further)
    return files
