"""Classifiers of every prefix against scikit-learn on each prefix alone."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from lib.theory import prompt_classifiers as classifiers

K, N = 3, 9


@pytest.fixture
def prompts():
    generator = torch.Generator().manual_seed(0)
    ys = torch.randint(0, K, (4, N), generator=generator)
    ys[:, :3] = torch.arange(3)  # so that scikit-learn has two classes from the third point on
    xs = torch.randn(4, N, 2, generator=generator) + 1.5 * ys[..., None]
    return xs, ys


def each_prefix(prompts, fit_and_predict, first=2):
    xs, ys = prompts
    for prompt in range(len(xs)):
        for i in range(first, N):
            yield (
                prompt,
                i,
                fit_and_predict(xs[prompt, :i].double().numpy(), ys[prompt, :i].numpy(), xs[prompt, i : i + 1]),
            )


def test_nearest_neighbour_is_scikit_learns(prompts):
    got = classifiers.nearest_neighbour(*prompts, K)
    for prompt, i, said in each_prefix(prompts, lambda x, y, q: KNeighborsClassifier(1).fit(x, y).predict(q.numpy())):
        assert got[prompt, i] == said[0]


def test_nearest_mean_is_scikit_learns(prompts):
    got = classifiers.nearest_mean(*prompts, K)

    def centroid(x, y, q):
        with np.errstate(invalid="ignore"):  # scikit-learn divides by spreads that it then does not use
            return NearestCentroid().fit(x, y).predict(q.double().numpy())

    for prompt, i, said in each_prefix(prompts, centroid):
        assert got[prompt, i] == said[0]


def test_ridge_is_scikit_learns(prompts):
    got = classifiers.ridge(*prompts, K, penalty=0.7)

    def solve(x, y, q):
        with_one = np.c_[x, np.ones(len(x))]
        return (
            Ridge(0.7, fit_intercept=False).fit(with_one, np.eye(K)[y]).predict(np.r_[q[0].double().numpy(), 1][None])
        )

    for prompt, i, scores in each_prefix(prompts, solve):
        assert got[prompt, i] == scores[0].argmax()


def test_descent_follows_the_gradient_of_the_cross_entropy(prompts):
    got = classifiers.descent(*prompts, K, lr=0.5, n_steps=7)

    def descend(x, y, q):
        x, y = torch.as_tensor(x).float(), torch.as_tensor(y)
        layer = torch.nn.Linear(2, K)
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
        for _ in range(7):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(x), y).backward()
            optimizer.step()
        return layer(q).detach()[0]

    for prompt, i, scores in each_prefix(prompts, descend, first=1):
        assert got[prompt, i] == scores.argmax()


@pytest.mark.parametrize(
    "classifier",
    [
        classifiers.nearest_neighbour,
        classifiers.nearest_mean,
        lambda *a: classifiers.ridge(*a, penalty=1.0),
        lambda *a: classifiers.descent(*a, lr=1.0, n_steps=3),
    ],
)
def test_a_prediction_depends_on_earlier_points_alone(classifier, prompts):
    xs, ys = prompts
    changed_xs, changed_ys = xs.clone(), ys.clone()
    changed_xs[:, 6:] += 100
    changed_ys[:, 5:] = (ys[:, 5:] + 1) % K
    assert torch.equal(classifier(xs, ys, K)[:, :6], classifier(changed_xs, changed_ys, K)[:, :6])
    assert (classifier(xs, ys, K)[:, 0] == 0).all()


def test_settings_and_labels_that_do_not_fit_are_refused(prompts):
    xs, ys = prompts
    with pytest.raises(ValueError, match="penalty is 0"):
        classifiers.ridge(xs, ys, K, penalty=0.0)
    with pytest.raises(ValueError, match="lr and n_steps are"):
        classifiers.descent(xs, ys, K, lr=1.0, n_steps=0)
    with pytest.raises(ValueError, match="n_classes is 1"):
        classifiers.nearest_mean(xs, ys, 1)
    with pytest.raises(ValueError, match="must lie in 0…1"):
        classifiers.nearest_neighbour(xs, ys, 2)
