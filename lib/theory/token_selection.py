r"""Which tokens one layer of attention selects, as a hard-margin problem over pairs of tokens.

A layer scores token x_t of a sequence with query z by x_tᵀ W z. As ‖W‖ grows it attends to the selected tokens alone, if
every selected token's score exceeds every other's. The direction that does so with the least norm is the attention SVM:

    W_mm = argmin ‖W‖_F   subject to   (x_α - x_t)ᵀ W z ≥ 1   for selected α and all other t, in every sequence,
                                       (x_α - x_β)ᵀ W z = 0   for two selected tokens α, β of one sequence.

Each constraint is linear in W, with the outer product (x_α - x_t) zᵀ as its feature: the program is
`lib.theory.hard_margin` on these, after the features have lost their part in the span of the equalities.

Sources: Tarzanagh, Li, Thrampoulidis, Oymak 2023, arXiv 2308.16898 (Att-SVM; several tokens and W_fin; locally optimal
tokens); Vasudeva, Deora, Thrampoulidis 2024, arXiv 2402.05738 (W_mm; z is the first token of the sequence there).

| paper             | code        | shape                                                  |
|-------------------|-------------|--------------------------------------------------------|
| X_i, rows x_it    | `xs`        | (n, T, d)                                              |
| z_i               | `zs`        | (n, d)                                                 |
| opt_i, α_i, O_i   | `selected`  | (n, T), true for the selected tokens of a sequence     |
| γ_it = y_i vᵀx_it | `scores`    | (n, T)                                                 |
| x_α - x_t, z      | a pair of `constraint_pairs` | (m, d), (m, d)                        |
| W_fin             | `finite_part` | (d, d)                                               |
"""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from lib.theory.hard_margin import Infeasible, hard_margin

Pairs = tuple[Float[ndarray, "m d"], Float[ndarray, "m d"]]


