"""Weighted model counting by enumeration, in log space: the value of a structure.

Atoms are independent: atom i holds with probability p_i. The weight of a row is the product of p_i or 1 - p_i over the
atoms, WMC(S) the sum of the weights of the rows of S. In 1 - p a log p above -1e-6 counts as -1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from equipoise.core.numerics import log1mexp
from equipoise.semantics.formula import ATOMS, HOLDS, Rows, members
from equipoise.semantics.structure import Structure

LogProbs = Mapping[int, Float[Tensor, "..."]]  # position of an atom -> log-probability, < 0


def _checked(atoms: tuple[int, ...], logp: LogProbs) -> None:
    for atom in atoms:
        if atom not in logp:
            raise KeyError(f"no log-probability of {ATOMS[atom]}")
        if not bool(((logp[atom] < 0) & logp[atom].isfinite()).all()):
            raise ValueError(f"the probability of {ATOMS[atom]} must lie strictly between 0 and 1")


def log_count(rows: Rows, atoms: tuple[int, ...], logp: LogProbs) -> Tensor:
    """log WMC(rows) over these atoms, on which the set may depend and on no others. -inf for no row."""
    _checked(atoms, logp)
    others = [i for i in range(len(HOLDS)) if i not in atoms]
    alone = reduce(lambda kept, i: kept & ~HOLDS[i], others, rows)  # one row for each choice of the atoms
    like = reduce(torch.add, (logp[i] for i in atoms)) * 0
    weights = [
        like + sum(logp[i] if row >> i & 1 else log1mexp(logp[i]) for i in atoms) for row in members(alone)
    ]
    return torch.stack(weights).logsumexp(0) if weights else like - torch.inf


def log_ratio(structure: Structure, logp: LogProbs) -> Tensor:
    """log R = log WMC(W) - log WMC(Z)."""
    win, lose = (log_count(rows, structure.atoms, logp) for rows in (structure.win, structure.lose))
    return win - lose


def loss(structure: Structure, logp: LogProbs) -> Tensor:
    """-log( WMC(W) / (WMC(W) + WMC(Z)) ) = softplus(-log R)."""
    return softplus(-log_ratio(structure, logp))


def coefficients(structure: Structure, logp: LogProbs) -> dict[int, Tensor]:
    """d log R / d log p_i of every atom that matters, by the counts alone.

        d log R / d log p_i = ( P(i | W) - P(i | Z) ) / (1 - p_i)

    P(i | S)   WMC(S and i) / WMC(S): how often the atom holds in a row drawn from S. An atom pulls as much as winning
               and losing rows differ in it. The loss's own gradient is -sigma(-log R) times this.

    DERIVED: d WMC(S)/d p_i is WMC(S | i true) - WMC(S | i false), and both are shares of WMC(S).
    """
    atoms = structure.atoms

    def share(rows: Rows, atom: int) -> Tensor:
        inside = log_count(rows & HOLDS[atom], atoms, logp)
        return (inside - log_count(rows, atoms, logp)).exp()

    return {i: (share(structure.win, i) - share(structure.lose, i)) / -torch.expm1(logp[i]) for i in atoms}
