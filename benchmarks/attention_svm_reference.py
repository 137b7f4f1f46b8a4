"""Time per random problem of "Transformers as Support Vector Machines", beside the authors' code, on one thread.

    python benchmarks/attention_svm_reference.py --reference FOLDER --reference-python INTERPRETER

FOLDER holds a checkout of the authors' repository, which is neither copied nor needed otherwise:

    git clone https://github.com/umich-sota/TF-as-SVM    # at 568305a, PyTorch and cvxpy, arXiv 2308.16898

INTERPRETER is a Python that has torch, numpy and cvxpy. `benchmarks/drivers/attention_svm_reference.py` runs in it and does
the work of the authors' `local_converge.ipynb`, problem by problem. Without the options only ours is measured and no table
is written.

The work, for one problem (n = 6, T = 8, d = 10): 2000 normalised steps on W, the same on K and Q with weight decay, and both
SVMs for the tokens that each has selected. Ours trains 100 problems at once, keeping the weights of 41 steps, and solves
their nuclear-norm programs at once. All of what it gains comes from this stacking: one problem alone takes it longer than
the authors' code (columns "ours, 1 problem"): only the programs are then quicker, not training. Both sides are measured
in turns; a cell is the median over the turns, in seconds of processor time per problem. Correlations are with the SVM in
the own norm, means over problems.
"""

import os

os.environ |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import reference
from torch.nn.functional import softplus

from lib.descend import descend
from lib.models.token_attention import attend
from lib.optimizers import NormalizedGD
from lib.seeds import generator_for
from lib.tasks.token_sequences import TokenData, unit_tokens
from lib.theory import token_selection
from lib.theory.nuclear_margin import nuclear_margins

HERE = Path(__file__).parent
N, T, D, STEPS, LR, DECAY = 6, 8, 10, 2000, 0.1, 2.2e-16
STACK = 100
TURNS = 5
REFERENCE_PROBLEMS = 4  # of the reference in one turn
PARTS = ("train W", "train (K, Q)", "programs")

Measured = dict[str, dict]  # {"spent": {part: (processor time, wall time) per problem}, "correlation": {…: mean}}


def train(data: TokenData, seeds: Sequence[int], factored: bool) -> torch.Tensor:
    """W or K Qᵀ of every problem after training."""
    starts = [torch.rand(1 + factored, D, D, generator=generator_for(s, "start"), dtype=torch.float64) for s in seeds]
    weights = [w.requires_grad_() for w in ((2 * torch.stack(starts) - 1) / D**0.5).unbind(1)]

    def product() -> torch.Tensor:
        return weights[0] @ weights[1].mT if factored else weights[0]

    def loss(_: int) -> torch.Tensor:
        context, _ = attend(data.xs, data.zs, product())
        losses = softplus(-data.ys * (context @ data.v[:, :, None])[..., 0]).mean(-1)
        return losses + DECAY * sum(w.square().sum((-2, -1)) for w in weights) if factored else losses

    every = range(0, STEPS + 1, STEPS // 40)
    optimizer = NormalizedGD(weights, lr=LR)
    return descend(loss, optimizer, STEPS, evaluate=lambda: product().clone(), log_steps=every)["log"][-1]


def programs(data: TokenData, W: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Solutions in the Frobenius norm and in the nuclear norm for the tokens that W selects."""
    log_attention = attend(data.xs, data.zs, W)[1]
    selected = (log_attention == log_attention.amax(-1, keepdim=True)).numpy()
    problems = list(zip(data.xs.numpy(), data.zs.numpy(), selected, strict=True))
    pairs = [token_selection.constraint_pairs(*problem)[0] for problem in problems]
    frobenius = np.stack([token_selection.frobenius_program(*problem) for problem in problems])
    return frobenius, nuclear_margins(*map(np.stack, zip(*pairs, strict=True))).W


def ours(seeds: Sequence[int]) -> Measured:
    """One turn of ours."""
    data = unit_tokens(seeds, N, T, D)
    spent, correlation = dict.fromkeys(PARTS, (0.0, 0.0)), {}

    def clocked(part: str, function, *arguments):
        wall, cpu = time.perf_counter(), time.process_time()
        result = function(*arguments)
        passed = (time.process_time() - cpu) / len(seeds), (time.perf_counter() - wall) / len(seeds)
        spent[part] = tuple(sum(pair) for pair in zip(spent[part], passed, strict=True))
        return result

    for own, (name, factored) in enumerate((("W", False), ("(K, Q)", True))):
        W = clocked(f"train {name}", train, data, seeds, factored)
        solutions = clocked("programs", programs, data, W)
        correlation[name] = float(token_selection.cosine(W.numpy(), solutions[own]).mean())
    return {"spent": spent, "correlation": correlation}


def rows(turns: dict[str, list[Measured]]) -> list[dict[str, str | float]]:
    """The table: one row per part and one for the whole."""

    def seconds(side: str, parts: Sequence[str], kind: int) -> float:
        return median(sum(turn["spent"][part][kind] for part in parts) for turn in turns[side])

    table = []
    for name, parts in [*((part, (part,)) for part in PARTS), ("training", PARTS[:2]), ("whole", PARTS)]:
        row: dict[str, str | float] = {"part": name, "threads": 1}
        row |= {f"{side}, CPU s": seconds(side, parts, 0) for side in turns}
        row |= reference.ratios(row, list(turns))
        row |= {f"{side}, wall s": seconds(side, parts, 1) for side in turns}
        for side in ("reference", f"ours, {STACK} problems"):
            if side in turns:
                values = [turn["correlation"].get(name.removeprefix("train ")) for turn in turns[side]]
                row[f"correlation, {side}"] = "" if None in values else sum(values) / len(values)
        table.append(row)
    return table


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", help="folder of the checkout")
    parser.add_argument("--reference-python", default=sys.executable, help="interpreter with the authors' packages")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sides = {"ours, 1 problem": lambda turn: ours([turn]), f"ours, {STACK} problems": lambda turn: ours(range(STACK))}
    if options.reference:
        authors = reference.Reference(
            "attention_svm_reference.py",
            options.reference_python,
            [options.reference],
            needed=str(Path("TF-as-SVM") / "base.py"),
        )
        sides = {"reference": lambda turn: json.loads(authors.ask(REFERENCE_PROBLEMS))} | sides
        authors.ask(1)  # warm-up
    else:
        print("Only ours: for the authors' code see --reference in --help.")
    ours([0])  # warm-up
    turns: dict[str, list[Measured]] = {side: [] for side in sides}
    for turn in range(TURNS if options.reference else 1):
        for side, measure in sides.items():
            turns[side].append(measure(turn))
    if options.reference:
        authors.close()
    table = rows(turns)
    reference.show(table)
    if options.reference:
        reference.write(table, HERE / "attention_svm_reference.csv")


if __name__ == "__main__":
    main()
