"""What holds for every model: a member of a stack is the network that it would be alone, wherever it is computed."""

import pytest
import torch
from stacks import STACKS, all_models, member, train

every_model = pytest.mark.parametrize("name", STACKS)


def test_every_model_of_lib_is_tried():
    assert {name.split(",")[0] for name in STACKS} == all_models()


@every_model
def test_a_stacked_member_equals_its_solo_run_over_100_steps(name: str):
    losses, weights = train(name, [0, 1, 2], 100)
    assert (losses[-1] < 0.95 * losses[0]).all()  # it learns, so that the comparison is not of two starts
    for index, seed in enumerate([0, 1, 2]):
        solo_losses, solo = train(name, [seed], 100)
        torch.testing.assert_close(losses[:, index], solo_losses[:, 0], rtol=0, atol=1e-5)
        for stacked, alone in zip(member(weights, name, index), solo, strict=True):
            torch.testing.assert_close(stacked, alone, rtol=0, atol=1e-5)


@every_model
def test_a_member_does_not_depend_on_its_neighbours(name: str):
    losses, weights = train(name, [0, 1], 100)
    others, other_weights = train(name, [0, 7], 100)
    assert not torch.equal(losses[:, 1], others[:, 1])
    torch.testing.assert_close(losses[:, 0], others[:, 0], rtol=0, atol=1e-6)
    for one, other in zip(member(weights, name, 0), member(other_weights, name, 0), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@every_model
def test_a_second_run_gives_the_same_bytes(name: str):
    (first, weights), (second, again) = train(name, [0, 1], 20), train(name, [0, 1], 20)
    assert torch.equal(first, second)
    assert all(torch.equal(one, other) for one, other in zip(weights, again, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@every_model
def test_a_gpu_agrees_with_the_cpu(name: str):
    """Within 1e-4 over 50 steps: float32 sums in another order, each step adding a rounding error of 1e-7 or so."""
    there, weights = train(name, [0, 1], 50, device="cuda")
    here, expected = train(name, [0, 1], 50)
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-4)
    for one, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=0, atol=1e-4)


@every_model
def test_a_training_step_stays_on_the_device_of_the_weights(name: str):
    """On the device "meta", which computes shapes and devices only and refuses to meet the CPU, as a GPU would."""
    if name == "LanguageModel":
        pytest.skip("it looks at the tokens' values, of which this device has none")
    losses, weights = train(name, [0, 1], 2, device="meta")
    assert {w.device.type for w in [losses, *weights]} == {"meta"}
