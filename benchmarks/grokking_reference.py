"""Time per epoch of "Grokking at the Edge of Numerical Stability", beside the authors' code, on one thread.

    python benchmarks/grokking_reference.py --reference FOLDER [--reference-python INTERPRETER]

FOLDER holds a checkout of the authors' repository, which is neither copied nor needed otherwise:

    git clone https://github.com/LucasPrietoAl/grokking-at-the-edge-of-numerical-stability    # at 0cc9e8d, PyTorch

INTERPRETER is a Python that has torch and numpy. `benchmarks/drivers/grokking_reference.py` runs in it and does what the
authors' `grokking_experiments.py` does between two logs. Without the options only ours is measured and no table is written.

The work: addition modulo 113, 5,107 training pairs, two hidden layers of 200, all pairs at every step; with AdamW on softmax
cross-entropy, with ⊥Grad around AdamW, and with AdamW on StableMax. And subtraction by a transformer layer of width 128 with
2,048 hidden units and dropout, ⊥Grad around AdamW. Ours is measured with one network and with five stacked. It gains because
nothing is multiplied by zeros; because the pairs are not shuffled, for a sum over all of them has no order; because
StableMax's gradient is written by hand; and, in the transformer, because residues are embedded and projected once and
only the token that answers is computed. Both sides are measured in turns; a cell is the median over the turns, in seconds
of processor time per epoch and network. Accuracies are those at the end of a turn, means over turns.
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

import torch
from common import reference
from torch import Tensor

from lib.descend import descend
from lib.models.pair_encoder import PairEncoder
from lib.models.stablemax import stablemax_cross_entropy
from lib.models.uniform_mlp import UniformMLP
from lib.optimizers.perp_grad import PerpGrad
from lib.seeds import generator_for
from lib.tasks.modular_arithmetic import split_pairs
from lib.theory.softmax_collapse import cross_entropy

HERE = Path(__file__).parent
P, TRAIN_FRACTION, HIDDEN = 113, 0.4, 200
WIDTH, ENCODER_HIDDEN, HEADS, DROPOUT = 128, 2048, 4, 0.1
EPOCHS = {"AdamW, softmax": 60, "⊥AdamW, softmax": 150, "AdamW, StableMax": 60, "transformer, ⊥AdamW": 8}
STACK = 5
TURNS = 5

Measured = dict[str, dict]  # name of the work -> {"cpu": …, "wall": … per epoch and network, "accuracy": on test pairs}


def ours(name: str, seeds: Sequence[int]) -> dict[str, float]:
    """Trains one network per seed; data and start are not timed."""
    encoder = name.startswith("transformer")
    train, test = split_pairs(seeds, P, TRAIN_FRACTION, "subtract" if encoder else "add")
    if encoder:
        model, generators = (
            PairEncoder(P, WIDTH, ENCODER_HIDDEN, HEADS, seeds),
            [generator_for(s, "drop") for s in seeds],
        )
    else:
        model = UniformMLP([2 * P, HIDDEN, HIDDEN, P], seeds)

    def loss(_: int) -> Tensor:
        logits = model(train, DROPOUT, generators) if encoder else model(train)
        if "StableMax" in name:
            return stablemax_cross_entropy(logits, train.ys).mean(-1)
        return cross_entropy(logits, train.ys, 32).mean(-1)

    if "⊥" in name:
        optimizer = PerpGrad(
            model.parameters(), torch.optim.AdamW, lr=0.001 if encoder else 0.01, weight_decay=0.0, fused=True
        )
    else:
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=0.005, betas=(0.9, 0.99), eps=1e-25, weight_decay=0.0, fused=True
        )
    wall, cpu = time.perf_counter(), time.process_time()
    descend(loss, optimizer, EPOCHS[name])
    per = EPOCHS[name] * len(seeds)
    spent = {"cpu": (time.process_time() - cpu) / per, "wall": (time.perf_counter() - wall) / per}
    with torch.no_grad():
        return spent | {"accuracy": float((model(test).argmax(-1) == test.ys).float().mean())}


def theirs(authors: reference.Reference, name: str, seed: int) -> dict[str, float]:
    """The same by the authors' code."""
    return json.loads(authors.ask(json.dumps({"name": name, "epochs": EPOCHS[name], "seed": seed})))


def rows(turns: dict[str, dict[str, list[dict[str, float]]]]) -> list[dict[str, str | float]]:
    """The table: one row per kind of work; `turns` is by side, then by work."""
    table = []
    for name in EPOCHS:
        row: dict[str, str | float] = {"work": name, "threads": 1}
        row |= {f"{side}, CPU s": median(turn["cpu"] for turn in turns[side][name]) for side in turns}
        row |= reference.ratios(row, list(turns))
        row |= {f"{side}, wall s": median(turn["wall"] for turn in turns[side][name]) for side in turns}
        for side in turns:
            values = [turn["accuracy"] for turn in turns[side][name]]
            row[f"test accuracy, {side}"] = sum(values) / len(values)
        table.append(row)
    return table


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", help="folder of the checkout")
    parser.add_argument("--reference-python", default=sys.executable, help="interpreter with torch and numpy")
    parser.add_argument("--turns", type=int, default=TURNS, help="turns of each side")
    options = parser.parse_args()
    if options.turns < 1:
        parser.error(f"argument --turns: {options.turns} is too few, at least 1 is needed")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    sides = {
        "ours, 1 network": lambda name, turn: ours(name, [turn]),
        f"ours, {STACK} networks": lambda name, turn: ours(name, range(STACK * turn, STACK * turn + STACK)),
    }
    if options.reference:
        authors = reference.Reference(
            "grokking_reference.py", options.reference_python, [options.reference], needed="orthograd.py"
        )
        sides = {"reference": lambda name, turn: theirs(authors, name, turn)} | sides
    else:
        print("Only ours: for the authors' code see --reference in --help.")
    turns: dict[str, dict[str, list]] = {side: {name: [] for name in EPOCHS} for side in sides}
    for turn in range(-1, options.turns):  # the first is a warm-up
        for name in EPOCHS:
            for side, measure in sides.items():
                result = measure(name, max(turn, 0))
                if turn >= 0:
                    turns[side][name].append(result)
    if options.reference:
        authors.close()
    table = rows(turns)
    reference.show(table)
    if options.reference:
        reference.write(table, HERE / "grokking_reference.csv")


if __name__ == "__main__":
    main()
