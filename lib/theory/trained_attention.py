r"""One layer of linear attention trained on in-context regression: its loss, its gradient flow, its limit and its risk.

Source: Zhang, Frei, Bartlett, "Trained Transformers Learn Linear Models In-Context", arXiv 2306.09927: Theorem 4.1 (limit),
Theorem 4.2 (risk), Section 4.2 (shifts), Theorem 4.5 (random covariances). The derivations are our own.

**Model.** From a prompt of N examples and a query the layer predicts, with all parameters but two blocks at zero,

    ŷ = v · zᵀ Q x_q = zᵀ A x_q,      z = (1/N) sum_i y_i x_i,      A = v Q,

where v is the last entry of W_PV and Q the upper left block of W_KQ. For x ~ N(0, Λ), w ~ N(0, Ω), y = wᵀx + noise of
variance s², z has the conditional mean Λw, and Isserlis' theorem gives

    E[z zᵀ] = (1 + 1/N) ΛΩΛ + (tr(ΩΛ) + s²)/N Λ        (= ΓΛ for Ω = I, s = 0),      Γ = (1 + 1/N) Λ + (tr Λ)/N I.

**Loss.** Half the mean squared error for Ω = I, s = 0 is L(v, Q) = ½ tr(Aᵀ ΓΛ A Λ) - tr(AΛ²) + ½ tr Λ, so

    G = dL/dA = ΓΛ A Λ - Λ²,      gradient flow:  dQ/dt = -v G,  dv/dt = -<Q, G>.

Both change v² and ‖Q‖² at the rate -2v<Q, G>: v² - ‖Q‖_F² is conserved, and G = 0 at A = Γ⁻¹. From a balanced start
(v = ‖Q‖_F) the limit is therefore Q = tr(Γ⁻²)^(-1/4) Γ⁻¹, v = tr(Γ⁻²)^(1/4). The point v = 0, Q = 0 is a saddle.

*The whole path for Λ = I* from Q = (q/√d) I, v = q: it stays of this form, A = aI with da/dt = 2√d a (1 - γa), a logistic
curve, with γ = 1 + (1 + d)/N.

**Random covariances.** With one Λ per prompt the loss is the mean over Λ, and A solves E[ΓΛ A Λ] = E[Λ²]. For diagonal Λ
this is Theorem 4.5's E[ΓΛ²]⁻¹ E[Λ²]; for entries from Exp(1), E λ^k = k! gives A = aI with a = 2/(6 + (2d + 10)/N) -> 1/3.

| paper                   | code                | note                                                          |
|-------------------------|---------------------|---------------------------------------------------------------|
| Λ                       | `covariance`        | leading axes: a sample of random covariances                  |
| N, M                    | `n_points`          | examples in a prompt of training, of testing; may be infinite |
| Γ                       | `gamma`             |                                                               |
| last entry of W^PV      | `value`             | v above                                                       |
| upper left of W^KQ      | `W_KQ`              | (d, d) here; Q above                                          |
| their product           | `product`           | A above; the paper gives the risk only at A = Γ⁻¹             |
| σ (scale of the start)  | `scale`             |                                                               |

The paper counts the query's own column in E Eᵀ. Its target is 0, so z is the same: it only meets blocks that stay at zero.
"""

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp

Square = Float[np.ndarray, "d d"]
Squares = Float[np.ndarray, "*sample d d"]


def gamma(covariance: Squares, n_points: int | float) -> Squares:
    """Γ = (1 + 1/N) Λ + (tr Λ)/N I: the second moment of z is ΓΛ.

    Args:
        covariance: Λ, symmetric and positive definite.
        n_points: N, examples in a prompt; `math.inf` gives Λ.

    Raises:
        ValueError: a covariance that is not symmetric and positive definite, or fewer than one point.

    >>> gamma(np.eye(2), 4).tolist()
    [[1.75, 0.0], [0.0, 1.75]]
    """
    _check(covariance, n_points)
    return covariance + (covariance + _trace(covariance)[..., None, None] * np.eye(covariance.shape[-1])) / n_points