def optimal_tokens(scores: Float[ndarray, "*stack n T"], rtol: float = 1e-12) -> Bool[ndarray, "*stack n T"]:
    """The token with the largest score of each sequence.

    Args:
        scores: γ; the higher, the smaller the loss of a sequence that is replaced by this token.
        rtol: Two scores that differ by no more than this, relative to the largest score of all, are tied.

    Returns:
        True for one token of every sequence.

    Raises:
        ValueError: A sequence of fewer than two tokens, scores that are not finite, or a tie for the best: there is no
            optimal token then, and any of the tied ones may win.

    >>> optimal_tokens(np.array([[0.1, 0.7, 0.2]]))
    array([[False,  True, False]])
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim < 2 or scores.shape[-1] < 2:
        raise ValueError(
            f"scores have shape {scores.shape}; they must be (…, sequences, tokens) with at least 2 tokens"
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    second, first = np.moveaxis(np.partition(scores, -2, axis=-1)[..., -2:], -1, 0)
    tied = first - second <= rtol * np.abs(scores).max()
    if tied.any():
        where = tuple(int(i) for i in np.argwhere(tied)[0])
        raise ValueError(
            f"sequence {where} has no optimal token: its two best scores are tied at {first[where]:.6g}; "
            "draw other tokens, or name the selected ones yourself"
        )
    return scores == first[..., None]


def check_selection(
    xs: Float[ndarray, "..."], zs: Float[ndarray, "..."], selected: Bool[ndarray, "..."]
) -> tuple[Float[ndarray, "n T d"], Float[ndarray, "n d"], Bool[ndarray, "n T"]]:
    """The three as arrays, if they are a token-selection problem.

    Raises:
        ValueError: Shapes that do not fit, numbers that are not finite, a sequence without a selected token, or nothing
            but selected tokens everywhere: then nothing is to be told apart.
    """
    xs, zs, selected = np.asarray(xs, dtype=float), np.asarray(zs, dtype=float), np.asarray(selected, dtype=bool)
    if xs.ndim != 3 or zs.shape != xs.shape[::2] or selected.shape != xs.shape[:2]:
        raise ValueError(
            f"xs, zs and selected have shapes {xs.shape}, {zs.shape} and {selected.shape}; "
            "they must be (n, T, d), (n, d) and (n, T)"
        )
    if not (np.isfinite(xs).all() and np.isfinite(zs).all()):
        raise ValueError("xs and zs must be finite")
    empty = np.flatnonzero(~selected.any(-1))
    if empty.size:
        raise ValueError(f"sequence {empty[0]} has no selected token; each needs at least one")
    if selected.all():
        raise ValueError("selected holds every token; at least one must be left out, or there is nothing to select")
    return xs, zs, selected


def check_scores(scores: Float[ndarray, "..."], selected: Bool[ndarray, "n T"]) -> None:
    """Raise a ValueError unless there is one score per token."""
    if np.shape(scores) != selected.shape:
        raise ValueError(f"scores have shape {np.shape(scores)}; there must be one per token, {selected.shape}")


def further_tokens(selected: Bool[ndarray, "n T"]) -> tuple[ndarray, ndarray, ndarray]:
    """(sequence, token, first): every selected token beyond the first of its sequence, and that first one."""
    first = selected.argmax(-1)
    sequence, token = np.nonzero(selected & (np.arange(selected.shape[1]) != first[:, None]))
    return sequence, token, first[sequence]


def constraint_pairs(
    xs: Float[ndarray, "n T d"], zs: Float[ndarray, "n d"], selected: Bool[ndarray, "n T"]
) -> tuple[Pairs, tuple[Float[ndarray, "k d"], Float[ndarray, "k d"]]]:
    """Token differences and queries of all constraints.

    Args:
        xs: Tokens.
        zs: Queries.
        selected: Which tokens are to be selected.

    Returns:
        (differences, queries) of the inequalities aᵀ W q ≥ 1, in the order of sequences, selected tokens, others; and the
        same of the equalities aᵀ W q = 0, which compare each further selected token with the first of its sequence.

    Raises:
        ValueError: As `check_selection`.
    """
    xs, zs, selected = check_selection(xs, zs, selected)
    sequence, winner, loser = np.nonzero(selected[:, :, None] & ~selected[:, None, :])
    inequalities = (xs[sequence, winner] - xs[sequence, loser], zs[sequence])
    sequence, token, first = further_tokens(selected)
    return inequalities, (xs[sequence, token] - xs[sequence, first], zs[sequence])


def outer_products(pairs: Pairs) -> Float[ndarray, "m d_squared"]:
    """The features of constraints: a qᵀ as a flat vector, so that ⟨a qᵀ, W⟩ = aᵀ W q."""
    differences, queries = pairs
    return (differences[:, :, None] * queries[:, None, :]).reshape(len(differences), -1)


def frobenius_program(
    xs: Float[ndarray, "n T d"], zs: Float[ndarray, "n d"], selected: Bool[ndarray, "n T"]
) -> Float[ndarray, "d d"]:
    """W_mm, the solution of the attention SVM in the Frobenius norm.

    Args:
        xs: Tokens.
        zs: Queries.
        selected: Which tokens are to be selected.

    Returns:
        W_mm; a layer along it has the margin ‖W‖_F / ‖W_mm‖_F.

    Raises:
        Infeasible: No W gives the selected tokens the highest scores (too few dimensions, or a token between others).
        ValueError: As `check_selection`.

    >>> frobenius_program(np.array([[[1.0, 0.0], [0.0, 0.0]]]), np.array([[0.0, 2.0]]), np.array([[True, False]]))
    array([[0. , 0.5],
           [0. , 0. ]])
    """
    inequalities, equalities = constraint_pairs(xs, zs, selected)
    features = outer_products(inequalities)
    lengths = np.linalg.norm(features, axis=1)
    if len(equalities[0]):
        _, values, basis = np.linalg.svd(outer_products(equalities), full_matrices=False)
        basis = basis[values > 1e-12 * values[0]]
        features = features - (features @ basis.T) @ basis
    if (np.linalg.norm(features, axis=1) <= 1e-10 * lengths.max()).any():
        raise Infeasible("a selected token cannot be told from another one: their difference leaves no free direction")
    return hard_margin(features).reshape(np.shape(xs)[-1], -1)


def finite_part(
    xs: Float[ndarray, "n T d"],
    zs: Float[ndarray, "n d"],
    selected: Bool[ndarray, "n T"],
    log_attention: Float[ndarray, "n T"],
) -> Float[ndarray, "d d"]:
    """W_fin: the smallest W that splits the attention among the selected tokens of each sequence as given.

        (x_β - x_α)ᵀ W z = log(a_β / a_α)   for selected α, β

    A layer with several selected tokens is predicted to end at W_fin + R W_mm with R → ∞ (the generalised SVM
    equivalence of arXiv 2308.16898, Section 6).

    Args:
        xs: Tokens.
        zs: Queries.
        selected: Which tokens share the attention.
        log_attention: Logarithms of the attention that they have.

    Returns:
        The solution of least norm; zero when every sequence has one selected token.

    Raises:
        ValueError: As `check_selection`.
    """
    _, equalities = constraint_pairs(xs, zs, selected)
    d = np.shape(xs)[-1]
    if not len(equalities[0]):
        return np.zeros((d, d))
    sequence, token, first = further_tokens(np.asarray(selected, dtype=bool))
    log_attention = np.asarray(log_attention, dtype=float)
    ratios = log_attention[sequence, token] - log_attention[sequence, first]
    return np.linalg.lstsq(outer_products(equalities), ratios, rcond=1e-12)[0].reshape(d, d)


def margins(
    W: Float[ndarray, "d d"], xs: Float[ndarray, "n T d"], zs: Float[ndarray, "n d"], selected: Bool[ndarray, "n T"]
) -> Float[ndarray, " m"]:
    """aᵀ W q of every inequality, in the order of `constraint_pairs`."""
    (differences, queries), _ = constraint_pairs(xs, zs, selected)
    return ((differences @ W) * queries).sum(-1)


def locally_optimal(
    W: Float[ndarray, "d d"],
    xs: Float[ndarray, "n T d"],
    zs: Float[ndarray, "n d"],
    scores: Float[ndarray, "..."],
    selected: Bool[ndarray, "n T"],
    rtol: float = 1e-6,
) -> bool:
    """Whether selected tokens score higher than all tokens that their SVM's solution only just holds off.

    Gradient descent can converge to the direction of such tokens even where better ones exist: the neighbours, whose
    constraints are active, are the only tokens that keep any gradient.

    Args:
        W: Solution of the SVM that selects these tokens, in the norm towards which training is biased: `frobenius_program`
            for W, `nuclear_margin` for (K, Q). The two can have different neighbours.
        xs: Tokens.
        zs: Queries.
        scores: γ.
        selected: One token per sequence.
        rtol: A margin below 1 + rtol is active.

    Returns:
        True if every selected token beats its neighbours.

    Raises:
        ValueError: A sequence with several selected tokens, a W that violates a margin (such as one of an infeasible
            program), or as `check_selection`.

    Source: arXiv 2308.16898, Definition 2.
    """
    xs, zs, selected = check_selection(xs, zs, selected)
    check_scores(scores, selected)
    if (selected.sum(-1) != 1).any():
        raise ValueError("selected has several tokens in one sequence; local optimality is defined for one each")
    found = margins(W, xs, zs, selected)
    if not (found > 1 - rtol).all():
        raise ValueError(f"W has the margin {found.min():.3g}; an SVM's solution has at least 1 from every token")
    active = found < 1 + rtol
    advantage = scores[selected][:, None] - scores
    return bool((advantage[~selected][active] > 0).all())


def cosine(A: Float[ndarray, "*#stack d e"], B: Float[ndarray, "*#stack d e"]) -> Float[ndarray, "*stack"] | float:
    """⟨A, B⟩ / (‖A‖ ‖B‖): 1 for equal directions; the papers' correlation coefficient."""
    norms = np.linalg.norm(A, axis=(-2, -1)) * np.linalg.norm(B, axis=(-2, -1))
    return (np.asarray(A) * B).sum((-2, -1)) / norms


def direction_error(
    A: Float[ndarray, "*#stack d e"], B: Float[ndarray, "*#stack d e"]
) -> Float[ndarray, "*stack"] | float:
    """‖A/‖A‖ - B/‖B‖‖_F, from the difference itself: 1 - cosine would lose all digits below 1e-8."""
    A, B = (M / np.linalg.norm(M, axis=(-2, -1), keepdims=True) for M in (A, B))
    return np.linalg.norm(A - B, axis=(-2, -1))
