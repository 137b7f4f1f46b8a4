"""Where the time goes: each paper's training loop beside the machine's matrix products, the store, and the command line.

    python benchmarks/load.py                # everything: a quarter of an hour
    python benchmarks/load.py KEY …          # the training loops of these papers alone, and no file

One thread, processor time. A paper's training loop is that function of its notebook whose runs take longest together at
quick scale, and of these runs the one of median time. It is run again as it is, with all its seeds stacked, and with the
first seed alone. A step is one evaluation of gradients by PyTorch; loops that have their gradients in closed form have none,
and their rows tell the time of the whole run. Operations are those of matrix products and convolutions, forward and
backward, as PyTorch counts them (`torch.utils.flop_counter`); the ceiling is a product of two 1024 × 1024 matrices in
float32, measured on the same machine just before. Writes `load.csv`.
"""

import os

os.environ |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "EXECUTOR": "serial"}

import contextlib
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from common.measure import ceiling
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

HERE = Path(__file__).parent
N_RESULTS = 10_000


# -- training loops -----------------------------------------------------------------------------------------------------


Run = tuple[Callable, dict[str, Any], float]  # function, arguments, seconds


def runs_of(notebook: Path) -> list[Run]:
    """Run a notebook's code as it is; returns every run that it asks for, with the seconds that it took."""
    from IPython.core.interactiveshell import InteractiveShell

    from lib import cards, keys, runs

    found, sweep = [], runs.sweep

    def spied(function: Callable, settings: list[dict], title: str | None = None) -> list:
        results = sweep(function, settings, title)
        for setting, key in zip(settings, keys.run_keys(function, settings), strict=True):
            cost = runs._cost(runs.RESULTS / f"{function.__name__}-{key[:24]}.run")
            found.append((function, setting, cost["seconds"]))
        return results

    runs.sweep = spied
    shell = InteractiveShell.instance()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        for source, _ in cards.code_cells(cards.read_notebook(notebook)):
            shell.run_cell(source, store_history=True).raise_error()
    return found


def typical(found: list[Run]) -> tuple[Callable, dict[str, Any]]:
    """The run of median time among those of the function that takes longest in all."""
    together = defaultdict(list)
    for function, setting, took in found:
        together[function.__name__].append((took, function, setting))
    most = max(together.values(), key=lambda runs: sum(took for took, *_ in runs))
    middle = statistics.median_high(took for took, *_ in most)
    return next((function, setting) for took, function, setting in most if took == middle)


@contextlib.contextmanager
def steps_counted() -> Iterator[list[int]]:
    """Counts evaluations of gradients while the block runs."""
    count = [0]
    originals = {name: getattr(torch.autograd, name) for name in ("backward", "grad")}

    def counted(original: Callable) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            return original(*arguments, **options)

        return call

    for name, original in originals.items():
        setattr(torch.autograd, name, counted(original))
    try:
        yield count
    finally:
        for name, original in originals.items():
            setattr(torch.autograd, name, original)


class Operations(TorchDispatchMode):
    """Counts floating-point operations of products; unlike PyTorch's own counter, also inside `torch.autograd.grad`."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if function._overloadpacket in flop_registry:
            self.total += flop_registry[function._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def seconds(function: Callable, setting: dict[str, Any]) -> float:
    start = time.process_time()
    function(**setting)
    return time.process_time() - start


def loop_of(key: str) -> dict[str, Any]:
    """One row of the table; to be called in a process of its own."""
    from lib import cards

    torch.set_num_threads(1)
    function, setting = typical(runs_of(cards.all_cards()[key].notebook))
    seeds = setting.get("seeds")
    with Operations() as operations:  # first: what PyTorch imports at its first steps is no part of the loop
        function(**setting)
    with steps_counted() as steps:
        stacked = seconds(function, setting)
    row: dict[str, Any] = {"paper": key, "run": function.__name__, "seeds": len(seeds) if seeds else 1}
    row |= {"steps": steps[0], "seconds": round(stacked, 2)}
    if steps[0]:
        row["ms per step and seed, stacked"] = round(1e3 * stacked / steps[0] / row["seeds"], 3)
    if seeds:
        solo = seconds(function, setting | {"seeds": seeds[:1]})
        row["seconds solo"] = round(solo, 2)
        if steps[0]:
            row["ms per step, solo"] = round(1e3 * solo / steps[0], 3)
    rate, most = operations.total / stacked, ceiling()
    row |= {"GFLOP/s": round(rate / 1e9, 1), "of the ceiling": round(rate / most, 3)}
    return row


def loops(wanted: list[str]) -> list[dict[str, Any]]:
    rows = []
    for key in wanted:
        done = subprocess.run([sys.executable, __file__, "--one", key], capture_output=True, text=True)
        if done.returncode:
            print(f"{key}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(", ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    return rows


# -- the store and the command line -------------------------------------------------------------------------------------


def small(number: int) -> dict[str, int]:
    """A run that takes no time."""
    return {"number": number}


def store() -> list[dict[str, Any]]:
    """Cost of a small result, per result."""
    from lib import runs

    with tempfile.TemporaryDirectory() as folder:
        runs.RESULTS = Path(folder)
        rows = []
        for what in ("write", "look up"):
            start = time.perf_counter()
            runs.sweep(small, [{"number": number} for number in range(N_RESULTS)])
            passed = (time.perf_counter() - start) / N_RESULTS
            rows.append({"what": f"{what} one of {N_RESULTS:,} small results", "ms": round(1e3 * passed, 3)})
    return rows


def command_line() -> list[dict[str, Any]]:
    """Wall time of commands that train nothing, the best of three."""
    from lib import cards

    papers = list(cards.all_cards())
    tried = {
        "start of the command line": ["figures", "--paper", "nobody"],
        f"make check, {len(papers)} papers": ["check"],
    }
    for n in (1, len(papers) // 2, len(papers)):
        tried[f"make figures with nothing to do, {n} papers"] = ["figures", "--paper", " ".join(papers[:n])]
    all_made = all((card.output("standard") / "record.json").exists() for card in cards.all_cards().values())
    rows = []
    for what, arguments in tried.items():
        if "nothing to do" in what and not all_made:
            print("not every paper is made here: make figures has something to do, and is left out", file=sys.stderr)
            continue
        times = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "lib", *arguments], capture_output=True, cwd=HERE.parent)
            times.append(time.perf_counter() - start)
        rows.append({"what": what, "ms": round(1e3 * min(times))})
    return rows


def main() -> None:
    """Measures, prints and writes the tables."""
    from lib import cards

    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(loop_of(sys.argv[2])))
        return
    print(f"ceiling: {ceiling() / 1e9:.0f} GFLOP/s, one thread, float32")
    if len(sys.argv) > 1:
        loops(sys.argv[1:])
        return
    other = store() + command_line()
    for row in other:
        print(f"{row['what']}: {row['ms']} ms", flush=True)
    rows = loops(list(cards.all_cards())) + other
    fields = list(dict.fromkeys(name for row in rows for name in row))
    with open(HERE / "load.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
