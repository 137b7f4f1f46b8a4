r"""Causal linear self-attention on complex sequences, and its training loss reduced to moments.

    x̂_{t+1} = W_PV (Σ_{i≤t} e_i e_i^H) W_KQ e_t / (t-1),      e_t = (x_t, x_{t-1})
    loss     = ½ mean over sequences of Σ_{t=2}^{T-1} |x̂_{t+1} - x_{t+1}|²

Source: Zheng et al. 2024, arXiv 2405.16845, Section 3; sums, normalisation by t-1 and first predicted token (the third)
as in the authors' code, ML-GSAI/MesaOpt-AR-Transformer. There as here all entries are complex and trained.

| paper   | code        | shape                                                        |
|---------|-------------|--------------------------------------------------------------|
| W^PV    | `W_PV`      | (*stack, n_dims, D), D = 2 n_dims                            |
| W^KQ    | `W_KQ`      | (*stack, D, D)                                               |
| a, b    | `a`, `b`    | W_KQ starts as a·I in its lower left block, W_PV as b·I in its left one |
| L       | `loss`      | (*stack)                                                     |

**Moments.** The prediction is linear in products of weights: with features F_{pqr} = (Σ e_i e_i^H)_{pq} (e_t)_r / (t-1)
and θ_j = (W_PV[j,p] W_KQ[q,r])_{pqr}, coordinate j is F·θ_j. Hence the loss of a whole dataset is, exactly,

    ½ Σ_j (θ_j^H M θ_j - 2 Re θ_j^H c_j) + ½ k,      M = E Σ_t F* Fᵀ,   c_j = E Σ_t F* x_{t+1,j},   k = E Σ_t |x_{t+1}|²

so data are read once and a step of full-batch descent costs D⁶ d whatever their number. M is cheap, too: a Gram matrix
is Hermitian, so D² real numbers hold it (`packed`), and M follows from their third moments
Σ g_a g_b h_c with g the running Gram matrix and h = e_t e_t^H: a real product, eight times fewer operations than F* Fᵀ.

Precision: features and their products in float32, which is what the authors' complex64 has; sums over chunks and all
training in complex128, since near the optimum the loss is a small difference of large terms.
"""

from typing import NamedTuple

import torch
from jaxtyping import Complex, Float, Inexact
from torch import Tensor

from lib.tasks.unitary_autoregression import check_length, embedded


class Moments(NamedTuple):
    """What the loss knows of a dataset: M, c and k of the module's docstring; F is the number of features."""

    quadratic: Inexact[Tensor, "*data F F"]
    linear: Inexact[Tensor, "*data d F"]
    constant: Float[Tensor, "*data"]

    def scaled(self, scale: float) -> "Moments":
        """Moments of the same sequences multiplied by `scale`: features are cubic in them, targets linear."""
        return Moments(self.quadratic * scale**6, self.linear * scale**4, self.constant * scale**2)


def block_start(
    n_dims: int, a: Float[Tensor, "*stack"], b: Float[Tensor, "*stack"]
) -> tuple[Complex[Tensor, "*stack d D"], Complex[Tensor, "*stack D D"]]:
    """The paper's starting point: (W_PV, W_KQ), zero but for b·I in the left of W_PV and a·I in the lower left of W_KQ.

    >>> W_PV, W_KQ = block_start(1, torch.tensor(0.5), torch.tensor(1.5))
    >>> W_PV.real.tolist(), W_KQ.real.tolist()
    ([[1.5, 0.0]], [[0.0, 0.0], [0.5, 0.0]])
    """
    eye = torch.eye(n_dims, dtype=torch.complex128)
    W_PV = torch.zeros(*b.shape, n_dims, 2 * n_dims, dtype=torch.complex128)
    W_KQ = torch.zeros(*a.shape, 2 * n_dims, 2 * n_dims, dtype=torch.complex128)
    W_PV[..., :n_dims] = b[..., None, None] * eye
    W_KQ[..., n_dims:, :n_dims] = a[..., None, None] * eye
    return W_PV, W_KQ


def blocks(
    W_PV: Inexact[Tensor, "*stack d P"], W_KQ: Inexact[Tensor, "*stack Q R"]
) -> tuple[Inexact[Tensor, "*stack d d"], Inexact[Tensor, "*stack d d"]]:
    """The two blocks that gradient descent on the prompt needs: (left of W_PV, lower left of W_KQ); or both themselves."""
    n_dims = W_PV.shape[-2]
    return W_PV[..., :n_dims], W_KQ[..., -n_dims:, :n_dims]


