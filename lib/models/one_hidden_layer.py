r"""One hidden layer with biases, in the mean-field (rich) or the kernel (lazy) scaling, stacked over seeds.

    f(x) = m^{-s} Σ_i a_i max(w_i · x + b_i, 0),        s = 1: rich,    s = 1/2: lazy

Source: Morwani et al. 2023, arXiv 2302.00457, Section 3 (rich: rows on the unit sphere, a_i = ±1, output over m; lazy: the
kernel scaling); Chizat and Bach 2018, 2020 (what each of them converges to). (w_i, b_i) starts uniform on the unit sphere of
R^{d+1}, every neuron with a twin of opposite a_i, so that f = 0 at the start in both scalings. For the function to move at a
speed that does not depend on m, the rich scaling wants a learning rate proportional to m.

| paper           | code         | shape            |
|-----------------|--------------|------------------|
| (w_i, b_i)      | `hidden`     | (seed, m, d + 1) |
| a_i             | `output`     | (seed, 1, m)     |
| m               | `width`      |                  |
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.models.initialisation import stacked_draws

REGIMES = {"rich": 1.0, "lazy": 0.5}  # the exponent s


class OneHiddenLayer(nn.Module):
    """A stack of networks for binary labels.

    Args:
        n_in: Size of an input.
        width: Hidden neurons, an even number.
        regime: "rich" or "lazy".
        seeds: One network per seed, each drawn from its own generator.

    Raises:
        ValueError: An unknown regime, a size below 1 or an odd width.

    >>> OneHiddenLayer(3, 8, "rich", seeds=[0, 1])(torch.ones(2, 5, 3)).shape
    torch.Size([2, 5, 2])
    """

    def __init__(self, n_in: int, width: int, regime: str, seeds: Sequence[int]) -> None:
        super().__init__()
        if regime not in REGIMES:
            raise ValueError(f"regime is {regime!r}; it must be one of {', '.join(REGIMES)}")
        if n_in < 1:
            raise ValueError(f"n_in is {n_in}; it must be at least 1")
        if width < 2 or width % 2:
            raise ValueError(f"width is {width}; it must be even and at least 2")
        self.scale = width ** -REGIMES[regime]
        # The learning rate per unit of speed of the function.
        self.unit_lr = 1.0 if regime == "lazy" else float(width)

        def sphere(generator: torch.Generator) -> Tensor:
            rows = torch.randn(width // 2, n_in + 1, generator=generator)
            return (rows / rows.norm(dim=1, keepdim=True)).repeat(2, 1)

        self.hidden = stacked_draws(sphere, seeds, "one hidden layer")
        self.output = nn.Parameter(torch.ones(len(seeds), 1, width).index_fill(2, torch.arange(width // 2), -1.0))

    def forward(self, xs: Float[Tensor, "*data n d"]) -> Float[Tensor, "seed n 2"]:
        """Logits of the classes -1 and +1: (0, f)."""
        f = self.function(xs)
        return torch.stack([torch.zeros_like(f), f], -1)

    def function(self, xs: Float[Tensor, "*data n d"]) -> Float[Tensor, "seed n"]:
        """f(x) of every row; inputs without the stack's axis are read by all members."""
        W, b = self.hidden[..., :-1], self.hidden[..., -1:]
        active = torch.relu(xs @ W.mT + b.mT)
        return self.scale * (active @ self.output.mT)[..., 0]
