"""The battery that every optimizer passes, ours and stock ones wrapped for a learning rate per member.

Two problems, both with one independent copy per member of the stack:

- quadratic: |W - W*|^2 / 2, on which any descent method must arrive;
- regression: mean |W x - W* x - noise|^2 / 2 over a fresh batch per step, whose gradients are never zero and
  never of low rank, so that rounding is not blown up by a direction that ignores the gradient's size.
"""

import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from lib.optimizers import (
    Armijo,
    JointNormalizedGD,
    Muon,
    NormalizedGD,
    PerMemberLR,
    Polyak,
    Shampoo,
    SignGD,
    SpecGD,
)
from lib.optimizers.perp_grad import PerpGrad
from lib.optimizers.structured_adagrad import StructuredAdaGrad

# name -> (how to make it, a learning rate that suits problems with entries and singular values of order one)
OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], float]] = {
    "NormalizedGD": (lambda params, lr: NormalizedGD(params, lr, momentum=0.9), 0.1),
    "SignGD": (lambda params, lr: SignGD(params, lr, momentum=0.9), 0.05),
    "SpecGD": (lambda params, lr: SpecGD(params, lr, momentum=0.9), 0.1),
    "Muon": (lambda params, lr: Muon(params, lr, momentum=0.9), 0.1),
    "Muon, exact": (lambda params, lr: Muon(params, lr, momentum=0.9, ns_steps=None), 0.1),
    "Shampoo": (lambda params, lr: Shampoo(params, lr, momentum=0.9, precondition_every=3), 0.5),
    "AdaGrad-Norm": (lambda params, lr: StructuredAdaGrad(params, lr, "norm", momentum=0.9), 0.5),
    "diagonal AdaGrad": (lambda params, lr: StructuredAdaGrad(params, lr, "diagonal", momentum=0.9), 0.5),
    "one-sided Shampoo": (lambda params, lr: StructuredAdaGrad(params, lr, "one-sided", momentum=0.9), 0.5),
    # A start that is not tiny: until there are as many gradients as entries, rounding decides on the smallest eigenvalues.
    "full-matrix AdaGrad": (lambda params, lr: StructuredAdaGrad(params, lr, "full", momentum=0.9, eps=0.1), 1.0),
    "JointNormalizedGD": (JointNormalizedGD, 0.1),
    "Polyak": (lambda params, lr: Polyak(params, lr, max_length=0.5), 0.5),
    "Armijo": (Armijo, 0.05),
    "⊥Grad": (lambda params, lr: PerpGrad(params, torch.optim.SGD, lr, momentum=0.9), 0.05),
    "SGD": (lambda params, lr: PerMemberLR(params, torch.optim.SGD, lr, momentum=0.9), 0.05),
    "Adam": (lambda params, lr: PerMemberLR(params, torch.optim.Adam, lr), 0.1),
}
OURS = [name for name in OPTIMIZERS if name not in ("SGD", "Adam")]
# ⊥Grad leaves out what lengthens or shortens the weights, so on a loss that is not blind to scale it stops short, by design;
# where it must arrive is tested in test_perp_grad.py.
descent_methods = pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "⊥Grad"])
MEMORYLESS = ["JointNormalizedGD", "Polyak"]  # the step is a function of gradient and loss: there is no state to keep

every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
our_optimizers = pytest.mark.parametrize("name", OURS)
optimizers_with_a_state = pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in MEMORYLESS])

N_OUT, N_IN, BATCH = 4, 6, 16


