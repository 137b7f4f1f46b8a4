"""The Bayes classifier of unknown class means against brute force, sampling and its own promises."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from lib.seeds import generator_for
from lib.tasks import projected_classification as task
from lib.theory.class_means import before_each, class_posterior, simplex_gram


def sample(gram, n_prompts, n_points, m, seed=0):
    """Prompts from the model itself."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(gram.double().numpy() + 1e-6 * np.eye(len(gram)))
    means = np.einsum("kl,plm->pkm", root, rng.standard_normal((n_prompts, len(gram), m)))
    ys = rng.integers(0, len(gram), (n_prompts, n_points))
    xs = np.take_along_axis(means, ys[..., None], 1) + rng.standard_normal((n_prompts, n_points, m))
    return torch.as_tensor(xs, dtype=torch.float32), torch.as_tensor(ys)


def test_posterior_equals_the_ratio_of_joint_densities_of_the_whole_prompt():
    gram = torch.tensor([[2.0, -0.5, 0.3], [-0.5, 1.0, 0.1], [0.3, 0.1, 0.7]])
    xs, ys = sample(gram, 4, 6, 2)
    posterior = class_posterior(xs, ys, gram)
    for prompt in range(4):
        for i in range(6):
            logs = []
            for k in range(3):
                labels = [*ys[prompt, :i].tolist(), k]
                covariance = gram.numpy()[np.ix_(labels, labels)] + np.eye(i + 1)
                density = multivariate_normal(np.zeros(i + 1), covariance)
                logs.append(sum(density.logpdf(xs[prompt, : i + 1, a].numpy()) for a in range(2)))
            expected = np.exp(logs - np.logaddexp.reduce(logs))
            assert np.allclose(posterior[prompt, i].numpy(), expected, atol=1e-5)


def test_posterior_is_calibrated_and_no_rule_does_better():
    gram = simplex_gram(3, 1.5)
    xs, ys = sample(gram, 20000, 8, 3)
    posterior = class_posterior(xs, ys, gram)
    right = (posterior.argmax(-1) == ys).double().mean(0)
    assert torch.allclose(right, posterior.max(-1).values.mean(0), atol=4 * 0.5 / 20000**0.5)
    nearest = before_each(xs, ys, 3)
    means = nearest[1] / nearest[0].clamp_min(1)[..., None]
    plain = (xs[..., None, :] - means).square().sum(-1).masked_fill(nearest[0] == 0, torch.inf).argmin(-1)
    assert (right[1:] > (plain == ys).double().mean(0)[1:]).all()


def test_the_first_point_is_a_guess():
    xs, ys = sample(simplex_gram(4, 2.0), 5, 3, 2)
    assert torch.allclose(class_posterior(xs, ys, simplex_gram(4, 2.0))[:, 0], torch.full((5, 4), 0.25).double())


def test_projected_clusters_have_the_gram_matrix_of_a_simplex_whatever_the_labels():
    centres = task.cluster_centres(3, 50, 2.0)
    tasks = task.draw_tasks(task.streams([0], "t"), 20000, 1, 50, 3)
    means = (tasks.projections[0] @ centres.T)[:, 0]  # (task, class)
    means = means.gather(1, tasks.labellings[0].argsort(-1))
    assert torch.allclose(means.T @ means / 20000, simplex_gram(3, 2.0), atol=0.12)


def test_it_is_the_best_classifier_of_projected_clusters_when_they_start_from_many_dimensions():
    base = task.gaussian_clusters(3, 200, 300, 1.5, generator_for(0, "t"))
    generators = task.streams([0], "t")
    xs, ys = task.draw_prompts(generators, base, task.draw_tasks(generators, 4000, 3, 200, 3), 4000, 8)
    posterior = class_posterior(xs[0], ys[0], simplex_gram(3, 1.5))
    right = (posterior.argmax(-1) == ys[0]).double().mean(0)
    assert torch.allclose(right, posterior.max(-1).values.mean(0), atol=0.035)


def test_matrices_and_sizes_that_do_not_fit_are_refused():
    xs, ys = sample(simplex_gram(2, 1.0), 1, 2, 1)
    with pytest.raises(ValueError, match="positive semidefinite"):
        class_posterior(xs, ys, -torch.eye(2))
    with pytest.raises(ValueError, match="n_classes is 1"):
        simplex_gram(1, 1.0)
    with pytest.raises(ValueError, match="separation is 0"):
        simplex_gram(2, 0.0)
