"""What the projected classification tasks promise."""

import numpy as np
import pytest
import torch

from lib.seeds import generator_for
from lib.tasks import projected_classification as task


def clusters(**changes):
    sizes = dict(n_classes=3, n_dims=8, n_per_class=50, separation=2.0) | changes
    return task.gaussian_clusters(**sizes, generator=generator_for(0, "t"))


def prompts(seeds, n_tasks=5, batch=7, n_points=6, base=None, n_out=4):
    base = base or clusters()
    generators = task.streams(seeds, "t")
    tasks = task.draw_tasks(generators, n_tasks, n_out, base.inputs.shape[1], base.n_classes)
    return (*task.draw_prompts(generators, base, tasks, batch, n_points), tasks)


def test_clusters_lie_around_their_centres_with_unit_noise():
    base = clusters(n_per_class=20000)
    centres = task.cluster_centres(3, 8, 2.0)
    for k in range(3):
        points = base.inputs[base.labels == k]
        assert torch.allclose(points.mean(0), centres[k], atol=4 / 20000**0.5)
        assert points.std(0).mean().item() == pytest.approx(1, abs=0.01)


def test_centres_have_no_common_mean_and_equal_distances():
    centres = task.cluster_centres(4, 9, 1.5)
    assert torch.allclose(centres.mean(0), torch.zeros(9), atol=1e-6)
    distances = torch.cdist(centres, centres)[~torch.eye(4, dtype=torch.bool)]
    assert torch.allclose(distances, torch.full_like(distances, 1.5 * (2 * 9) ** 0.5), atol=1e-5)


def test_a_projection_has_entries_of_variance_one_over_d():
    tasks = task.draw_tasks(task.streams([0], "t"), 2000, 3, 16, 2)
    assert tasks.projections.square().mean().item() == pytest.approx(1 / 16, rel=0.02)
    assert tasks.projections.mean().item() == pytest.approx(0, abs=4 / 4 / 96000**0.5)


def test_every_labelling_is_a_permutation_and_all_come_equally_often():
    labellings = task.draw_tasks(task.streams([0], "t"), 12000, 1, 1, 3).labellings[0]
    assert torch.equal(labellings.sort(-1).values, torch.arange(3).expand(12000, 3))
    counts = torch.unique(labellings, dim=0, return_counts=True)[1]
    assert len(counts) == 6
    assert (counts - 2000).abs().max() < 4 * 2000**0.5


@pytest.mark.parametrize("bias", [0.0, 0.6, 1.0])
def test_bias_is_the_share_of_tasks_that_keep_the_base_sets_labels(bias):
    labellings = task.draw_tasks(task.streams([0], "t"), 10000, 1, 1, 4, bias).labellings[0]
    kept = (labellings == torch.arange(4)).all(-1).float().mean().item()
    assert kept == pytest.approx(bias + (1 - bias) / 24, abs=0.02)


def test_a_prompt_is_the_projection_and_the_relabelling_of_examples_of_the_base_set():
    base = clusters()
    xs, ys, tasks = prompts([0, 1], n_tasks=1, base=base)
    for seed in range(2):
        images = base.inputs @ tasks.projections[seed, 0].T
        distance = torch.cdist(xs[seed].flatten(0, 1).double(), images.double())
        assert distance.min(-1).values.max() < 1e-5
        assert torch.equal(tasks.labellings[seed, 0][base.labels[distance.argmin(-1)]], ys[seed].flatten())


def test_with_as_many_tasks_as_prompts_each_has_its_own():
    base = task.Base(torch.eye(2), torch.tensor([0, 1]))
    xs, _, tasks = prompts([0], n_tasks=30, batch=30, n_points=1, base=base, n_out=2)
    own = tasks.projections[0].mT  # (prompt, example, m): an input is a row
    assert ((own - xs[0]).abs().sum(-1).min(-1).values < 1e-5).all()


def test_a_seeds_prompts_do_not_depend_on_the_seeds_beside_it():
    (xs, ys, _), (alone_xs, alone_ys, _) = prompts([3, 5]), prompts([5])
    assert torch.equal(ys[1:], alone_ys)
    assert torch.allclose(xs[1:], alone_xs, atol=1e-6)


def test_tokens_carry_the_label_before_and_never_their_own():
    xs, ys = torch.randn(2, 4, 3), torch.randint(0, 3, (2, 4))
    tokens = task.prompt_tokens(xs, ys, 3)
    assert torch.equal(tokens[..., :3], xs)
    assert tokens[:, 0, 3:].abs().sum() == 0
    assert torch.equal(tokens[:, 1:, 3:].argmax(-1), ys[:, :-1])


def test_digits_are_standardised_by_the_training_part():
    train, test = task.small_digits("digits", [3, 5, 8])
    assert train.inputs.shape[1] == test.inputs.shape[1] == 49
    assert train.n_classes == test.n_classes == 3
    assert torch.allclose(train.inputs.mean(0), torch.zeros(49), atol=1e-5)
    assert train.inputs.square().mean().item() == pytest.approx(1, abs=1e-5)
    assert test.inputs.mean(0).abs().max() > 1e-3


def test_classes_are_numbered_in_the_order_in_which_they_are_named():
    forwards, backwards = (task.small_digits("digits", classes)[0] for classes in ([0, 1], [1, 0]))
    assert torch.equal(forwards.labels, 1 - backwards.labels)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(n_classes=1), "n_classes is 1"),
        (dict(n_classes=9), "n_classes is 9; it must lie in 2…n_dims = 8"),
        (dict(separation=0.0), "separation is 0.0"),
        (dict(n_per_class=0), "n_per_class is 0"),
    ],
)
def test_clusters_that_cannot_be_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        clusters(**change)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 4, 8, 3), "n_tasks is 0"),
        ((1, 0, 8, 3), "n_out is 0"),
        ((1, 4, 8, 1), "n_classes is 1"),
        ((1, 4, 8, 3, 1.5), "bias is 1.5"),
    ],
)
def test_tasks_that_cannot_be_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        task.draw_tasks(task.streams([0], "t"), *arguments)


def test_prompts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="n_points is 0"):
        prompts([0], n_points=0)
    tasks = task.draw_tasks(task.streams([0], "t"), 2, 4, 9, 3)
    with pytest.raises(ValueError, match="9 dimensions"):
        task.draw_prompts(task.streams([0], "t"), clusters(), tasks, 2, 2)
    with pytest.raises(ValueError, match="must lie in 0…1"):
        task.prompt_tokens(torch.zeros(3, 1), torch.tensor([0, 1, 2]), 2)


def test_base_sets_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="at least two different digits"):
        task.small_digits("digits", [3])
    with pytest.raises(ValueError, match="pool is 5"):
        task.small_digits("digits", [0, 1], pool=5)
    with pytest.raises(ValueError, match="2 inputs and 3 labels"):
        task.standardised(np.zeros((2, 1)), [0, 1, 0])
    with pytest.raises(ValueError, match="nothing to classify"):
        task.standardised(np.eye(2), [0, 0])
    with pytest.raises(ValueError, match="all the same"):
        task.standardised(np.ones((2, 1)), [0, 1])