def product_ab(W_PV: Inexact[Tensor, "*stack d P"], W_KQ: Inexact[Tensor, "*stack Q R"]) -> Float[Tensor, "*stack"]:
    """a·b as the authors measure it: mean over coordinates of the product of the real parts of the two blocks' diagonals."""
    left, lower = (block.diagonal(dim1=-2, dim2=-1).real for block in blocks(W_PV, W_KQ))
    return (left * lower).mean(-1)


def mean_off_diagonal(block: Inexact[Tensor, "*stack d d"]) -> Float[Tensor, "*stack"]:
    """Mean of the real parts off the diagonal, in units of the mean on it: what a step of plain descent has as zero.

    >>> mean_off_diagonal(torch.tensor([[2.0, 1.0], [0.0, 2.0]])).item()
    0.25
    """
    d = block.shape[-1]
    trace = block.diagonal(dim1=-2, dim2=-1).real.sum(-1)
    return (block.real.sum((-2, -1)) - trace) / max(d - 1, 1) / trace


def predictions(
    W_PV: Complex[Tensor, "*stack out value"],
    W_KQ: Complex[Tensor, "*stack key query"],
    xs: Complex[Tensor, "*data batch length d"],
) -> Complex[Tensor, "*both batch length-2 out"]:
    """Predictions of x_3, …, x_T, each from the tokens before it; leading axes of weights and data broadcast.

    Raises:
        ValueError: A dimension that does not fit the weights, or sequences shorter than 3.
    """
    _check(W_PV, W_KQ, xs)
    tokens = embedded(xs)[..., :-1, :].to(W_PV.dtype)
    n = tokens.shape[-2]
    queries = tokens @ W_KQ.mT[..., None, :, :]
    attention = (queries @ tokens.mH).tril()
    attention = attention / torch.arange(n)[:, None].clamp_min(1)
    return (attention @ tokens @ W_PV.mT[..., None, :, :])[..., 1:, :]


def sequence_loss(
    W_PV: Complex[Tensor, "*stack out value"],
    W_KQ: Complex[Tensor, "*stack key query"],
    xs: Complex[Tensor, "*data batch length d"],
) -> Float[Tensor, "*both"]:
    """The loss straight from the sequences; equal to `loss_and_gradients` from their `moments`."""
    errors = predictions(W_PV, W_KQ, xs) - xs[..., 2:, :]
    return errors.abs().square().sum((-2, -1)).mean(-1) / 2


def packed(vectors: Complex[Tensor, "*stack D"]) -> Float[Tensor, "*stack D*D"]:
    """The D² real numbers of e e^H: real parts on and above the diagonal, imaginary parts below."""
    outer = vectors[..., :, None] * vectors[..., None, :].conj()
    upper = torch.ones(outer.shape[-2:], dtype=torch.bool).triu()
    return torch.where(upper, outer.real, outer.imag).flatten(-2)


def unpacking(D: int) -> Complex[Tensor, "{D}*{D} {D}*{D}"]:
    """The matrix that turns packed numbers into the entries of the Hermitian matrix, row by row."""
    rows, columns = torch.meshgrid(torch.arange(D), torch.arange(D), indexing="ij")
    real = torch.minimum(rows, columns) * D + torch.maximum(rows, columns)
    imaginary = torch.maximum(rows, columns) * D + torch.minimum(rows, columns)
    entries, sign = torch.arange(D * D), torch.sign(rows - columns).flatten()
    U = torch.zeros(D * D, D * D, dtype=torch.complex128)
    U[entries, real.flatten()] = 1
    U[entries, imaginary.flatten()] += 1j * sign
    return U


def moments(xs: Complex[Tensor, "*data batch length d"], chunk: int = 32) -> Moments:
    """Moments of a dataset, one set per leading index.

    Args:
        xs: Sequences of at least 3 tokens.
        chunk: Sequences that are multiplied at once; 32 of length 100 fit a core's cache.

    Raises:
        ValueError: Sequences shorter than 3.
    """
    check_length(xs.shape[-2])
    parts = [_moments_of_one(x, chunk) for x in xs.flatten(0, -4)]
    return Moments(*(torch.stack(part).unflatten(0, xs.shape[:-3]) for part in zip(*parts, strict=True)))