def randn(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def targets(n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.stack([randn(member, N_OUT, N_IN, dtype=dtype) for member in range(n)])


def batches(n_steps: int, n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Inputs (n_steps, n, N_IN, BATCH), with unequal variances, and label noise (n_steps, n, N_OUT, BATCH)."""
    scale = torch.linspace(0.5, 1.5, N_IN, dtype=dtype)[:, None]
    xs = torch.stack([randn(100 + m, n_steps, N_IN, BATCH, dtype=dtype) for m in range(n)], dim=1) * scale
    noise = torch.stack([randn(200 + m, n_steps, N_OUT, BATCH, dtype=dtype) for m in range(n)], dim=1)
    return xs, noise


def descend(optimizer: Optimizer, loss: Callable[[], Tensor]) -> Tensor:
    """One step on a loss per member, through a closure: rules that depend on the loss need it, the others do not mind."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = loss()
        losses.sum().backward()
        return losses.detach()

    return optimizer.step(closure)


def train(optimizer: Optimizer, W: Parameter, target: Tensor, xs: Tensor, noise: Tensor) -> None:
    """One regression step per batch; xs and noise carry the step first and broadcast over the stack of W."""
    for x, e in zip(xs, noise, strict=True):
        descend(optimizer, lambda x=x, e=e: ((W - target) @ x - e).square().mean(-1).sum(-1) / 2)


def make(name: str, params: list[Parameter], lr: float | Tensor | None = None) -> Optimizer:
    factory, default_lr = OPTIMIZERS[name]
    return factory(params, default_lr if lr is None else lr)


@descent_methods
def test_converges_on_a_quadratic(name: str) -> None:
    target = targets(3)
    W = Parameter(torch.zeros_like(target))
    lr = OPTIMIZERS[name][1]
    optimizer = make(name, [W])
    for t in range(300):
        optimizer.param_groups[0]["lr"] = lr * (1 - t / 300)
        descend(optimizer, lambda: (W - target).square().sum((-2, -1)) / 2)
    # With lr falling to zero a normalised step can still wander over the distance of its last few steps,
    # below lr / 10 per entry.
    assert (W - target).abs().max() < lr / 10


@descent_methods
def test_converges_on_a_matrix_problem(name: str) -> None:
    """Ill-conditioned from both sides: |A (W - W*) B|^2 / 2 with condition numbers 3."""
    target = targets(3)
    A, B = torch.linspace(1 / 3, 1, N_OUT)[:, None], torch.linspace(1 / 3, 1, N_IN)
    W = Parameter(torch.zeros_like(target))
    lr = OPTIMIZERS[name][1]
    optimizer = make(name, [W])
    losses = []
    for t in range(500):
        optimizer.param_groups[0]["lr"] = lr * (1 - t / 500)
        losses.append(descend(optimizer, lambda: (A * (W - target) * B).square().sum((-2, -1)) / 2).sum().item())
    assert losses[-1] < 1e-3 * losses[0]


@every_optimizer
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_dtype_of_the_parameters(name: str, dtype: torch.dtype) -> None:
    W = Parameter(torch.zeros(2, N_OUT, N_IN, dtype=dtype))
    train(make(name, [W], torch.tensor([0.1, 0.2])), W, targets(2, dtype), *batches(3, 2, dtype))
    assert W.dtype == dtype
    assert W.abs().min() > 0


@optimizers_with_a_state
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_dtype_of_its_state(name: str, dtype: torch.dtype) -> None:
    W = Parameter(torch.zeros(2, N_OUT, N_IN, dtype=dtype))
    optimizer = make(name, [W], torch.tensor([0.1, 0.2]))
    train(optimizer, W, targets(2, dtype), *batches(3, 2, dtype))
    counters = ("step",)  # torch counts in float32
    tensors = [value for key, value in optimizer.state[W].items() if isinstance(value, Tensor) and key not in counters]
    assert tensors and all(value.dtype == dtype for value in tensors)


@every_optimizer
def test_a_stacked_member_equals_its_solo_run(name: str) -> None:
    target, (xs, noise) = targets(3), batches(100, 3)
    stacked = Parameter(torch.zeros_like(target))
    train(make(name, [stacked]), stacked, target, xs, noise)
    for member in range(3):
        solo = Parameter(torch.zeros(N_OUT, N_IN))
        train(make(name, [solo]), solo, target[member], xs[:, member], noise[:, member])
        torch.testing.assert_close(stacked[member], solo, rtol=0, atol=1e-5)


@every_optimizer
def test_a_member_does_not_depend_on_its_neighbours(name: str) -> None:
    target, (xs, noise) = targets(2), batches(30, 2)
    first, second = Parameter(torch.zeros_like(target)), Parameter(torch.zeros_like(target))
    train(make(name, [first]), first, target, xs, noise)
    louder = torch.tensor([1.0, 100.0])[:, None, None]
    train(make(name, [second]), second, target * louder, xs, noise * louder)
    assert (first[1] - second[1]).abs().max() > 1e-2
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=1e-6)


@every_optimizer
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_member_goes_on_when_its_neighbour_diverges(name: str, bad: float) -> None:
    target, (xs, noise) = targets(2), batches(10, 2)
    first, second = Parameter(torch.zeros_like(target)), Parameter(torch.zeros_like(target))
    train(make(name, [first]), first, target, xs, noise)
    broken = torch.stack([target[0], torch.full_like(target[1], bad)])
    train(make(name, [second]), second, broken, xs, noise)
    assert not second[1].isfinite().all()
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=1e-6)


@every_optimizer
@pytest.mark.parametrize("lr_shape", [(2, 1), (2, 3)])
def test_a_learning_rate_per_member_equals_separate_runs(name: str, lr_shape: tuple[int, int]) -> None:
    """Parameters (L, S, out, in): L learning rates, S seeds that see the same data under each of them."""
    lr = OPTIMIZERS[name][1] * torch.linspace(0.3, 1, lr_shape[0] * lr_shape[1]).reshape(lr_shape)
    target, (xs, noise) = targets(3), batches(50, 3)
    stacked = Parameter(torch.zeros(2, 3, N_OUT, N_IN))
    train(make(name, [stacked], lr), stacked, target, xs, noise)
    for i in range(2):
        for j in range(3):
            solo = Parameter(torch.zeros(N_OUT, N_IN))
            solo_lr = lr.expand(2, 3)[i, j].item()
            train(make(name, [solo], solo_lr), solo, target[j], xs[:, j], noise[:, j])
            torch.testing.assert_close(stacked[i, j], solo, rtol=0, atol=1e-5)


@optimizers_with_a_state
def test_state_survives_a_round_trip_in_mid_training(name: str) -> None:
    target, (xs, noise) = targets(2), batches(21, 2)
    lr = OPTIMIZERS[name][1] * torch.tensor([0.5, 1.0])
    W = Parameter(torch.zeros_like(target))
    optimizer = make(name, [W], lr)
    train(optimizer, W, target, xs[:11], noise[:11])

    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = Parameter(W.detach().clone())
    optimizer_resumed = make(name, [resumed], 0.123)
    optimizer_resumed.load_state_dict(torch.load(file))
    torch.testing.assert_close(optimizer_resumed.param_groups[0]["lr"], lr)

    train(optimizer, W, target, xs[11:], noise[11:])
    train(optimizer_resumed, resumed, target, xs[11:], noise[11:])
    torch.testing.assert_close(resumed, W, rtol=0, atol=0)

    forgetful = Parameter(resumed.detach().clone())
    train(make(name, [forgetful], lr), forgetful, target, xs[-1:], noise[-1:])
    train(optimizer_resumed, resumed, target, xs[-1:], noise[-1:])
    assert (forgetful - resumed).abs().max() > 1e-4  # the state matters, so the comparison above is not empty


@every_optimizer
def test_loading_the_state_of_a_fresh_optimizer_forgets(name: str) -> None:
    target, (xs, noise) = targets(2), batches(10, 2)
    W, fresh = Parameter(torch.zeros_like(target)), Parameter(torch.zeros_like(target))
    optimizer, optimizer_fresh = make(name, [W]), make(name, [fresh])
    train(optimizer, W, target, xs[:5], noise[:5])
    optimizer.load_state_dict(optimizer_fresh.state_dict())
    with torch.no_grad():
        W.zero_()
    train(optimizer, W, target, xs[5:], noise[5:])
    train(optimizer_fresh, fresh, target, xs[5:], noise[5:])
    torch.testing.assert_close(W, fresh, rtol=0, atol=0)


@every_optimizer
def test_a_zero_gradient_leaves_the_parameter_alone(name: str) -> None:
    start = targets(2)
    W = Parameter(start.clone())
    optimizer = make(name, [W])
    for _ in range(3):
        descend(optimizer, lambda: (0 * W).sum((-2, -1)) + 1)
    assert torch.equal(W, start)
    # One member goes on learning, the other stays.
    pull = torch.stack([torch.zeros(N_OUT, N_IN), start[1] + targets(3)[2]])
    descend(optimizer, lambda: (pull * W).sum((-2, -1)))
    assert torch.equal(W[0], start[0])
    assert W.isfinite().all() and (W[1] - start[1]).abs().max() > 1e-4


@every_optimizer
def test_a_parameter_without_gradient_is_skipped(name: str) -> None:
    used, unused = Parameter(torch.ones(N_OUT, N_IN)), Parameter(torch.ones(N_OUT, N_IN))
    optimizer = make(name, [used, unused])
    descend(optimizer, lambda: (used - targets(1)[0]).square().sum())
    assert not torch.equal(used, torch.ones_like(used))
    assert torch.equal(unused, torch.ones_like(unused)) and unused not in optimizer.state


@every_optimizer
def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned(name: str) -> None:
    W = Parameter(torch.ones(N_OUT, N_IN))
    goal = targets(1)[0]
    first = (W - goal).square().sum().item()
    optimizer = make(name, [W])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (W - goal).square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == first
    assert optimizer.step(closure).item() < first


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "Armijo"])  # it searches over one group
def test_each_group_of_parameters_has_its_own_settings(name: str) -> None:
    first, second = Parameter(torch.zeros(2, N_OUT, N_IN)), Parameter(torch.zeros(2, N_OUT, N_IN))
    lr = OPTIMIZERS[name][1]
    optimizer = make(name, [{"params": [first]}], lr)
    optimizer.add_param_group({"params": [second], "lr": lr * torch.tensor([0.0, 1.0])})
    pull = targets(1)[0].expand(2, -1, -1)

    def closure() -> Tensor:
        first.grad, second.grad = pull.clone(), pull.clone()
        return torch.ones(2)

    optimizer.step(closure)
    assert first.abs().min() > 0
    assert torch.equal(second[0], torch.zeros_like(second[0]))
    torch.testing.assert_close(second[1], first[1], rtol=0, atol=1e-5)


