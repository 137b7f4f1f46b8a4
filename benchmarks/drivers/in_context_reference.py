"""Trains one of the references beside which `benchmarks/in_context_references.py` measures; started by that script.

    REFERENCE_PYTHON benchmarks/drivers/in_context_reference.py CHECKOUTS WORK

Imports the authors' modules from the user's own checkouts and does what the authors' training loops do in one step,
data included, evaluation and progress bars left out. For every number n read from standard input it trains n more
steps and prints the wall time and the processor time that they took, in seconds.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

Step = Callable[[], None]


def one_step(checkouts: Path, n_layers: int) -> tuple[Step, Step]:
    """Linear attention on merged tokens, as `constructed_token_setup.ipynb` of arXiv:2212.07677 trains it."""
    import jax
    import jax.numpy as jnp

    if not hasattr(jnp, "DeviceArray"):
        jnp.DeviceArray = jax.Array  # its name since JAX 0.4.11; used in annotations only
    sys.path.insert(0, str(checkouts / "self-organising-systems" / "transformers_learn_icl_by_gd"))
    from src import train
    from src.config import config

    config.num_layers = n_layers
    config.init_scale = 0.002 / n_layers
    config.bs = 2048
    config.grad_clip_value = 0.001
    optimiser, state, _, rng = train.init()
    work = {"state": state, "rng": jax.random.split(rng)[1]}

    def step() -> None:
        key, work["rng"] = jax.random.split(work["rng"], 2)
        data = train.data_creator(
            jax.random.split(key, num=config.bs),
            config.input_size,
            config.dataset_size,
            config.size_distract,
            config.input_range,
            config.weight_scale,
        )
        work["state"], _ = train.update(work["state"], data, optimiser)

    return step, lambda: jax.block_until_ready(work["state"].params)


def autoregressive(checkouts: Path) -> tuple[Step, Step]:
    """Full-batch training on unitary sequences, as `main_train_ar.py` of arXiv:2405.16845 does it."""
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(checkouts / "MesaOpt-AR-Transformer"))
    from data.generate_data import generate_ar_process
    from main_train_ar import get_embedding
    from models.lsa import AutoregressiveLSA

    torch.manual_seed(1)
    sequences, _ = generate_ar_process(5, 100, m=1000, isotropic=1, scale=1.0, if_test=False)
    tokens = get_embedding(sequences)
    targets = tokens[:, :5, 2:]
    model = AutoregressiveLSA(dim=5, T=100, a=0.1, b=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        error = model.forward_train(tokens) - targets
        (0.5 * (error.conj_physical() * error).sum().real / tokens.shape[0]).backward()
        optimizer.step()

    return step, lambda: None


def softmax(checkouts: Path, n_heads: int) -> tuple[Step, Step]:
    """One layer of softmax attention, as `icl_linear.ipynb` of arXiv:2503.12734 trains it."""
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(checkouts / "ICL_linear"))
    from src.models import MultiHeadAttentionStack
    from utils.data_utils import LinearReg

    torch.manual_seed(1029)
    model = MultiHeadAttentionStack(1, 6, n_heads, 1, False)
    task = LinearReg({"L": 40, "dx": 5, "dy": 1, "number_of_samples": 256, "noise_std": 0.1**0.5})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    measure = torch.nn.MSELoss()

    def step() -> None:
        queries, context, targets = task.__generatedata__()
        optimizer.zero_grad()
        loss = measure(model(queries, context), targets)
        loss.backward()
        optimizer.step()
        loss.detach().item()

    return step, lambda: None


WORKS = {
    "one layer": lambda folder: one_step(folder, 1),
    "two looped layers": lambda folder: one_step(folder, 2),
    "autoregressive": autoregressive,
    "1 head": lambda folder: softmax(folder, 1),
    "2 heads": lambda folder: softmax(folder, 2),
    "4 heads": lambda folder: softmax(folder, 4),
}


def main() -> None:
    """Answers requests until standard input closes."""
    step, wait = WORKS[sys.argv[2]](Path(sys.argv[1]))
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever the authors' code prints is not an answer
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            step()
        wait()
        print(time.perf_counter() - wall, time.process_time() - cpu, file=answers, flush=True)


if __name__ == "__main__":
    main()
