r"""Linear models W x with W = W_L … W_1: linear (L = 1), bilinear (L = 2), deep linear; and their losses.

Used by arXiv 2510.22980, Section 3. The square loss is L(W) = E|y - W x|²/2, with gradient W Sigma_xx -
Sigma_yx.

| paper              | code       | shape            |
|--------------------|------------|------------------|
| W_1 … W_L          | `factors`  | (*stack, out, in), first factor first |
| W = W_L … W_1      | `matrix`   | (*stack, k, d)   |
| Sigma_yx, Sigma_xx | `sigma_yx`, `sigma_xx` | (*stack, k, d), (*stack, d, d) |

All functions broadcast over leading dimensions: weights (lrs, seeds, k, d) meet data (seeds, n, d). Losses
come one per member, so that their sum's backward pass trains every member independently.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from lib.models.initialisation import stacked_draws


def apply(matrix: Float[Tensor, "*stack k d"], xs: Float[Tensor, "*data n d"]) -> Float[Tensor, "*out n k"]:
    """Outputs x Wᵀ of every member on its data; `einsum` folds unshared leading axes into one product,
    without copies.

    >>> apply(torch.ones(5, 3, 2, 4), torch.ones(3, 7, 4)).shape
    torch.Size([5, 3, 7, 2])
    """
    return torch.einsum("...kd,...nd->...nk", matrix, xs)


def product(factors: Sequence[Float[Tensor, "*stack _ _"]]) -> Float[Tensor, "*stack k d"]:
    """The matrix W_L … W_1 that the factors (W_1, …, W_L) make."""
    matrix = factors[0]
    for factor in factors[1:]:
        matrix = factor @ matrix
    return matrix


def population_square_loss(
    matrix: Float[Tensor, "*stack k d"],
    sigma_yx: Float[Tensor, "*data k d"],
    sigma_xx: Float[Tensor, "*data d d"],
) -> Float[Tensor, "*stack"]:
    """Square loss from moments: (1 + <W Sigma_xx, W>)/2 - <W, Sigma_yx>; the 1 is E|y|² of one-hot targets.

    >>> population_square_loss(torch.zeros(2, 4), torch.ones(2, 4), torch.eye(4)).item()
    0.5
    """
    return 0.5 + ((matrix @ sigma_xx / 2 - sigma_yx) * matrix).sum((-2, -1))


def population_gradient(
    matrix: Float[Tensor, "*stack k d"],
    sigma_yx: Float[Tensor, "*data k d"],
    sigma_xx: Float[Tensor, "*data d d"],
) -> Float[Tensor, "*stack k d"]:
    """Gradient of `population_square_loss`: W Sigma_xx - Sigma_yx."""
    return matrix @ sigma_xx - sigma_yx


def square_loss(outputs: Float[Tensor, "*stack n k"], labels: Int[Tensor, "*data n"]) -> Float[Tensor, "*stack"]:
    """Mean over points of |e_label - output|²/2, one value per member."""
    targets = nn.functional.one_hot(labels, outputs.shape[-1]).to(outputs.dtype)
    return (outputs - targets).square().sum(-1).mean(-1) / 2


def cross_entropy(outputs: Float[Tensor, "*stack n k"], labels: Int[Tensor, "*data n"]) -> Float[Tensor, "*stack"]:
    """Mean over points of -log softmax(output)[label] in nats, one value per member."""
    chosen = outputs.gather(-1, labels.expand(outputs.shape[:-1])[..., None])[..., 0]
    return (outputs.logsumexp(-1) - chosen).mean(-1)


class DeepLinear(nn.Module):
    """Stacked W_L … W_1 x with independent Gaussian factors of standard deviation `scale`.

    Args:
        widths: (d, hidden…, k); one factor between each two neighbours.
        seeds: one member per seed, each drawn from its own generator.
        scale: standard deviation of the initial entries; 0 (start at zero) only for a single factor.
        n_copies: if given, that many identical copies in a new leading axis, e.g. one per learning rate.
        dtype: of the factors.

    Raises:
        ValueError: if there are fewer than two widths, or `scale` is negative, or 0 with several factors.

    >>> DeepLinear([4, 3, 2], seeds=[0, 1], scale=0.1)(torch.ones(7, 4)).shape
    torch.Size([2, 7, 2])
    """

    def __init__(
        self,
        widths: Sequence[int],
        seeds: Sequence[int],
        scale: float = 0.0,
        n_copies: int | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths must have at least 2 entries, got {list(widths)}")
        if scale < 0 or (scale == 0 and len(widths) > 2):
            raise ValueError(f"scale must be positive (0 is allowed for a single factor only), got {scale}")

        def factor(layer: int, n_in: int, n_out: int) -> nn.Parameter:
            def draw(g: Generator) -> Tensor:
                return scale * torch.randn(n_out, n_in, generator=g, dtype=dtype)

            return stacked_draws(draw, seeds, f"factor {layer}", n_copies)

        self.factors = nn.ParameterList(factor(layer, *sizes) for layer, sizes in enumerate(pairwise(widths)))

    @property
    def matrix(self) -> Float[Tensor, "*stack k d"]:
        """The product of the factors."""
        return product(list(self.factors))

    def forward(self, xs: Float[Tensor, "*data n d"]) -> Float[Tensor, "*stack n k"]:
        """Outputs of every member."""
        return apply(self.matrix, xs)
