import pytest
import torch

from lib.models import multi_head_attention as model

SEEDS = [0, 1, 2]


def problem(n_heads: int = 3, n_points: int = 5, n_tokens: int = 4, n_dims: int = 6, seeds: list[int] = SEEDS):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(len(seeds), n_points, n_tokens, n_dims, generator=generator, dtype=torch.float64)
    labels = torch.randn(len(seeds), n_points, generator=generator, dtype=torch.float64).sign()
    return tokens, labels, *model.initialise(n_heads, n_tokens, n_dims, seeds, W_std=0.5, U_std=0.7)


def plain_output(X, W, U):
    """Φ̃ of one sequence, head by head and row by row, as the paper writes it."""
    total = 0.0
    for W_h, U_h in zip(W, U, strict=True):
        A = torch.stack([torch.softmax(X @ W_h.T @ X[t], dim=0) for t in range(len(X))])
        total = total + (U_h * (A @ X)).sum()
    return total / len(W) ** 0.5


def test_outputs_are_the_papers_formula():
    tokens, _, W, U = problem()
    outputs = model.outputs(tokens, W, U)
    for member in range(3):
        wanted = torch.stack([plain_output(X, W[member], U[member]) for X in tokens[member]])
        torch.testing.assert_close(outputs[member], wanted)


def test_attention_rows_sum_to_one_over_keys():
    tokens, _, W, _ = problem()
    maps = model.attention(tokens, W)
    assert maps.shape == (3, 5, 4, 4, 3)
    torch.testing.assert_close(maps.sum(2), torch.ones(3, 5, 4, 3, dtype=torch.float64))


@pytest.mark.parametrize("scale", [None, 1.0, 0.25])
def test_the_closed_gradient_is_autograds(scale):
    tokens, labels, W, U = problem()
    leaves = W.clone().requires_grad_(), U.clone().requires_grad_()
    losses = torch.nn.functional.softplus(-labels * model.outputs(tokens, *leaves, scale)).mean(1)
    loss, gradient = model.loss_gradient(tokens, labels, W, U, scale)
    torch.testing.assert_close(loss, losses)
    for ours, theirs in zip(gradient, torch.autograd.grad(losses.sum(), leaves), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_members_share_nothing():
    tokens, labels, W, U = problem()
    loss, gradient = model.loss_gradient(tokens, labels, W, U)
    for member in range(3):
        one = slice(member, member + 1)
        alone_loss, alone = model.loss_gradient(tokens[one], labels[one], W[one], U[one])
        torch.testing.assert_close(alone_loss[0], loss[member])
        for a, b in zip(alone, gradient, strict=True):
            torch.testing.assert_close(a[0], b[member])


@pytest.mark.parametrize("weighted", [False, True])
def test_large_members_are_computed_one_by_one_with_the_same_result(monkeypatch, weighted):
    tokens, labels, W, U = problem()
    weights = labels / 7 if weighted else None
    stacked = model.outputs(tokens, W, U), *model.weighted_gradient(tokens, W, U, weights, labels)
    monkeypatch.setattr(model, "ONE_BY_ONE", 0)
    single = model.outputs(tokens, W, U), *model.weighted_gradient(tokens, W, U, weights, labels)
    torch.testing.assert_close(single, stacked, rtol=1e-12, atol=1e-14)


def test_members_with_one_seed_are_copies_that_can_part():
    tokens, labels, W, U = problem(seeds=[5, 5])
    assert torch.equal(W[0], W[1])
    assert W[0].data_ptr() != W[1].data_ptr()
    (gradient, _) = model.loss_gradient(tokens, labels, W, U)[1]
    before = W[1].clone()
    W[0] -= gradient[0]
    assert torch.equal(W[1], before)


def test_a_head_is_drawn_the_same_whatever_the_number_of_heads():
    few, many = (model.initialise(n, 4, 6, [3], 1.0, 1.0) for n in (2, 5))
    assert all(torch.equal(a, b[:, :2]) for a, b in zip(few, many, strict=True))


def test_identical_heads_are_copies_of_the_first_and_get_one_gradient():
    tokens, labels, W, U = problem(n_heads=4)
    same = model.initialise(4, 4, 6, SEEDS, 0.5, 0.7, identical=True)
    assert torch.equal(same[0][:, 3], W[:, 0])
    assert torch.equal(same[1][:, 3], U[:, 0])
    for gradient in model.loss_gradient(tokens, labels, *same)[1]:
        torch.testing.assert_close(gradient, gradient[:, :1].expand_as(gradient), rtol=1e-12, atol=1e-15)


def test_identical_heads_are_one_head_at_a_larger_scale_and_a_smaller_step():
    tokens, labels, *_ = problem()
    many = model.initialise(9, 4, 6, SEEDS, 0.5, 0.7, identical=True)
    one = tuple(w[:, :1] for w in many)
    for _ in range(20):
        many = tuple(w - 0.9 * g for w, g in zip(many, model.loss_gradient(tokens, labels, *many)[1], strict=True))
        one = tuple(
            w - 0.1 * g for w, g in zip(one, model.loss_gradient(tokens, labels, *one, scale=3.0)[1], strict=True)
        )
    for a, b in zip(many, one, strict=True):
        torch.testing.assert_close(a[:, :1], b)


def test_mass_on_relevant_tokens_is_their_share_when_attention_is_uniform():
    tokens, _, W, _ = problem()
    relevant = torch.zeros(3, 5, 4, dtype=torch.bool)
    relevant[..., 2] = True
    torch.testing.assert_close(model.mass_on(relevant, tokens, 0 * W), torch.full((3,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_heads": 0}, "n_heads is 0"),
        ({"n_tokens": 0}, "n_tokens is 0"),
        ({"n_dims": 0}, "n_dims is 0"),
        ({"seeds": []}, r"len\(seeds\) is 0"),
        ({"W_std": -1.0}, "W_std is -1.0"),
        ({"U_std": float("nan")}, "U_std is nan"),
    ],
)
def test_impossible_starts_are_refused_by_name(changed: dict, message: str):
    with pytest.raises(ValueError, match=message):
        model.initialise(**dict(n_heads=2, n_tokens=4, n_dims=6, seeds=[0], W_std=1.0, U_std=1.0) | changed)


def test_weights_that_do_not_fit_the_tokens_are_refused():
    tokens, _, W, U = problem()
    with pytest.raises(ValueError, match=r"need W \(3, 3, 6, 6\)"):
        model.require_fit(tokens, W, U[:, :2])
    with pytest.raises(ValueError, match="must have 4 axes"):
        model.require_fit(tokens[0], W, U)
