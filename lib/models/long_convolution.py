r"""Attention-free sequence models with stacked weights: gated long convolutions (Hyena), and retention (RetNet).

Both keep the GPT's blocks, h ← h + mixer(norm(h)), h ← h + MLP(norm(h)), and put another mixer in attention's place:

    long convolution   (q, k, v) = short(W h);  y = q ⊙ (K * (k ⊙ v)),   (K * u)_t = sum_{s <= t} K_{t-s} ⊙ u_s + D ⊙ u_t
    retention          y_t = norm( sum_{s <= t} γ^{t-s} (q_t · k_s) v_s ),   γ per head: linear attention with a decay

*Long convolution* (Poli et al. 2023, arXiv 2302.10866, order 2): which earlier step matters is fixed by the distance
t - s, not by content; content enters through the gates alone. K_τ (one filter per channel) is as long as the
sequence: cosines and sines of τ through a small MLP, times a window that decays at a rate of its own in every
channel; `short` is a causal filter over three steps. *Retention* (Sun et al. 2023, arXiv 2307.08621): a matrix of
fixed size, sum γ^{t-s} k_s v_sᵀ, is all that is kept of the past, so that nothing can be looked up exactly; no
softmax.

| papers                   | code               |                                                         |
|--------------------------|--------------------|---------------------------------------------------------|
| h, filter of Hyena       | `filters`          | (stack, width, time)                                    |
| window exp(-α t)         | `decay`            | learnt, one per channel, log-spaced at the start         |
| x_1, x_2, v of Hyena     | q, k, v            |                                                         |
| γ of RetNet              | `decays`           | 1 - 2^(-1…-5) over the heads: fixed; theirs start at 2^-5, for long texts |
"""

from collections.abc import Sequence
from math import log, pi

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lib.models.blocks import INIT_STD, MLP_RATIO, Draws, linear, linear_of_norm, members, require_sizes

MIXERS = ("long convolution", "retention")
SHORT = 3  # steps of Hyena's short filter
N_FREQUENCIES = 8  # cosines and sines that describe a distance
FILTER_WIDTH = 16  # hidden units of the MLP from distance to filter


