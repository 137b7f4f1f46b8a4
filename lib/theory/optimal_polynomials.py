r"""The best that restricted linear attention can do on average over tasks: polynomials that are small on a spectrum.

Source: our own derivation, for the models of Gatmiry et al. 2024, arXiv 2410.21698; the classical facts are in Szegő,
Orthogonal Polynomials (1939), Theorems 3.1.3 and 3.1.4 (kernel polynomials, Christoffel function).

A prompt has inputs x_j ~ N(0, Σ), j <= n, with S = (1/n) Σ_j x_j x_jᵀ, weights w ~ N(0, I/tr Σ), so that E y² = 1 in every
task, and no noise. Layers with A_l = a_l I leave the error p(S) w (`iterative_solvers`), so the expected squared error of a
fresh query x ~ N(0, Σ) is

    R(p) = E tr p(S) Σ p(S) / tr Σ = ∫ p(λ)² dμ(λ),

where μ puts the mass v_iᵀ Σ v_i / tr Σ on the eigenvalue λ_i of S with eigenvector v_i, averaged over tasks and prompts
(`spectral_measure`; in the limit of long prompts S = Σ and μ is the spectrum, each task's weighted by λ).

**L free steps.** Among polynomials of degree L with p(0) = 1, R is least for the kernel polynomial
p(λ) = K_L(0, λ)/K_L(0, 0); there R = 1/K_L(0, 0), the Christoffel function of μ at 0. p is orthogonal for λ dμ, so its roots
are real and inside the spectrum, and a_l = 1/root is reachable by L real layers. That A_l = a_l I loses nothing when tasks
have no preferred directions is plausible by symmetry but not proven here; the notebook measures it.

**One step, L loops.** R(a) = ∫ (1 - aλ)^{2L} dμ is convex in a; its minimum is found by bisection of the derivative.

| paper      | code        | meaning                                                  |
|------------|-------------|----------------------------------------------------------|
| L          | `n_layers`  | layers or loops                                          |
| –          | `nodes`, `masses` | of the discrete measure μ; the masses sum to 1     |
"""

import numpy as np
from jaxtyping import Float

from lib.theory.iterative_solvers import residual_polynomial


def spectral_measure(
    sample_covariances: Float[np.ndarray, "*prompt d d"], covariances: Float[np.ndarray, "*prompts d d"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Nodes and masses of μ from drawn prompts: eigenvalues λ_i of S, each with the mass v_iᵀ Σ v_i / tr Σ.

    Args:
        sample_covariances: S of each prompt.
        covariances: Σ of the same prompts.

    Returns:
        (nodes, masses), prompts × d of them; the masses sum to 1.

    Raises:
        ValueError: two shapes that differ.

    >>> nodes, masses = spectral_measure(np.diag([1.0, 3.0]), np.diag([1.0, 3.0]))
    >>> nodes.tolist(), masses.tolist()
    ([1.0, 3.0], [0.25, 0.75])
    """
    if sample_covariances.shape != covariances.shape:
        raise ValueError(
            f"sample_covariances have shape {sample_covariances.shape}, covariances {covariances.shape}; they must agree"
        )
    nodes, vectors = np.linalg.eigh(sample_covariances)
    masses = np.sum(vectors * (covariances @ vectors), axis=-2)
    masses = masses / masses.sum(-1, keepdims=True)
    return nodes.ravel(), (masses / masses.sum()).ravel()


def risk(
    steps: Float[np.ndarray, " n_layers"], nodes: Float[np.ndarray, " k"], masses: Float[np.ndarray, " k"]
) -> float:
    """∫ p² dμ for p(λ) = Π_l (1 - a_l λ): expected squared error of the query, where E y² = 1.

    >>> risk(np.array([]), np.array([1.0, 2.0]), np.array([0.5, 0.5]))
    1.0
    """
    return float(masses @ residual_polynomial(nodes, steps) ** 2)


def best_steps(
    nodes: Float[np.ndarray, " k"], masses: Float[np.ndarray, " k"], n_layers: int
) -> Float[np.ndarray, " n_layers"]:
    """The steps a_l, increasing, with the least `risk`: inverse roots of the orthogonal polynomial of λ dμ.

    The Lanczos process with the nodes as its matrix gives the Jacobi matrix of λ dμ, whose eigenvalues are the roots. All
    basis vectors are orthogonalised again at each step: without it rounding would spoil them from a degree of about 10.

    Raises:
        ValueError: `n_layers` below 1, nodes that are not positive, or fewer distinct nodes than layers.
    """
    _check(nodes, masses, n_layers)
    basis = [np.sqrt(nodes * masses / (nodes @ masses))]
    jacobi = np.zeros((n_layers, n_layers))
    for k in range(n_layers):
        image = nodes * basis[-1]
        jacobi[k, k] = basis[-1] @ image
        for _ in range(2):
            image = image - np.array(basis).T @ (np.array(basis) @ image)
        if k + 1 < n_layers:
            norm = np.linalg.norm(image)
            jacobi[k, k + 1] = jacobi[k + 1, k] = norm
            basis.append(image / norm)
    return np.sort(1 / np.linalg.eigvalsh(jacobi))


def best_constant_step(nodes: Float[np.ndarray, " k"], masses: Float[np.ndarray, " k"], n_loops: int) -> float:
    """The step a with the least ∫ (1 - aλ)^{2L} dμ.

    Raises:
        ValueError: `n_loops` below 1, or nodes that are not positive.

    >>> round(best_constant_step(np.array([1.0, 3.0]), np.array([0.75, 0.25]), n_loops=2), 6)
    0.5
    """
    _check(nodes, masses, 1)
    if n_loops < 1:
        raise ValueError(f"n_loops is {n_loops}; it must be at least 1")
    low, high = 1 / nodes.max(), 1 / nodes.min()  # every factor shrinks up to the first, grows from the second
    for _ in range(60):
        middle = (low + high) / 2
        # The factors are scaled by their largest, since their high powers overflow.
        factors = 1 - middle * nodes
        factors = factors / np.abs(factors).max()
        low, high = (middle, high) if masses @ (nodes * factors ** (2 * n_loops - 1)) > 0 else (low, middle)
    return float(low + high) / 2


def _check(nodes: np.ndarray, masses: np.ndarray, n_layers: int) -> None:
    if n_layers < 1:
        raise ValueError(f"n_layers is {n_layers}; it must be at least 1")
    if nodes.shape != masses.shape or nodes.min() <= 0 or masses.min() < 0:
        raise ValueError("nodes must be positive and masses at least 0, as many of one as of the other")
    distinct = np.unique(nodes[masses > 0]).size
    if distinct < n_layers:
        raise ValueError(f"{distinct} distinct nodes cannot determine {n_layers} layers")
