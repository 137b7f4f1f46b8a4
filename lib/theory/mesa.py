r"""What a causal linear-attention layer learns from unitary autoregressive sequences, in the limit of infinitely many.

Source: Zheng et al. 2024, arXiv 2405.16845 (optimum of a·b, capability). The derivations below are our own, and exact
for every length; model and loss are those of `lib.models.autoregressive_attention`.

**Only two blocks matter.** Multiply all λ_j by one phase e^{iφ}: their law does not change. A feature made of block P of
W_PV and block (Q, R) of W_KQ (0: the part that meets x_t, 1: the part that meets x_{t-1}) then turns by e^{i(t-1-P+Q-R)φ},
the target x_{t+1} by e^{itφ}. Hence only P = 0, Q = 1, R = 0 correlates with targets, and features of different
P-Q+R do not correlate with one another. All other products of blocks can only raise the loss; from a start where they are
zero they have zero gradient, whatever the first token. What is left is the d x d block B of W_PV and A of W_KQ,

    x̂_{t+1} = B · (1/(t-1)) Σ_{i=2}^{t} x_i x_{i-1}^H · A x_t ,

one step of gradient descent of rate ab on ½ Σ|x_{i+1} - W x_i|² if A = aI and B = bI.

**Optimum on the diagonal.** Coordinate j of the prediction is, for A = aI and B = bI,

    ab · x_{t+1,j} (|x_{1j}|² + Σ_{r≠j} |x_{1r}|² · (1/(t-1)) Σ_{k=1}^{t-1} (λ_r/λ_j)^k),

a part that is right in direction and crosstalk of mean zero that dies out as 1/(t-1). So

    loss/d = ½ Σ_{t=2}^{T-1} [k_0 - 2 ab k_1 + (ab)² (k_2 + k_3/(t-1))]
    ab*    = k_1 / (k_2 + k_3 h/(T-2)),       h = Σ_{s=1}^{T-2} 1/s

with k_0 = E x_j², k_1 = E x_j⁴, k_2 = E x_j⁶, k_3 = Σ_{r≠j} E x_j² x_r⁴ of the first token.

| start            | k_0  | k_1  | k_2   | k_3        | ab* at T = ∞ |
|------------------|------|------|-------|------------|---------------|
| gaussian         | σ²   | 3σ⁴  | 15σ⁶  | 3(d-1)σ⁶   | 1/(5σ²)       |
| sparse           | c²/d | c⁴/d | c⁶/d  | 0          | 1/c², at every T |
| ones, signs      | c²   | c⁴   | c⁶    | (d-1)c⁶    | 1/c²          |

**Capability.** At late times prediction/truth is ab x_{1j}² in coordinate j: one number ab cannot be right for all sizes.
The least relative error is 1 - k_1²/(k_0 k_2): by Cauchy and Schwarz zero if and only if |x_{1j}| takes one non-zero
value, as in all starts but the Gaussian, which keeps 1 - 9/15 = 40 %.

**Beyond the diagonal.** A and B stay diagonal if every coordinate of x_1 can change its sign without changing its law.
The start `ones` cannot: E x_{1j}³ x_{1q} ≠ 0 lets the features (j, q, j) with q ≠ j correlate with x_{t+1,j} (through
i = 2, where x_{i-1} = x_1 has a known phase), so A and B grow off-diagonal entries. `population_moments` has this case,
too, exactly.

| paper            | code          | note                                             |
|------------------|---------------|--------------------------------------------------|
| κ_1, κ_2, κ_3    | k_1, k_2, k_3 | E x_j⁴, E x_j⁶, Σ E x_j² x_r⁴                     |
| T (T_tr)         | `length`      | tokens of a sequence; T-2 are predicted          |
| σ, c             | `scale`       |                                                  |
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from lib.tasks.unitary_autoregression import check_length, check_start

_POWERS = {  # E x^0 … E x^6 of one coordinate at scale 1; for `sparse`, given that it is the one that is not zero
    "gaussian": np.array([1.0, 0, 1, 0, 3, 0, 15]),
    "signs": np.array([1.0, 0, 1, 0, 1, 0, 1]),
    "sparse": np.array([1.0, 0, 1, 0, 1, 0, 1]),
    "ones": np.ones(7),
}


def first_moment(start: str, powers: Int[np.ndarray, "*stack d"], scale: float = 1.0) -> Float[np.ndarray, "*stack"]:
    """E Π_j x_{1j}^{powers_j} of a first token.

    Args:
        start: One of `lib.tasks.unitary_autoregression.STARTS`.
        powers: Exponents, 0 to 6, of the coordinates along the last axis.
        scale: σ or c.

    Raises:
        ValueError: An unknown start or a scale that is not positive.

    >>> first_moment("gaussian", np.array([[4, 2], [6, 0], [3, 1]])).tolist()
    [3.0, 15.0, 0.0]
    """
    check_start(start, scale)
    moment = _POWERS[start][powers].prod(-1) * float(scale) ** powers.sum(-1)
    if start == "sparse":
        n_used = (powers > 0).sum(-1)
        moment = np.where(n_used == 0, 1.0, np.where(n_used == 1, moment / powers.shape[-1], 0.0))
    return moment


def constants(start: str, n_dims: int, scale: float = 1.0) -> tuple[float, float, float, float]:
    """k_0, k_1, k_2 and k_3 of the module's docstring.

    Raises:
        ValueError: An unknown start, a scale that is not positive, or `n_dims` below 1.

    >>> constants("gaussian", 5)
    (1.0, 3.0, 15.0, 12.0)
    """
    if n_dims < 1:
        raise ValueError(f"n_dims is {n_dims}; it must be at least 1")
    powers = np.zeros((4, n_dims), dtype=int)
    powers[:, 0] = 2, 4, 6, 2
    powers[3, 1:2] = 4
    k_0, k_1, k_2, k_3 = first_moment(start, powers, scale).tolist()
    return k_0, k_1, k_2, (n_dims - 1) * k_3


def optimal_product(start: str, n_dims: int, length: int | float, scale: float = 1.0) -> float:
    """ab* for A = aI and B = bI; `length` may be infinite.

    Raises:
        ValueError: As `constants`, or a length below 3.

    >>> round(optimal_product("gaussian", 5, 100), 4), optimal_product("gaussian", 5, np.inf)
    (0.1919, 0.2)
    """
    return product_of_moments(*constants(start, n_dims, scale)[1:], length)


def product_of_moments(k_1: float, k_2: float, k_3: float, length: int | float) -> float:
    """ab* from the moments of first tokens, those of a distribution or of a sample.

    Raises:
        ValueError: A length below 3.

    >>> product_of_moments(1.0, 2.0, 2.0, 3)  # one predicted token, h = 1
    0.25
    """
    check_length(length)
    harmonic = 0.0 if np.isinf(length) else float((1 / np.arange(1, length - 1)).mean())
    return k_1 / (k_2 + k_3 * harmonic)


def relative_error(
    product: float, start: str, n_dims: int, n_seen: Float[np.ndarray, "*t"] | float | int, scale: float = 1.0
) -> Float[np.ndarray, "*t"] | float:
    """E|x̂_{t+1} - x_{t+1}|² / E|x_{t+1}|² after t = `n_seen` >= 2 tokens, for A = aI, B = bI and ab = `product`.

    Raises:
        ValueError: As `constants`, or fewer than 2 tokens seen.
    """
    if np.min(n_seen) < 2:
        raise ValueError(f"n_seen is {np.min(n_seen)}; it must be at least 2, the second shows the first step")
    k_0, k_1, k_2, k_3 = constants(start, n_dims, scale)
    return 1 - 2 * product * k_1 / k_0 + product**2 * (k_2 + k_3 / (n_seen - 1)) / k_0


def least_relative_error(start: str) -> float:
    """1 - k_1²/(k_0 k_2): what remains at infinite length, where crosstalk is gone; zero means recovery.

    >>> round(least_relative_error("gaussian"), 3), least_relative_error("sparse")
    (0.4, 0.0)
    """
    k_0, k_1, k_2, _ = constants(start, 1)
    return 1 - k_1**2 / (k_0 * k_2)


def population_moments(
    start: str, n_dims: int, length: int, scale: float = 1.0
) -> tuple[Float[np.ndarray, "F F"], Float[np.ndarray, "d F"], float]:
    """Moments M, c and k of the loss in the two blocks A and B, exactly: expectations instead of means over data.

    Feature (p, q, r) is x_{1p} x_{1q} x_{1r} (1/(t-1)) Σ_i λ_p^{i-1} λ_q^{-(i-2)} λ_r^{t-1}. Phases are independent and
    uniform, so two monomials in λ correlate, with correlation 1, if and only if all exponents agree: M counts such pairs.

    Args:
        start: One of `lib.tasks.unitary_autoregression.STARTS`.
        n_dims: d.
        length: T.
        scale: σ or c.

    Returns:
        Arrays for `lib.models.autoregressive_attention.Moments`, F = d³.

    Raises:
        ValueError: As `constants`, a length below 3, or sizes whose exponents do not fit an integer.
    """
    check_length(length)
    constants(start, n_dims, scale)
    base = 3 * length
    if base**n_dims >= 2**62:
        raise ValueError(f"n_dims and length are {n_dims} and {length}; (3 length)^n_dims must stay below 2^62")
    place = base ** np.arange(n_dims)  # a vector of exponents, each between -length and 2 length, as one integer
    p, q, r = (index.ravel() for index in np.indices((n_dims, n_dims, n_dims)))
    unit = np.eye(n_dims, dtype=int)
    powers = unit[p] + unit[q] + unit[r]
    quadratic, linear = np.zeros((len(p), len(p))), np.zeros((n_dims, len(p)))
    for t in range(2, length):
        i = np.arange(2, t + 1)
        keys = place[p, None] * (i - 1) - place[q, None] * (i - 2) + place[r, None] * (t - 1)
        _, columns = np.unique(keys, return_inverse=True)
        counts = csr_array((np.ones(keys.size), columns.ravel(), np.arange(0, keys.size + 1, len(i))))
        quadratic += (counts @ counts.T).toarray() / (t - 1) ** 2
        linear += (keys == t * place[:, None, None]).sum(-1) / (t - 1)
    quadratic *= first_moment(start, powers[:, None] + powers, scale)
    linear *= first_moment(start, unit[:, None] + powers, scale)
    return quadratic, linear, (length - 2) * n_dims * constants(start, n_dims, scale)[0]
