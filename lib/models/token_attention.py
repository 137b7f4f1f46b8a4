r"""One layer of softmax attention with one query per sequence: what it reads, and where it looks.

    context = Xᵀ softmax(X W z),      f(X, z) = head(context)

Sources: Tarzanagh et al. 2023, arXiv 2308.16898 (any query z, W or W = K Qᵀ trained, linear and nonlinear heads); Vasudeva
et al. 2024, arXiv 2402.05738 (z is the sequence's first token, head uᵀ).

| paper           | code            | shape                        |
|-----------------|-----------------|------------------------------|
| X, rows x_t     | `xs`            | (*stack, n, T, d)            |
| z               | `zs`            | (*stack, n, d)               |
| W               | `W`             | (*stack, d, d)               |
| K, Q            | two matrices; pass `K @ Q.mT` | (*stack, d, m) |
| softmax(X W z)  | `log_attention.exp()` | (*stack, n, T)         |

The stack counts independent layers, each with sequences of its own.

Saturated attention is where these papers live, and where the textbook formula fails: the gradient of the scores is a
difference of nearly equal numbers once the attention is within 1e-16 of one token, and a rule that normalises the gradient
then follows rounding noise. Subtracting the most attended token from all others changes neither attention nor context,
and makes every term of the gradient a product of small numbers: its direction is right until the attention of the other
tokens underflows, at 1e-308.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def attend(
    xs: Float[Tensor, "*stack n T d"], zs: Float[Tensor, "*stack n _"], W: Float[Tensor, "*stack _ _"]
) -> tuple[Float[Tensor, "*stack n d"], Float[Tensor, "*stack n T"]]:
    """What a layer reads from each sequence, and the logarithm of its attention.

    Args:
        xs: Tokens.
        zs: Queries.
        W: Key-query product; token x_t has the score x_tᵀ W z.

    Returns:
        context: Σ_t a_t x_t.
        log_attention: log a_t, exact in relative terms also where a_t is 1e-300.

    Raises:
        ValueError: Sequences without tokens, or shapes that do not fit.

    >>> xs = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> attend(xs, torch.ones(1, 2), torch.zeros(2, 2))[0]
    tensor([[0.5000, 0.5000]])
    """
    if xs.ndim < 3 or xs.shape[-2] < 1:
        raise ValueError(f"xs have shape {tuple(xs.shape)}; they must be (*stack, n, T, d) with at least one token")
    if zs.shape != xs.shape[:-2] + xs.shape[-1:] or W.shape != xs.shape[:-3] + (xs.shape[-1],) * 2:
        raise ValueError(f"zs {tuple(zs.shape)} and W {tuple(W.shape)} do not fit xs {tuple(xs.shape)}")
    looks = (zs @ W.mT)[..., None]
    with torch.no_grad():
        top = (xs @ looks).argmax(-2, keepdim=True).expand(*xs.shape[:-2], 1, xs.shape[-1])
    centre = xs.gather(-2, top)
    others = xs - centre
    log_attention = torch.log_softmax((others @ looks)[..., 0], dim=-1)
    context = centre + log_attention.exp()[..., None, :] @ others
    return context[..., 0, :], log_attention


def log_missing(
    log_attention: Float[Tensor, "*stack n T"], selected: Bool[Tensor, "*#stack n T"]
) -> Float[Tensor, "*stack n"]:
    """log(1 - attention on the selected tokens), from the other tokens' attention and so without cancellation.

    >>> log_missing(torch.tensor([[0.0, -800.0]]), torch.tensor([[True, False]]))
    tensor([-800.])
    """
    return log_attention.masked_fill(selected, -torch.inf).logsumexp(-1)
