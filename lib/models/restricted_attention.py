r"""Restricted linear attention: one d × d matrix per layer, which moves the targets and leaves the inputs alone.

    r_j ← r_j - (1/n) Σ_{i <= n} r_i x_iᵀ A_l x_j        for every point j, the query included; r_j = y_j at first

Source: Gatmiry et al. 2024, arXiv 2410.21698 (restricted attention, looped or not). The form with one matrix per layer is
that of Ahn et al. 2023, arXiv 2306.00297, and of the companion paper, arXiv 2410.08292.

| papers           | code                  | shape                               |
|------------------|-----------------------|-------------------------------------|
| A_l              | `A`, `model.layers()` | (*stack, d, d) each                 |
| S = XᵀX/n        | `gram`                | (*stack, batch, d, d), context only |
| L                | `n_layers`            | layers, or loops of one layer       |

`lib.models.solver_weights` writes a layer as a block of linear attention. The sum runs over the context; the query is not
a key. All r_j stay linear in x_j, so it is enough to carry the error's coefficients: if r_j = eᵀ x_j before a layer, then
afterwards with (I - A_lᵀ S) e. That is `error_maps`: the cost of a layer falls from O(n d²) to O(d³) per prompt, and the
expected loss over weights and query needs no draw of either (`risk`).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from lib.models.initialisation import stacked_draws
from lib.tasks.in_context_regression import require_prompts


def sample_covariance(xs: Float[Tensor, "*stack n_points n_dims"]) -> Float[Tensor, "*stack n_dims n_dims"]:
    """S = (1/n) Σ x_i x_iᵀ over the context, which is all points but the last.

    Raises:
        ValueError: fewer than two points.
    """
    require_prompts(xs)
    context = xs[..., :-1, :]
    return context.mT @ context / context.shape[-2]


def error_maps(
    layers: Sequence[Float[Tensor, "*stack d d"]], gram: Float[Tensor, "*stack batch d d"]
) -> list[Float[Tensor, "*stack batch d d"]]:
    """Matrices M_0 = I, M_1, …, M_L with M_l = (I - S A_1) … (I - S A_l): the error after l layers is eᵀ = wᵀ M_l.

    Args:
        layers: A_1, …, A_L.
        gram: S of each prompt.

    Returns:
        L + 1 tensors, a matrix per prompt each.
    """
    maps = [torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device).expand_as(gram)]
    for A in layers:
        # A meets all prompts of its member in one product.
        step = ((maps[-1] @ gram).flatten(-3, -2) @ A).unflatten(-2, gram.shape[-3:-1])
        maps.append(maps[-1] - step)
    return maps


def risk(
    error_map: Float[Tensor, "*stack batch d d"], covariance: Float[Tensor, "*stack batch d d"]
) -> Float[Tensor, "*stack batch"]:
    """Squared error of a fresh query per prompt, in expectation over w ~ N(0, I) and x ~ N(0, Σ): tr(M Σ Mᵀ).

    >>> risk(torch.eye(2).expand(1, 2, 2), torch.diag(torch.tensor([1.0, 3.0])).expand(1, 2, 2)).item()
    4.0
    """
    return ((error_map @ covariance) * error_map).sum((-2, -1))


class RestrictedTransformer(nn.Module):
    """A stack of restricted layers, one matrix each or one for all, that answers the last point of a prompt.

    Layer l starts at (step_l I + noise) with step_l uniform in [0, 2 init_step]: from equal matrices, layers that can be
    exchanged without changing the output would receive equal gradients and stay equal.

    Args:
        n_dims: Dimension of the inputs.
        n_layers: Layers, or loops of one layer.
        seeds: One model per seed, each drawn from its own generator.
        init_step: Mean of the initial steps.
        looped: All layers share one matrix; it starts at init_step I + noise.
        init_noise: Standard deviation of the initial entries around the diagonal, in units of `init_step`.

    Raises:
        ValueError: Fewer than one dimension or layer, `init_step` not positive, or `init_noise` negative.

    >>> RestrictedTransformer(3, 2, seeds=[0, 1], init_step=0.1)(torch.ones(2, 5, 7, 3), torch.ones(2, 5, 7)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_dims: int,
        n_layers: int,
        seeds: Sequence[int],
        *,
        init_step: float,
        looped: bool = False,
        init_noise: float = 0.05,
    ) -> None:
        super().__init__()
        if n_dims < 1 or n_layers < 1:
            raise ValueError(f"n_dims and n_layers are {n_dims} and {n_layers}; both must be at least 1")
        if not init_step > 0 or init_noise < 0:
            raise ValueError(
                f"init_step and init_noise are {init_step} and {init_noise}; they must be positive and at least 0"
            )
        self.n_dims, self.n_layers, self.looped = n_dims, n_layers, looped

        def draw(generator: Generator) -> Tensor:
            spread = 1.0 if looped else 2 * torch.rand((), generator=generator)
            noise = torch.randn(n_dims, n_dims, generator=generator)
            return init_step * (spread * torch.eye(n_dims) + init_noise * noise)

        n_matrices = 1 if looped else n_layers
        self.A = nn.ParameterList(
            stacked_draws(draw, seeds, f"restricted attention: layer {layer}") for layer in range(n_matrices)
        )

    def layers(self, n_layers: int | None = None) -> list[Float[Tensor, "seed d d"]]:
        """A_1, …, A_L in the order of use; with `n_layers`, as many, going through the stack again where it ends.

        Raises:
            ValueError: `n_layers` below 1.
        """
        n_layers = self.n_layers if n_layers is None else n_layers
        if n_layers < 1:
            raise ValueError(f"n_layers is {n_layers}; it must be at least 1")
        return [self.A[i % len(self.A)] for i in range(n_layers)]

    def steps(self) -> Float[Tensor, "layer seed"]:
        """The step size that each layer has learnt: the mean diagonal entry of A_l, layers in the order of use."""
        return torch.stack([A.diagonal(dim1=-2, dim2=-1).mean(-1) for A in self.layers()])

    def forward(
        self,
        xs: Float[Tensor, "seed batch n_points n_dims"],
        ys: Float[Tensor, "seed batch n_points"],
        n_layers: int | None = None,
    ) -> Float[Tensor, "seed batch"]:
        """Predictions for the last point of each prompt.

        Args:
            xs: Inputs, the last one the query.
            ys: Targets, noisy or not; the last one is not looked at.
            n_layers: Layers to apply instead of the model's own number: fewer, or more by starting again.

        Raises:
            ValueError: Inputs of another dimension than the model's, or a prompt without context.
        """
        require_prompts(xs, self.n_dims)
        gram = sample_covariance(xs)
        # With noise r_j = y_j - wᵀ x_j, where w starts at 0 and moves by Aᵀ (Xᵀy/n - S w); rows as in `error_maps`.
        cross = ys[..., None, :-1] @ xs[..., :-1, :] / (xs.shape[-2] - 1)
        weights = torch.zeros_like(cross)
        for A in self.layers(n_layers):
            weights = weights + ((cross - weights @ gram).squeeze(-2) @ A)[..., None, :]
        return (weights.squeeze(-2) * xs[..., -1, :]).sum(-1)
