"""Content keys: the name of a result is a hash of everything that could change it.

For a run that is: the source of the function, the source of every function of the notebook that it calls and every constant
that it reads, its arguments, the modules of `lib` that any of these reach, and the versions of the numeric packages. For a
paper's figures it is: the code cells of the notebook, its parameters and card, the modules of `lib` that the cells import,
and the versions of the numeric and drawing packages. Solvers that few papers use (`SOLVER_PACKAGES`) count where they are
imported. Comments, docstrings and blank lines do not count.

Modules that decide where and when something runs, but not what comes out, do not count either (`MACHINERY`): a better
progress bar must not retrain every paper.

Datasets enter through the modules that load them: these hold the checksums that the loaded content must have.
"""

import ast
import dis
import functools
import hashlib
import inspect
import io
import json
import sys
import textwrap
import tokenize
import types
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lib.paths import PACKAGE

NUMERIC_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")
# What is imported -> what decides the results of those who import it.
SOLVER_PACKAGES = {"cvxpy": ("cvxpy", "clarabel"), "networkx": ("networkx",)}
DRAWING_PACKAGES = ("matplotlib", "seaborn", "pandas", "pillow")
MACHINERY = ("cards", "clusters", "devices", "errors", "keys", "paths", "progress", "records", "runs")


_version = functools.cache(version)  # reads and parses a file of the package, which takes 2 ms


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions, without the build's suffix (2.13.0+cpu and 2.13.0 are the same source)."""
    return {package: _version(package).split("+")[0] for package in packages}


def digest(content: Any) -> str:
    """SHA-256 of a JSON-able value, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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


def numeric_packages(files: Iterable[Path], imported: Iterable[str] = ()) -> tuple[str, ...]:
    """Packages whose versions could change a result: those that everything rests on, and solvers where they are imported.

    Args:
        files: source files of `lib` that the result reaches.
        imported: top-level names of packages that the result's own code imports.
    """
    imported = set(imported).union(*(imported_packages(file.read_text()) for file in files))
    solvers = [package for name, packages in SOLVER_PACKAGES.items() if name in imported for package in packages]
    return (*NUMERIC_PACKAGES, *solvers)


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


def sources(files: Iterable[Path]) -> dict[str, str]:
    """Hash of each file's essential source, under its path in the package."""
    return {
        file.relative_to(PACKAGE.parent).as_posix(): digest(essential_source(file.read_text()))
        for file in sorted(files)
    }


def run_key(function: Callable, arguments: dict[str, Any]) -> str:
    """Content key of one run. See `run_keys`."""
    return run_keys(function, [arguments])[0]


def run_keys(function: Callable, settings: Iterable[dict[str, Any]]) -> list[str]:
    """Content keys of a function's runs. See `run_contents`."""
    return [key for key, _ in run_contents(function, settings)]


Surroundings = dict[str, dict[str, str]]


def run_contents(function: Callable, settings: Iterable[dict[str, Any]]) -> list[tuple[str, Surroundings]]:
    """Content keys of a function's runs, and what of it lies outside the notebook; common parts are gathered once.

    Args:
        function: a function of a notebook or of `lib`.
        settings: per run its arguments: numbers, strings, booleans, None, lists, tuples and dictionaries of these, and
            classes or functions of installed packages or of `lib` (also wrapped in `functools.partial`).

    Returns:
        Per run its key and its surroundings: hashes of the modules of `lib` that it reaches, and versions of packages.

    Raises:
        TypeError: an argument, or something that the function reads, has no content that could be hashed.
    """
    common = _Collector()
    named = common.value(function, "the function of a run")

    @functools.cache
    def surroundings(imports: frozenset, packages: frozenset) -> Surroundings:
        files = reached_files(imports)
        return {"modules": sources(files), "versions": versions(numeric_packages(files, packages))}

    def content(arguments: dict[str, Any]) -> tuple[str, Surroundings]:
        collector = common.copy()  # an argument may be a function, which brings its own texts and imports
        encoded = collector.value(arguments, "the arguments")
        around = surroundings(frozenset(collector.imports), frozenset(collector.packages))
        return digest({"function": named, "texts": collector.texts, "arguments": encoded, **around}), around

    return [content(arguments) for arguments in settings]


def differences(expected: Surroundings) -> list[str]:
    """What is not here as `run_contents` found it in another place."""
    files = {name: PACKAGE.parent / name for name in expected["modules"]}
    found = sources(file for file in files.values() if file.is_file())
    told = [name for name, value in expected["modules"].items() if found.get(name) != value]
    for package, value in expected["versions"].items():
        try:
            here = versions([package])[package]
        except PackageNotFoundError:
            here = "is absent"
        if here != value:
            told.append(f"{package} {here} instead of {value}")
    return told


