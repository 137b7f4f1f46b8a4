r"""One layer of multi-head self-attention that classifies a sequence, with its gradient in closed form.

    Φ̃(X) = H^{-1/2} Σ_h φ(X; W_h, U_h),     φ(X; W, U) = ⟨U, A X⟩,     A = softmax of each row of X W Xᵀ

Source: Deora, Ghaderi, Taheri, Thrampoulidis 2023, arXiv 2310.12680. W is the product of keys and queries, U that of values
and decoder.

| paper              | code                 | shape                                                     |
|--------------------|----------------------|-----------------------------------------------------------|
| X                  | `tokens`             | (member, n_points, n_tokens, n_dims)                      |
| y                  | `labels`, in {-1, 1} | (member, n_points)                                        |
| W_h                | `W`                  | (member, head, n_dims, n_dims)                            |
| U_h                | `U`                  | (member, head, n_tokens, n_dims)                          |
| A_tk               | `attention`          | (member, n_points, key k, row t, head)                    |
| Φ̃                  | `outputs`            | (member, n_points)                                        |
| H^{-1/2}           | `scale`              | None for H^{-1/2}; 1 sums the heads, 1/H averages them (controls) |

Gradients. With v_t = X u_t (what row t would read from each token) and c = A v the reading, both per row,

    ∂φ/∂U = A X,        ∂φ/∂W = Xᵀ G X,        G_tk = A_tk (v_tk - Σ_l A_tl v_tl),

so that attention learns only where a row's tokens would read differently. Members (seeds, or settings of one seed)
never meet: each has tokens and weights of its own. Axes are ordered so that every product runs over all heads and
samples at once, without a copy.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat

import torch
from jaxtyping import Float
from torch import Tensor

from lib.models.initialisation import stacked_draws

# Entries of one member's attention maps from which on members are computed one after the other. Their arrays then fit the
# cache, and their memory is reused; larger ones go back to the system after every use: 2 to 3 times slower (measured).
ONE_BY_ONE = 40_000

Heads = tuple[Float[Tensor, "member head n_dims n_dims"], Float[Tensor, "member head n_tokens n_dims"]]


def initialise(
    n_heads: int, n_tokens: int, n_dims: int, seeds: Sequence[int], W_std: float, U_std: float, identical: bool = False
) -> Heads:
    """Gaussian weights (W, U), one member per seed, in double precision; the draws of head h do not depend on n_heads.

    Args:
        n_heads, n_tokens, n_dims: H, T and d.
        seeds: One generator per seed and matrix.
        W_std, U_std: Standard deviations of the entries.
        identical: Give every head the weights of the first: the broken start in which heads can never differ.

    Raises:
        ValueError: A size below 1, no seed, or a standard deviation that is negative or not finite.
    """
    for name, size in (("n_heads", n_heads), ("n_tokens", n_tokens), ("n_dims", n_dims), ("len(seeds)", len(seeds))):
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")
    for name, std in (("W_std", W_std), ("U_std", U_std)):
        if not 0 <= std < float("inf"):
            raise ValueError(f"{name} is {std}; it must be finite and not negative")

    def drawn(name: str, n_rows: int, std: float) -> Tensor:
        # Head by head: the numbers that one call for all of them gives depend on how many there are.
        heads = range(1 if identical else n_heads)
        one = {"size": (n_rows, n_dims), "dtype": torch.float64}
        draws = stacked_draws(
            lambda g: torch.stack([torch.randn(generator=g, **one) for _ in heads]),
            seeds,
            f"multi-head attention: {name}",
        )
        return std * draws.detach().expand(-1, n_heads, -1, -1).contiguous()

    return drawn("W", n_dims, W_std), drawn("U", n_tokens, U_std)


def attention(
    tokens: Float[Tensor, "member n T d"], W: Float[Tensor, "member head d d"]
) -> Float[Tensor, "member n T T head"]:
    """Attention maps of every head on every sequence, keys before rows: entry [m, i, k, t, h] is A_tk of head h."""
    n_heads, n_dims = W.shape[1], W.shape[-1]
    looks = tokens.flatten(1, 2) @ W.movedim(1, 2).flatten(2, 3)  # x_tᵀ W_h for all t and h: (member, n T, head d)
    scores = tokens @ looks.reshape(*tokens.shape[:2], -1, n_dims).mT
    return torch.softmax(scores, dim=2).unflatten(3, (-1, n_heads))


def readings(
    tokens: Float[Tensor, "member n T d"], U: Float[Tensor, "member head T d"]
) -> Float[Tensor, "member n T T head"]:
    """What row t of head h would read from token k alone, ⟨u_ht, x_k⟩; axes as in `attention`."""
    read = tokens.flatten(1, 2) @ U.transpose(1, 2).flatten(1, 2).mT
    return read.reshape(*tokens.shape[:3], U.shape[2], U.shape[1])


def outputs(
    tokens: Float[Tensor, "member n T d"],
    W: Float[Tensor, "member head d d"],
    U: Float[Tensor, "member head T d"],
    scale: float | None = None,
) -> Float[Tensor, "member n"]:
    """Φ̃ of every sequence.

    Raises:
        ValueError: `tokens`, `W` and `U` do not fit each other.

    >>> tokens, (W, U) = torch.ones(1, 3, 4, 2).double(), initialise(5, 4, 2, [0], 1.0, 1.0)
    >>> outputs(tokens, W, U).shape
    torch.Size([1, 3])
    """
    require_fit(tokens, W, U)
    if _large(tokens, U):
        return torch.cat([outputs(*member, scale) for member in zip(*map(_members, (tokens, W, U)), strict=True)])
    scale = U.shape[1] ** -0.5 if scale is None else scale
    return scale * (attention(tokens, W) * readings(tokens, U)).sum((2, 3, 4))


def weighted_gradient(
    tokens: Float[Tensor, "member n T d"],
    W: Float[Tensor, "member head d d"],
    U: Float[Tensor, "member head T d"],
    weights: Float[Tensor, "member n"] | None,
    labels: Float[Tensor, "member n"] | None = None,
    scale: float | None = None,
) -> tuple[Float[Tensor, "member n"], Heads]:
    """Outputs, and the sum over sequences of weight times gradient of Φ̃, for W and for U.

    Args:
        tokens, W, U: See the table above.
        weights: One number per sequence; None for those of the logistic loss, -y ℓ'(yΦ̃)/n, so that the sum is its gradient.
        labels: Needed for the logistic loss.
        scale: Factor on the sum over heads; None for H^{-1/2}.
    """
    n_heads, n_tokens = U.shape[1:3]
    if _large(tokens, U):
        given = [_members(x) for x in (tokens, W, U, weights, labels)]
        parts = [weighted_gradient(*member, scale) for member in zip(*given, strict=False)]
        phi, gradients = zip(*parts, strict=True)
        grad_W, grad_U = zip(*gradients, strict=True)
        return torch.cat(phi), (torch.cat(grad_W), torch.cat(grad_U))
    maps, reads = attention(tokens, W), readings(tokens, U)
    weighted = maps * reads
    rows = weighted.sum(2, keepdim=True)
    scale = n_heads**-0.5 if scale is None else scale
    phi = scale * rows.sum((2, 3, 4))
    if weights is None:
        weights = -labels * torch.sigmoid(-labels * phi) / labels.shape[1]
    by_sample = (scale * weights)[:, :, None, None, None]
    G = by_sample * (weighted - maps * rows)
    flat = tokens.flatten(1, 2)
    grad_U = (by_sample * maps).flatten(3, 4).flatten(1, 2).mT @ flat  # (member, T head, n T) times (n T, d)
    looked = G.flatten(3, 4).mT @ tokens  # G X: (member, n, T head, d)
    grad_W = flat.mT @ looked.reshape(*flat.shape[:2], -1)  # Xᵀ G X, summed over sequences
    return phi, (
        grad_W.unflatten(2, (n_heads, -1)).transpose(1, 2),
        grad_U.unflatten(1, (n_tokens, n_heads)).transpose(1, 2),
    )


def loss_gradient(
    tokens: Float[Tensor, "member n T d"],
    labels: Float[Tensor, "member n"],
    W: Float[Tensor, "member head d d"],
    U: Float[Tensor, "member head T d"],
    scale: float | None = None,
) -> tuple[Float[Tensor, " member"], Heads]:
    """Mean logistic loss log(1 + exp(-yΦ̃)) of each member, and its gradient with respect to W and U."""
    phi, gradient = weighted_gradient(tokens, W, U, None, labels, scale)
    return torch.nn.functional.softplus(-labels * phi).mean(1), gradient


def mass_on(
    relevant: Tensor, tokens: Float[Tensor, "member n T d"], W: Float[Tensor, "member head d d"]
) -> Float[Tensor, " member"]:
    """Attention on relevant tokens: mean over rows, heads and sequences of Σ_{k relevant} A_tk (ζ if it is uniform)."""
    return (attention(tokens, W) * relevant[..., None, None]).sum(2).mean((1, 2, 3))


def require_fit(tokens: Tensor, W: Tensor, U: Tensor) -> None:
    """Refuse weights that belong to other tokens.

    Raises:
        ValueError: Members, heads, tokens or dimensions disagree.
    """
    if tokens.ndim != 4 or W.ndim != 4 or U.ndim != 4:
        raise ValueError(f"tokens, W and U must have 4 axes each, got {tokens.ndim}, {W.ndim} and {U.ndim}")
    members, _, n_tokens, n_dims = tokens.shape
    n_heads = W.shape[1]
    if W.shape != (members, n_heads, n_dims, n_dims) or U.shape != (members, n_heads, n_tokens, n_dims):
        raise ValueError(
            f"tokens {tuple(tokens.shape)} need W {(members, n_heads, n_dims, n_dims)} and "
            f"U {(members, n_heads, n_tokens, n_dims)}, got {tuple(W.shape)} and {tuple(U.shape)}"
        )


def _large(tokens: Tensor, U: Tensor) -> bool:
    return len(tokens) > 1 and tokens.shape[1] * U.shape[1] * U.shape[2] ** 2 > ONE_BY_ONE


def _members(stacked: Tensor | None) -> Iterable[Tensor | None]:
    """The members of a stack, each as a stack of one; without a stack, nothing for every member."""
    return repeat(None) if stacked is None else stacked.split(1)
