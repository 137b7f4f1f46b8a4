r"""Recurrent networks, torch's own, with stacked weights: the attention-free baseline on sequences of tokens.

    h = read_in(token);   h = LSTM(h) or GRU(h), n_layers of them;   output = read_out(h)

Source: Hochreiter & Schmidhuber 1997 (LSTM); Cho et al. 2014, arXiv 1406.1078 (GRU). Called as `lib.models.gpt.GPT`.

All that the network keeps from its past is its state: 2 · n_layers · width numbers (LSTM: hidden and cell) or
n_layers · width (GRU), however long the sequence is; a transformer keeps 2 · n_layers · width per token.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from lib.models.blocks import linear, members
from lib.models.initialisation import stacked_draws

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}
STATES = {"lstm": 2, "gru": 1}  # vectors of size `width` that a layer keeps


class Recurrent(nn.Module):
    """A stack of recurrent networks.

    Weights are drawn as torch draws them: uniform within 1/√width (read-in: within 1/√n_in).

    Args:
        cell: "lstm" or "gru".
        n_in: Size of a token.
        n_out: Size of an output.
        width: Of the hidden state.
        n_layers: Recurrent layers.
        seeds: One model per seed, each drawn from its own generator.

    Raises:
        ValueError: Another cell, or a size below 1.

    >>> Recurrent("lstm", n_in=3, n_out=1, width=8, n_layers=2, seeds=[0, 1])(torch.ones(2, 5, 6, 3)).shape
    torch.Size([2, 5, 6, 1])
    """

    def __init__(self, cell: str, n_in: int, n_out: int, width: int, n_layers: int, seeds: Sequence[int]) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"cell is {cell!r}; it must be one of {sorted(CELLS)}")
        for name, size in dict(n_in=n_in, n_out=n_out, width=width, n_layers=n_layers).items():
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        # It gives the shapes and the arithmetic; its weights are never used, so they have no memory behind them.
        self._network = [CELLS[cell](width, width, n_layers, batch_first=True, device="meta")]
        self.state_size = STATES[cell] * n_layers * width

        def uniform(name: str, shape: Sequence[int], n_from: int) -> nn.Parameter:
            bound = n_from**-0.5
            return stacked_draws(
                lambda g: torch.empty(*shape).uniform_(-bound, bound, generator=g), seeds, f"recurrent: {name}"
            )

        shapes = {name: w.shape for name, w in self._network[0].named_parameters()}
        weights = {name: uniform(name, shape, width) for name, shape in shapes.items()}
        for name, n_from, n_to in (("read_in", n_in, width), ("read_out", width, n_out)):
            weights[f"{name}_W"] = uniform(f"{name}_W", (n_to, n_from), n_from)
            weights[f"{name}_b"] = uniform(f"{name}_b", (n_to,), n_from)
        self.weights, self._recurrent = nn.ParameterDict(weights), list(shapes)

    def forward(self, tokens: Float[Tensor, "*data batch time n_in"]) -> Float[Tensor, "seed batch time n_out"]:
        """Outputs at every position; each has seen itself and what came before.

        Args:
            tokens: Sequences, with a leading axis of seeds or none, in which case all members read the same.

        Raises:
            ValueError: Tokens of another size than `n_in`.
        """
        n_seeds, _, n_in = self.weights["read_in_W"].shape
        batch, time = tokens.shape[-3:-1]
        if tokens.shape[-1] != n_in:
            raise ValueError(f"tokens have size {tokens.shape[-1]}; the model was made for n_in = {n_in}")
        tokens = tokens.expand(n_seeds, batch, time, n_in)

        weights = members(self.weights, 1)
        h = linear(weights, "read_in", tokens.flatten(1, 2)).unflatten(1, (batch, time))
        # torch's kernels take one member at a time.
        outputs = [
            functional_call(self._network[0], {name: self.weights[name][i] for name in self._recurrent}, h[i])[0]
            for i in range(n_seeds)
        ]
        return linear(weights, "read_out", torch.stack(outputs).flatten(1, 2)).unflatten(1, (batch, time))
