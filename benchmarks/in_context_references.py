"""Steps per second of our in-context regression beside the authors' code, on the same work and one thread.

    python benchmarks/in_context_references.py --reference FOLDER --reference-python INTERPRETER

FOLDER holds checkouts of the authors' repositories, which are neither copied nor needed otherwise:

    git clone https://github.com/google-research/self-organising-systems    # at 3d5547c, JAX, arXiv 2212.07677
    git clone https://github.com/ML-GSAI/MesaOpt-AR-Transformer             # at 1e0a19d, PyTorch, arXiv 2405.16845
    git clone https://github.com/XintianPan/ICL_linear                      # at 87ed34f, PyTorch, arXiv 2503.12734

INTERPRETER is a Python that has torch, "jax[cpu]", dm-haiku, optax, ml_collections, absl-py, pytz, numpy and tqdm.
`benchmarks/drivers/in_context_reference.py` runs in it and does one step as the authors' loops do, data included,
evaluation left out. Without the two options only ours is measured and no table is written.

Both sides are warmed up and measured in turns, so that other load hits both alike; a cell is the median over the
turns. Rates and ratios are per processor second, which on one thread is a second of an idle machine; the table that is
written, `in_context_references.csv`, has the wall times too. Operations are those of our matrix products in one step,
eight for a complex multiplication and addition, two for a real one; the machine's rate is that of a large matrix
product in float32. The last two columns are of our 5 seeds: the share of that rate, and the share of time that goes
into drawing the data. The autoregressive model's full batch is read once, into moments, before its steps: a step's
cost includes a 200th of that.
"""

import os

os.environ |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from common.reference import Reference, write
from torch.utils._python_dispatch import TorchDispatchMode

from lib.minimise import minimise
from lib.models import autoregressive_attention
from lib.models.linear_attention import LinearTransformer
from lib.models.softmax_attention import SoftmaxRegressor
from lib.tasks import in_context_regression as regression
from lib.tasks.unitary_autoregression import first_tokens, sequences

HERE = Path(__file__).parent
N_SEEDS = 5

Run = Callable[[int], object]  # does that many units of work


class Ours(NamedTuple):
    """Training of some seeds by our code."""

    train: Run
    draw: Run


def linear(seeds: Sequence[int], n_layers: int) -> Ours:
    """Looped linear attention in its four factors, N = d = 10, 2048 prompts a step."""
    generators = regression.streams(seeds, "training")
    model = LinearTransformer(10, n_layers, seeds, looped=True, factored=True, init_std=(0.002 / 11 / n_layers) ** 0.5)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        xs = regression.uniform_inputs(generators, 2048, 11, 10)
        return xs, regression.linear_targets(generators, xs)[0]

    def loss(_: int) -> torch.Tensor:
        xs, ys = draw()
        return 0.5 * (model(xs, ys) + ys[..., -1]).square().mean(-1)

    return Ours(lambda n: minimise(loss, model.parameters(), n, lr=1e-3, betas=(0.9, 0.98), clip=1e-3), times(draw))


def softmax(seeds: Sequence[int], n_heads: int) -> Ours:
    """Softmax attention, L = 40, d = 5, noise variance 0.1, 256 prompts a step."""
    generators = regression.streams(seeds, "training")
    model = SoftmaxRegressor(5, n_heads, seeds)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        xs = regression.gaussian_inputs(generators, 256, 41, 5)
        return xs, regression.linear_targets(generators, xs, 1 / 5, noise_std=0.1**0.5)[0]

    def loss(_: int) -> torch.Tensor:
        xs, ys = draw()
        return (model(xs, ys) - ys[..., -1]).square().mean(-1)

    return Ours(lambda n: minimise(loss, model.parameters(), n, lr=1e-3), times(draw))


def autoregressive(seeds: Sequence[int]) -> Ours:
    """Full-batch descent on 1000 Gaussian sequences of 100 tokens, d = 5: moments first, then the steps."""
    starts, phases = (regression.streams(seeds, purpose) for purpose in ("starts", "phases"))
    xs = sequences(phases, first_tokens(starts, 1000, 5, "gaussian"), 100)

    def train(n: int) -> None:
        W_PV, W_KQ = autoregressive_attention.block_start(5, *torch.full((2, len(seeds)), 0.1, dtype=torch.float64))
        data = autoregressive_attention.moments(xs)
        for _ in range(n):
            _, to_PV, to_KQ = autoregressive_attention.loss_and_gradients(data, W_PV, W_KQ)
            W_PV, W_KQ = W_PV - 1e-4 * to_PV, W_KQ - 1e-4 * to_KQ

    return Ours(train, lambda n: None)  # both sides draw their one dataset before training


def times(work: Callable[[], object]) -> Run:
    """A loop around it."""
    return lambda n: [work() for _ in range(n)]