def limit(covariance: Square, n_points: int | float) -> tuple[float, Square]:
    """Where gradient flow ends from a small balanced start (Theorem 4.1): (value, W_KQ) with product Γ⁻¹.

    >>> value, W_KQ = limit(np.eye(4), 20)
    >>> round(value**2, 3), (value * W_KQ)[0].round(3).tolist()
    (1.6, [0.8, 0.0, 0.0, 0.0])
    """
    return balanced(np.linalg.inv(gamma(covariance, n_points)))


def balanced(product: Square) -> tuple[float, Square]:
    """The factors (value, W_KQ) of a product with value = ‖W_KQ‖_F, as gradient flow keeps them.

    Raises:
        ValueError: a product of zero.
    """
    value = float(np.sqrt(np.linalg.norm(product)))
    if not value > 0:
        raise ValueError("product is zero; it has no balanced factors with a positive value")
    return value, product / value


def largest_scale(covariance: Square, n_points: int | float) -> float:
    """Theorem 4.1 promises convergence for starts of scale σ below this: σ² ‖Γ‖_op √d < 2.

    >>> round(largest_scale(np.eye(4), 20), 3)
    0.894
    """
    return float(np.sqrt(2 / (np.linalg.norm(gamma(covariance, n_points), 2) * len(covariance) ** 0.5)))


def random_start(n_dims: int, scale: int | float, generator: np.random.Generator) -> tuple[float, Square]:
    """A start as in Theorem 4.1: value = σ, W_KQ = σ Θ Θᵀ/‖Θ Θᵀ‖_F with Gaussian Θ.

    Raises:
        ValueError: a scale that is not positive.
    """
    if not scale > 0:
        raise ValueError(f"scale is {scale}; it must be positive")
    theta = generator.standard_normal((n_dims, n_dims))
    return scale, scale * theta @ theta.T / np.linalg.norm(theta @ theta.T)


# -- the loss and its flow ---------------------------------------------------------------------------------------------


def population_loss(value: int | float, W_KQ: Square, covariance: Squares, n_points: int | float) -> float:
    """Half the mean squared error over prompts, tasks and, with leading axes, covariances; the zero predictor has ½ tr Λ."""
    return float(risk(value * W_KQ, n_points, covariance).mean()) / 2


def population_gradient(
    value: int | float, W_KQ: Square, covariance: Squares, n_points: int | float
) -> tuple[float, Square]:
    """Derivatives of `population_loss` by value and by W_KQ."""
    square = covariance @ covariance
    G = gamma(covariance, n_points) @ covariance @ (value * W_KQ) @ covariance - square
    G = G.reshape(-1, *W_KQ.shape).mean(0)
    return float((W_KQ * G).sum()), value * G


def gradient_flow(
    value: int | float, W_KQ: Square, covariance: Squares, n_points: int | float, times: Float[np.ndarray, " t"]
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, "t d d"]]:
    """v and Q at each time of the flow of `population_gradient` from (value, W_KQ), by an adaptive solver to about 1e-8.

    Args:
        value: v at time 0.
        W_KQ: Q at time 0.
        covariance: Λ; with leading axes a sample over which the loss is averaged.
        n_points: N.
        times: increasing, from 0 on; learning rate × steps of gradient descent.
    """

    def velocity(_: float, flat: np.ndarray) -> np.ndarray:
        d_value, d_matrix = population_gradient(flat[0], flat[1:].reshape(W_KQ.shape), covariance, n_points)
        return -np.concatenate([[d_value], d_matrix.ravel()])

    start = np.concatenate([[value], W_KQ.ravel()])
    path = solve_ivp(velocity, (0.0, times[-1]), start, t_eval=times, method="LSODA", rtol=1e-9, atol=1e-12).y.T
    return path[:, 0], path[:, 1:].reshape(-1, *W_KQ.shape)


