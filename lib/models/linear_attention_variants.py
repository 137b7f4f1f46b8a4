r"""Linear self-attention with MLPs: before it, to make its tokens, or between its layers; and with a layer that copies.

Source: von Oswald et al. 2022, arXiv 2212.07677, the sections on non-linear regression and on standard tokens, and the
appendix on deep models with MLPs.

**Features.** `FeatureRegressor`: tokens (m(x_j), y_j + r(x_j)), where (m, r) is an MLP with one hidden layer of GELUs, then
one layer of linear attention, or the same layer held at the construction of one gradient step, with its rate to learn.
Minus the query's last entry is the prediction -r(x_q) + eta sum_j (y_j + r(x_j)) m(x_j)ᵀ m(x_q): one step of GD on a
linear model of the features, from an initial model -r.

**Copying.** `CopyingTransformer`: x_j and y_j stand in tokens of their own, (x_j, 0, p) and (0, y_j, p) with a positional
code p. A softmax layer can copy a token into its neighbour, which makes (x_j, y_j); then linear attention can take a step.

**MLPs in between.** `MLPTransformer`: merged tokens; every layer of linear attention is followed by an MLP on each token,
both residual, e <- e + attention(e), then e <- e + W_out GELU(W_in e + b). With W_out = 0 it is `LinearTransformer`.

| paper                    | code                                           | shape                     |
|--------------------------|------------------------------------------------|---------------------------|
| m(x), deep features      | `FeatureRegressor.tokens`                      | (*both, batch, n_points, n_features + 1) |
| P W_V, W_Kᵀ W_Q          | `W_PV`, `W_KQ`; the copying layer's `copy_OV`, `copy_KQ` | (seed, D, D)    |
| gradient wrt tokens, Figure 5 | `token_sensitivities`                     | (*stack, token, token)    |

Differences: the paper's MLP sees y_j, too, and widens 4-fold from 40; ours sees x_j only and adds to y_j. The paper's y_j
shares a coordinate with x_j, and its positional code is sinusoidal; here y has a coordinate of its own and positions
are one-hot, which a short training can use. The MLPs between layers have no bias at their exit. Initial values are ours.
W_KQ of the feature regressor starts much larger than W_PV: while W_PV is still near zero the features turn towards the
directions where W_KQ is positive. From small W_KQ a direction of features may die where it happens to be negative.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.models.initialisation import stacked_draws
from lib.models.linear_attention import linear_attention, project
from lib.models.softmax_attention import attention_outputs
from lib.tasks.in_context_regression import merged_tokens, require_prompts


def token_sensitivities(
    layer: Callable[[Tensor], Tensor], tokens: Float[Tensor, "*stack batch n D"]
) -> Float[Tensor, "*stack n n"]:
    """How token i of a layer's output depends on token j of its input: |mean over prompts of d(sum of entries of i)/d e_j|.

    >>> token_sensitivities(lambda tokens: 2 * tokens, torch.ones(4, 2, 9)).tolist()
    [[6.0, 0.0], [0.0, 6.0]]
    """
    with torch.enable_grad():
        tokens = tokens.detach().requires_grad_()
        outputs = layer(tokens).sum(-1)
        rows = [
            torch.autograd.grad(outputs[..., i].sum(), tokens, retain_graph=True)[0].mean(-3).norm(dim=-1)
            for i in range(outputs.shape[-1])
        ]
    return torch.stack(rows, dim=-2)


def _drawn(seeds: Sequence[int], purpose: str, *shape: int, std: float) -> nn.Parameter:
    return stacked_draws(lambda g: std * torch.randn(shape, generator=g), seeds, purpose)


class FeatureRegressor(nn.Module):
    """A stack of models of a function of one variable: an MLP on x, then one layer of linear attention.

    Args:
        n_features: entries of m(x).
        n_hidden: hidden units of the MLP.
        seeds: one model per seed, each drawn from its own generator.
        constructed: hold the attention at one gradient step, with a rate to learn, instead of training its matrices.
        half_width: of the inputs; the hidden units' kinks start spread over them.

    Raises:
        ValueError: a size below 1, or a half-width that is not positive.

    >>> FeatureRegressor(4, 8, seeds=[0, 1])(torch.ones(2, 5, 7, 1), torch.ones(2, 5, 7)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_features: int,
        n_hidden: int,
        seeds: Sequence[int],
        constructed: bool = False,
        half_width: float = 5.0,
    ) -> None:
        super().__init__()
        if n_features < 1 or n_hidden < 1:
            raise ValueError(f"n_features and n_hidden are {n_features} and {n_hidden}; both must be at least 1")
        if not half_width > 0:
            raise ValueError(f"half_width is {half_width}; it must be positive")
        name, n_tokens = "feature regressor: ", n_features + 1
        self.slopes = _drawn(seeds, name + "slopes", n_hidden, std=1.0)
        kinks = stacked_draws(lambda g: half_width * (2 * torch.rand(n_hidden, generator=g) - 1), seeds, name + "kinks")
        self.shifts = nn.Parameter(kinks.detach() * self.slopes.detach())
        self.readout = _drawn(seeds, name + "readout", n_tokens, n_hidden, std=0.3 * n_hidden**-0.5)
        self.offset = nn.Parameter(torch.zeros(len(seeds), n_tokens))
        self.constructed = constructed
        if constructed:
            self.rate = nn.Parameter(torch.full((len(seeds), 1), 0.01))
        else:
            self.W_KQ = _drawn(seeds, name + "W_KQ", n_tokens, n_tokens, std=0.3)
            self.W_PV = _drawn(seeds, name + "W_PV", n_tokens, n_tokens, std=0.003)

    def matrices(self) -> tuple[Float[Tensor, "seed D D"], Float[Tensor, "seed D D"]]:
        """(W_KQ, W_PV)."""
        if not self.constructed:
            return self.W_KQ, self.W_PV
        last = torch.zeros_like(self.offset)
        last[:, -1] = 1
        return torch.diag_embed(1 - last), torch.diag_embed(-self.rate * last)

    def tokens(
        self, xs: Float[Tensor, "*data batch n_points 1"], ys: Float[Tensor, "*data batch n_points"]
    ) -> Float[Tensor, "*both batch n_points D"]:
        """(m(x_j), y_j + r(x_j)), and (m(x_q), r(x_q)) of the last point."""
        hidden = nn.functional.gelu(xs * self.slopes[:, None, None] + self.shifts[:, None, None])
        tokens = project(hidden, self.readout) + self.offset[:, None, None]
        known = torch.cat([ys[..., :-1], torch.zeros_like(ys[..., :1])], dim=-1)
        return torch.cat([tokens[..., :-1], tokens[..., -1:] + known[..., None]], dim=-1)

    def forward(
        self, xs: Float[Tensor, "*data batch n_points 1"], ys: Float[Tensor, "*data batch n_points"]
    ) -> Float[Tensor, "*both batch"]:
        """Prediction for the last point, whose target is not looked at: minus the last entry of its token."""
        tokens = self.tokens(xs, ys)
        query = tokens[..., -1:, :]
        return -(query + linear_attention(query, tokens[..., :-1, :], *self.matrices()))[..., 0, -1]


