"""The logic of preference losses (2412.17696): entailment orders losses, and losses derived by it can be trained."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Claim, Evidence, Scale, Table, verdict
from equipoise.claims.draws import torch_draws
from equipoise.claims.intervals import mean_of
from equipoise.semantics.count import loss
from equipoise.semantics.formula import Formula, Truth
from equipoise.semantics.losses import STRUCTURES
from equipoise.semantics.parse import parse
from equipoise.semantics.relate import entails
from equipoise.semantics.structure import Structure

SLACK = 1e-12
ATOMS = ("M(w)", "M(l)", "Ref(w)", "Ref(l)")
MODEL_ROWS = ("M(w) and M(l)", "M(w) and not M(l)", "not M(w) and M(l)", "not M(w) and not M(l)")
ARMS, STEPS, RATE = 6, 200, 0.5
PLANS: Mapping[Scale, tuple[int, int]] = {"quick": (2_000, 8), "full": (200_000, 60)}  # points, games
# between named structures, made from core and condition by hand; neither is a loss of the catalogue
NEW = {
    "implication where one holds": Structure(
        parse("M(l) -> M(w)"), parse("M(w) or M(l) or (Ref(w) and Ref(l))"), parse("false")
    ),
    "winner alone, where the reference has the loser": Structure(
        parse("M(w) and not M(l)"), parse("M(w) or M(l)"), parse("Ref(l) and M(w) and M(l)")
    ),
}


def run(scale: Scale) -> Evidence:
    points, games = PLANS[scale]
    gaps = entailed_gaps(points)
    return judge(gaps, apart(points), count(), {name: trained(s, games) for name, s in NEW.items()})


def drawn(points: int) -> dict[int, Tensor]:
    """Log-probabilities of the four atoms at random points: log-uniform from 1e-6 to 1, and near 1."""
    draw = torch.rand(len(ATOMS), points, generator=torch_draws(0), dtype=torch.float64)
    half = points // 2
    low = (draw[:, :half] - 1) * np.log(1e6)  # log p
    high = torch.log1p(-torch.exp((draw[:, half:] - 1) * np.log(1e6)) * 0.999)
    return dict(enumerate(torch.cat([low, high], dim=1).clamp(max=-1e-9)))


def entailed_gaps(points: int) -> dict[tuple[str, str], float]:
    """(stronger, weaker), for every pair whose rows decide -> least loss of the first less that of the second."""
    at = drawn(points)
    losses = {name: loss(named.structure, at) for name, named in STRUCTURES.items()}
    return {
        (first, second): float((losses[first] - losses[second]).min())
        for first, second in permutations(STRUCTURES, 2)
        if entails(STRUCTURES[first].structure, STRUCTURES[second].structure)
    }


def apart(points: int) -> float:
    """Share of the pairs without entailment, either way, whose losses are not ordered at the drawn points."""
    at = drawn(points)
    losses = {name: loss(named.structure, at) for name, named in STRUCTURES.items()}
    free = [
        (a, b)
        for a, b in permutations(STRUCTURES, 2)
        if a < b
        and not entails(STRUCTURES[a].structure, STRUCTURES[b].structure)
        and not entails(STRUCTURES[b].structure, STRUCTURES[a].structure)
    ]
    crossing = [bool((losses[a] > losses[b]).any() and (losses[a] < losses[b]).any()) for a, b in free]
    return float(np.mean(crossing))


def count() -> tuple[int, int]:
    """Structures over the model's two atoms: the ways to mark four rows, and those that have a loss."""
    total = usable = 0
    for code in range(4 ** len(MODEL_ROWS)):
        marks = [(code >> 2 * k) & 3 for k in range(len(MODEL_ROWS))]  # bit 0 wins, bit 1 loses
        total += 1
        win, lose = (
            _any([row for row, m in zip(MODEL_ROWS, marks, strict=True) if m & bit]) for bit in (1, 2)
        )
        try:
            made = Structure(win, _or(win, lose), _and(win, lose))
        except ValueError:
            continue
        usable += made.win == win.rows and made.lose == lose.rows
    return total, usable