def isotropic_flow(
    scale: int | float, n_dims: int, n_points: int | float, times: Float[np.ndarray, " t"]
) -> Float[np.ndarray, " t"]:
    """The path in closed form for Λ = I from value = σ, W_KQ = (σ/√d) I: product a(t) I with a logistic a.

    a(t) = 1 / (γ + (1/a(0) - γ) exp(-2√d t)),  a(0) = σ²/√d,  γ = 1 + (1 + d)/N.

    >>> isotropic_flow(0.1, 4, 20, np.array([0.0, 100.0])).round(3).tolist()
    [0.005, 0.8]
    """
    rate = 1 + (1 + n_dims) / n_points
    return 1 / (rate + (n_dims**0.5 / scale**2 - rate) * np.exp(-2 * n_dims**0.5 * times))


# -- risk --------------------------------------------------------------------------------------------------------------


def risk(
    product: Square,
    n_points: int | float,
    covariance: Squares,
    query_covariance: Square | None = None,
    weight_covariance: Square | None = None,
    noise_var: int | float = 0.0,
) -> float | Float[np.ndarray, "*sample"]:
    """Mean squared error E(zᵀ A x_q - y_q)², exact at every prompt length and under every shift of the three laws.

    tr(Aᵀ E[zzᵀ] A Λ_q) - 2 tr(A Λ_q Ω Λ) + tr(Ω Λ_q) + s², with E[zzᵀ] as in the module's docstring.

    Args:
        product: A = value × W_KQ, trained on whatever.
        n_points: M.
        covariance: Λ of the examples.
        query_covariance: Λ_q of the query, Λ by default.
        weight_covariance: Ω = E[wwᵀ], the identity by default; wwᵀ for one fixed task.
        noise_var: s², variance of the noise on every target, the query's included.

    Returns:
        One risk per covariance: full squared error, in units of y².

    Raises:
        ValueError: an Λ that is not symmetric and positive definite, fewer than one point, or a negative variance.

    >>> round(float(risk(np.eye(2), np.inf, 4 * np.eye(2))), 6)  # (c - 1)² of the zero predictor's c d
    72.0
    """
    _check(covariance, n_points)
    if noise_var < 0:
        raise ValueError(f"noise_var is {noise_var}; it must be at least 0")
    query = covariance if query_covariance is None else query_covariance
    weight = np.eye(len(product)) if weight_covariance is None else weight_covariance
    mean_square = covariance @ weight @ covariance
    spread = (_trace(weight @ covariance) + noise_var)[..., None, None] * covariance
    second_moment = mean_square + (mean_square + spread) / n_points
    quadratic = _trace(product.T @ second_moment @ product @ query)
    return quadratic - 2 * _trace(product @ query @ weight @ covariance) + _trace(weight @ query) + noise_var


def excess_risk(
    best_linear: Float[np.ndarray, " d"],
    moment_covariance: Square,
    covariance: Square,
    n_train: int | float,
    n_test: int | float,
) -> float:
    """Theorem 4.2, in the paper's own form: risk at A = Γ⁻¹ beyond that of the best linear predictor, for *any* law of y.

    (1/M) tr[Σ Γ⁻² Λ] + (1/N²) (|a|²_{Γ⁻²Λ³} + 2 tr(Λ) |a|²_{Γ⁻²Λ²} + tr(Λ)² |a|²_{Γ⁻²Λ}),    |a|²_B = aᵀBa.

    Args:
        best_linear: a = Λ⁻¹ E[xy], the best linear predictor of y.
        moment_covariance: Σ = Cov(xy); `linear_moment_covariance` for linear tasks.
        covariance: Λ, of training and of testing.
        n_train: N.
        n_test: M.
    """
    squared_inverse = np.linalg.matrix_power(np.linalg.inv(gamma(covariance, n_train)), 2)
    trace = np.trace(covariance)
    shrinkage = squared_inverse @ covariance @ np.linalg.matrix_power(covariance + trace * np.eye(len(covariance)), 2)
    variance = np.trace(moment_covariance @ squared_inverse @ covariance) / n_test
    return float(variance + best_linear @ shrinkage @ best_linear / n_train**2)


