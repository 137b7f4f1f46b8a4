r"""One step of gradient descent from zero on an in-context regression prompt: its best rate and its risk.

    prediction = η Σ_{i ≤ N} y_i x_iᵀ x_q,      y = wᵀ x + ε,   w ~ N(0, τ² I),   ε ~ N(0, σ²)

For inputs with independent, symmetric coordinates of moments s = E x_k² and m = E x_k⁴, in d dimensions,

    risk(η) = σ² + τ² d s - 2 η N τ² d s² + η² N d s (τ² (m + (d-1) s² + (N-1) s²) + σ² s)
    η*      = s / (m + (d + N - 2) s² + s σ²/τ²)

by expanding the square: a pair of different points contributes E y_i y_j x_i·x_j = τ² d s², a point with itself
E y² |x|² = τ² d (m + (d-1) s²) + σ² d s.

| case                                  | s      | m       | η*                                |
|---------------------------------------|--------|---------|-----------------------------------|
| N(0, I), arXiv 2307.03576, Theorem 1  | 1      | 3       | 1/(N + d + 1 + σ²/τ²)             |
| U(-a, a), arXiv 2212.07677, Section 3 | a²/3   | a⁴/5    | 0.606 for a = ½ and d = N = 10    |

With x ~ N(0, Σ) and w ~ N(0, τ² Σ⁻¹) the whitened problem is the first case: the same η, the step preconditioned by Σ⁻¹
(arXiv 2307.03576, Theorem 2).

| papers         | code           | note                                                     |
|----------------|----------------|----------------------------------------------------------|
| η              | `rate`         | multiplies the *sum* over points, as the papers' N η / N |
| N or n         | `n_context`    | points with a target; the query is not one               |
| d              | `n_dims`       |                                                          |
| σ², τ²         | `noise_var`, `weight_var` |                                               |
"""


def optimal_rate(
    n_context: int,
    n_dims: int,
    second_moment: float = 1.0,
    fourth_moment: float = 3.0,
    noise_var: float = 0.0,
    weight_var: float = 1.0,
) -> float:
    """η*, the rate whose single step has the least risk. Moments default to those of a standard Gaussian.

    Raises:
        ValueError: A size below 1, a moment or `weight_var` that is not positive, a negative noise, or a fourth
            moment below the square of the second, which no distribution has.

    >>> round(optimal_rate(10, 10, *uniform_moments(0.5)), 3)
    0.606
    """
    _check(n_context, n_dims, second_moment, fourth_moment, noise_var, weight_var)
    s, m = second_moment, fourth_moment
    return s / (m + (n_dims + n_context - 2) * s**2 + s * noise_var / weight_var)


def risk(
    rate: float,
    n_context: int,
    n_dims: int,
    second_moment: float = 1.0,
    fourth_moment: float = 3.0,
    noise_var: float = 0.0,
    weight_var: float = 1.0,
) -> float:
    """Expected squared error on the noisy target of the query (twice the half-square loss of arXiv 2212.07677).

    Raises:
        ValueError: As `optimal_rate`.
    """
    _check(n_context, n_dims, second_moment, fourth_moment, noise_var, weight_var)
    s, m, N, d = second_moment, fourth_moment, n_context, n_dims
    itself = weight_var * (m + (d - 1) * s**2) + noise_var * s
    quadratic = N * d * s * (itself + (N - 1) * weight_var * s**2)
    return noise_var + weight_var * d * s - 2 * rate * N * weight_var * d * s**2 + rate**2 * quadratic


def uniform_moments(half_width: float) -> tuple[float, float]:
    """Second and fourth moment of U(-half_width, half_width)."""
    return half_width**2 / 3, half_width**4 / 5


def _check(n_context: int, n_dims: int, s: float, m: float, noise_var: float, weight_var: float) -> None:
    if n_context < 1 or n_dims < 1:
        raise ValueError(f"n_context and n_dims are {n_context} and {n_dims}; both must be at least 1")
    if not (s > 0 and m >= s**2):
        raise ValueError(f"moments are {s} and {m}; the second must be positive and the fourth at least its square")
    if noise_var < 0 or not weight_var > 0:
        raise ValueError(
            f"noise_var and weight_var are {noise_var} and {weight_var}; they must be at least 0 and positive"
        )
