"""Trains the reference beside which `benchmarks/grokking_reference.py` measures; started by that script.

    REFERENCE_PYTHON benchmarks/drivers/grokking_reference.py CHECKOUT

Imports networks, losses, data and ⊥Grad from the user's own checkout and does what the authors' `grokking_experiments.py`
does at every epoch: shuffle all pairs, forward, loss, backward, step. Its logs are left out, and it has one thread.
For every line of JSON read from standard input (name of the work, number of epochs, seed) it trains one network, and prints
processor and wall time per epoch and the test accuracy, as one line of JSON. torchvision, which the code imports and does
not use here, is replaced by an empty module.
"""

import json
import sys
import time
import types
from pathlib import Path

import torch

P, TRAIN_FRACTION, HIDDEN = 113, 0.4, 200
WIDTH, HEADS = 128, 4


def split(dataset: torch.utils.data.Dataset) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Training and test pairs as the authors split them."""
    n_train = int(TRAIN_FRACTION * len(dataset))
    parts = torch.utils.data.random_split(dataset, [n_train, len(dataset) - n_train])
    return [(dataset.data[part.indices], dataset.targets[part.indices].long()) for part in parts]


def main() -> None:
    """Answers requests until standard input closes."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if not Path(sys.argv[1], "orthograd.py").is_file():
        sys.exit(f"There is no orthograd.py in {sys.argv[1]}.")
    sys.path.insert(0, sys.argv[1])
    torchvision = types.ModuleType("torchvision")
    torchvision.datasets = types.ModuleType("torchvision.datasets")
    sys.modules |= {"torchvision": torchvision, "torchvision.datasets": torchvision.datasets}
    from binary_operations import add_mod, subtract_mod
    from datasets import AlgorithmicDataset, AlgorithmicDatasetTransformer
    from models import MLP, Transformer
    from orthograd import OrthoGrad
    from utils import cross_entropy_float32, stablemax_cross_entropy

    answers, sys.stdout = sys.stdout, sys.stderr  # whatever the authors' code prints is not an answer
    tables = {False: AlgorithmicDataset(add_mod, p=P), True: AlgorithmicDatasetTransformer(subtract_mod, p=P)}
    for line in sys.stdin:
        request = json.loads(line)
        name = request["name"]
        encoder = name.startswith("transformer")
        torch.manual_seed(request["seed"])
        (xs, ys), (test_xs, test_ys) = split(tables[encoder])
        if encoder:
            model = Transformer(d_model=WIDTH, num_heads=HEADS, num_layers=1, vocab_size=P, seq_len=2)
        else:
            model = MLP(input_size=2 * P, hidden_sizes=[HIDDEN, HIDDEN], output_size=P, bias=False)
        if "⊥" in name:
            lr = 0.001 if encoder else 0.01
            optimizer = OrthoGrad(model.parameters(), torch.optim.AdamW, lr=lr, weight_decay=0)
        else:
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.005, betas=(0.9, 0.99), eps=1e-25, weight_decay=0)
        loss_function = stablemax_cross_entropy if "StableMax" in name else cross_entropy_float32
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(request["epochs"]):
            order = torch.randperm(len(xs))
            model.train()
            optimizer.zero_grad()
            logits = model(xs[order])
            loss = loss_function(logits[:, -1] if encoder else logits, ys[order])
            loss.backward()
            optimizer.step()
        spent = {"cpu": (time.process_time() - cpu) / request["epochs"]}
        spent["wall"] = (time.perf_counter() - wall) / request["epochs"]
        model.eval()
        with torch.no_grad():
            logits = model(test_xs)
            right = (logits[:, -1] if encoder else logits).argmax(-1) == test_ys
        print(json.dumps(spent | {"accuracy": float(right.float().mean())}), file=answers, flush=True)


if __name__ == "__main__":
    main()
