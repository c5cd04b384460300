"""Bradley-Terry and general preference models, fitted by maximum likelihood: one score per response, or k planes.

Both read `wins`, an [A, A] table with weights of "row beat column": probabilities, counts, or `PairData.counts[x]` of
recorded pairs. The diagonal is not read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from scipy.linalg import schur
from scipy.optimize import minimize as scipy_minimize
from torch import Tensor

from equipoise.core.dims import Payoff, Strategy
from equipoise.core.links import bradley_terry, general_preference, skew_score
from equipoise.core.objectives import Dpo
from equipoise.core.objectives.base import positive
from equipoise.games.expectation import enumerate_data
from equipoise.games.fit import NotConverged, minimise

Flow = Float[Tensor, "A A"]
Embedding = Float[Tensor, "A twice_k"]
PerPlane = Float[Tensor, "k"]
Array = npt.NDArray[np.float64]
NOTHING = 1e-12  # relative strength of a plane below which it is rounding error
NEARLY_CERTAIN = 0.99  # labels are clipped for a finite initialisation


@dataclass(frozen=True, eq=False)
class BradleyTerry:
    """Bradley-Terry model P(y > y') = sigma(r(y) - r(y')) within a level; a higher level always wins.

    strength    [X, A] r in logits, with mean 0 within a level
    level       [X, A] 0, 1, ...; more than one only if labels are so one-sided that r would be infinite
    """

    strength: Strategy
    level: Int[Tensor, "X A"]

    def prob(self) -> Payoff:
        """P(y > y'), [X, A, A]."""
        ahead = self.level.unsqueeze(2) - self.level.unsqueeze(1)
        within = bradley_terry(self.strength.unsqueeze(2), self.strength.unsqueeze(1))
        return torch.where(ahead == 0, within, (ahead > 0).to(within.dtype))

    @property
    def finite(self) -> bool:
        """Whether the maximum-likelihood strengths exist."""
        return int(self.level.max()) == 0


def fit_bradley_terry(wins: Payoff) -> BradleyTerry:
    """Maximum-likelihood Bradley-Terry fit of each table of wins, [X, A, A].

        max_r  sum_{y, y'} wins(y, y') log sigma(r(y) - r(y'))

    This is DPO's loss with beta = 1 and a uniform reference, so `minimise` finds it. r is finite if and only
    if a chain of wins leads from every response to every other (Ford 1957); responses that reach each
    other form a level, and in the supremum the higher level wins with probability 1.

    Raises ValueError for two responses without a chain of wins between them, which cannot be ranked.
    """
    wins = _off_diagonal(wins)
    reach = (wins > 0) | torch.eye(wins.shape[1], dtype=torch.bool)
    for _ in range(wins.shape[1].bit_length()):
        reach = (reach.double() @ reach.double()) > 0
    if not bool((reach | reach.mT).all()):
        x, i, j = (~(reach | reach.mT)).nonzero()[0].tolist()
        raise ValueError(
            f"table {x}: no chain of wins connects responses {i} and {j}, so they cannot be ranked; add comparisons"
        )
    below = reach.sum(dim=2)
    together = below.unsqueeze(2) == below.unsqueeze(1)
    level = torch.stack([row.unique(return_inverse=True)[1] for row in below])
    rows = enumerate_data(torch.where(together, wins, torch.zeros_like(wins)))
    strength = torch.zeros(wins.shape[:2], dtype=torch.float64)
    if len(rows.weight):
        anchors = {"reference": strength}
        strength = minimise(Dpo(beta=1.0), *rows, start=strength, anchors=anchors)
    shares = together.double() / together.sum(dim=2, keepdim=True)
    return BradleyTerry(strength - torch.einsum("xab,xb->xa", shares, strength), level)


def schur_embedding(flow: Flow, planes: int | None = None) -> tuple[Embedding, PerPlane]:
    """Schur embedding with `skew_score(v_i, v_j)` = flow_ij, and the strength of each plane, strongest first.

    flow      [A, A] antisymmetric, such as logit P or P - 1/2.
    planes    keep only the strongest: the nearest antisymmetric matrix of rank 2 planes in least squares.

    Real Schur form: flow = Z T Z^T with Z orthogonal and T of blocks [[0, w_l], [-w_l, 0]]; plane l is
    sqrt(w_l) times the two columns of Z. An antisymmetric matrix has an even rank 2k, so k planes always
    suffice, and k <= A/2. Raises ValueError unless flow is antisymmetric and finite.
    """
    table = flow.detach().double().numpy()
    if not np.isfinite(table).all() or np.abs(table + table.T).max() > 1e-9 * max(1.0, np.abs(table).max()):
        raise ValueError("flow must be a finite, antisymmetric matrix")
    form, basis = schur((table - table.T) / 2, output="real")
    kept = []
    floor = NOTHING * max(np.abs(form).max(), np.finfo(np.float64).tiny)
    i = 0
    while i + 1 < len(form):
        w = (form[i, i + 1] - form[i + 1, i]) / 2
        if abs(w) <= floor:
            i += 1
            continue
        pair = (i, i + 1) if w > 0 else (i + 1, i)
        kept.append((abs(w), basis[:, pair]))
        i += 2
    kept = sorted(kept, key=lambda plane: -plane[0])[:planes]
    strengths = torch.tensor([w for w, _ in kept], dtype=torch.float64)
    blocks = [np.zeros((len(form), 0)), *(np.sqrt(w) * z for w, z in kept)]
    return torch.as_tensor(np.hstack(blocks)), strengths


@dataclass(frozen=True, eq=False)
class GeneralPreference:
    """General preference model P(y > y') = sigma(s(y, y') / temperature), s the `skew_score` of `embedding` [A, 2k]."""

    embedding: Embedding
    temperature: float = 1.0

    def prob(self) -> Flow:
        """P(y > y'), [A, A]."""
        v = self.embedding
        return general_preference(v.unsqueeze(1), v.unsqueeze(0), temperature=self.temperature)


def fit_general_preference(
    wins: Flow, planes: int, *, temperature: float = 1.0, ridge: float = 0.0, tolerance: float = 1e-7
) -> GeneralPreference:
    """Maximum-likelihood general preference model with k = `planes` planes (the best local optimum).

        max_v  sum_{y, y'} w(y, y') log sigma( s(v_y, v_y')/temperature ) - ridge |v|^2/2,    sum of w = 1

    wins     w up to scale.
    ridge    >= 0. Labels of 0 or 1 put the maximum at infinity, which L-BFGS reaches slowly or not at all; a small
             ridge keeps it finite.

    Quasi-Newton (L-BFGS) in float64; the better result of two initialisations: the strongest planes of the logits
    of the labels (see `schur_embedding`), and the Bradley-Terry fit as the plane v = (r, 1), from which the
    likelihood can only rise. The problem is not convex: a better optimum may exist. Embeddings are unique only
    up to maps that preserve s.

    Raises ValueError for planes < 1 or a temperature that is not positive, NotConverged unless a result has a
    gradient within the tolerance. Source: Zhang et al. 2024 (2410.02197), where a language model writes v.
    """
    if planes < 1:
        raise ValueError(f"planes must be at least 1, got {planes!r}")
    positive(temperature=temperature)
    table = _off_diagonal(wins.unsqueeze(0))[0]
    weight, nothing = table / table.sum(), torch.zeros_like(table)

    def loss(flat: Array) -> tuple[float, Array]:
        v = torch.tensor(flat, dtype=torch.float64).view(len(table), 2 * planes).requires_grad_(True)
        score = skew_score(v.unsqueeze(1), v.unsqueeze(0)) / temperature
        value = ridge / 2 * v.square().sum() + (weight * torch.logaddexp(-score, nothing)).sum()
        (slope,) = torch.autograd.grad(value, v)
        return value.item(), slope.flatten().numpy()

    ends: list[tuple[float, float, Array]] = []
    for start in _starts(table, planes, temperature):
        first: Array = start.flatten().numpy()
        end = scipy_minimize(
            loss,
            first,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 5000, "maxfun": 10_000, "ftol": 0.0, "gtol": tolerance / 10, "maxcor": 30},
        )
        ends.append((float(end.fun), float(np.abs(end.jac).max()), end.x))
    _, slope, best = min(ends, key=lambda end: (end[1] > tolerance, end[0]))
    embedding = torch.as_tensor(best).view(len(table), 2 * planes)
    if slope > tolerance:
        raise NotConverged(
            "general preference model; with labels of 0 or 1, set ridge > 0", residual=slope, best=embedding
        )
    return GeneralPreference(embedding, temperature)