class _Collector:
    """Gathers what a function depends on: texts of notebook functions, values that they read, imports of `lib`."""

    def __init__(self) -> None:
        self.texts: dict[str, Any] = {}
        self.imports: set[tuple[str, str | None]] = set()
        self.packages: set[str] = set()
        self.functions: dict[str, Callable] = {}

    def copy(self) -> "_Collector":
        """Another that has gathered the same so far."""
        other = _Collector()
        for name, gathered in vars(self).items():
            setattr(other, name, gathered.copy())
        return other

    def function(self, function: Callable) -> str:
        """Take in a function of a notebook, and all that it reads; returns the name that stands for it."""
        function = inspect.unwrap(function)
        name = function.__qualname__
        if not inspect.isfunction(function):
            raise TypeError(
                f"{name}: define it as a function, or move it to lib; {type(function).__name__} has no content key"
            )
        if "<lambda>" in name:
            raise TypeError("a lambda has no name to be told by; define it with def")
        if self.functions.setdefault(name, function) is not function:
            raise TypeError(f"two different functions are called {name}; give them different names")
        if name in self.texts:
            return name
        if function.__closure__:
            raise TypeError(
                f"{name}: a run must be a top-level function; pass {function.__code__.co_freevars} as arguments"
            )
        source = textwrap.dedent(inspect.getsource(function))
        self.texts[name] = essential_source(source)
        self.imports |= imported_modules(source)
        self.packages |= imported_packages(source)
        self.texts[f"defaults of {name}"] = [
            self.value(defaults, f"a default of {name}")
            for defaults in (function.__defaults__, function.__kwdefaults__)
        ]
        decorators = ast.Module(ast.parse(source).body[0].decorator_list, [])
        read = {node.id for node in ast.walk(decorators) if isinstance(node, ast.Name)} | _globals_read(
            function.__code__
        )
        for other in sorted(read & function.__globals__.keys()):
            self.texts[f"{name} reads {other}"] = self.read(other, function.__globals__[other], function)
        return name

    def read(self, name: str, value: Any, reader: Callable) -> Any:
        """What a global name stands for."""
        if not isinstance(value, types.ModuleType):
            return self.value(value, f"{name}, which {reader.__qualname__} reads")
        if value.__name__.split(".")[0] == PACKAGE.name:
            names = _names_read(reader.__code__)
            attributes = {attribute for attribute in names if hasattr(value, attribute)}
            # A package is taken by the names that are read from it; whole where these cannot be told.
            by_name = hasattr(value, "__path__") and attributes and "getattr" not in names
            self.imports |= {(value.__name__, attribute) for attribute in (attributes if by_name else {None})}
        elif not _is_installed(value.__name__.split(".")[0]):
            raise TypeError(f"{name}: the module {value.__name__} is not installed; move what is needed to lib")
        self.packages.add(value.__name__.split(".")[0])
        return ["module", value.__name__]

    def value(self, value: Any, what: str) -> Any:
        """A value as JSON that differs whenever the value does.

        Raises:
            TypeError: the value has no content that could be told.
        """
        if value is None or isinstance(value, bool | int | float | str):
            return [type(value).__name__, value]  # 1, 1.0 and True are different arguments
        if isinstance(value, list | tuple):
            return [type(value).__name__, *(self.value(item, what) for item in value)]
        if isinstance(value, dict):
            return ["dict", *([self.value(key, what), self.value(item, what)] for key, item in value.items())]
        if isinstance(value, functools.partial):
            return ["partial", *(self.value(part, what) for part in (value.func, value.args, value.keywords))]
        if isinstance(value, _torch_dtypes()):
            return ["dtype", str(value)]
        bound_to = getattr(value, "__self__", None)
        is_bound = bound_to is not None and not isinstance(bound_to, types.ModuleType | type)
        if inspect.isclass(value) or (inspect.isroutine(value) and not is_bound) or type(value).__name__ == "ufunc":
            module = getattr(value, "__module__", None) or type(value).__module__
            top = module.split(".")[0]
            self.packages.add(top)
            if top == PACKAGE.name:
                self.imports.add((module, None))
            if _is_installed(top):
                return ["reference", module, getattr(value, "__qualname__", value.__name__)]
            return ["function", self.function(value)]
        raise TypeError(
            f"{what}: {type(value).__name__} has no content key; use numbers, strings, lists or functions of lib"
        )


def _torch_dtypes() -> tuple[type, ...]:
    """The type of torch's dtypes, if anybody has imported torch: only then can one be given."""
    return (sys.modules["torch"].dtype,) if "torch" in sys.modules else ()


def _is_installed(top: str) -> bool:
    """Whether a top-level module is `lib`, of the standard library or of a package; not a notebook or a script."""
    if top == "__main__":  # wherever it lies: under `python -m tool` it is a file of the tool
        return False
    if top == PACKAGE.name or top in sys.stdlib_module_names:
        return True
    return "-packages" in (getattr(sys.modules.get(top), "__file__", None) or "")


def _code_objects(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code_objects(constant)


def _names_read(code: types.CodeType) -> set[str]:
    return {name for part in _code_objects(code) for name in part.co_names}


def _globals_read(code: types.CodeType) -> set[str]:
    instructions = (step for part in _code_objects(code) for step in dis.get_instructions(part))
    return {step.argval for step in instructions if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
