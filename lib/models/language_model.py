r"""A small language model: the GPT of `lib.models.gpt` on token numbers, with parts that can be watched, frozen and swapped.

    h = embedding[token] + position
    h ← h + attention(norm(h));   h ← h + MLP(norm(h)),   MLP = out · GELU · in, four times as wide;   n_layers times
    logits = unembedding · norm(h)

Source: Radford et al. 2019 (GPT-2): weights N(0, 0.02²), the two projections back into the residual stream
N(0, 0.02²/(2 n_layers)), biases zero, norms one, no bias on the logits. Relative positions are one learnt number per head
and distance, added to the scores, as in Raffel et al. 2020 (T5), arXiv 1910.10683, without its buckets.

Three changes for studies of mechanism: `mlp=False` leaves attention alone with the residual stream; relative positions (or
none) in place of learnt ones; `tied=True` makes the unembedding the embedding itself.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.models.blocks import (
    INIT_STD,
    MLP_RATIO,
    Draws,
    causal_attention,
    linear,
    linear_of_norm,
    members,
    require_sizes,
    split_heads,
)

POSITIONS = ("learned", "relative", "none")
COMPONENTS = ("embedding", "positions", "attention", "mlp", "norms", "unembedding")


class LanguageModel(nn.Module):
    """A stack of causal transformers on token numbers.

    Args:
        n_tokens: Size of the vocabulary.
        n_positions: Longest sequence.
        width: Of the residual stream, a multiple of `n_heads`.
        n_layers: Blocks.
        n_heads: Attention heads of a block.
        seeds: One model per seed, each drawn from its own generator.
        mlp: Whether blocks have an MLP.
        positions: "learned" embeddings, "relative" biases on the scores, or "none".
        tied: Whether the unembedding is the embedding's transpose.

    Raises:
        ValueError: A size below 1, a width that the heads do not divide, or unknown positions.

    >>> model = LanguageModel(n_tokens=7, n_positions=8, width=8, n_layers=2, n_heads=2, seeds=[0, 1])
    >>> model(torch.zeros(5, 6, dtype=torch.long)).shape
    torch.Size([2, 5, 6, 7])
    """

    def __init__(
        self,
        n_tokens: int,
        n_positions: int,
        width: int,
        n_layers: int,
        n_heads: int,
        seeds: Sequence[int],
        *,
        mlp: bool = True,
        positions: str = "learned",
        tied: bool = False,
    ) -> None:
        super().__init__()
        sizes = dict(n_tokens=n_tokens, n_positions=n_positions, width=width, n_layers=n_layers, n_heads=n_heads)
        require_sizes(sizes, width, n_heads)
        if positions not in POSITIONS:
            raise ValueError(f"positions is {positions!r}; it must be one of {', '.join(POSITIONS)}")
        self.n_tokens, self.n_positions, self.n_layers, self.n_heads = n_tokens, n_positions, n_layers, n_heads
        self.mlp, self.tied = mlp, tied

        draws = Draws("language model", seeds)
        into_residual = INIT_STD / (2 * n_layers) ** 0.5
        weights = {"embedding": draws.normal("embedding", n_tokens, width)}
        if positions == "learned":
            weights["positions"] = draws.normal("positions", n_positions, width)
        for i in range(n_layers):
            weights |= draws.norm(f"{i}_norm1", width) | draws.linear(f"{i}_attention_qkv", width, 3 * width)
            weights |= draws.linear(f"{i}_attention_out", width, width, std=into_residual)
            if positions == "relative":
                weights[f"{i}_positions"] = draws.filled(0.0, n_heads, n_positions)
            if mlp:
                weights |= draws.norm(f"{i}_norm2", width) | draws.linear(f"{i}_mlp_up", width, MLP_RATIO * width)
                weights |= draws.linear(f"{i}_mlp_down", MLP_RATIO * width, width, std=into_residual)
        weights |= draws.norm("norm", width)
        if not tied:
            weights["unembedding"] = draws.normal("unembedding", n_tokens, width)
        self.weights = nn.ParameterDict(weights)

    @torch.no_grad()
    def scale_start(self, weights: float, embedding: float, position: float) -> None:
        """Multiply the initial weights, for models so narrow that GPT-2's scale leaves them on a plateau for long.

        Args:
            weights: Factor of the blocks' matrices and, if it is not tied, of the unembedding.
            embedding: Factor of the embedding.
            position: Factor of learnt positions; relative ones start at zero.

        Raises:
            ValueError: A factor that is not positive.
        """
        if not min(weights, embedding, position) > 0:
            raise ValueError(
                f"weights, embedding and position are {weights}, {embedding}, {position}; all must be positive"
            )
        factors = {"embedding": embedding, "positions": position, "norms": 1.0}
        for name, w in self.weights.items():
            w.mul_(factors.get(component_of(name), weights))

    def forward(self, tokens: Int[Tensor, "*data batch time"]) -> Float[Tensor, "*both batch time n_tokens"]:
        """Logits of the next token at every position.

        Args:
            tokens: Sequences of numbers 0…n_tokens-1; leading axes broadcast against the stack.

        Raises:
            ValueError: Sequences longer than `n_positions`, or a token outside the vocabulary.
        """
        h = self.hidden(tokens)[-1]
        weights = members(self.weights, h.ndim - 3)
        weights["out_W"] = weights["embedding" if self.tied else "unembedding"]
        logits = linear_of_norm(weights, "out", "norm", h.flatten(0, -4).flatten(1, 2))
        return logits.reshape(*h.shape[:-1], self.n_tokens)

    def hidden(self, tokens: Int[Tensor, "*data batch time"]) -> list[Float[Tensor, "*both batch time width"]]:
        """The residual stream before each block, and after the last."""
        return self._run(tokens)[0]

    @torch.no_grad()
    def attention_maps(
        self, tokens: Int[Tensor, "*data batch time"]
    ) -> list[Float[Tensor, "*both batch head time time"]]:
        """How much of each earlier position every position reads, block by block; rows sum to one."""
        return self._run(tokens, with_maps=True)[1]

    def components(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by the part they belong to. To freeze a part, leave it out of what the optimizer gets."""
        parts: dict[str, list[nn.Parameter]] = {name: [] for name in COMPONENTS}
        for name, w in self.weights.items():
            parts[component_of(name)].append(w)
        return {name: parameters for name, parameters in parts.items() if parameters}

    @torch.no_grad()
    def take(self, donor: "LanguageModel", components: Sequence[str]) -> None:
        """Overwrite parts by those of another model of the same shape.

        Raises:
            ValueError: A part that the models do not have.
        """
        mine, theirs = self.components(), donor.components()
        for name in components:
            if name not in mine:
                raise ValueError(f"there is no component {name!r}; the model has {', '.join(mine)}")
            for w, other in zip(mine[name], theirs[name], strict=True):
                w.copy_(other)

    def copies(self, n_copies: int) -> "LanguageModel":
        """A model of that many copies of this stack in a new leading axis, e.g. one per finetuning set."""
        if n_copies < 1:
            raise ValueError(f"n_copies is {n_copies}; it must be at least 1")
        clone = object.__new__(LanguageModel)
        nn.Module.__init__(clone)
        for name in ("n_tokens", "n_positions", "n_layers", "n_heads", "mlp", "tied"):
            setattr(clone, name, getattr(self, name))
        clone.weights = nn.ParameterDict(
            {name: nn.Parameter(w.detach().repeat(n_copies, *[1] * w.ndim)) for name, w in self.weights.items()}
        )
        return clone

    def _run(self, tokens: Tensor, with_maps: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        stack = self.weights["embedding"].shape[:-2]
        batch, time = tokens.shape[-2:]
        if time > self.n_positions:
            raise ValueError(f"the sequence has {time} tokens; the model has n_positions = {self.n_positions}")
        # On a GPU looking would stop it at every step, and there torch itself refuses what lies outside the table.
        if not tokens.is_cuda and tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.n_tokens:
            raise ValueError(
                f"tokens reach from {int(tokens.min())} to {int(tokens.max())}; they must lie in 0…{self.n_tokens - 1}"
            )
        weights = members(self.weights, len(stack))
        n_members, _, width = weights["embedding"].shape
        tokens = tokens.to(weights["embedding"].device).expand(*stack, batch, time).reshape(n_members, batch * time)
        # One table for all members: a lookup is then one gather.
        rows = tokens + self.n_tokens * torch.arange(n_members, device=tokens.device)[:, None]
        h = F.embedding(rows, weights["embedding"].flatten(0, 1))
        if "positions" in weights:
            h = (h.unflatten(1, (batch, time)) + weights["positions"][:, None, :time]).flatten(1, 2)
        hidden, maps = [h], []
        for i in range(self.n_layers):
            qkv = linear_of_norm(weights, f"{i}_attention_qkv", f"{i}_norm1", h)
            mask = self._scores_added(weights.get(f"{i}_positions"), batch, time)
            if with_maps:
                q, k, _ = split_heads(qkv, self.n_heads, time)
                scores = q @ k.mT / q.shape[-1] ** 0.5 + (0.0 if mask is None else mask)
                future = torch.ones(time, time, dtype=torch.bool, device=h.device).triu(1)
                weight = scores.masked_fill(future, -torch.inf).softmax(-1)
                maps.append(weight.reshape(*stack, batch, self.n_heads, time, time))
            h = h + linear(weights, f"{i}_attention_out", causal_attention(qkv, self.n_heads, time, mask))
            if self.mlp:
                h = h + linear(
                    weights, f"{i}_mlp_down", F.gelu(linear_of_norm(weights, f"{i}_mlp_up", f"{i}_norm2", h))
                )
            hidden.append(h)
        return [h.reshape(*stack, batch, time, width) for h in hidden], maps

    def _scores_added(self, biases: Tensor | None, batch: int, time: int) -> Tensor | None:
        """Relative biases (member, head, distance) as a causal mask (member batch, head, time, time)."""
        if biases is None:
            return None
        distance = torch.arange(time, device=biases.device)[:, None] - torch.arange(time, device=biases.device)
        mask = biases[..., distance.clamp_min(0)].masked_fill(distance < 0, -torch.inf)
        return mask[:, None].expand(-1, batch, -1, -1, -1).flatten(0, 1)


def component_of(name: str) -> str:
    """The part of the model that a parameter belongs to, by its name."""
    if "norm" in name:
        return "norms"
    return name.lstrip("0123456789_").split("_")[0]  # "0_mlp_up_W" -> "mlp"


def next_token_loss(
    logits: Float[Tensor, "*stack batch time n_tokens"], tokens: Int[Tensor, "*data batch time"]
) -> Float[Tensor, "*stack batch predicted"]:
    """Cross-entropy, in nats, of each token after the first under the logits at the token before it.

    >>> next_token_loss(torch.zeros(2, 1, 3, 4), torch.tensor([[0, 1, 2]])).shape
    torch.Size([2, 1, 2])
    """
    predicted = logits[..., :-1, :]
    targets = tokens[..., 1:].to(logits.device).expand(predicted.shape[:-1])
    losses = F.cross_entropy(predicted.flatten(0, -2), targets.flatten(), reduction="none")
    return losses.reshape(targets.shape)
