r"""Two layers without biases and a square between them, and their gradients in closed form, stacked over members.

Source: Tian 2025, arXiv 2509.21519, Section 2 and the published code: f(x) = V σ(W x) with σ(z) = z², every weight drawn
uniformly within ±1/√(inputs), and a mean squared error in which logits and one-hot labels are centred over the classes:

    L = (1/n) Σ_i ‖ P (f(x_i) - e_{y_i}) ‖²,      P: subtract the mean over classes.

| paper | code               | meaning                                                                        |
|-------|--------------------|--------------------------------------------------------------------------------|
| W     | `hidden`           | (*stack, K, 2M)                                                                |
| V     | `output`           | (*stack, M, K)                                                                 |
| F     | `features`         | σ(W x), (*stack, n, K)                                                         |
| G_F   | `to_features`      | P (e_y - f) V: what is sent back to the features, -n/2 times the loss's gradient by them |
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lib.models.initialisation import stacked_draws


class Gradients(NamedTuple):
    """The loss and its gradients, and what is sent back to the features."""

    loss: Float[Tensor, "*stack"]
    hidden: Float[Tensor, "*stack K d"]
    output: Float[Tensor, "*stack M K"]
    to_features: Float[Tensor, "*stack n K"]


class SquareNetwork(nn.Module):
    """A stack of two-layer networks with the square as activation.

    Args:
        modulus: M, the number of classes; inputs have 2 M entries.
        width: K, hidden units.
        seeds: One member per seed, drawn from its own generator.

    Raises:
        ValueError: A modulus below 2, or no hidden unit.

    >>> SquareNetwork(modulus=5, width=7, seeds=[0, 1])(torch.ones(2, 3, 10)).shape
    torch.Size([2, 3, 5])
    """

    def __init__(self, modulus: int, width: int, seeds: Sequence[int]) -> None:
        super().__init__()
        if modulus < 2 or width < 1:
            raise ValueError(f"modulus is {modulus} and width {width}; they must be at least 2 and 1")

        def uniform(n_out: int, n_in: int, purpose: str) -> nn.Parameter:
            def draw(generator: torch.Generator) -> Tensor:
                return (2 * torch.rand(n_out, n_in, generator=generator) - 1) / n_in**0.5

            return stacked_draws(draw, seeds, f"square network: {purpose}")

        self.hidden = uniform(width, 2 * modulus, "hidden")
        self.output = uniform(modulus, width, "output")

    def features(self, xs: Float[Tensor, "*data n d"]) -> Float[Tensor, "*stack n K"]:
        """σ(W x) of every row."""
        return (xs @ self.hidden.mT).square()

    def forward(self, xs: Float[Tensor, "*data n d"]) -> Float[Tensor, "*stack n M"]:
        """Logits of every row."""
        return self.features(xs) @ self.output.mT

    @torch.no_grad()
    def gradients(self, xs: Float[Tensor, "*stack n d"], ys: Int[Tensor, "*stack n"]) -> Gradients:
        """The loss on all points and its gradients; six matrix products, and nothing is kept for a backward pass.

        Args:
            xs: Inputs, of each member.
            ys: Classes 0…M-1.
        """
        Z = xs @ self.hidden.mT
        F = Z.square()
        logits = F @ self.output.mT
        n, modulus = logits.shape[-2:]
        residual = one_hot(ys, modulus) - 1 / modulus - (logits - logits.mean(-1, keepdim=True))
        to_features = residual @ self.output
        hidden = (-4 / n) * (to_features * Z).mT @ xs
        output = (-2 / n) * residual.mT @ F
        return Gradients(residual.square().sum(-1).mean(-1), hidden, output, to_features)


def squared_error(logits: Float[Tensor, "*stack n M"], ys: Int[Tensor, "*stack n"]) -> Float[Tensor, "*stack"]:
    """The mean of ‖P (f - e_y)‖²; 1 - 1/M for constant logits."""
    target = one_hot(ys, logits.shape[-1]) - 1 / logits.shape[-1]
    return (logits - logits.mean(-1, keepdim=True) - target).square().sum(-1).mean(-1)
