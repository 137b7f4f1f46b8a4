"""What the token data promise."""

import pytest
import torch

from lib.tasks.token_sequences import signal_tokens, unit_tokens
from lib.theory.token_selection import frobenius_program, margins, optimal_tokens


def test_unit_tokens_queries_and_decoders_lie_on_the_sphere_and_have_no_preferred_direction():
    data = unit_tokens(range(200), n=6, T=8, d=10)
    for points in (data.xs, data.zs, data.v):
        torch.testing.assert_close(points.norm(dim=-1), torch.ones(points.shape[:-1], dtype=torch.float64))
        flat = points.reshape(-1, 10)
        covariance = flat.T @ flat / len(flat)
        assert (covariance - torch.eye(10) / 10).abs().max() < 5 * 0.1 * (2 / len(flat)) ** 0.5
    assert set(data.ys.unique().tolist()) == {-1.0, 1.0}
    assert data.ys.mean().abs() < 4 / data.ys.numel() ** 0.5


def test_scores_are_the_label_times_the_decoded_token():
    data = unit_tokens([0, 5], n=2, T=3, d=4)
    for seed in range(2):
        for i in range(2):
            expected = data.ys[seed, i] * (data.xs[seed, i] @ data.v[seed])
            torch.testing.assert_close(data.scores[seed, i], expected)


def test_one_token_carries_the_signal_and_all_others_score_zero():
    data = signal_tokens(range(20), n=10, T=5, d=50)
    scores = data.scores.sort(dim=-1).values
    assert (scores[..., -1] == 1).all() and (scores[..., :-1] == 0).all()
    places = data.scores.argmax(-1)
    assert set(places.unique().tolist()) == set(range(5))
    assert torch.equal(data.ys[3], torch.tensor([1.0, -1.0] * 5, dtype=torch.float64))
    assert torch.equal(data.zs, data.xs[:, :, 0])
    assert data.xs[..., 2:].var() == pytest.approx(1 / 50 * 0.8, rel=0.05)  # a fifth of the tokens are pure signal


def test_in_high_dimension_every_constraint_of_the_signal_data_is_active():
    data = signal_tokens([0], n=10, T=5, d=100)
    xs, zs, selected = (a[0].numpy() for a in (data.xs, data.zs, torch.tensor(optimal_tokens(data.scores.numpy()))))
    active = margins(frobenius_program(xs, zs, selected), xs, zs, selected) < 1 + 1e-6
    assert active.mean() > 0.9


def test_noise_moves_the_signal_tokens_only():
    clean, noisy = signal_tokens([4], 6, 4, 30), signal_tokens([4], 6, 4, 30, noise_std=0.5)
    signal = clean.scores == 1
    assert torch.equal(clean.xs[~signal], noisy.xs[~signal])
    assert (noisy.xs - clean.xs)[signal].square().sum(-1).mean() == pytest.approx(0.25, rel=0.5)


def test_scores_of_the_other_tokens_have_the_spread_that_was_asked_for():
    data = signal_tokens(range(50), n=10, T=5, d=30, score_std=0.2)
    others = data.scores[signal_tokens(range(50), n=10, T=5, d=30).scores == 0]
    assert others.std() == pytest.approx(0.2, rel=0.05) and others.mean().abs() < 0.02
    assert torch.equal(data.xs[..., 2:], signal_tokens(range(50), n=10, T=5, d=30).xs[..., 2:])


@pytest.mark.parametrize("draw", [unit_tokens, signal_tokens])
def test_a_seed_draws_the_same_alone_and_in_company(draw):
    together, alone = draw([3, 7], 4, 3, 5), draw([7], 4, 3, 5)
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a[1:], b)


def test_data_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="n, T and d are 3, 1 and 4; they must be at least 1, 2 and 1"):
        unit_tokens([0], 3, 1, 4)
    with pytest.raises(ValueError, match="at least 1, 2 and 3"):
        signal_tokens([0], 3, 4, 2)
    with pytest.raises(ValueError, match=r"noise_std and score_std are -1\.0 and 0\.0"):
        signal_tokens([0], 3, 4, 5, noise_std=-1.0)
    for draw in (unit_tokens, signal_tokens):
        with pytest.raises(ValueError, match="seeds is empty"):
            draw([], 3, 4, 5)