def _any(rows: list[str]) -> Formula:
    return parse(" or ".join(f"({row})" for row in rows)) if rows else Truth(False)


def _or(a: Formula, b: Formula) -> Formula:
    return parse(f"({a}) or ({b})")


def _and(a: Formula, b: Formula) -> Formula:
    return parse(f"({a}) and ({b})")


def trained(structure: Structure, games: int) -> tuple[Array, Array]:
    """(expected reward after training less the reference's, loss before less after), [games] each.

    Gradient descent on a table, over all pairs of a Bradley-Terry game weighed by their labels' probabilities.
    """
    draw = torch_draws(1)
    reward = torch.randn(games, ARMS, generator=draw, dtype=torch.float64)
    reference = torch.randn(games, ARMS, generator=draw, dtype=torch.float64).log_softmax(dim=1)
    w, l = torch.tensor(list(permutations(range(ARMS), 2))).T
    weight = (reward[:, w] - reward[:, l]).sigmoid()
    logits = reference.clone().requires_grad_(True)
    values = []
    for _ in range(STEPS + 1):
        log_pi = logits.log_softmax(dim=1)
        at = {0: log_pi[:, w], 1: log_pi[:, l], 2: reference[:, w], 3: reference[:, l]}
        value = (weight * loss(structure, at)).mean(dim=1)
        values.append(value.detach())
        (slope,) = torch.autograd.grad(value.sum(), logits)
        logits = (logits - RATE * slope).detach().requires_grad_(True)
    gain = ((log_pi.exp() - reference.exp()) * reward).sum(dim=1).detach()
    return gain.numpy(), (values[0] - values[-1]).numpy()


def judge(
    gaps: Mapping[tuple[str, str], float],
    crossing: float,
    structures: tuple[int, int],
    new: Mapping[str, tuple[Array, Array]],
) -> Evidence:
    worst = min(gaps.values())
    gains = {name: (mean_of(gain), mean_of(fall)) for name, (gain, fall) in new.items()}
    learnt = all(gain.low > 0 and fall.low > 0 for gain, fall in gains.values())
    told = "; ".join(f"{name} {gain}" for name, (gain, _) in gains.items())
    return Evidence(
        verdict=verdict(worst >= -SLACK, (structures[0] == 4**2**2, learnt)),
        summary=f"In all {len(gaps)} entailed pairs of the catalogue the stronger loss is never below the "
        f"weaker one (least difference {worst:.1g}); of the pairs without entailment {crossing:.0%} cross. Two "
        f"model atoms mark their rows in {structures[0]} ways, {structures[1]} of which have a loss. Expected "
        f"reward gained by training on two derived losses: {told}.",
        tables=(
            Table(
                "least loss of the stronger less that of the weaker structure",
                ("stronger", "weaker", "least difference"),
                tuple((*pair, gap) for pair, gap in gaps.items()),
            ),
            Table(
                "derived losses, trained on tables",
                ("structure", "reward gained", "from", "to", "fall of the loss", "from", "to"),
                tuple((name, *gain, *fall) for name, (gain, fall) in gains.items()),
            ),
        ),
    )


ENTAILMENT = Claim(
    name="loss_entailment",
    sentence="Entailment between the formulas of preference losses orders the losses; there are 4^(2^n) "
    "structures over n atoms, and losses that are derived from them can be trained.",
    paper="2412.17696",
    rule="Heart: at random probabilities of the four atoms, the loss of the stronger structure is nowhere "
    f"below that of the weaker one by more than {SLACK:g}, for every pair of the catalogue in which one "
    "entails the other by its rows. Also: two model atoms give 4^(2^2) = 256 ways to mark their rows; and "
    "gradient descent on each of two structures that no catalogued loss has raises the expected reward and "
    "lowers the loss, beyond the 95 % intervals over games. The share of pairs without entailment that cross "
    "is shown and does not count.",
    program=run,
)