class CopyingTransformer(nn.Module):
    """A stack of two-layer models on standard tokens: softmax attention, then linear attention, both residual.

    Args:
        n_dims: dimension of the inputs.
        n_points: points per prompt, the query included; the prompt has 2 n_points - 1 tokens.
        seeds: one model per seed, each drawn from its own generator.
        positions: whether tokens carry their positional code; without it nothing tells which y belongs to which x.
        init_std: standard deviation of the initial entries.

    Raises:
        ValueError: fewer than one dimension or two points, or an `init_std` that is not positive.

    >>> CopyingTransformer(3, 7, seeds=[0, 1])(torch.ones(2, 5, 7, 3), torch.ones(2, 5, 7)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self, n_dims: int, n_points: int, seeds: Sequence[int], positions: bool = True, init_std: float = 0.1
    ) -> None:
        super().__init__()
        if n_dims < 1 or n_points < 2:
            raise ValueError(f"n_dims and n_points are {n_dims} and {n_points}; they must be at least 1 and 2")
        if not init_std > 0:
            raise ValueError(f"init_std is {init_std}; it must be positive, since zero weights have zero gradient")
        n_tokens = 2 * n_points - 1
        width = n_dims + 1 + n_tokens
        self.n_dims = n_dims
        self.register_buffer("code", torch.eye(n_tokens) if positions else torch.zeros(n_tokens, n_tokens))
        for name in ("copy_KQ", "copy_OV", "W_KQ", "W_PV"):
            setattr(self, name, _drawn(seeds, f"copying transformer: {name}", width, width, std=init_std))

    def tokens(
        self, xs: Float[Tensor, "*data batch n_points n_dims"], ys: Float[Tensor, "*data batch n_points"]
    ) -> Float[Tensor, "*data batch n D"]:
        """x_1, y_1, x_2, …, x_q, each in coordinates of its own, with its position.

        Raises:
            ValueError: prompts of another size than the model was made for.
        """
        n_tokens = len(self.code)
        if (2 * xs.shape[-2] - 1, xs.shape[-1]) != (n_tokens, self.n_dims):
            raise ValueError(
                f"prompts have {xs.shape[-2]} points of {xs.shape[-1]} dimensions; "
                f"the model was made for {(n_tokens + 1) // 2} of {self.n_dims}"
            )
        tokens = xs.new_zeros(*xs.shape[:-2], n_tokens, self.n_dims + 1 + n_tokens)
        tokens[..., ::2, : self.n_dims] = xs
        tokens[..., 1::2, self.n_dims] = ys[..., :-1]
        tokens[..., self.n_dims + 1 :] = self.code
        return tokens

    def copying_layer(self, tokens: Float[Tensor, "*data batch n D"]) -> Float[Tensor, "*both batch n D"]:
        """The first layer: softmax attention to all tokens but the query."""
        scale = tokens.shape[-1] ** -0.5
        heads = (self.copy_KQ[:, None], self.copy_OV[:, None])
        return tokens + attention_outputs(tokens, tokens[..., :-1, :], *heads, scale)

    def forward(
        self, xs: Float[Tensor, "*data batch n_points n_dims"], ys: Float[Tensor, "*data batch n_points"]
    ) -> Float[Tensor, "*both batch"]:
        """Prediction for the last point, whose target is not looked at: minus the y-entry of its token."""
        tokens = self.copying_layer(self.tokens(xs, ys))
        query = tokens[..., -1:, :]
        updated = query + linear_attention(query, tokens[..., :-1, :], self.W_KQ, self.W_PV)
        return -updated[..., 0, self.n_dims]


class MLPTransformer(nn.Module):
    """A stack of models on merged tokens whose layers are linear attention and an MLP on each token, both residual.

    Args:
        n_dims: dimension of the inputs; tokens have one more.
        n_layers: layers, each with weights of its own.
        n_hidden: hidden units of each MLP.
        seeds: one model per seed, each drawn from its own generator.
        init_std: of the attention's initial entries; the MLPs' exits start as small.
        bound: tokens are clipped to it after each layer, as the paper does in deep models.

    Raises:
        ValueError: a size below 1, or an `init_std` or `bound` that is not positive.

    >>> MLPTransformer(3, 2, 8, seeds=[0, 1])(torch.ones(2, 5, 7, 3), torch.ones(2, 5, 7)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_dims: int,
        n_layers: int,
        n_hidden: int,
        seeds: Sequence[int],
        init_std: float = 0.02,
        bound: float = 10.0,
    ) -> None:
        super().__init__()
        if min(n_dims, n_layers, n_hidden) < 1:
            raise ValueError(
                f"n_dims, n_layers and n_hidden are {n_dims}, {n_layers} and {n_hidden}; all must be at least 1"
            )
        if not (init_std > 0 and bound > 0):
            raise ValueError(f"init_std and bound are {init_std} and {bound}; they must be positive")
        self.n_dims, self.bound, width = n_dims, bound, n_dims + 1
        shapes = {
            "W_KQ": (width, width, init_std),
            "W_PV": (width, width, init_std),
            "W_in": (n_hidden, width, width**-0.5),
            "W_out": (width, n_hidden, init_std * n_hidden**-0.5),
        }

        def drawn(layer: int) -> nn.ParameterDict:
            weights = {
                name: _drawn(seeds, f"transformer with MLPs: layer {layer} {name}", *shape, std=std)
                for name, (*shape, std) in shapes.items()
            }
            return nn.ParameterDict(weights | {"bias": nn.Parameter(torch.zeros(len(seeds), n_hidden))})

        self.layers = nn.ModuleList(drawn(layer) for layer in range(n_layers))

    def matrices(self) -> list[tuple[Tensor, Tensor]]:
        """(W_KQ, W_PV) of each layer."""
        return [(layer["W_KQ"], layer["W_PV"]) for layer in self.layers]

    def forward(
        self, xs: Float[Tensor, "*data batch n_points n_dims"], ys: Float[Tensor, "*data batch n_points"]
    ) -> Float[Tensor, "*both batch"]:
        """Prediction for the last point, whose target is not looked at: minus the y-entry of its token.

        Raises:
            ValueError: inputs of another dimension than the model's, or a prompt without context.
        """
        require_prompts(xs, self.n_dims)
        tokens = merged_tokens(xs, ys)
        for number, layer in enumerate(self.layers, start=1):
            moved = tokens[..., -1:, :] if number == len(self.layers) else tokens  # at last only the query matters
            moved = moved + linear_attention(moved, tokens[..., :-1, :], layer["W_KQ"], layer["W_PV"])
            hidden = nn.functional.gelu(project(moved, layer["W_in"]) + layer["bias"][:, None, None])
            tokens = (moved + project(hidden, layer["W_out"])).clamp(-self.bound, self.bound)
        return -tokens[..., -1, self.n_dims]