def _starts(wins: Flow, planes: int, temperature: float) -> list[Embedding]:
    """Initial embeddings [A, 2 planes], none exactly zero in a plane (a saddle point of the loss)."""
    total = wins + wins.mT
    share = torch.where(total > 0, wins / total, torch.full_like(wins, 0.5))
    flow = torch.logit(share.clamp(1 - NEARLY_CERTAIN, NEARLY_CERTAIN)) * temperature
    flow.fill_diagonal_(0.0)
    try:
        fitted = fit_bradley_terry(wins.unsqueeze(0))
        strength = fitted.strength[0] if fitted.finite else flow.mean(dim=1)
    except ValueError:  # some cannot be ranked; any initialisation will do
        strength = flow.mean(dim=1)
    reward = torch.stack([strength * temperature, torch.ones_like(strength)], dim=1)
    starts = []
    for start in (schur_embedding(flow, planes)[0], reward):
        wide = torch.zeros(len(wins), 2 * planes, dtype=torch.float64)
        wide[:, : start.shape[1]] = start
        nudge = torch.cos(torch.arange(wide.numel(), dtype=torch.float64) ** 2).view_as(wide)
        starts.append(torch.where(wide.abs().amax(dim=0) > 0, wide, 1e-2 * nudge))
    return starts


def _off_diagonal(wins: Payoff) -> Payoff:
    """The tables in float64 with a zero diagonal. Raises ValueError for invalid weights."""
    table = wins.detach().to(torch.float64).clone()
    if table.ndim != 3 or table.shape[1] != table.shape[2]:
        raise ValueError(f"wins must be a square table of weights, got {tuple(table.shape)}")
    table.diagonal(dim1=1, dim2=2).zero_()
    if not bool((table.isfinite() & (table >= 0)).all()) or not bool((table.sum(dim=(1, 2)) > 0).all()):
        raise ValueError("wins must be finite weights >= 0 with at least one win in every table")
    return table
