import numpy as np
import pytest
import torch
from torch.func import grad, vmap

from lib.models import multi_head_attention as model
from lib.tasks import tokenized_mixture as task
from lib.theory import attention_margin as theory


def test_gram_matrices_are_those_of_autograds_gradients():
    data = task.sample([0, 1], "train", 7, n_tokens=5, n_dims=6, zeta=0.2, n_patterns=3, norm=1.0, noise_std=0.4)
    W, U = model.initialise(3, 5, 6, [0, 1], 0.6, 0.8)

    def output(W_1, U_1, X):
        return model.outputs(X[None, None], W_1[None], U_1[None])[0, 0]

    per_sample = vmap(vmap(grad(output, argnums=(0, 1)), in_dims=(None, None, 0)))
    grad_W, grad_U = (g.flatten(2) * data.labels[..., None] for g in per_sample(W, U, data.tokens))
    K_U, K_W = theory.gram_parts(data.tokens, data.labels, W, U)
    torch.testing.assert_close(K_U, grad_U @ grad_U.mT)
    torch.testing.assert_close(K_W, grad_W @ grad_W.mT)


def test_the_weighted_gradient_is_the_sum_of_labelled_features():
    # Norm of the loss gradient through the Gram matrix, with the logistic weights.
    data = task.sample([2], "train", 9, n_tokens=5, n_dims=6, zeta=0.2, n_patterns=3, norm=1.0, noise_std=0.4)
    W, U = model.initialise(4, 5, 6, [2], 0.6, 0.8)
    outputs = model.outputs(data.tokens, W, U)
    weights = torch.sigmoid(-data.labels * outputs)[0] / 9
    _, (grad_W, grad_U) = model.loss_gradient(data.tokens, data.labels, W, U)
    K_U, K_W = theory.gram_parts(data.tokens, data.labels, W, U)
    torch.testing.assert_close(weights @ K_U[0] @ weights, grad_U.square().sum())
    torch.testing.assert_close(weights @ K_W[0] @ weights, grad_W.square().sum())


def test_without_separation_the_margin_is_zero():
    opposite = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert theory.margin(opposite) == 0.0
    assert theory.margin(torch.zeros(2, 2)) == 0.0


def test_the_margin_is_the_distance_of_the_convex_hull_from_zero():
    features = np.random.default_rng(0).normal(size=(4, 6)) + 1.0
    grid = np.random.default_rng(1).dirichlet(np.ones(4), size=200000)
    nearest = np.linalg.norm(grid @ features, axis=1).min()
    found = theory.margin(torch.from_numpy(features @ features.T))
    assert found <= nearest + 1e-9
    assert found == pytest.approx(nearest, rel=0.01)


CASES = [(4, 0.25, 3), (4, 0.25, 2), (3, 1 / 3, 4), (4, 0.5, 2), (3, 1 / 3, 1)]


@pytest.mark.parametrize(("n_tokens", "zeta", "n_patterns"), CASES)
def test_clean_margins_are_those_of_the_whole_population(n_tokens, zeta, n_patterns):
    # So many sequences that every composition occurs: the sample's hull is the population's.
    data = task.sample([0], "train", 500, n_tokens, 8, zeta, n_patterns, norm=1.5, noise_std=0.0)

    means = task.means(n_patterns, 8, 1.5)
    U = (0.7 * (means[0] - means[1])).expand(1, 3, n_tokens, 8)
    K_U, K_W = theory.gram_parts(data.tokens, data.labels, torch.zeros(1, 3, 8, 8, dtype=torch.float64), U)
    unique = np.unique(torch.cat([K_U[0], K_W[0]], dim=1).numpy().round(9), axis=0, return_index=True)[1]
    margins = [theory.margin(K[0][unique][:, unique]) for K in (K_U, K_W, K_U + K_W)]
    wanted = theory.clean_margins(0.7, n_tokens, zeta, n_patterns, 1.5)
    assert margins == pytest.approx(wanted, rel=1e-6)


def test_one_step_from_zero_leads_to_the_alignment_of_the_formula():
    data = task.sample([0], "train", 20000, n_tokens=5, n_dims=6, zeta=0.2, n_patterns=3, norm=2.0, noise_std=0.1)
    W, U = model.initialise(4, 5, 6, [0], 0.0, 0.0)
    _, (_, grad_U) = model.loss_gradient(data.tokens, data.labels, W, U)
    means = task.means(3, 6, 2.0)
    wanted = 3.0 * 0.2 / (4 * 4**0.5) * (means[0] - means[1])
    torch.testing.assert_close(-3.0 * grad_U, wanted.expand_as(grad_U), atol=0.01, rtol=0)


def test_tokens_that_are_all_relevant_leave_attention_nothing_to_choose():
    value, scores, both = theory.clean_margins(1.0, n_tokens=8, zeta=1.0, n_patterns=2, norm=1.0)
    assert (value, scores, both) == (2.0, 0.0, 2.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"alignment": -1.0}, "alignment is -1.0"),
        ({"alignment": float("nan")}, "alignment is nan"),
        ({"n_patterns": 0}, "n_patterns is 0"),
        ({"zeta": 2.0}, "zeta is 2.0"),
    ],
)
def test_bad_input_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        theory.clean_margins(**dict(alignment=1.0, n_tokens=8, zeta=0.25, n_patterns=2, norm=1.0) | changed)
