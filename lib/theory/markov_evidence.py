r"""Which order a Markov chain has: Dirichlet–multinomial evidence, its posterior, and the predictors of each order.

With rows P(· | c) ~ Dirichlet(α, …, α) the chain integrates out. The predictor of order s, from the counts n_{c,v} so far,

    p_s(v | x_1 … x_{t-1}) = (n_{c,v} + α) / (n_c + V α),    c = x_{t-s} … x_{t-1},    1/V while t <= s,

is at once the order's evidence, by the chain rule, log p_s(x_1 … x_t) = Σ_{i≤t} log p_s(x_i | x_1 … x_{i-1}), which in one
piece reads

    -s log V + Σ_c [ log Γ(Vα) - log Γ(n_c + Vα) + Σ_v (log Γ(n_{c,v} + α) - log Γ(α)) ].

The Bayesian mixture predicts Σ_s w_s p_s with w_s ∝ prior_s p_s(x_1 … x_{t-1}). For long sequences the evidence is the
largest likelihood less ½ V^s (V - 1) log T (Schwarz 1978): complexity pays per parameter, and that is Occam's razor.

Source: Deora et al. 2025, arXiv 2506.19351, Section 2 and its appendix on Bayesian evidence; MacKay 1992 (Occam factor).

| paper                    | code                    | shape                                       |
|--------------------------|-------------------------|---------------------------------------------|
| V, s, α                  | `n_symbols`, `order`, `concentration` |                               |
| p_s(· | x_1 … x_{t-1})   | `predictions`           | (…, length + 1, n_symbols): the last predicts the next symbol |
| log p_s(x_1 … x_{t-1})   | `log_evidence`          | (…, length + 1), nats; 0 first              |
| w_s                      | `order_posterior`       | (order, …, length + 1)                      |
"""

from collections.abc import Sequence
from math import log

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lib.tasks.markov_chains import contexts, require_chain


def predictions(
    symbols: Int[Tensor, "*prompt length"], n_symbols: int, order: int, concentration: float = 1.0
) -> Float[Tensor, "*prompt positions n_symbols"]:
    """The predictor of one order along a sequence: entry t has seen t symbols.

    Args:
        symbols: Sequences.
        n_symbols: Size of the vocabulary.
        order: Of the chains.
        concentration: Of the rows' prior; towards 0 this is the empirical n-gram.

    Returns:
        Probabilities in float64, (…, length + 1, n_symbols).

    Raises:
        ValueError: A concentration that is not positive, or as `lib.tasks.markov_chains.contexts`.
    """
    if not concentration > 0:
        raise ValueError(f"concentration is {concentration}; it must be positive")
    length = symbols.shape[-1]
    # Position t of 0…length: its context are the symbols before it, so one more symbol than there is.
    where = contexts(F.pad(symbols, (0, 1)), n_symbols, order)
    same = (where[..., :, None] == where[..., None, :length]) & (where[..., :, None] >= 0)
    earlier = torch.ones(length + 1, length, dtype=torch.bool, device=symbols.device).tril(-1)
    # Counts are exact in float32, at half the memory of what is by far the largest tensor here.
    counts = ((same & earlier).float() @ F.one_hot(symbols, n_symbols).float()).double()
    return (counts + concentration) / (counts.sum(-1, keepdim=True) + n_symbols * concentration)


def log_evidence(
    symbols: Int[Tensor, "*prompt length"], n_symbols: int, order: int, concentration: float = 1.0
) -> Float[Tensor, "*prompt positions"]:
    """log p_s of every prefix, in nats: entry t is that of the first t symbols, (…, length + 1).

    Raises:
        ValueError: As `predictions`.
    """
    return evidence_of(predictions(symbols, n_symbols, order, concentration), symbols)


