"""Content keys: the name of a result is a hash of everything that could change it.

For a run that is: the source of the function, the source of every function of the notebook that it calls and every constant
that it reads, its arguments, the modules of `lib` that any of these reach, and the versions of the numeric packages. For a
paper's figures it is: the code cells of the notebook, its parameters and card, the modules of `lib` that the cells import,
and the versions of the numeric and drawing packages. Solvers that few papers use (`SOLVER_PACKAGES`) count where they are
imported. What of a source counts: `lib.sources`.

Datasets enter through the modules that load them: these hold the checksums that the loaded content must have.
"""

import ast
import dis
import functools
import hashlib
import inspect
import json
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lib import sources
from lib.paths import PACKAGE

NUMERIC_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")
# What is imported -> what decides the results of those who import it.
SOLVER_PACKAGES = {"cvxpy": ("cvxpy", "clarabel"), "networkx": ("networkx",)}
DRAWING_PACKAGES = ("matplotlib", "seaborn", "pandas", "pillow")


_version = functools.cache(version)  # reads and parses a file of the package, which takes 2 ms


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions, without the build's suffix (2.13.0+cpu and 2.13.0 are the same source)."""
    return {package: _version(package).split("+")[0] for package in packages}


def digest(content: Any) -> str:
    """SHA-256 of a JSON-able value, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def numeric_packages(files: Iterable[Path], imported: Iterable[str] = ()) -> tuple[str, ...]:
    """Packages whose versions could change a result: those that everything rests on, and solvers where they are imported.

    Args:
        files: source files of `lib` that the result reaches.
        imported: top-level names of packages that the result's own code imports.
    """
    imported = set(imported).union(*(sources.imported_packages(file.read_text()) for file in files))
    solvers = [package for name, packages in SOLVER_PACKAGES.items() if name in imported for package in packages]
    return (*NUMERIC_PACKAGES, *solvers)


def hashes(files: Iterable[Path]) -> dict[str, str]:
    """Hash of each file's essential source, under its path in the package."""
    return {
        file.relative_to(PACKAGE.parent).as_posix(): digest(sources.essential_source(file.read_text()))
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
        files = sources.reached_files(imports)
        return {"modules": hashes(files), "versions": versions(numeric_packages(files, packages))}

    def content(arguments: dict[str, Any]) -> tuple[str, Surroundings]:
        collector = common.copy()  # an argument may be a function, which brings its own texts and imports
        encoded = collector.value(arguments, "the arguments")
        around = surroundings(frozenset(collector.imports), frozenset(collector.packages))
        return digest({"function": named, "texts": collector.texts, "arguments": encoded, **around}), around

    return [content(arguments) for arguments in settings]


def differences(expected: Surroundings) -> list[str]:
    """What is not here as `run_contents` found it in another place."""
    files = {name: PACKAGE.parent / name for name in expected["modules"]}
    found = hashes(file for file in files.values() if file.is_file())
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
        self.texts[name] = sources.essential_source(source)
        self.imports |= sources.imported_modules(source)
        self.packages |= sources.imported_packages(source)
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