@our_optimizers
@pytest.mark.parametrize("shape", [(), (5,)])
def test_a_parameter_with_fewer_than_two_dimensions_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"params must have at least two dimensions .* got shape \("):
        make(name, [Parameter(torch.zeros(shape))])


@every_optimizer
@pytest.mark.parametrize("lr", [-0.1, float("nan"), torch.tensor([0.1, -0.1]), torch.tensor(float("inf"))])
def test_a_learning_rate_that_is_negative_or_not_finite_is_refused(name: str, lr: float | Tensor) -> None:
    with pytest.raises(ValueError, match=r"lr must be in \[0, inf\), got"):
        make(name, [Parameter(torch.zeros(2, N_OUT, N_IN))], lr)


@every_optimizer
def test_a_learning_rate_that_does_not_fit_the_stack_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"lr must be a number or have one dimension.*\(3,\).*\(2, 4, 6\)"):
        make(name, [Parameter(torch.zeros(2, N_OUT, N_IN))], torch.full((3,), 0.1))


@pytest.mark.parametrize("optimizer_class", [NormalizedGD, SignGD, SpecGD, Muon, Shampoo])
@pytest.mark.parametrize("momentum", [-0.1, 1.0, 1.5])
def test_momentum_outside_zero_to_one_is_refused(optimizer_class: type[Optimizer], momentum: float) -> None:
    with pytest.raises(ValueError, match=rf"momentum must be in \[0, 1\), got {momentum}"):
        optimizer_class([Parameter(torch.zeros(N_OUT, N_IN))], lr=0.1, momentum=momentum)


@our_optimizers
def test_a_refused_group_leaves_the_optimizer_as_it_was(name: str) -> None:
    optimizer = make(name, [Parameter(torch.zeros(N_OUT, N_IN))])
    with pytest.raises(ValueError, match="lr must be"):
        optimizer.add_param_group({"params": [Parameter(torch.zeros(N_OUT, N_IN))], "lr": -1.0})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "Armijo"])  # it decides by the loss's value
def test_a_step_stays_on_the_device_of_the_parameters(name: str) -> None:
    """On the device "meta", which computes shapes and devices only and refuses to meet the CPU, as a GPU would."""
    W = Parameter(torch.zeros(2, N_OUT, N_IN, device="meta"))
    optimizer = make(name, [W])
    for _ in range(3):
        descend(optimizer, lambda: W.square().sum((-2, -1)))
    kept = [value for key, value in optimizer.state[W].items() if isinstance(value, Tensor) and key != "step"]
    assert {value.device.type for value in [W, *kept]} == {"meta"}
