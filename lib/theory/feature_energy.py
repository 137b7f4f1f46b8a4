r"""The energy whose maxima are the features of a two-layer network on a + b mod M.

Source: Tian 2025, arXiv 2509.21519: Theorem 1 (energy), Theorem 2 and Corollary 2 (maxima), Theorem 7 (missing features),
Lemma 8 (the leader wins). A hidden unit reads the one-hot pair (a, b) through w = [u; v] and answers f(a, b) = σ(u_a + v_b);

    E(w) = ½ ‖Ỹᵀ σ(X w)‖²,        Ỹ: one-hot labels, centred over the n pairs that are seen.

| paper        | code                  | meaning                                                             |
|--------------|-----------------------|---------------------------------------------------------------------|
| M            | half of w's length    | the modulus; a, b and the label run over 0…M-1                      |
| w = [u; Pv]  | `ws` = [u; v]         | (*stack, 2 M); our second half is what b itself reads, without P    |
| E            | `data_energy`, `energy` | by its definition on given pairs; in closed form on all M² of them |
| k            | `k`                   | frequency, 0…⌊M/2⌋                                                  |
| c_k          | sum of `mode_powers`  | share of ‖w‖² at frequency k                                        |
| S            | `learnt`              | frequencies that other units have learnt already                    |

On all pairs, with σ(x) = x², Σ_{a+b=h} (u_a + v_b)² = const + 2 (u ⋆ v)_h, a circular convolution. Let r_k² and s_k² be the
squared lengths of u and v at frequency k. Then

    E(w) = M Σ_{k≥1} μ_k r_k² s_k²,        μ_k = 1, but 2 for k = M/2.

* On the sphere ‖w‖ = 1 this is largest at corners: one frequency, r = s: E = M/4 (M/2 for k = M/2). The paper writes M/16
  and M/8; its proof drops the 2 of the square's cross term.
* E does not know the phases of u and v: each maximum is a torus of two angles. The paper's [u; ±Pu] is a circle on it.
* Gradient ascent moves lengths only, ṙ_k ∝ μ_k r_k s_k², ṡ_k ∝ μ_k s_k r_k²: phases stay. Without normalisation
  r_k² - s_k² stays, too, and frequency k blows up at time 1 / (4 M μ_k L_k), L_k the logarithmic mean of r_k² and s_k² at
  the start. The one with the largest μ_k L_k wins; normalisation only changes the clock.
* On a share p of the pairs a Fourier mode keeps E ≈ p² M/4, while w = e_a, "the first operand is a", which is worth
  nothing on all pairs, gets E ≈ p (1 - p) M/2: more, for every p below 2/3 and every M.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.tasks.modular_arithmetic import Pairs


def _modulus(ws: Tensor) -> int:
    if ws.shape[-1] % 2 or ws.shape[-1] < 4:
        raise ValueError(f"ws has last dimension {ws.shape[-1]}; it must be 2 M with M at least 2")
    return ws.shape[-1] // 2


def _weights(modulus: int, like: Tensor) -> Float[Tensor, "frequency"]:
    """How many real directions a frequency has, and so how much of a squared norm one Fourier coefficient stands for."""
    counts = torch.full((modulus // 2 + 1,), 2.0, dtype=like.dtype, device=like.device)
    counts[0] = 1
    if modulus % 2 == 0:
        counts[-1] = 1
    return counts


def mode_powers(ws: Float[Tensor, "*stack d"]) -> tuple[Float[Tensor, "*stack k"], Float[Tensor, "*stack k"]]:
    """Squared lengths of both halves at every frequency 0…⌊M/2⌋, r_k² and s_k²; together they sum to ‖w‖².

    Raises:
        ValueError: The last dimension is not 2 M.
    """
    modulus = _modulus(ws)
    halves = ws.reshape(*ws.shape[:-1], 2, modulus)
    powers = torch.fft.rfft(halves).abs().square() * _weights(modulus, ws) / modulus
    return powers[..., 0, :], powers[..., 1, :]


def _gains(modulus: int, like: Tensor, learnt: Sequence[int]) -> Float[Tensor, "frequency"]:
    """μ_k: 0 for k = 0 and for what others have learnt, 2 for k = M/2, else 1."""
    if not all(1 <= k <= modulus // 2 for k in learnt):
        raise ValueError(f"learnt is {list(learnt)}; frequencies must lie in 1…{modulus // 2}")
    gains = 2 / _weights(modulus, like)
    gains[0] = 0
    gains[list(learnt)] = 0
    return gains


def energy(ws: Float[Tensor, "*stack d"], learnt: Sequence[int] = ()) -> Float[Tensor, "*stack"]:
    """E for the square activation on all M² pairs, M Σ_k μ_k r_k² s_k².

    Args:
        ws: Weights [u; v] of hidden units.
        learnt: Frequencies that are represented already; what is left of the labels does not hold them (Theorem 7).

    Raises:
        ValueError: The last dimension is not 2 M, or a frequency outside 1…⌊M/2⌋.

    >>> energy(pure_mode(7, 2, 0.3, 1.1)) * 4 / 7
    tensor(1., dtype=torch.float64)
    """
    modulus = _modulus(ws)
    first, second = mode_powers(ws)
    return modulus * (_gains(modulus, ws, learnt) * first * second).sum(-1)


def highest_energy(modulus: int, k: int) -> float:
    """E at the maximum of frequency k, M/4, or M/2 for k = M/2.

    Raises:
        ValueError: k outside 1…⌊M/2⌋.
    """
    if not 1 <= k <= modulus // 2:
        raise ValueError(f"k is {k}; it must lie in 1…{modulus // 2}")
    return modulus / (2 if 2 * k == modulus else 4)


def sampled_levels(modulus: int, share: float) -> tuple[float, float]:
    """E of a Fourier mode and of an indicator of one operand when a random share of the pairs is seen, for large M.

    Returns:
        p² M/4 and p (1 - p) M/2.

    Raises:
        ValueError: A share outside 0…1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must lie in 0…1")
    return share**2 * modulus / 4, share * (1 - share) * modulus / 2


