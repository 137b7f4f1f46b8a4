r"""What a ridge-regressed last layer sends back to the features below it: when it is a signal, and how units interact.

Source: Tian 2025, arXiv 2509.21519: Proposition 1 and equation 4 (backpropagated gradient), Lemma 1 (units on their own),
Theorem 6 (repulsion).

    J(V) = ½ ‖Ỹ - F̃ V‖² + ½ η ‖V‖²,      V_ridge = (F̃ᵀF̃ + η I)⁻¹ F̃ᵀ Ỹ,      G = (Ỹ - F̃ V) Vᵀ,

    G(V_ridge) = η (F̃F̃ᵀ + η I)⁻¹ · ỸỸᵀF̃ · B,      B = (F̃ᵀF̃ + η I)⁻¹.

| paper          | code                  | meaning                                                              |
|----------------|-----------------------|----------------------------------------------------------------------|
| F̃, Ỹ          | `features`, `labels`  | activations and one-hot labels; centred over the data in here        |
| η              | `eta`                 | ridge; n λ / 2 for a mean squared error over n points with decay λ   |
| G_F            | `backpropagated`      | minus the gradient of the loss by the features                       |
| ỸỸᵀF̃          | `signal`              | what drives every unit up its own energy                             |
| B              | `interaction`         | who pushes whom                                                      |

If both inverses were multiples of the identity, G would be a multiple of ỸỸᵀF̃ and every unit would be on its own. They
cannot both be when n ≠ K: F̃F̃ᵀ has rank at most K, F̃ᵀF̃ at most n - 1. How close it comes, `alignment` measures.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def _centre(x: Float[Tensor, "*stack n width"]) -> Float[Tensor, "*stack n width"]:
    return x - x.mean(-2, keepdim=True)


def _check(eta: float) -> None:
    if not eta > 0:
        raise ValueError(f"eta is {eta}; it must be positive")


def interaction(features: Float[Tensor, "*stack n width"], eta: float) -> Float[Tensor, "*stack width width"]:
    """B = (F̃ᵀF̃ + η I)⁻¹.

    Raises:
        ValueError: `eta` is not positive.
    """
    _check(eta)
    F = _centre(features)
    eye = torch.eye(F.shape[-1], dtype=F.dtype, device=F.device)
    return torch.linalg.inv(F.mT @ F + eta * eye)


def ridge(
    features: Float[Tensor, "*stack n width"], labels: Float[Tensor, "*stack n M"], eta: float
) -> Float[Tensor, "*stack width M"]:
    """V_ridge, the last layer that weight decay η would settle at while the features stand still.

    Raises:
        ValueError: `eta` is not positive.
    """
    return interaction(features, eta) @ _centre(features).mT @ _centre(labels)


def backpropagated(
    features: Float[Tensor, "*stack n width"],
    labels: Float[Tensor, "*stack n M"],
    readout: Float[Tensor, "*stack width M"],
) -> Float[Tensor, "*stack n width"]:
    """G = (Ỹ - F̃ V) Vᵀ for any last layer V."""
    return (_centre(labels) - _centre(features) @ readout) @ readout.mT


def signal(
    features: Float[Tensor, "*stack n width"], labels: Float[Tensor, "*stack n M"]
) -> Float[Tensor, "*stack n width"]:
    """ỸỸᵀF̃; times the slope of the activation and the inputs it is the gradient of each unit's energy."""
    labels = _centre(labels)
    return labels @ (labels.mT @ _centre(features))


def backpropagated_at_ridge(
    features: Float[Tensor, "*stack n width"], labels: Float[Tensor, "*stack n M"], eta: float
) -> Float[Tensor, "*stack n width"]:
    """G at V_ridge by equation 4, η (F̃F̃ᵀ + η I)⁻¹ ỸỸᵀF̃ B.

    Raises:
        ValueError: `eta` is not positive.
    """
    F = _centre(features)
    eye = torch.eye(F.shape[-2], dtype=F.dtype, device=F.device)
    left = eta * torch.linalg.inv(F @ F.mT + eta * eye)
    return left @ signal(features, labels) @ interaction(features, eta)


def alignment(a: Float[Tensor, "*stack n width"], b: Float[Tensor, "*stack n width"]) -> Float[Tensor, "*stack"]:
    """Cosine between two matrices; 0 if one of them is zero."""
    product = (a * b).sum((-2, -1))
    return product / (a.norm(dim=(-2, -1)) * b.norm(dim=(-2, -1))).clamp(min=torch.finfo(a.dtype).tiny)


def similarity_beyond_the_rest(features: Float[Tensor, "n width"], i: int, j: int, eta: float) -> Float[Tensor, ""]:
    """f̃_iᵀ P f̃_j of Theorem 6: how alike two units are in what all other units cannot explain; B_ij has the opposite sign.

    P = I - F̃' (F̃'ᵀF̃' + η I)⁻¹ F̃'ᵀ, with F̃' the other columns.

    Raises:
        ValueError: `eta` is not positive, or i and j are not two different columns.
    """
    _check(eta)
    width = features.shape[-1]
    if i == j or not (0 <= i < width and 0 <= j < width):
        raise ValueError(f"i is {i} and j {j}; they must be two different columns in 0…{width - 1}")
    F = _centre(features)
    others = F[:, [column for column in range(width) if column not in (i, j)]]
    eye = torch.eye(others.shape[-1], dtype=F.dtype, device=F.device)
    explained = others @ torch.linalg.solve(others.mT @ others + eta * eye, others.mT @ F[:, j])
    return F[:, i] @ (F[:, j] - explained)
