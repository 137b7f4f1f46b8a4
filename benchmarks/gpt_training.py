"""How near a step of GPT training comes to the machine's matrix products: floating-point rate, sampling included.

    python benchmarks/gpt_training.py

One thread, processor time. A step draws its Markov chains, predicts every next symbol, and applies Adam, as
`notebooks/in_context/occams_razor.ipynb` does. Operations are those of the matrix products of a forward pass, counted
three times for forward and backward, with attention counted in full though it is causal; the ceiling is a product of
two 1024 × 1024 matrices in float32, measured before and after. Writes `gpt_training.csv`.
"""

import os

os.environ |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import csv
from pathlib import Path

import torch
import torch.nn.functional as F
from common.measure import ceiling, seconds

from lib.minimise import minimise
from lib.models.gpt import GPT, MLP_RATIO
from lib.tasks import markov_chains

N_SYMBOLS, LENGTH, BATCH, N_LAYERS, ORDERS = 7, 40, 32, 2, (0, 1)


def operations(width: int, n_seeds: int) -> float:
    """Of the matrix products in one step, forward and backward."""
    per_token = N_LAYERS * ((4 + 2 * MLP_RATIO) * width**2 + 2 * LENGTH * width) + 2 * N_SYMBOLS * width
    return 3 * 2 * per_token * BATCH * LENGTH * n_seeds


def measure(width: int, n_heads: int, n_seeds: int) -> dict[str, float]:
    """One row of the table."""
    seeds = list(range(n_seeds))
    generators = markov_chains.streams(seeds, "benchmark")
    model = GPT(N_SYMBOLS, N_SYMBOLS, LENGTH, width, N_LAYERS, n_heads, seeds)

    def draw() -> torch.Tensor:
        parts = [markov_chains.transition_rows(generators, BATCH // 2, N_SYMBOLS, order, 0.5) for order in ORDERS]
        return torch.cat([markov_chains.sequences(generators, rows, LENGTH) for rows in parts], 1)

    def loss(_: int) -> torch.Tensor:
        xs = draw()
        logits = model(F.one_hot(xs, N_SYMBOLS).float())[:, :, :-1]
        losses = F.cross_entropy(logits.flatten(0, 2), xs[:, :, 1:].flatten(), reduction="none")
        return losses.reshape(n_seeds, -1).mean(1)

    n_steps = 10
    step = seconds(lambda: minimise(loss, model.parameters(), n_steps, lr=1e-3, clip=1.0)) / n_steps
    rate, product = operations(width, n_seeds) / step, ceiling()
    return {
        "width": width,
        "heads": n_heads,
        "seeds": n_seeds,
        "ms per step": round(1e3 * step, 2),
        "ms per step and seed": round(1e3 * step / n_seeds, 2),
        "share of it that draws the data": round(seconds(draw, 0.5) / step, 3),
        "GFLOP/s": round(rate / 1e9, 1),
        "GFLOP/s of a matrix product": round(product / 1e9, 1),
        "share of that rate": round(rate / product, 3),
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = [measure(*sizes) for sizes in ((48, 1, 1), (48, 1, 5), (64, 2, 5), (128, 2, 5), (256, 4, 1), (256, 4, 5))]
    for row in rows:
        print(row)
    with (Path(__file__).parent / "gpt_training.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
