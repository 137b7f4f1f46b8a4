import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from lib.theory.lanczos import lanczos_extremes


def symmetric(members: int, size: int, seed: int = 0) -> torch.Tensor:
    A = torch.randn(members, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return A + A.mT


def products(A: torch.Tensor):
    return lambda v: (A @ v[:, :, None])[:, :, 0]


def start(members: int, size: int) -> torch.Tensor:
    return torch.randn(members, size, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def test_as_many_steps_as_dimensions_give_the_exact_ends():
    A = symmetric(4, 30)
    lowest, highest = lanczos_extremes(products(A), start(4, 30), n_steps=30)
    values = torch.linalg.eigvalsh(A)
    torch.testing.assert_close(lowest, values[:, 0])
    torch.testing.assert_close(highest, values[:, -1])


def test_a_few_dozen_steps_agree_with_scipy_on_a_large_matrix():
    A = symmetric(2, 400)
    lowest, highest = lanczos_extremes(products(A), start(2, 400), n_steps=100)
    for member in range(2):
        operator = LinearOperator((400, 400), matvec=lambda v, m=member: A[m].numpy() @ v, dtype=np.float64)
        low, high = eigsh(operator, k=1, which="SA"), eigsh(operator, k=1, which="LA")
        assert lowest[member].item() == pytest.approx(low[0].item(), rel=1e-6)
        assert highest[member].item() == pytest.approx(high[0].item(), rel=1e-6)


def test_estimates_lie_inside_the_spectrum_and_improve_with_steps():
    A = symmetric(3, 60)
    values = torch.linalg.eigvalsh(A)
    before = None
    for n_steps in (5, 10, 20, 40):
        lowest, highest = lanczos_extremes(products(A), start(3, 60), n_steps)
        assert (lowest >= values[:, 0] - 1e-9).all() and (highest <= values[:, -1] + 1e-9).all()
        if before is not None:
            assert (lowest <= before[0] + 1e-9).all()
            assert (highest >= before[1] - 1e-9).all()
        before = lowest, highest


def test_members_are_independent_of_their_neighbours():
    A, v = symmetric(3, 25), start(3, 25)
    together = lanczos_extremes(products(A), v, 10)
    for member in range(3):
        alone = lanczos_extremes(products(A[member : member + 1]), v[member : member + 1], 10)
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[member])


def test_a_used_up_space_does_not_invent_eigenvalues():
    # Eigenvalues 2 and 5 only: the space is used up after two steps, and zero is no eigenvalue.
    A = torch.diag(torch.tensor([2.0] * 6 + [5.0] * 6)).double().expand(2, -1, -1)
    lowest, highest = lanczos_extremes(products(A), start(2, 12), n_steps=12)
    torch.testing.assert_close(lowest, torch.full((2,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(highest, torch.full((2,), 5.0, dtype=torch.float64))


def test_a_multiple_of_the_identity_has_one_eigenvalue():
    lowest, highest = lanczos_extremes(lambda v: -3.0 * v, start(1, 7), n_steps=5)
    assert lowest.item() == pytest.approx(-3.0)
    assert highest.item() == pytest.approx(-3.0)


@pytest.mark.parametrize(
    ("vector", "n_steps", "message"),
    [
        (torch.ones(1, 3), 0, "n_steps is 0"),
        (torch.zeros(1, 3), 2, "start must hold finite vectors"),
        (torch.full((1, 3), float("inf")), 2, "start must hold finite vectors"),
    ],
)
def test_bad_input_is_refused(vector, n_steps, message):
    with pytest.raises(ValueError, match=message):
        lanczos_extremes(lambda v: v, vector, n_steps)


def test_products_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="matvec returned a value that is not finite in step 1"):
        lanczos_extremes(lambda v: v * float("nan"), torch.ones(1, 3), 2)
