r"""How simple is a feature for one hidden layer? The margin that a unit of total variation buys.

In the rich regime a wide network that goes on descending the logistic loss converges to the direction that maximises

    γ_1(D) = max { min_{(x, y) in D} y ∫ max(w · x + b, 0) dμ(w, b) : |μ| ≤ 1 },    (w, b) on the unit sphere,

the margin in variation norm (Chizat and Bach 2020, arXiv 2002.04486; Morwani et al. 2023, arXiv 2302.00457, build on it).
With μ on a grid it is a linear program. For the linear coordinate, labels sign(x) on [-1, -γ] ∪ [γ, 1], it is γ/√(1+γ²): a
neuron makes f(γ) - f(-γ) no larger than 2γ/√(1+γ²), and the one with b = γ w attains it; half of it and half of its mirror
image, with opposite signs, have the margin.
"""

import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog


def sphere_grid(n_in: int, n_points: int) -> Float[np.ndarray, "n d_plus_1"]:
    """Neurons (w, b) spread over the unit sphere of R^{n_in + 1}, for one or two inputs.

    Raises:
        ValueError: Another number of inputs, or fewer than four points.

    >>> sphere_grid(1, 4).round(9).tolist()
    [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [-0.0, -1.0]]
    """
    if n_in not in (1, 2):
        raise ValueError(f"n_in is {n_in}; it must be 1 or 2")
    if n_points < 4:
        raise ValueError(f"n_points is {n_points}; it must be at least 4")
    if n_in == 1:
        angle = 2 * np.pi * np.arange(n_points) / n_points
        return np.stack([np.cos(angle), np.sin(angle)], -1)
    i = np.arange(n_points) + 0.5  # Fibonacci's lattice
    height, angle = 1 - 2 * i / n_points, np.pi * (1 + 5**0.5) * i
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), height], -1)


def variation_margin(
    xs: Float[np.ndarray, "n d"], ys: Float[np.ndarray, "n"], neurons: Float[np.ndarray, "m d_plus_1"]
) -> tuple[float, Float[np.ndarray, "m"]]:
    """The largest margin with total variation one, and the measure that has it.

    Args:
        xs: Points, of which the ends of intervals suffice where f is linear in between or only the worst ones count.
        ys: Labels ±1.
        neurons: (w, b), of norm one; the margin grows with the grid towards that of all neurons.

    Raises:
        ValueError: Labels other than ±1.
    """
    if not np.isin(ys, (-1, 1)).all():
        raise ValueError("ys holds labels other than -1 and +1")
    active = np.maximum(xs @ neurons[:, :-1].T + neurons[:, -1], 0) * ys[:, None]
    n, m = active.shape
    # Variables: positive and negative parts of μ, and the margin.
    above = np.hstack([-active, active, np.ones((n, 1))])
    total = np.hstack([np.ones((1, 2 * m)), np.zeros((1, 1))])
    solution = linprog(
        np.r_[np.zeros(2 * m), -1.0],
        A_ub=np.vstack([above, total]),
        b_ub=np.r_[np.zeros(n), 1.0],
        bounds=[(0, None)] * (2 * m) + [(None, None)],
        method="highs",
    )
    if solution.status:
        raise RuntimeError(f"the linear program was not solved: {solution.message}")
    return float(solution.x[-1]), solution.x[:m] - solution.x[m : 2 * m]
