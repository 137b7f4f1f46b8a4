"""The enumeration over tasks against a loop with scipy's densities, and what it must do at its ends."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from lib.seeds import generator_for
from lib.tasks import projected_classification as task
from lib.theory.task_identification import identify, log_densities


def setting(n_tasks, n_prompts=3, n_points=4, n_out=2):
    base = task.gaussian_clusters(3, 6, 300, 1.5, generator_for(0, "t"))
    generators = task.streams([0], "t")
    tasks = task.draw_tasks(generators, n_tasks, n_out, 6, 3)
    xs, ys = task.draw_prompts(generators, base, tasks, n_prompts, n_points)
    centres = task.cluster_centres(3, 6, 1.5)
    return xs[0], ys[0], tasks.projections[0], tasks.labellings[0], centres


def test_posterior_equals_a_loop_over_tasks():
    xs, ys, projections, labellings, centres = setting(5)
    labels, tasks = identify(log_densities(xs, projections, labellings, centres), ys)
    for prompt in range(3):
        weights = np.ones(5)
        for i in range(4):
            joint = np.zeros((5, 3))
            for t in range(5):
                A = projections[t].double().numpy()
                for c in range(3):
                    density = multivariate_normal(A @ centres[c].double().numpy(), A @ A.T)
                    joint[t, labellings[t, c]] = density.pdf(xs[prompt, i].double().numpy())
            assert np.allclose(tasks[prompt, i].numpy(), weights / weights.sum(), atol=1e-8)
            expected = weights @ joint
            assert np.allclose(labels[prompt, i].numpy(), expected / expected.sum(), atol=1e-8)
            weights = weights * joint[:, ys[prompt, i]]


def test_the_true_task_is_found():
    xs, ys, projections, labellings, centres = setting(50, n_prompts=50, n_points=20, n_out=4)
    _, tasks = identify(log_densities(xs, projections, labellings, centres), ys)
    assert tasks[:, -1].max(-1).values.mean() > 0.99  # prompts with as many tasks as prompts have their own:
    assert (tasks[:, -1].argmax(-1) == torch.arange(50)).double().mean() > 0.95


def test_labels_are_calibrated():
    xs, ys, projections, labellings, centres = setting(8, n_prompts=5000, n_points=6)
    labels, _ = identify(log_densities(xs, projections, labellings, centres), ys)
    right = (labels.argmax(-1) == ys).double().mean(0)
    assert torch.allclose(right, labels.max(-1).values.mean(0), atol=0.04)
    assert right[0] < right[-1]


def test_one_task_has_nothing_to_find_out():
    xs, ys, projections, labellings, centres = setting(1)
    labels, tasks = identify(log_densities(xs, projections, labellings, centres), ys)
    assert torch.equal(tasks, torch.ones_like(tasks))
    again, _ = identify(log_densities(xs, projections, labellings, centres), (ys + 1) % 3)
    assert torch.allclose(labels, again)


def test_projections_and_centres_that_do_not_fit_are_refused():
    xs, _, projections, labellings, centres = setting(2)
    with pytest.raises(ValueError, match="from 1 to 2"):
        log_densities(xs, projections[..., :1], labellings, centres[:, :1])
    with pytest.raises(ValueError, match="3 classes in 6 dimensions"):
        log_densities(xs, projections, labellings, centres[:2])