def pure_mode(modulus: int, k: int, first_phase: float, second_phase: float) -> Float[Tensor, "d"]:
    """The unit vector [cos(2πka/M + φ); cos(2πkb/M + ψ)], with both halves of length 1/√2.

    Raises:
        ValueError: k outside 1…⌊M/2⌋.
    """
    highest_energy(modulus, k)  # checks k
    angles = 2 * torch.pi * k * torch.arange(modulus, dtype=torch.float64) / modulus
    halves = torch.stack([torch.cos(angles + first_phase), torch.cos(angles + second_phase)])
    return (halves / halves.norm(dim=-1, keepdim=True)).flatten() / 2**0.5


def winner(ws: Float[Tensor, "*stack d"]) -> Int[Tensor, "*stack"]:
    """The frequency to which gradient flow on E takes each start: the largest μ_k times logarithmic mean of r_k² and s_k².

    Raises:
        ValueError: The last dimension is not 2 M.
    """
    x, y = mode_powers(ws.double())
    log_ratio = torch.log(x / y)
    mean = torch.where(log_ratio.abs() < 1e-6, (x + y) / 2, (x - y) / log_ratio)
    return (_gains(_modulus(ws), x, ()) * mean).argmax(-1)


def purity(ws: Float[Tensor, "*stack d"]) -> tuple[Float[Tensor, "*stack"], Int[Tensor, "*stack"]]:
    """Share of ‖w‖² at the strongest frequency other than 0, and that frequency. A weight of zero has share 0.

    Raises:
        ValueError: The last dimension is not 2 M.
    """
    powers = sum(mode_powers(ws))
    largest = powers[..., 1:].max(-1)
    return largest.values / powers.sum(-1).clamp(min=torch.finfo(ws.dtype).tiny), largest.indices + 1


