"""Teaching dimensions by trying all sets; the mixture's predictor by enumeration."""

from itertools import product

import pytest
import torch

from lib.tasks.boolean_functions import conjunction_labels, conjunctions, streams
from lib.tasks.boolean_sequences import taught, teaching_sequences
from lib.theory import teaching
from lib.theory.version_space import all_inputs, conjunction_class, index_of, survivors


@pytest.mark.parametrize("n_dims", [1, 2, 3, 4])
def test_the_teaching_dimension_of_every_monotone_conjunction_is_the_formula_s(n_dims):
    terms = torch.tensor(list(product([0.0, 1.0], repeat=n_dims)))
    tables = conjunction_labels(all_inputs(n_dims), terms)
    for target, term in enumerate(terms):
        expected = teaching.monotone_conjunction_dimension(int(term.sum()), n_dims)
        assert teaching.teaching_dimension(tables, target) == expected


def test_teaching_sequences_leave_one_monotone_conjunction_and_no_fewer_examples_do():
    hypotheses = conjunction_class(5, monotone=True)
    for term in torch.tensor(list(product([0.0, 1.0], repeat=5))):
        k = int(term.sum())
        xs = taught(term, k + 1)[None]
        ys = conjunction_labels(xs, term[None])
        assert survivors(hypotheses, xs, ys).item() == 1
        if 0 < k < 5:
            assert survivors(hypotheses, xs[:, :-1], ys[:, :-1]).item() == 2


def test_the_mixture_s_predictor_equals_enumeration_over_terms_and_kinds_of_prompt():
    n, share, p, forced = 3, 0.4, 0.3, 0.4
    gs = streams([0], "t")
    both = [teaching_sequences(gs, 6, 6, n), conjunctions(gs, 6, 6, n, monotone=True)]
    xs, ys = (torch.cat(parts, 1) for parts in zip(*(b[:2] for b in both), strict=True))
    found, kind = teaching.mixture_predictive(conjunction_class(n, monotone=True), xs, ys, share, p, forced)
    for prompt, labels, answers, kinds in zip(xs[0], ys[0], found[0], kind[0], strict=True):
        for i in range(6):
            mass = {(a, b): 0.0 for a in (True, False) for b in (1, -1)}
            for is_taught, term in product((True, False), product([0.0, 1.0], repeat=n)):
                term = torch.tensor(term)
                k = int(term.sum())
                weight = (share if is_taught else 1 - share) * p**k * (1 - p) ** (n - k)
                truth = conjunction_labels(prompt, term)
                for j in range(i + 1):
                    share_forced = forced if is_taught else 0.3
                    density = (1 - share_forced) * 2.0**-n + share_forced * (truth[j] == 1).item() * 2.0 ** (k - n)
                    if is_taught and j <= k:
                        density = float(torch.equal(prompt[j], taught(term, j + 1)[j]))
                    weight *= density * (j == i or bool(truth[j] == labels[j]))
                mass[is_taught, int(truth[i])] += weight
            total = sum(mass.values())
            assert answers[i].item() == pytest.approx((mass[True, 1] + mass[False, 1]) / total, abs=1e-5)
            assert kinds[i].item() == pytest.approx((mass[True, 1] + mass[True, -1]) / total, abs=1e-5)


def test_what_cannot_be_taught_is_refused():
    with pytest.raises(ValueError, match="target 0 has the same table as another"):
        teaching.teaching_dimension(torch.ones(2, 4), 0)
    with pytest.raises(ValueError, match="n_relevant is 4; it must be within 0…3"):
        teaching.monotone_conjunction_dimension(4, 3)
    with pytest.raises(ValueError, match=r"p_taught is 1\.0; it must be strictly between"):
        teaching.mixture_predictive(conjunction_class(2, monotone=True), torch.ones(1, 2, 2), torch.ones(1, 2), 1.0)


def test_index_of_taught_inputs_names_the_term():
    terms = torch.tensor(list(product([0.0, 1.0], repeat=4)))
    assert torch.equal(index_of(taught(terms, 1)[:, 0]), torch.arange(16))
