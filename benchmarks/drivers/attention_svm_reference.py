"""Trains the reference beside which `benchmarks/attention_svm_reference.py` measures; started by that script.

    REFERENCE_PYTHON benchmarks/drivers/attention_svm_reference.py CHECKOUTS

Imports the authors' layer and programs from the user's own checkout of TF-as-SVM and does the work of `local_converge.ipynb`
on one random problem after another: 2000 normalised steps on W, the same on K and Q, and both programs for the tokens that
each has selected; the record of every step is left out. For every number n read from standard input it does n more problems,
and prints processor and wall time per problem of each part and the mean correlations, as one line of JSON.
"""

import json
import sys
import time
from pathlib import Path

import torch

N, T, D, STEPS, LR = 6, 8, 10, 2000, 0.1
EPS = torch.finfo(torch.double).eps


def problem(seed: int) -> tuple[torch.Tensor, ...]:
    """Tokens, queries and decoder on the unit sphere, random labels."""
    generator = torch.Generator().manual_seed(seed)
    xs, zs, v = (
        torch.nn.functional.normalize(torch.randn(*shape, D, generator=generator), dim=-1).double()
        for shape in ((N, T), (N,), ())
    )
    return xs, zs, 2.0 * torch.randint(2, (N,), generator=generator) - 1, v


def train(layer_class: type, data: tuple[torch.Tensor, ...], direct: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The trained W or K Qᵀ, as a matrix between token and query, and the selected tokens."""
    xs, zs, ys, v = data
    layer = layer_class(D, univariate=direct).double()
    layer.v.data = v
    weights = [layer.W.weight] if direct else [layer.query.weight, layer.key.weight]
    optimizer = torch.optim.SGD(weights, lr=LR)
    for _ in range(STEPS):
        optimizer.zero_grad()
        outputs = layer(xs, cross_input=zs, cross_attn=True).view(-1)
        loss = torch.log(1 + torch.exp(-ys * outputs)).mean()
        if not direct:
            loss = loss + EPS * sum(w.norm() ** 2 for w in weights)
        loss.backward()
        for w in weights:
            w.grad /= w.grad.norm() + EPS
        optimizer.step()
    product = layer.W.weight.T if direct else layer.key.weight.T @ layer.query.weight
    return product.detach(), layer.sfx_out.detach().reshape(N, T).argmax(-1)


def main() -> None:
    """Answers requests until standard input closes."""
    torch.set_num_threads(1)
    sys.path.insert(0, str(Path(sys.argv[1]) / "TF-as-SVM"))
    from base import SelfAttn, W_svm_solver

    answers, sys.stdout = sys.stdout, sys.stderr  # whatever the authors' code prints is not an answer
    seed = 0
    for line in sys.stdin:
        n = int(line)
        spent = {part: [0.0, 0.0] for part in ("train W", "train (K, Q)", "programs")}
        correlation = {"W": 0.0, "(K, Q)": 0.0}

        def clocked(part: str, function, *arguments, spent=spent, n=n):
            wall, cpu = time.perf_counter(), time.process_time()
            result = function(*arguments)
            spent[part][0] += (time.process_time() - cpu) / n
            spent[part][1] += (time.perf_counter() - wall) / n
            return result

        for _ in range(n):
            torch.manual_seed(seed)
            data = problem(seed)
            seed += 1
            for name, direct in (("W", True), ("(K, Q)", False)):
                matrix, selected = clocked(f"train {name}", train, SelfAttn, data, direct)
                for frobenius in (True, False):
                    settings = {"cross_input": data[1], "cross_attn": True, "fro": frobenius}
                    svm = clocked("programs", lambda: W_svm_solver(data[0], selected, **settings))  # noqa: B023
                    if frobenius == direct:
                        svm = torch.from_numpy(svm)
                        correlation[name] += float((matrix * svm).sum() / matrix.norm() / svm.norm()) / n
        print(json.dumps({"spent": spent, "correlation": correlation}), file=answers, flush=True)


if __name__ == "__main__":
    main()
