r"""One transformer encoder layer that reads a pair of residues and answers at the second one, stacked over seeds.

    u = e_b + W_O Σ_{t ∈ {a, b}} softmax_t(q_b · k_t / √size) v_t,      q, k, v = W_Q e, W_K e, W_V e   (head by head)
    h = norm(u),      g = norm(h + W_2 relu(W_1 h)),      logits = W_U g

with biases everywhere, as `torch.nn.TransformerEncoderLayer` has by default (norms after the sums), and without positions.
Dropout, if asked for, is where that layer has it: on the attention, on W_O's output, after the relu, on W_2's output.

Queries, keys and values depend on the residue alone: they are computed once per residue, not once per pair, and only the
second token goes through the rest, for nobody reads the first one's output.

| symbol         | code                    | shape                                        |
|----------------|-------------------------|----------------------------------------------|
| e              | `weights["embedding"]`  | (seed, p, width)                              |
| W_Q, W_K, W_V  | `weights["attention"]`  | (seed, 3 width, width), in this order         |
| W_O            | `weights["output"]`     | (seed, width, width)                          |
| W_1, W_2       | `weights["up"]`, `weights["down"]` | (seed, hidden, width), (seed, width, hidden) |
| W_U            | `weights["unembedding"]`| (seed, p, width)                              |

Every bias and every norm's scale is a matrix of one row, so that optimizers that act on matrices can have it.

Source: Prieto et al. 2025, arXiv 2501.04697 (width 128, 4 heads, PyTorch's defaults); starts are PyTorch's.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lib.models.blocks import require_sizes
from lib.models.initialisation import stacked_draws
from lib.tasks.modular_arithmetic import Pairs

MATRICES = ("embedding", "attention", "output", "up", "down", "unembedding")


class PairEncoder(nn.Module):
    """A stack of encoders for pairs of residues.

    Args:
        modulus: p, number of tokens and of classes.
        width: Of the residual stream.
        hidden: Of the layer between W_1 and W_2.
        n_heads: Attention heads, a divisor of the width.
        seeds: One network per seed, each drawn from its own generators.

    Raises:
        ValueError: A size below 1, or heads that do not divide the width.

    >>> from lib.tasks.modular_arithmetic import split_pairs
    >>> PairEncoder(5, 8, 16, 2, seeds=[0, 1])(split_pairs([0, 1], 5, 0.4).train).shape
    torch.Size([2, 10, 5])
    """

    def __init__(self, modulus: int, width: int, hidden: int, n_heads: int, seeds: Sequence[int]) -> None:
        super().__init__()
        require_sizes({"modulus": modulus, "width": width, "hidden": hidden, "n_heads": n_heads}, width, n_heads)
        self.n_heads = n_heads

        def normal(g: torch.Generator) -> Tensor:
            return torch.randn(modulus, width, generator=g)

        def uniform(n_out: int, n_in: int, bound: float) -> nn.Parameter:
            name = f"pair encoder: {n_out} by {n_in}, {len(self.weights)}"
            return stacked_draws(lambda g: bound * (2 * torch.rand(n_out, n_in, generator=g) - 1), seeds, name)

        self.weights = nn.ParameterDict({"embedding": stacked_draws(normal, seeds, "pair encoder: embedding")})
        self.weights["attention"] = uniform(3 * width, width, (6 / (4 * width)) ** 0.5)  # Glorot's
        for name, n_in, n_out in (
            ("output", width, width),
            ("up", width, hidden),
            ("down", hidden, width),
            ("unembedding", width, modulus),
        ):
            self.weights[name] = uniform(n_out, n_in, n_in**-0.5)
        self.biases = nn.ParameterDict()
        for name, size in (("attention", 3 * width), ("output", width)):  # PyTorch starts these two at zero
            self.biases[name] = nn.Parameter(torch.zeros(len(seeds), 1, size))
        for name, n_in, size in (("up", width, hidden), ("down", hidden, width), ("unembedding", width, modulus)):
            self.biases[name] = nn.Parameter(uniform(1, size, n_in**-0.5))
        self.norms = nn.ParameterDict()
        for name, value in (("scale 1", 1.0), ("shift 1", 0.0), ("scale 2", 1.0), ("shift 2", 0.0)):
            self.norms[name] = nn.Parameter(torch.full((len(seeds), 1, width), value))

    def forward(
        self, pairs: Pairs, dropout: float = 0.0, generators: Sequence[torch.Generator] = ()
    ) -> Float[Tensor, "seed n p"]:
        """Logits of every pair.

        Args:
            pairs: Of every seed.
            dropout: Share of entries set to zero, in [0, 1); the others are scaled up.
            generators: One per seed, to draw these entries from.

        Raises:
            ValueError: A share outside [0, 1), or too few generators to draw from.
        """
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; it must lie in [0, 1)")
        if dropout and len(generators) != len(pairs.ys):
            raise ValueError(f"generators has {len(generators)} entries; dropout needs one per seed, {len(pairs.ys)}")

        def drop(xs: Tensor) -> Tensor:
            if not dropout:
                return xs
            kept = torch.stack([torch.rand(xs.shape[1:], generator=g) for g in generators]) >= dropout
            return xs * (kept.to(xs) / (1 - dropout))

        e = self.weights["embedding"]
        n_seeds, _, width = e.shape
        q, k, v = self._linear("attention", e).unflatten(-1, (3, self.n_heads, -1)).unbind(2)
        # Scores of all p² pairs of residues, then those of the pairs asked for: (seed, head, query, key).
        scores = torch.einsum("sbhd,sahd->shba", q, k) * (width // self.n_heads) ** -0.5
        seed = torch.arange(n_seeds, device=e.device)[:, None]
        to_a, to_b = (scores[seed, :, pairs.b, token] for token in (pairs.a, pairs.b))
        on_a = torch.sigmoid(to_a - to_b)[..., None]  # a softmax of two
        on_a, on_b = drop(torch.stack([on_a, 1 - on_a], -1)).unbind(-1)
        mixed = on_a * v[seed, pairs.a] + on_b * v[seed, pairs.b]
        hs = self._norm(1, e[seed, pairs.b] + drop(self._linear("output", mixed.flatten(2))))
        hs = self._norm(2, hs + drop(self._linear("down", drop(torch.relu(self._linear("up", hs))))))
        return self._linear("unembedding", hs)

    def _linear(self, name: str, xs: Float[Tensor, "seed n n_in"]) -> Float[Tensor, "seed n n_out"]:
        return torch.baddbmm(self.biases[name], xs, self.weights[name].mT)

    def _norm(self, which: int, xs: Float[Tensor, "seed n width"]) -> Float[Tensor, "seed n width"]:
        return F.layer_norm(xs, xs.shape[-1:]) * self.norms[f"scale {which}"] + self.norms[f"shift {which}"]
