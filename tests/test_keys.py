"""A key changes with everything that could change a result, and with nothing else."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from lib import keys, sources

RATE = 0.1


def helper(x):
    return x + RATE


def experiment(steps, helper_steps=1):
    # a comment
    return {"x": helper(steps) * helper_steps}


def compiled(source: str, name: str = "experiment", **globals_: object):
    """A function as a notebook defines it: its source is known, its module is not on disk."""
    import linecache

    filename = f"<cell {abs(hash(source))}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    namespace = {"__name__": "__main__"} | globals_
    exec(compile(source, filename, "exec"), namespace)
    return namespace[name]


def test_the_same_function_and_arguments_give_the_same_key():
    assert keys.run_key(experiment, {"steps": 3}) == keys.run_key(experiment, {"steps": 3})


@pytest.mark.parametrize("other", [4, 3.0, True, "3", [3], None])
def test_another_argument_value_or_type_gives_another_key(other):
    assert keys.run_key(experiment, {"steps": 3}) != keys.run_key(experiment, {"steps": other})


def test_comments_docstrings_and_blank_lines_do_not_count():
    plain = compiled("def experiment(x):\n    return {'x': x}\n")
    dressed = compiled("def experiment(x):  # run\n    '''Doc.'''\n\n    # why\n    return {'x': x}\n")
    assert keys.run_key(plain, {"x": 1}) == keys.run_key(dressed, {"x": 1})


def test_another_body_gives_another_key():
    one, two = (compiled(f"def experiment(x):\n    return {{'x': {n} * x}}\n") for n in (1, 2))
    assert keys.run_key(one, {"x": 1}) != keys.run_key(two, {"x": 1})


def test_an_edited_helper_function_gives_another_key():
    source = "def double(x):\n    return {n} * x\n\ndef experiment(x):\n    return {{'x': [double(y) for y in [x]]}}\n"
    one, two = (compiled(source.format(n=n)) for n in (2, 3))
    assert keys.run_key(one, {"x": 1}) != keys.run_key(two, {"x": 1})


def test_a_changed_constant_gives_another_key_and_an_unread_one_does_not():
    source = "def experiment(x):\n    return {'x': x * rate}\n"
    base = keys.run_key(compiled(source, rate=1.0), {"x": 1})
    assert keys.run_key(compiled(source, rate=2.0), {"x": 1}) != base
    assert keys.run_key(compiled(source, rate=1.0, unread=5), {"x": 1}) == base


def test_classes_of_installed_packages_are_arguments():
    adam, sgd = (keys.run_key(experiment, {"steps": optimizer}) for optimizer in (torch.optim.Adam, torch.optim.SGD))
    assert adam != sgd
    partial = functools.partial(torch.optim.SGD, momentum=0.9)
    assert keys.run_key(experiment, {"steps": partial}) not in (adam, sgd)


def test_a_changed_default_gives_another_key():
    for source in ("def experiment(x, y=rate):\n    return x\n", "def experiment(x, *, y=rate):\n    return x\n"):
        one, two = (keys.run_key(compiled(source, rate=rate), {"x": 1}) for rate in (1.0, 2.0))
        assert one != two


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (torch.exp, torch.neg),
        (torch.optim.SGD, torch.optim.Adam),
        (np.exp, np.sin),
        (np.linalg, np.fft),
        (torch.float32, torch.float64),
        ([1], (1,)),
        ({1: 2}, {"1": 2}),
    ],
)
def test_what_a_name_points_to_counts(one, two):
    source = "def experiment(x):\n    return step\n"
    assert keys.run_key(compiled(source, step=one), {"x": 1}) != keys.run_key(compiled(source, step=two), {"x": 1})


def test_a_decorator_of_the_notebook_counts():
    source = (
        "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def g(x):\n        return {n} * f(x)\n    return g\n"
        "@twice\ndef experiment(x):\n    return x\n"
    )
    one, two = (keys.run_key(compiled(source.format(n=n)), {"x": 1}) for n in (2, 3))
    assert one != two
    keys.run_key(compiled("@torch.no_grad()\ndef experiment(x):\n    return x\n", torch=torch), {"x": 1})


def test_code_beside_a_docstring_and_blank_lines_in_a_string_count():
    assert sources.essential_source("def f(x): 'Doc.'; return 2 * x") != sources.essential_source(
        "def f(x): 'Doc.'; return 3 * x"
    )
    assert sources.essential_source('x = """a\n\nb"""') != sources.essential_source('x = """a\nb"""')


def test_names_that_cannot_be_told_take_the_whole_package(package: Path):
    from lib import optimizers

    collector = keys._Collector()
    source = "def experiment(kind):\n    sign = 1\n    return getattr(optimizers, kind)(torch.sign(sign))\n"
    collector.function(compiled(source, optimizers=optimizers, torch=torch))
    assert ("lib.optimizers", None) in collector.imports


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (lambda x: x, "lambda"),
        (np.random.default_rng(0).normal, "has no content key"),
        (torch.nn.Linear(1, 1).forward, "has no content key"),
        (torch.nn.Linear(1, 1), "has no content key"),
    ],
)
def test_what_hides_its_state_is_refused(argument, told):
    with pytest.raises(TypeError, match=told):
        keys.run_key(experiment, {"steps": argument})


def test_two_functions_of_one_name_are_refused():
    one, two = (compiled(f"def f(x):\n    return {n} * x\n", "f") for n in (1, 2))
    with pytest.raises(TypeError, match="two different functions are called f"):
        keys.run_key(experiment, {"steps": [one, two]})


def test_what_has_no_content_is_refused():
    with pytest.raises(TypeError, match="Tensor has no content key"):
        keys.run_key(experiment, {"steps": torch.zeros(2)})
    captured = 3

    def inner():
        return {"x": captured}

    with pytest.raises(TypeError, match="top-level function"):
        keys.run_key(inner, {})
    with pytest.raises(TypeError, match="table, which experiment reads"):
        keys.run_key(compiled("def experiment():\n    return table\n", table=object()), {})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for lib: optimizers re-exports two modules, one of which imports a third."""
    files = {
        "__init__.py": "",
        "optimizers/__init__.py": "from lib.optimizers.muon import Muon\nfrom lib.optimizers.shampoo import Shampoo\n",
        "optimizers/muon.py": "from .polar import factor\nclass Muon: pass\n",
        "optimizers/shampoo.py": "class Shampoo: pass\n",
        "optimizers/polar.py": "def factor(): pass\n",
        "figures.py": "style = 1\n",
        "progress.py": "from lib import figures\n",
        "optimizers/progress.py": "",
    }
    for name, text in files.items():
        (tmp_path / "lib" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lib" / name).write_text(text)
    for module in (keys, sources):
        monkeypatch.setattr(module, "PACKAGE", tmp_path / "lib")
    return tmp_path / "lib"


def reached(package: Path, source: str) -> set[str]:
    files = sources.reached_files(sources.imported_modules(source))
    return {file.relative_to(package).as_posix() for file in files}


def test_a_name_from_a_package_reaches_its_module_and_what_that_imports_only(package: Path):
    expected = {"optimizers/muon.py", "optimizers/polar.py"}
    assert reached(package, "from lib.optimizers import Muon") == expected
    assert reached(package, "from lib.optimizers.muon import Muon") == expected


def test_a_package_taken_whole_reaches_all_of_it(package: Path):
    assert {"optimizers/muon.py", "optimizers/shampoo.py"} <= reached(package, "import lib.optimizers")
    assert {"optimizers/muon.py", "optimizers/shampoo.py"} <= reached(package, "from lib import optimizers")


def test_a_module_from_the_top_package_is_reached(package: Path):
    assert reached(package, "from lib import figures") == {"figures.py"}
    assert reached(package, "import torch") == set()


def test_machinery_does_not_count_and_its_namesakes_elsewhere_do(package: Path):
    assert reached(package, "from lib.progress import progress") == set()
    assert reached(package, "from lib.optimizers import progress") == {"optimizers/progress.py"}


def test_touching_an_optimizer_changes_the_hash_of_what_depends_on_it_only(package: Path):
    def hashes(source: str) -> dict[str, str]:
        return keys.hashes(sources.reached_files(sources.imported_modules(source)))

    muon, shampoo = hashes("from lib.optimizers import Muon"), hashes("from lib.optimizers import Shampoo")
    (package / "optimizers/polar.py").write_text("def factor(): return 1\n")
    assert hashes("from lib.optimizers import Muon") != muon
    assert hashes("from lib.optimizers import Shampoo") == shampoo


def test_a_solver_counts_for_those_who_import_it_only(package: Path):
    (package / "theory").mkdir()
    (package / "theory" / "__init__.py").write_text("")
    (package / "theory" / "cone.py").write_text("def solve():\n    import cvxpy as cp\n    return cp\n")
    (package / "theory" / "uses.py").write_text("from .cone import solve\n")

    def packages(source: str) -> tuple[str, ...]:
        files = sources.reached_files(sources.imported_modules(source))
        return keys.numeric_packages(files, sources.imported_packages(source))

    with_solver = (*keys.NUMERIC_PACKAGES, "cvxpy", "clarabel")
    for source in (
        "from lib.theory import cone",
        "from lib.theory.uses import solve",
        "import cvxpy",
        "from cvxpy import norm",
    ):
        assert packages(source) == with_solver
    assert packages("from lib import figures, optimizers\nfrom .cvxpy import x\nimport torch") == keys.NUMERIC_PACKAGES


@pytest.mark.parametrize("source", ["return norm(x)", "return cp.norm(x)", "import cvxpy\n    return cvxpy.norm(x)"])
def test_a_run_that_calls_a_solver_has_its_version_in_its_key(source: str, monkeypatch: pytest.MonkeyPatch):
    import cvxpy

    function = compiled(f"def experiment(x):\n    {source}\n", norm=cvxpy.norm, cp=cvxpy)
    of_run, of_other = keys.run_key(function, {"x": 1}), keys.run_key(experiment, {"steps": 1})
    version = keys._version
    monkeypatch.setattr(keys, "_version", lambda name: "0" if name in ("cvxpy", "clarabel") else version(name))
    assert keys.run_key(function, {"x": 1}) != of_run
    assert keys.run_key(experiment, {"steps": 1}) == of_other


def test_a_run_reaches_lib_through_globals_and_through_arguments():
    from lib import claims, optimizers

    through_module = compiled("def experiment(x):\n    return claims.interval(x)\n", claims=claims)
    through_package = compiled("def experiment(x):\n    return optimizers.Muon(x)\n", optimizers=optimizers)
    for function, arguments, module in (
        (through_module, {"x": 1}, "lib/claims.py"),
        (through_package, {"x": 1}, "lib/optimizers/muon.py"),
        (experiment, {"steps": optimizers.Muon}, "lib/optimizers/muon.py"),
    ):
        collector = keys._Collector()
        collector.function(function)
        collector.value(arguments, "arguments")
        assert module in keys.hashes(sources.reached_files(collector.imports))
        assert "lib/optimizers/shampoo.py" not in keys.hashes(sources.reached_files(collector.imports))