def evidence_of(
    predictions: Float[Tensor, "*prompt positions n_symbols"], symbols: Int[Tensor, "*prompt length"]
) -> Float[Tensor, "*prompt positions"]:
    """The same from predictions that are there already: a sum of log predictions, 0 for no symbol."""
    each = predictions[..., :-1, :].gather(-1, symbols[..., None])[..., 0].log()
    return F.pad(each.cumsum(-1), (1, 0))


def order_posterior(
    log_evidences: Float[Tensor, "order *prompt positions"], prior: Sequence[float] | None = None
) -> Float[Tensor, "order *prompt positions"]:
    """The posterior over orders after every prefix.

    Args:
        log_evidences: Of each order, stacked.
        prior: Probabilities of the orders; None for equal ones.

    Raises:
        ValueError: A prior of another length, with an entry that is not positive, or that does not sum to 1.
    """
    n_orders = len(log_evidences)
    prior = [1 / n_orders] * n_orders if prior is None else list(prior)
    if len(prior) != n_orders or min(prior) <= 0 or abs(sum(prior) - 1) > 1e-9:
        raise ValueError(f"prior is {prior}; it must hold {n_orders} positive numbers that sum to 1")
    logs = torch.tensor([log(p) for p in prior], dtype=log_evidences.dtype, device=log_evidences.device)
    return (log_evidences + logs.reshape(-1, *[1] * (log_evidences.ndim - 1))).softmax(0)


def bayes_mixture(
    symbols: Int[Tensor, "*prompt length"],
    n_symbols: int,
    orders: Sequence[int],
    concentration: float = 1.0,
    prior: Sequence[float] | None = None,
) -> tuple[Float[Tensor, "*prompt positions n_symbols"], Float[Tensor, "order *prompt positions"]]:
    """(predictions of the Bayesian mixture over orders, posterior over orders): the best that any learner can do.

    Raises:
        ValueError: As `predictions` and `order_posterior`.
    """
    each = torch.stack([predictions(symbols, n_symbols, order, concentration) for order in orders])
    posterior = order_posterior(torch.stack([evidence_of(p, symbols) for p in each]), prior)
    return (posterior[..., None] * each).sum(0), posterior


def bic_slope(n_symbols: int, low: int, high: int) -> float:
    """Growth of log p_low - log p_high per log T on data of the low order: half the extra parameters.

    >>> bic_slope(n_symbols=2, low=1, high=2)
    1.0

    Raises:
        ValueError: Orders that are not 0 <= low < high, or as `lib.tasks.markov_chains.require_chain`.
    """
    if not 0 <= low < high:
        raise ValueError(f"low and high are {low} and {high}; they must satisfy 0 <= low < high")
    require_chain(n_symbols, high)
    return (n_symbols - 1) * (n_symbols**high - n_symbols**low) / 2


def log_evidence_of_counts(
    symbols: Int[Tensor, "*prompt length"], n_symbols: int, order: int, concentration: float = 1.0
) -> Float[Tensor, "*prompt"]:
    """log p_s of whole sequences from their counts: linear in the length, for sequences of many thousand symbols.

    Raises:
        ValueError: As `predictions`.
    """
    if not concentration > 0:
        raise ValueError(f"concentration is {concentration}; it must be positive")
    where = contexts(symbols, n_symbols, order)[..., order:]
    pairs = (where * n_symbols + symbols[..., order:]).flatten(0, -2)
    counts = torch.zeros(len(pairs), n_symbols ** (order + 1), dtype=torch.float64, device=symbols.device)
    counts.scatter_add_(1, pairs, torch.ones_like(pairs, dtype=torch.float64))
    counts = counts.reshape(*symbols.shape[:-1], n_symbols**order, n_symbols)
    a = torch.tensor(concentration, dtype=torch.float64, device=symbols.device)
    rows = torch.lgamma(n_symbols * a) - torch.lgamma(counts.sum(-1) + n_symbols * a)
    cells = (torch.lgamma(counts + a) - torch.lgamma(a)).sum(-1)
    return (rows + cells).sum(-1) - min(order, symbols.shape[-1]) * log(n_symbols)