class AttentionFree(nn.Module):
    """A stack of causal models without attention, called like `lib.models.gpt.GPT`.

    Args:
        mixer: What mixes time steps: "long convolution" or "retention".
        n_in: Size of a token.
        n_out: Size of an output.
        n_positions: Longest sequence of tokens.
        width: Of the residual stream.
        n_layers: Blocks.
        n_heads: Of retention; the width must be a multiple. Long convolutions have a filter per channel.
        seeds: One model per seed, each drawn from its own generator.

    Raises:
        ValueError: An unknown mixer, a size below 1, or a width that the heads do not divide.

    >>> model = AttentionFree("retention", 3, 1, n_positions=8, width=8, n_layers=1, n_heads=2, seeds=[0, 1])
    >>> model(torch.ones(2, 5, 6, 3)).shape
    torch.Size([2, 5, 6, 1])
    """

    def __init__(
        self,
        mixer: str,
        n_in: int,
        n_out: int,
        n_positions: int,
        width: int,
        n_layers: int,
        n_heads: int,
        seeds: Sequence[int],
    ) -> None:
        super().__init__()
        if mixer not in MIXERS:
            raise ValueError(f"mixer is {mixer!r}; it must be one of {', '.join(MIXERS)}")
        sizes = dict(n_in=n_in, n_out=n_out, n_positions=n_positions, width=width, n_layers=n_layers, n_heads=n_heads)
        require_sizes(sizes, width, n_heads)
        self.mixer, self.n_positions, self.n_layers, self.n_heads = mixer, n_positions, n_layers, n_heads

        draws = Draws(mixer, seeds)
        into_residual = INIT_STD / (2 * n_layers) ** 0.5
        # One channel forgets within a step, another keeps the whole sequence.
        decay = torch.linspace(log(1 / n_positions), 0.0, width)
        weights = draws.linear("read_in", n_in, width)
        for i in range(n_layers):
            weights |= draws.norm(f"{i}_norm1", width) | draws.linear(f"{i}_qkv", width, 3 * width)
            weights |= draws.linear(f"{i}_mixed", width, width, std=into_residual)
            weights |= draws.norm(f"{i}_norm2", width) | draws.linear(f"{i}_up", width, MLP_RATIO * width)
            weights |= draws.linear(f"{i}_down", MLP_RATIO * width, width, std=into_residual)
            if mixer == "long convolution":
                weights |= {
                    f"{i}_short": draws.normal(f"{i}_short", 3 * width, SHORT, std=SHORT**-0.5),
                    f"{i}_skip": draws.normal(f"{i}_skip", width, std=1.0),
                    f"{i}_decay": nn.Parameter(decay.repeat(len(seeds), 1)),
                }
                weights |= draws.linear(f"{i}_filter1", 1 + 2 * N_FREQUENCIES, FILTER_WIDTH, std=1.0)
                weights |= draws.linear(f"{i}_filter2", FILTER_WIDTH, width, std=FILTER_WIDTH**-0.5)
            else:
                weights |= {"position": draws.normal("position", n_positions, width)}
        self.weights = nn.ParameterDict(weights | draws.norm("norm", width) | draws.linear("read_out", width, n_out))

    @torch.no_grad()
    def scale_start(self, factor: float) -> None:
        """Multiply the matrices that mix channels, as `lib.models.gpt.GPT.scale_start` does for narrow transformers.

        Raises:
            ValueError: A factor that is not positive.
        """
        if not factor > 0:
            raise ValueError(f"factor is {factor}; it must be positive")
        for name, w in self.weights.items():
            if name.endswith("_W") and "norm" not in name and "filter" not in name:
                w.mul_(factor)

    def forward(self, tokens: Float[Tensor, "*data batch time n_in"]) -> Float[Tensor, "seed batch time n_out"]:
        """Outputs at every position; each sees itself and what came before.

        Args:
            tokens: Sequences, with or without the stack's axis before the batch.

        Raises:
            ValueError: Sequences longer than `n_positions`, or tokens of another size than `n_in`.
        """
        weights = members(self.weights, 1)
        n_stack, _, n_in = weights["read_in_W"].shape
        batch, time = tokens.shape[-3:-1]
        if time > self.n_positions:
            raise ValueError(f"the prompt has {time} tokens; the model has n_positions = {self.n_positions}")
        if tokens.shape[-1] != n_in:
            raise ValueError(f"tokens have size {tokens.shape[-1]}; the model was made for n_in = {n_in}")
        tokens = tokens.expand(n_stack, batch, time, n_in).reshape(n_stack, batch * time, n_in)

        mix = self._convolved if self.mixer == "long convolution" else self._retained
        h = linear(weights, "read_in", tokens)
        if "position" in weights:
            h = h + weights["position"][:, :time].repeat(1, batch, 1)
        for i in range(self.n_layers):
            qkv = linear_of_norm(weights, f"{i}_qkv", f"{i}_norm1", h).reshape(n_stack, batch, time, -1)
            h = h + linear(weights, f"{i}_mixed", mix(i, qkv).reshape(n_stack, batch * time, -1))
            h = h + linear(weights, f"{i}_down", F.gelu(linear_of_norm(weights, f"{i}_up", f"{i}_norm2", h)))
        return linear_of_norm(weights, "read_out", "norm", h).reshape(n_stack, batch, time, -1)

    def _convolved(
        self, layer: int, qkv: Float[Tensor, "seed batch time thrice_width"]
    ) -> Float[Tensor, "seed batch time width"]:
        columns = qkv.permute(0, 3, 2, 1)
        q, k, v = causal_convolution(self.weights[f"{layer}_short"], columns).chunk(3, 1)
        long = causal_convolution(self.filters(layer, qkv.shape[-2]), k * v)
        return (q * (long + self.weights[f"{layer}_skip"][..., None, None] * v)).permute(0, 3, 2, 1)

    def filters(self, layer: int, time: int) -> Float[Tensor, "seed width time"]:
        """The filter of every channel, over distances 0…time-1."""
        weights = self.weights
        distance = torch.arange(time, device=weights["read_in_W"].device, dtype=torch.float32)[:, None]
        angle = 2 * pi * distance / self.n_positions * torch.arange(1, N_FREQUENCIES + 1, device=distance.device)
        features = torch.cat([distance / self.n_positions, angle.cos(), angle.sin()], -1)
        hidden = torch.sin(features @ weights[f"{layer}_filter1_W"].mT + weights[f"{layer}_filter1_b"][:, None])
        raw = hidden @ weights[f"{layer}_filter2_W"].mT + weights[f"{layer}_filter2_b"][:, None]
        window = torch.exp(-distance * weights[f"{layer}_decay"].exp()[:, None])
        return (raw * window).mT

    def _retained(
        self, layer: int, qkv: Float[Tensor, "seed batch time thrice_width"]
    ) -> Float[Tensor, "seed batch time width"]:
        n_stack, batch, time, wide = qkv.shape
        size = wide // (3 * self.n_heads)
        q, k, v = qkv.reshape(n_stack * batch, time, 3, self.n_heads, size).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.mT) * retention_weights(self.n_heads, time).to(q.device)) @ v / size**0.5
        return F.layer_norm(mixed, (size,)).transpose(1, 2).reshape(n_stack, batch, time, -1)


def causal_convolution(
    filters: Float[Tensor, "seed width taps"], signal: Float[Tensor, "seed width time batch"]
) -> Float[Tensor, "seed width time batch"]:
    """sum over s <= t of filter_{t-s} times signal_s, channel by channel; filters are zero beyond their taps.

    As a product with one lower triangular Toeplitz matrix per channel: for prompts of some tens of tokens this is several
    times faster than the Fourier transform, and twice as fast as shifted sums for three taps.
    """
    n_stack, width, time, batch = signal.shape
    filters = F.pad(filters, (0, max(time - filters.shape[-1], 0)))
    distance = torch.arange(time, device=signal.device)
    toeplitz = filters[..., (distance[:, None] - distance).clamp_min(0)].tril()
    product = toeplitz.flatten(0, 1) @ signal.reshape(n_stack * width, time, batch)
    return product.reshape(n_stack, width, time, batch)


def retention_weights(n_heads: int, time: int) -> Float[Tensor, "n_heads time time"]:
    """γ^(t-s) for s <= t and 0 above the diagonal, γ from 1/2 to 1 - 1/32 over the heads.

    >>> retention_weights(1, 2)[0].tolist()
    [[1.0, 0.0], [0.96875, 1.0]]
    """
    decays = 1 - 2.0 ** (-torch.linspace(1, 5, n_heads) if n_heads > 1 else torch.tensor([-5.0]))
    distance = torch.arange(time)[:, None] - torch.arange(time)
    return (decays[:, None, None] ** distance.clamp_min(0)).tril()
