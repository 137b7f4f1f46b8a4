"""A small project of its own, so that the commands are tried on papers that take no time."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

PARAMETERS = """scale: str = "quick"  # quick, standard or paper
device: str = "auto"  # auto, cpu or cuda
seeds: list[int] = [0, 1]  # seeds of the runs
steps: int = 3  # length of a run
lr: float = 0.5  # size of a step"""

SETUP = """import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from lib import papers, runs
from lib.progress import progress

paper = papers.load("{key}", globals())"""

RUN = """def walk(seed, steps, lr):
    position = 0.0
    for _ in progress(range(steps), "walk"):
        position += lr
    return {"position": np.array([position + seed])}


results = runs.sweep(walk, [dict(seed=seed, steps=steps, lr=lr) for seed in seeds])"""

FIGURE = """figure, axes = plt.subplots()
positions = np.concatenate([result["position"] for result in results])
axes.plot(positions)
paper.save_figure(figure, "positions", pd.DataFrame({"position": positions}))
paper.measure("walks", positions)"""

VERDICT = "print(paper.verdicts())"
FINISH = "paper.finish()"

CARD = """key: {key}
title: A walk
authors: [A. Walker]
year: 2026
arxiv: "0000.00000"
headline: positions
scales:
  standard: {{steps: 5, seeds: [0, 1, 2]}}
  paper: {{steps: 7}}
claims:
  - id: walks
    statement: A walk ends steps times lr from where it began, one further per seed.
    where: Theorem 1
    quantity: mean position
    expected: ">= -100"
    tolerance: 0
    reason: far beyond the spread over seeds
    n_seeds: 2
"""


def wait_until(condition: Callable[[], object], every: float = 0.05, at_most: float = 60.0) -> None:
    """Look again and again, until it is so or `at_most` seconds have passed."""
    deadline = time.monotonic() + at_most
    while not condition() and time.monotonic() < deadline:
        time.sleep(every)


class Project:
    """A folder with notebooks, cards, a catalogue and a README, and a way to run commands on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "notebooks/demo").mkdir(parents=True)
        (root / "README.md").write_text("# Demo\n<!-- figure wall: begin -->\n<!-- figure wall: end -->\n")
        (root / "notebooks/catalogue.csv").write_text("key,state\nwalk,done\n")

    def add(self, key: str = "walk", **replaced: str) -> Path:
        """Add a paper; cells are replaced by name (parameters, setup, run, figure, verdict, finish, card)."""
        sources = {
            "parameters": PARAMETERS,
            "setup": SETUP.replace("{key}", key),
            "run": RUN,
            "figure": FIGURE,
            "verdict": VERDICT,
            "finish": FINISH,
        } | {name: text for name, text in replaced.items() if name != "card"}
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources.values()]
        notebook.cells[0].metadata["tags"] = ["parameters"]
        notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
        path = self.root / f"notebooks/demo/{key}.ipynb"
        nbformat.write(notebook, path)
        path.with_suffix(".yml").write_text(replaced.get("card", CARD).format(key=key))
        return path

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        """Run `python -m lib` on this project."""
        return subprocess.run(
            [sys.executable, "-m", "lib", *arguments],
            env=os.environ | {"PAPERS_ROOT": str(self.root), "EXECUTOR": "serial"} | variables,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def refuses(self, *arguments: str, told: str) -> None:
        """Assert that a command is refused in one sentence and writes nothing."""
        before = self.files()
        done = self.run(*arguments)
        assert done.returncode == 2
        assert told in done.stderr
        assert done.stderr.count("\n") == 1
        assert self.files() == before

    def files(self) -> dict[str, bytes]:
        """Content of every file but the notebooks, by path."""
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and path.suffix != ".ipynb"
        }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project; `project.add()` puts a paper into it."""
    return Project(tmp_path)