def data_energy(
    ws: Float[Tensor, "*stack d"],
    pairs: Pairs,
    activation: Callable[[Tensor], Tensor] = torch.square,
    centred: bool = True,
) -> Float[Tensor, "*stack"]:
    """E by its definition, ½ ‖Ỹᵀ σ(X w)‖², on any pairs and labels.

    Args:
        ws: Weights [u; v].
        pairs: The pairs that are seen, with their classes.
        activation: σ.
        centred: Whether labels are centred over the pairs. With one class only, centring would leave nothing.

    Raises:
        ValueError: No pairs, or entries outside 0…M-1.
    """
    modulus = _modulus(ws)
    if pairs.ys.numel() == 0:
        raise ValueError("pairs is empty; at least one pair must be seen")
    for name, values in pairs._asdict().items():
        if int(values.min()) < 0 or int(values.max()) >= modulus:
            raise ValueError(
                f"{name} of the pairs holds {int(values.min())}…{int(values.max())}; they must lie in 0…{modulus - 1}"
            )
    features = activation(ws[..., pairs.a] + ws[..., modulus + pairs.b])
    if centred:
        features = features - features.mean(-1, keepdim=True)
    onehot = torch.nn.functional.one_hot(pairs.ys, modulus).to(ws.dtype)
    return (features @ onehot).square().sum(-1) / 2


def ascend(
    function: Callable[[Tensor], Tensor], ws: Float[Tensor, "*stack d"], n_steps: int, step: float = 0.25
) -> tuple[Float[Tensor, "*stack d"], Float[Tensor, "time *stack"]]:
    """Gradient ascent on the sphere, w ← w + step ∇E / (w·∇E), normalised: Euler steps whose length follows the energy.

    Args:
        function: E of weights (*stack, 2 M); homogeneous, as it is for powers and for ReLU.
        ws: Starts; they are normalised first.
        n_steps: Steps.
        step: Relative growth of w per step.

    Returns:
        Where the ascents ended, and E before every step and at the end.

    Raises:
        ValueError: No steps, or `step` not positive.
    """
    if n_steps < 1 or not step > 0:
        raise ValueError(f"n_steps is {n_steps} and step {step}; both must be positive")
    ws, trace = ws / ws.norm(dim=-1, keepdim=True), []
    for _ in range(n_steps):
        ws = ws.detach().requires_grad_()
        values = function(ws)
        trace.append(values.detach())
        (gradient,) = torch.autograd.grad(values.sum(), ws)
        growth = (ws * gradient).sum(-1, keepdim=True).clamp(min=torch.finfo(ws.dtype).tiny)
        ws = ws.detach() + step * gradient / growth
        ws = ws / ws.norm(dim=-1, keepdim=True)
    trace.append(function(ws).detach())
    return ws.detach(), torch.stack(trace)


def six_per_frequency(modulus: int) -> tuple[Float[Tensor, "width d"], Float[Tensor, "M width"]]:
    r"""Weights W, V of a network of 3 (M - 1) real units that answers the centred labels exactly on all pairs.

    Per frequency three phases φ = 0, 2π/3, 4π/3 and two signs: w = [cos(θa + φ); ± cos(θb + φ)], v_c = ± κ cos(θc + 2φ). The
    signs cancel the squares, 4 cos(θa + φ) cos(θb + φ) = 2 cos(θ(a+b) + 2φ) + 2 cos θ(a-b); the phases cancel what is not
    3κ cos θ(a+b-c); and Σ_k cos θ_k(a+b-c) = (M δ - 1)/2. With κ = 2/(3M) that is δ - 1/M.

    Raises:
        ValueError: An even modulus, or one below 3.
    """
    if modulus < 3 or modulus % 2 == 0:
        raise ValueError(f"modulus is {modulus}; it must be odd and at least 3")
    angles = 2 * torch.pi * torch.arange(modulus, dtype=torch.float64) / modulus
    rows, columns = [], []
    for k in range(1, modulus // 2 + 1):
        for j in range(3):
            phase = 2 * torch.pi * j / 3
            wave = torch.cos(k * angles + phase)
            for sign in (1, -1):
                rows.append(torch.cat([wave, sign * wave]))
                columns.append(sign * 2 / (3 * modulus) * torch.cos(k * angles + 2 * phase))
    return torch.stack(rows), torch.stack(columns, -1)
