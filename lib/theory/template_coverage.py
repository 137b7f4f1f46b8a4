r"""When does finetuning on N_f subjects cover the templates of a fact that it never shows?

Each fact uses K of R templates, drawn uniformly. For one template r, one finetuned subject uses it with chance K/R, so

    P(r is used by none of N_f) = (1 - K/R)^N_f

and for K given templates, a finetuned subject avoids j particular ones with chance C(R-j, K) / C(R, K), so

    P(none of the K is covered)  = (C(R-K, K) / C(R, K))^N_f
    P(all K are covered)         = Σ_j (-1)^j C(K, j) (C(R-j, K) / C(R, K))^N_f          (inclusion and exclusion)

Source: Xu and Chen 2025, arXiv 2508.00901: their bound on the error for facts outside finetuning has the form
exp(-N_f K² log R / (2 R²)). Hoeffding's inequality for the number of finetuned subjects that use r gives this form,

    P(Binomial(N_f, K/R) ≤ N_f K / (2R)) ≤ exp(-N_f K² / (2 R²)),

which is how it is read here: a template must be met at least half as often as expected.

| paper | code           | meaning                                        |
|-------|----------------|------------------------------------------------|
| K     | `multiplicity` | templates that a fact is written with          |
| \|R\| | `n_templates`  | templates of the relation                      |
| N_f   | `n_finetuned`  | subjects of the finetuning set                 |
"""

from math import comb, exp, log

from scipy.stats import binom


def entropy_floor(n_slots: int, n_words: int, n_relations: int, multiplicity: int) -> list[float]:
    """Smallest loss in nats after each token: subject and words but the last, last word, template.

    A word is uniform, a template is one of n_relations K, and the answer is certain.

    Raises:
        ValueError: A size below 1.

    >>> [round(nats, 3) for nats in entropy_floor(n_slots=2, n_words=4, n_relations=2, multiplicity=4)]
    [1.386, 1.386, 2.079, 0.0]
    """
    sizes = dict(n_slots=n_slots, n_words=n_words, n_relations=n_relations, multiplicity=multiplicity)
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")
    return [log(n_words)] * n_slots + [log(n_relations * multiplicity), 0.0]


def require_sizes(multiplicity: int, n_templates: int, n_finetuned: int) -> None:
    """Refuse K outside 1…R and a negative N_f."""
    if not 1 <= multiplicity <= n_templates:
        raise ValueError(f"multiplicity is {multiplicity}; it must lie in 1…{n_templates} (n_templates)")
    if n_finetuned < 0:
        raise ValueError(f"n_finetuned is {n_finetuned}; it must be at least 0")


def avoids(n_given: int, multiplicity: int, n_templates: int, n_finetuned: int) -> float:
    """Chance that none of N_f subjects uses any of `n_given` given templates."""
    require_sizes(multiplicity, n_templates, n_finetuned)
    return (comb(n_templates - n_given, multiplicity) / comb(n_templates, multiplicity)) ** n_finetuned


def share_covered(multiplicity: int, n_templates: int, n_finetuned: int) -> float:
    """Expected share of a fact's templates that the finetuning set uses."""
    return 1 - avoids(1, multiplicity, n_templates, n_finetuned)


def any_covered(multiplicity: int, n_templates: int, n_finetuned: int) -> float:
    """Chance that at least one of a fact's templates is used.

    >>> any_covered(multiplicity=1, n_templates=4, n_finetuned=1)
    0.25
    """
    return 1 - avoids(multiplicity, multiplicity, n_templates, n_finetuned)


def all_covered(multiplicity: int, n_templates: int, n_finetuned: int) -> float:
    """Chance that all of a fact's templates are used."""
    terms = (
        (-1) ** j * comb(multiplicity, j) * avoids(j, multiplicity, n_templates, n_finetuned)
        for j in range(multiplicity + 1)
    )
    return max(sum(terms), 0.0)


def seldom_met(multiplicity: int, n_templates: int, n_finetuned: int) -> float:
    """Exact chance that at most half of the expected number of finetuned subjects use a given template."""
    require_sizes(multiplicity, n_templates, n_finetuned)
    chance = multiplicity / n_templates
    return float(binom.cdf(n_finetuned * chance / 2, n_finetuned, chance))


def hoeffding(multiplicity: int, n_templates: int, n_finetuned: int) -> float:
    """Hoeffding's bound on `seldom_met`: exp(-N_f K² / (2 R²))."""
    require_sizes(multiplicity, n_templates, n_finetuned)
    return exp(-n_finetuned * multiplicity**2 / (2 * n_templates**2))


def paper_variable(multiplicity: int, n_templates: int, n_finetuned: int) -> float:
    """The paper's N_f K² log R / R²; its bound on the error is exp of minus half of it, up to constants."""
    require_sizes(multiplicity, n_templates, n_finetuned)
    return n_finetuned * multiplicity**2 * log(n_templates) / n_templates**2


def covering_accuracy(multiplicity: int, n_templates: int, n_finetuned: int, n_answers: int) -> float:
    r"""Extraction by an ideal store with one cell per template, two relations, questions about the first.

    Finetuning raises the cells of the templates that the finetuned subjects use for the asked relation and lowers
    those of the other relation. A fact is then extracted if any of its K templates, or of the K of its subject's other
    fact, was met; else both answers are equally likely, and equal with chance 1 / n_answers:

        1 - (1/2) (1 - 1/n_answers) (C(R-K, K) / C(R, K))^(2 N_f)
    """
    if n_answers < 2:
        raise ValueError(f"n_answers is {n_answers}; it must be at least 2")
    neither = avoids(multiplicity, multiplicity, n_templates, n_finetuned) ** 2
    return 1 - 0.5 * (1 - 1 / n_answers) * neither


def answers_met(n_answers: int, n_finetuned: int) -> float:
    """Expected share of equally likely answers that N_f finetuned subjects have: 1 - (1 - 1/n_answers)^N_f.

    >>> answers_met(n_answers=2, n_finetuned=2)
    0.75
    """
    if n_answers < 2:
        raise ValueError(f"n_answers is {n_answers}; it must be at least 2")
    if n_finetuned < 0:
        raise ValueError(f"n_finetuned is {n_finetuned}; it must be at least 0")
    return 1 - (1 - 1 / n_answers) ** n_finetuned
