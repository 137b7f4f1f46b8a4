"""Optimizers for matrices stacked over leading dimensions (*stack, out, in), with a learning rate per member.

| class          | direction                                   | file                |
|----------------|---------------------------------------------|---------------------|
| `NormalizedGD` | M / ||M||_F, per matrix                     | steepest_descent.py |
| `SignGD`       | sign(M)                                     | steepest_descent.py |
| `SpecGD`       | U V^T, exact                                | steepest_descent.py |
| `Muon`         | U V^T by Newton–Schulz, and its variants    | muon.py             |
| `Shampoo`      | L^{-1/4} M R^{-1/4}                         | shampoo.py          |
| `PerMemberLR`  | that of a stock torch optimizer             | per_member_lr.py    |
| `JointNormalizedGD`, `Polyak`, `Armijo` | the gradient, one length per member | gradient_steps.py |
"""

from lib.optimizers.gradient_steps import Armijo, JointNormalizedGD, Polyak
from lib.optimizers.muon import Muon, newton_schulz
from lib.optimizers.per_member_lr import PerMemberLR
from lib.optimizers.shampoo import Shampoo, inverse_fourth_root
from lib.optimizers.steepest_descent import (
    NormalizedGD,
    SignGD,
    SpecGD,
    normalize_frobenius,
    orthogonalize,
    sign,
)

__all__ = [
    "Armijo",
    "JointNormalizedGD",
    "Muon",
    "NormalizedGD",
    "PerMemberLR",
    "Polyak",
    "Shampoo",
    "SignGD",
    "SpecGD",
    "inverse_fourth_root",
    "newton_schulz",
    "normalize_frobenius",
    "orthogonalize",
    "sign",
]