def linear_moment_covariance(
    weights: Float[np.ndarray, " d"], covariance: Square, noise_var: int | float = 0.0
) -> Float[np.ndarray, "d d"]:
    """Cov(xy) for y = wᵀx + noise: (wᵀΛw + s²) Λ + Λwwᵀ Λ."""
    moment = covariance @ weights
    return (weights @ moment + noise_var) * covariance + np.outer(moment, moment)


def bent_moment_covariance(
    direction: Float[np.ndarray, " d"], covariance: Square, bend: int | float
) -> Float[np.ndarray, "d d"]:
    """What a parabola bend (s² - 1), s = eᵀx/std along e = `direction`, adds to Cov(xy): 2b²Λ + 8b² ΛeeᵀΛ/(eᵀΛe).

    The parabola is uncorrelated with x, so the best linear predictor ignores it and has the error 2b².
    """
    moment = covariance @ direction
    return bend**2 * (2 * covariance + 8 * np.outer(moment, moment) / (direction @ moment))


def risk_bound(covariance: Square, n_train: int | float, n_test: int | float) -> float:
    """The paper's simple bound on the risk, w ~ N(0, I): (d + 1) tr(Λ)/M + (1 + 2d + d²κ) tr(Λ)/N², κ = condition of Λ."""
    _check(covariance, min(n_train, n_test))
    n_dims, trace = len(covariance), np.trace(covariance)
    condition = np.linalg.cond(covariance)
    return float((n_dims + 1) * trace / n_test + (1 + 2 * n_dims + n_dims**2 * condition) * trace / n_train**2)


# -- random covariances ------------------------------------------------------------------------------------------------


def random_covariance_limit(covariances: Float[np.ndarray, "sample d d"], n_points: int | float) -> Square:
    """The product A that minimises the loss averaged over a sample of covariances: mean(ΓΛ A Λ) = mean(Λ²)."""
    left = gamma(covariances, n_points) @ covariances
    n_dims = covariances.shape[-1]
    system = np.einsum("sij,skl->ijkl", left, covariances) / len(covariances)  # (left A right)_il = l_ij A_jk r_kl
    matrix = system.transpose(0, 3, 1, 2).reshape(n_dims**2, n_dims**2)
    return np.linalg.solve(matrix, (covariances @ covariances).mean(0).ravel()).reshape(n_dims, n_dims)


def exponential_limit(n_dims: int, n_points: int | float) -> float:
    """The a of A = aI for diagonal covariances with entries from Exp(1): 2/(6 + (2d + 10)/N).

    >>> round(exponential_limit(5, np.inf), 4)
    0.3333
    """
    return 2 / (6 + (2 * n_dims + 10) / n_points)


def exponential_risk(multiplier: int | float, n_dims: int, n_points: int | float, scale: int | float = 1.0) -> float:
    """Risk per dimension of A = aI on covariances c × diag(Exp(1)): c³a²(6 + (2d + 10)/M) - 4c²a + c.

    The zero predictor has c. Without end, M = N = ∞, a = 1/3 leaves 1/3 of it at c = 1.

    >>> round(exponential_risk(1 / 3, 5, np.inf), 4)
    0.3333
    """
    fourth = 6 + (2 * n_dims + 10) / n_points
    return scale**3 * multiplier**2 * fourth - 4 * scale**2 * multiplier + scale


def _trace(matrices: Squares) -> float | Float[np.ndarray, "*sample"]:
    return np.trace(matrices, axis1=-2, axis2=-1)


def _check(covariance: np.ndarray, n_points: int | float) -> None:
    if not np.allclose(covariance, np.swapaxes(covariance, -1, -2)) or np.linalg.eigvalsh(covariance).min() <= 0:
        raise ValueError("covariance must be symmetric and positive definite")
    if not n_points >= 1:
        raise ValueError(f"n_points is {n_points}; it must be at least 1")
