"""Evaluations happen when they are due."""

import pytest
import torch

from lib.evaluation import Log


def test_evaluation_happens_without_gradients_at_the_chosen_steps():
    done = []

    def evaluate():
        assert not torch.is_grad_enabled()
        return torch.tensor([done[-1], 7])

    log = Log(evaluate, [0, 2, 3], n_steps=4)
    for n_done in range(5):
        done.append(n_done)
        log.after(n_done)
    assert log.results()["log"].tolist() == [[0, 7], [2, 7], [3, 7]]


def test_without_something_to_evaluate_or_steps_to_do_it_there_is_no_log():
    for log in (Log(None, [0], n_steps=1), Log(lambda: torch.ones(1), [], n_steps=1)):
        log.after(0)
        assert log.results() == {}


@pytest.mark.parametrize("log_steps", [[3, 2], [1, 1], [-1, 2], [0, 6], range(4, 7)])
def test_steps_outside_the_run_or_out_of_order_are_refused(log_steps):
    with pytest.raises(ValueError, match=r"log_steps is \[.*\]; it must increase within 0…5"):
        Log(None, log_steps, n_steps=5)
