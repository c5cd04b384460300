"""XPO (2405.21046): online DPO does not find a response that the reference rarely writes; paid to leave it, it does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from equipoise.claims.claim import LATER, Cell, Claim, Evidence, Panel, Scale, Table, interval, verdict
from equipoise.claims.exploration.rare_arm import BETA, RARE, Design, Plan, Run, learn, references
from equipoise.claims.small_models import difference, line
from equipoise.core.objectives import Dpo, Vpo, Xpo
from equipoise.core.objectives.base import Objective

ALPHA = 0.01  # the alpha that decides
SHARE = 1e-3  # the share of each rare arm that decides
DPO, XPO, WRONG = "online DPO", f"XPO alpha {ALPHA:g}", f"wrong sign alpha {ALPHA:g}"
PLANS: Mapping[Scale, Plan] = {
    "quick": Plan(seeds=40, rounds=40, steps=25),
    "full": Plan(seeds=60, rounds=100),
}
SHARES: Mapping[Scale, tuple[float, ...]] = {"quick": (1e-2, 1e-3), "full": (1e-1, 1e-2, 1e-3, 1e-4)}
ALPHAS: Mapping[Scale, tuple[float, ...]] = {"quick": (), "full": (1e-4, 1e-3, 3e-3, 3e-2, 0.1)}
DESIGN: Design = "with the reference"

Results = Mapping[tuple[str, float], Run]


def explores(scale: Scale) -> Evidence:
    plan, shares = PLANS[scale], SHARES[scale]
    everywhere: dict[str, Objective] = {
        DPO: Dpo(beta=BETA),
        XPO: Xpo(beta=BETA, alpha=ALPHA),
        WRONG: Vpo(beta=BETA, alpha=ALPHA / BETA, optimistic=False),
    }
    found: dict[tuple[str, float], Run] = {}
    for name, objective in everywhere.items():
        run = learn(objective, references(shares, plan.seeds), plan, DESIGN)
        for i, share in enumerate(shares):
            mine = slice(i * plan.seeds, (i + 1) * plan.seeds)
            found[name, share] = Run(lost=run.lost[mine], good=run.good[mine])
    for alpha in ALPHAS[scale]:
        objective = Xpo(beta=BETA, alpha=alpha)
        found[f"XPO alpha {alpha:g}", SHARE] = learn(
            objective, references((SHARE,), plan.seeds), plan, DESIGN
        )
    return judge(found, plan.pairs)


def judge(found: Results, pairs: int) -> Evidence:
    """found: (method, share of a rare arm) -> what happened, with `pairs` new pairs a round."""
    shares = sorted({share for _, share in found}, reverse=True)
    end = {key: interval(run.lost[:, -1]) for key, run in found.items()}

    def below(first: str, second: str, share: float) -> bool:
        return difference(found[first, share].lost[:, -1], found[second, share].lost[:, -1])[2] < 0

    rarest = shares[-1]
    gone = [float(found[DPO, share].good[:, -1].mean()) for share in shares]
    others = (
        below(XPO, WRONG, SHARE),
        rarest == SHARE or below(XPO, DPO, rarest),
        bool((np.diff(gone) <= 0).all()),
    )
    total = pairs * (found[DPO, SHARE].lost.shape[1] - 1)
    written = {name: found[name, SHARE].good[:, -1].mean() for name in (DPO, XPO, WRONG)}
    return Evidence(
        verdict=verdict(below(XPO, DPO, SHARE), others),
        summary=f"With rare arms of share {SHARE:g} and {total} pairs, {DPO} ends {end[DPO, SHARE][0]:.3f} below the "
        f"optimum, {XPO} {end[XPO, SHARE][0]:.3f}, {WRONG} {end[WRONG, SHARE][0]:.3f}; they write the best arm "
        f"with probability {written[DPO]:.2f}, {written[XPO]:.2f} and {written[WRONG]:.2f}. As the arm becomes "
        f"rarer ({', '.join(f'{share:g}' for share in shares)}), {DPO} writes it "
        f"{', '.join(f'{good:.2f}' for good in gone)}.",
        tables=(last_table(found, total), course_table(found, pairs)),
        panels=panels(found, shares, pairs),
    )


def last_table(found: Results, total: int) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (method, share), run in found.items():
        mean, low, _ = interval(run.lost[:, -1])
        rows.append(
            (
                method,
                share,
                float(mean),
                float(mean - low),
                float(run.good[:, -1].mean()),
                float(run.lost.mean()),
            )
        )
    return Table(
        f"after {total} pairs: regularised sub-optimality beta KL(pi||pi*), reward",
        ("method", "share", "last", "±", "pi(best arm)", "mean over rounds"),
        tuple(rows),
    )


def course_table(found: Results, pairs: int) -> Table:
    runs = {method: run for (method, share), run in found.items() if share == SHARE}
    rounds = next(iter(runs.values())).lost.shape[1] - 1
    at = sorted({0, rounds // 20, rounds // 8, rounds // 4, rounds // 2, rounds})
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (method, *(float(run.lost[:, t].mean()) for t in at)) for method, run in runs.items()
    )
    return Table(
        f"mean sub-optimality by pairs seen, share {SHARE:g}", ("method", *(str(pairs * t) for t in at)), rows
    )


def panels(found: Results, shares: list[float], pairs: int) -> tuple[Panel, ...]:
    runs = {method: run for (method, share), run in found.items() if share == SHARE}
    rounds = next(iter(runs.values())).lost.shape[1] - 1
    shown = [m for m in runs if m in (DPO, XPO, WRONG) or m.endswith(" 0.1")]
    at = sorted({round(t) for t in np.linspace(0, rounds, 26)})
    course = tuple(line(method, [pairs * t for t in at], runs[method].lost[:, at]) for method in shown)
    both = (DPO, XPO, WRONG)
    rarity = tuple(
        line(method, shares[::-1], np.stack([found[method, s].good[:, -1] for s in shares[::-1]], axis=1))
        for method in both
    )
    return (
        Panel(
            f"{RARE} rare arms of share {SHARE:g}, one of them the best",
            "labelled pairs",
            "sub-optimality, reward",
            course,
            log_x=False,
            log_y=False,
        ),
        Panel(
            f"after {pairs * rounds} pairs",
            "share of a rare arm under the reference",
            "probability of the best arm",
            rarity,
            log_y=False,
        ),
    )


EXPLORES = Claim(
    name="xpo_explores",
    sentence="Online DPO from a reference that rarely writes the best response does not find it; with XPO's term "
    "alpha log pi(y) on responses of the reference it does, in a number of pairs that does not blow up with rarity.",
    paper="2405.21046",
    rule=f"Heart: with rare arms of share {SHARE:g} XPO's final sub-optimality (alpha = {ALPHA:g}) is below that "
    "of online DPO, which is XPO with alpha = 0: the 95 % interval of their difference holds no zero. Also: it "
    "is below that of the term with the wrong sign; the same holds against online DPO at the rarest share run; "
    "and the rarer the arm, the less online DPO writes it. Other alphas are shown beside it and do not count.",
    program=explores,
    set=f"{LATER} The other alphas in the table show how much depends on the one that decides.",
)
