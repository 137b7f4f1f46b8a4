import pytest
import torch

from lib.tasks import tokenized_mixture as task

DATA = dict(n_tokens=10, n_dims=8, zeta=0.2, n_patterns=4, norm=2.0, noise_std=0.3)


def test_means_are_orthogonal_and_of_one_norm():
    means = task.means(n_patterns=4, n_dims=8, norm=2.0)
    torch.testing.assert_close(means @ means.T, 4.0 * torch.eye(6, dtype=torch.float64))


def test_relevant_tokens_are_the_mean_of_the_label_and_as_many_as_zeta_says():
    data = task.sample([0, 1], "train", 50, **DATA)
    means = task.means(4, 8, 2.0)
    assert data.tokens.shape == (2, 50, 10, 8)
    assert (data.relevant.sum(2) == 2).all()
    wanted = means[(data.labels < 0).long()][:, :, None].expand_as(data.tokens)
    torch.testing.assert_close(data.tokens[data.relevant], wanted[data.relevant])


def test_irrelevant_tokens_are_patterns_plus_noise_and_know_nothing_of_the_label():
    data = task.sample([3], "train", 4000, **DATA)
    irrelevant = data.tokens[~data.relevant]
    labels = data.labels[..., None].expand_as(data.relevant)[~data.relevant]
    means = task.means(4, 8, 2.0)
    nearest = torch.cdist(irrelevant, means[2:]).argmin(1)
    shares = torch.bincount(nearest, minlength=4) / len(nearest)
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.01, rtol=0)
    assert (irrelevant - means[2 + nearest]).std().item() == pytest.approx(0.3, rel=0.01)
    assert (irrelevant * labels[:, None]).mean(0).abs().max() < 0.03


def test_labels_and_places_are_uniform():
    data = task.sample([5], "train", 4000, **DATA)
    assert abs(data.labels.mean()) < 0.05
    torch.testing.assert_close(data.relevant.double().mean((0, 1)), torch.full((10,), 0.2).double(), atol=0.03, rtol=0)


def test_a_seed_draws_the_same_alone_and_beside_others():
    together, alone = task.sample([4, 7], "train", 20, **DATA), task.sample([7], "train", 20, **DATA)
    assert all(torch.equal(a[1], b[0]) for a, b in zip(together, alone, strict=True))


def test_purposes_give_other_draws():
    train, test = (task.sample([0], name, 20, **DATA).tokens for name in ("train", "test"))
    assert not torch.equal(train, test)


def test_without_irrelevant_tokens_all_tokens_are_equal():
    data = task.sample([0], "train", 5, **DATA | {"zeta": 1.0})
    assert (data.tokens == data.tokens[:, :, :1]).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"zeta": 0.0}, "zeta is 0.0; the share of relevant tokens must lie in"),
        ({"zeta": 1.5}, "zeta is 1.5"),
        ({"zeta": 0.04}, "0.4 relevant tokens"),
        ({"zeta": 0.25}, "2.5 relevant tokens; it must be a whole number"),
        ({"zeta": float("nan")}, "zeta is nan"),
        ({"n_tokens": 0}, "n_tokens is 0"),
        ({"n_dims": 5}, "n_dims is 5; 6 orthogonal means"),
        ({"n_patterns": 0}, "n_patterns is 0"),
        ({"norm": 0.0}, "norm is 0.0"),
        ({"norm": float("inf")}, "norm is inf"),
        ({"noise_std": -0.1}, "noise_std is -0.1"),
        ({"noise_std": float("nan")}, "noise_std is nan"),
    ],
)
def test_impossible_mixtures_are_refused_by_name(changed: dict, message: str):
    with pytest.raises(ValueError, match=message):
        task.sample([0], "train", 5, **DATA | changed)


def test_no_seed_and_no_sequence_are_refused():
    with pytest.raises(ValueError, match="seeds is empty"):
        task.sample([], "train", 5, **DATA)
    with pytest.raises(ValueError, match="n_points is 0"):
        task.sample([0], "train", 0, **DATA)
