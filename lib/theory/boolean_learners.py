r"""Learners of Boolean functions that need no training: what they answer at every position of a prompt.

Each takes prompts xs (*stack, n_points, n_dims) and ys (*stack, n_points), ±1, and answers the label of example i
from the examples before it: +1, -1, or 0 where it has no ground for either, which counts as half a success
(`accuracy`).

| learner                  | answers                                                      | suits                |
|--------------------------|--------------------------------------------------------------|----------------------|
| `elimination`            | +1 if x contradicts no literal that all positives satisfied  | conjunctions         |
| `nearest_neighbour`      | the label of the most similar earlier input                  | any                  |
| `averaging`              | sign of x · sum_j y_j x_j: one step of gradient descent, or Hebb's rule | majorities |
| `perceptron`             | sign of w·x + b, w and b corrected after each mistake        | half-spaces          |
| `gaussian_elimination`   | what the linear equations over GF(2) imply                   | parities             |
| `label_majority`         | the label seen most often                                    | none; a control      |

`elimination` (Valiant 1984) errs on positive examples only, at most n + 1 times: the first positive leaves n literals
and each further mistake strikes out at least one. `gaussian_elimination` is never wrong, and silent at most n times
per prompt: each silence adds one to the rank. Source of the baselines: arXiv 2310.03016, Section 3.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lib.tasks.boolean_sequences import nearest_earlier

Inputs = Float[Tensor, "*stack n_points n_dims"]
Labels = Float[Tensor, "*stack n_points"]


def accuracy(answers: Labels, ys: Labels) -> Labels:
    """1 where right, 0 where wrong, 1/2 where there is no answer."""
    return (1 + answers.sign() * ys) / 2


def elimination(xs: Inputs, ys: Labels) -> Labels:
    """Valiant's algorithm for conjunctions: keep all literals that no positive example has contradicted.

    >>> xs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    >>> elimination(xs, torch.tensor([1.0, 1.0, 1.0])).tolist()
    [-1.0, -1.0, 1.0]
    """
    positive = (ys > 0)[..., None].float()
    seen = _before(torch.cat([(xs > 0) * positive, (xs < 0) * positive], -1)).cumsum(-2) > 0
    possible_plus, possible_minus = ~seen[..., xs.shape[-1] :], ~seen[..., : xs.shape[-1]]
    contradicted = ((possible_plus & (xs < 0)) | (possible_minus & (xs > 0))).any(-1)
    return torch.where(contradicted, -1.0, 1.0)


def nearest_neighbour(xs: Inputs, ys: Labels) -> Labels:
    """The label of the most similar earlier input, the earliest of several."""
    nearest, similarity = nearest_earlier(xs)
    return torch.where(similarity.isinf(), 0.0, ys.gather(-1, nearest))


def averaging(xs: Inputs, ys: Labels) -> Labels:
    """Sign of x · sum over earlier examples of y x."""
    return ((_before(xs * ys[..., None]).cumsum(-2) * xs).sum(-1)).sign()


def perceptron(xs: Inputs, ys: Labels) -> Labels:
    """Rosenblatt's rule, once through the prompt, with a bias."""
    xs = torch.cat([xs, torch.ones_like(xs[..., :1])], -1)
    weights, answers = torch.zeros_like(xs[..., 0, :]), torch.empty_like(ys)
    for i in range(ys.shape[-1]):
        answers[..., i] = (weights * xs[..., i, :]).sum(-1).sign()
        wrong = (answers[..., i] != ys[..., i]).float() * ys[..., i]
        weights = weights + wrong[..., None] * xs[..., i, :]
    return answers


def gaussian_elimination(xs: Inputs, ys: Labels) -> Labels:
    """Solve w·bits = label bit over GF(2): an answer where the question is a sum of earlier inputs, else 0.

    Raises:
        ValueError: Labels that no parity gives.
    """
    n_dims = xs.shape[-1]
    bits, labels = (xs > 0).reshape(-1, *xs.shape[-2:]), (ys > 0).reshape(-1, ys.shape[-1])
    # Row p of the basis has its first one at p, if it is there; the last column is the label.
    basis = torch.zeros(len(bits), n_dims, n_dims + 1, dtype=torch.bool)
    answers = torch.zeros(labels.shape)
    for i in range(labels.shape[1]):
        row = torch.cat([bits[:, i], torch.zeros_like(labels[:, :1])], -1)
        for p in range(n_dims):
            row ^= row[:, p, None] & basis[:, p, p, None] & basis[:, p]
        implied, new = row[:, -1], row[:, :-1].any(-1)  # the label, if the question is a sum of earlier inputs
        if (~new & (implied != labels[:, i])).any():
            raise ValueError("ys are not the labels of a parity of the xs")
        answers[:, i] = torch.where(new, 0.0, 2.0 * implied - 1)
        row[:, -1] ^= labels[:, i]
        basis[new, row[new, :-1].long().argmax(-1)] = row[new]
    return answers.reshape(ys.shape)


def label_majority(xs: Inputs, ys: Labels) -> Labels:
    """The label that was seen more often."""
    return _before(ys[..., None]).cumsum(-2)[..., 0].sign()


def _before(values: Float[Tensor, "*stack n_points d"]) -> Float[Tensor, "*stack n_points d"]:
    """Shifted by one example, with zeros first."""
    return torch.cat([torch.zeros_like(values[..., :1, :]), values[..., :-1, :]], -2)