class Operations(TorchDispatchMode):
    """Counts the real multiplications and additions of matrix products."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket in PRODUCTS:
            self.total += (8 if result.is_complex() else 2) * result.numel() * args[-1].shape[-2]
        return result


aten = torch.ops.aten
PRODUCTS = {aten.mm, aten.bmm, aten.addmm, aten.baddbmm}


class Work(NamedTuple):
    """What one row measures."""

    title: str  # as the driver calls it
    ours: Callable[[Sequence[int]], Ours]
    steps: int  # of ours in one turn
    reference_steps: int
    turns: int = 9


WORKS = [
    Work("one layer", partial(linear, n_layers=1), 50, 20),
    Work("two looped layers", partial(linear, n_layers=2), 30, 15),
    Work("autoregressive", autoregressive, 200, 1, turns=3),  # the paper trains 150 to 201 steps
    Work("1 head", partial(softmax, n_heads=1), 200, 100),
    Work("2 heads", partial(softmax, n_heads=2), 200, 80),
    Work("4 heads", partial(softmax, n_heads=4), 200, 50),
]


def start_reference(folder: str, python: str, title: str) -> Reference:
    """The authors' code for one piece of work, on one thread."""
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    variables = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return Reference("in_context_reference.py", python, [folder, title], variables=variables)


def reference_seconds(reference: Reference, n: int) -> tuple[float, float]:
    """Wall time and processor time per unit of the reference's work."""
    wall, cpu = reference.ask(n).split()
    return float(wall) / n, float(cpu) / n


def seconds(run: Run, n: int) -> tuple[float, float]:
    """Wall time and processor time per unit of work."""
    wall, cpu = time.perf_counter(), time.process_time()
    run(n)
    return (time.perf_counter() - wall) / n, (time.process_time() - cpu) / n


def measure(work: Work, reference: Reference | None) -> dict[str, float]:
    """One row of the table, times in seconds of processor time per step unless they are called wall."""
    solo, stacked = work.ours([0]), work.ours(range(N_SEEDS))
    matrix = torch.randn(1024, 1024)
    turn = {
        "ours 1 seed": lambda: seconds(solo.train, work.steps),
        f"ours {N_SEEDS} seeds": lambda: seconds(stacked.train, work.steps),
        "draws": lambda: seconds(stacked.draw, work.steps),
        "matrix product": lambda: seconds(times(lambda: matrix @ matrix), 5),
    }
    if reference is not None:
        turn["reference"] = lambda: reference_seconds(reference, work.reference_steps)
    for warm_up in turn.values():
        warm_up()
    turns = [{name: take() for name, take in turn.items()} for _ in range(work.turns)]
    wall, cpu = ({name: median(t[name][kind] for t in turns) for name in turn} for kind in (0, 1))
    with Operations() as counted:
        solo.train(work.steps)
    flop = counted.total / work.steps
    per_seed = cpu[f"ours {N_SEEDS} seeds"] / N_SEEDS
    rate = 2 * 1024**3 / cpu["matrix product"]
    theirs = cpu.get("reference", float("nan"))
    row = {
        "work": work.title,
        "threads": torch.get_num_threads(),
        "reference": 1 / theirs,
        "ours, 1 seed": 1 / cpu["ours 1 seed"],
        f"ours, {N_SEEDS}, per seed": 1 / per_seed,
        "ratio, 1 seed": theirs / cpu["ours 1 seed"],
        f"ratio, {N_SEEDS} seeds": theirs / per_seed,
        "GFLOP per step": flop / 1e9,
        "machine GFLOP/s": rate / 1e9,
        "share of rate": flop / per_seed / rate,
        "share of draws": cpu["draws"] / cpu[f"ours {N_SEEDS} seeds"],
    }
    return row | {f"wall ms, {name}": 1e3 * value for name, value in wall.items() if name != "matrix product"}


def line(cells: Sequence[object]) -> str:
    """Cells of the printed table, which leaves out the wall times."""
    shown = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells[:11]]
    return f"{shown[0]:17s}" + "".join(f"{cell:>19}" for cell in shown[1:])


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", help="folder of the checkouts")
    parser.add_argument("--reference-python", default=sys.executable, help="interpreter with the authors' packages")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for work in WORKS:
        reference = None
        if options.reference:
            reference = start_reference(options.reference, options.reference_python, work.title)
        rows.append(measure(work, reference))
        if reference is not None:
            reference.close()
        if len(rows) == 1:
            print(f"steps per processor second\n{line(list(rows[0]))}")
        print(line(list(rows[-1].values())), flush=True)
    if options.reference:
        write(rows, HERE / "in_context_references.csv")


if __name__ == "__main__":
    main()