def _moments_of_one(xs: Complex[Tensor, "batch length d"], chunk: int) -> Moments:
    batch, length, d = xs.shape
    D = 2 * d
    third = torch.zeros(D * D, D * D, D * D, dtype=torch.float64)
    linear = torch.zeros(D * D, D * d, dtype=torch.complex128)
    divisors = torch.arange(1, length - 1, dtype=torch.float32)[:, None]
    for part in xs.split(chunk):
        tokens = embedded(part)[:, :-1]
        outer = packed(tokens)
        gram = (outer.cumsum(-2)[:, 1:] / divisors).flatten(0, 1).T.contiguous()
        now = outer[:, 1:].flatten(0, 1)
        for a in range(D * D):
            third[a, a:] += (gram[a:] * gram[a]) @ now
        pairs = (tokens[:, 1:, :, None].conj() * part[:, 2:, None, :]).flatten(0, 1).flatten(1)
        linear += torch.complex(gram @ pairs.real, gram @ pairs.imag)
    above = torch.arange(D * D)[:, None] < torch.arange(D * D)
    third = third + (third * above[..., None]).transpose(0, 1)
    U = unpacking(D)
    M = torch.einsum("ijk,ai->ajk", third.to(U.dtype), U.conj())
    M = torch.einsum("ajk,bj->abk", M, U)
    M = torch.einsum("abk,ck->abc", M, U.conj())
    c = U.conj() @ linear
    return Moments(
        M.unflatten(2, (D, D)).transpose(1, 2).reshape(D**3, D**3) / batch,
        c.unflatten(1, (D, d)).permute(2, 0, 1).reshape(d, D**3) / batch,
        xs[:, 2:].abs().double().square().sum() / batch,
    )


def loss_and_gradients(
    data: Moments, W_PV: Inexact[Tensor, "*stack d P"], W_KQ: Inexact[Tensor, "*stack Q R"]
) -> tuple[Float[Tensor, "*stack"], Inexact[Tensor, "*stack d P"], Inexact[Tensor, "*stack Q R"]]:
    """Loss of every member and its gradients, ∂/∂Re + i ∂/∂Im as PyTorch has them.

    Args:
        data: Moments; their leading axes broadcast against the last ones of the stack.
        W_PV: With P = D of the whole model, or P = d if the moments are of the two blocks alone
            (`lib.theory.mesa.population_moments`).
        W_KQ: With Q = R = D, or d.

    Raises:
        ValueError: Weights that do not fit the moments' number of features.
    """
    n_features = W_PV.shape[-1] * W_KQ.shape[-2] * W_KQ.shape[-1]
    if n_features != data.quadratic.shape[-1] or W_PV.shape[-2] != data.linear.shape[-2]:
        raise ValueError(
            f"W_PV {tuple(W_PV.shape)} and W_KQ {tuple(W_KQ.shape)} have {n_features} features and {W_PV.shape[-2]} "
            f"outputs; the moments were taken of {data.quadratic.shape[-1]} and {data.linear.shape[-2]}"
        )
    theta = (W_PV[..., :, :, None, None] * W_KQ[..., None, None, :, :]).flatten(-3)
    residual = torch.einsum("...jf,...gf->...jg", theta, data.quadratic) - data.linear
    inner = (theta.conj() * (residual - data.linear)).sum((-2, -1))
    residual = residual.unflatten(-1, (W_PV.shape[-1], *W_KQ.shape[-2:]))
    return (
        (inner.real + data.constant) / 2,
        torch.einsum("...jpqr,...qr->...jp", residual, W_KQ.conj()),
        torch.einsum("...jpqr,...jp->...qr", residual, W_PV.conj()),
    )


def _check(W_PV: Tensor, W_KQ: Tensor, xs: Tensor) -> None:
    check_length(xs.shape[-2])
    d, D = W_PV.shape[-2:]
    if 2 * d != D or W_KQ.shape[-2:] != (D, D):
        raise ValueError(
            f"W_PV and W_KQ have shapes {tuple(W_PV.shape)} and {tuple(W_KQ.shape)}; "
            f"they must end in (n_dims, 2 n_dims) and (2 n_dims, 2 n_dims)"
        )
    if xs.shape[-1] != d:
        raise ValueError(f"xs have {xs.shape[-1]} dimensions; the weights were made for {d}")
