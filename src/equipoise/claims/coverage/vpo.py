"""VPO (2405.19320): one sign explores online, the other guards offline; the wrong one hurts in either place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch

from equipoise.claims.claim import LATER, Array, Cell, Claim, Evidence, Panel, Scale, Table, interval, verdict
from equipoise.claims.coverage import coverage_games as games
from equipoise.claims.exploration.rare_arm import BETA, Design, Plan, learn, references
from equipoise.claims.small_models import LinearSoftmax, always, descend, difference, line
from equipoise.core.dims import Strategy
from equipoise.core.objectives import Vpo
from equipoise.games import enumerate_data

ALPHA = 0.1  # the alpha that decides, in both halves
SHARE = 1e-3  # of each rare arm under the online reference
SIGNS = {"optimistic": True, "pessimistic": False}
ONLINE: Mapping[Scale, Plan] = {
    "quick": Plan(seeds=30, rounds=30, steps=20),
    "full": Plan(seeds=60, rounds=100),
}
NS: Mapping[Scale, tuple[int, ...]] = {"quick": (100, 400), "full": (100, 400, 1600, 6400)}
SEEDS: Mapping[Scale, int] = {"quick": 50, "full": 100}
ALPHAS: Mapping[Scale, tuple[float, ...]] = {"quick": (ALPHA,), "full": (0.01, 0.03, ALPHA, 0.3, 1.0)}
STEPS = 400
MIXED: Design = "with the reference"
OWN: Design = "own pairs"

Key: TypeAlias = tuple[str, float]  # sign, alpha; ("DPO", 0)
Gain: TypeAlias = tuple[float, float, float]  # sub-optimality less that of another: mean, low, high
Online: TypeAlias = Mapping[Design, Mapping[Key, Array]]
Offline: TypeAlias = Mapping[Key, Array]
DPO: Key = ("DPO", 0.0)
UP: Key = ("optimistic", ALPHA)
DOWN: Key = ("pessimistic", ALPHA)


def both_signs(scale: Scale) -> Evidence:
    plan = ONLINE[scale]
    reference = references((SHARE,), plan.seeds)
    designs: tuple[Design, ...] = (MIXED, OWN)
    online = {
        design: {key: learn(o, reference, plan, design).lost for key, o in objectives((ALPHA,)).items()}
        for design in designs
    }
    batch = games.draw(games.LUCKY, NS[scale], SEEDS[scale])
    offline = {
        key: batch.suboptimality(fit(objective, batch))
        for key, objective in objectives(ALPHAS[scale]).items()
    }
    return judge(online, offline, NS[scale], plan.pairs)


def objectives(alphas: tuple[float, ...]) -> dict[Key, Vpo]:
    found: dict[Key, Vpo] = {DPO: Vpo(beta=BETA, alpha=0.0)}
    for sign, optimistic in SIGNS.items():
        found |= {(sign, alpha): Vpo(beta=BETA, alpha=alpha, optimistic=optimistic) for alpha in alphas}
    return found


def fit(objective: Vpo, batch: games.Batch) -> Strategy:
    """Policy of least loss on the recorded pairs, the third response the chosen one, beta log-ratio in the box."""
    rows = enumerate_data(batch.data.share)
    rows = rows._replace(responses=torch.cat([rows.responses, rows.responses[:, :1]], dim=1))
    anchor = batch.start().log_probs()
    features = torch.eye(games.ARMS, dtype=torch.float64).view(1, 1, games.ARMS, games.ARMS) / objective.beta
    model = LinearSoftmax(reference=anchor.unsqueeze(1), features=features)
    feed = always(rows, reference=anchor)
    theta = descend(objective, model, model.start(), feed, steps=STEPS, rate=0.05, bound=games.BOUND)
    return model.log_probs(theta).exp()


def judge(online: Online, offline: Offline, ns: tuple[int, ...], pairs: int) -> Evidence:
    """online: key -> [seeds, rounds + 1] sub-optimality; offline: key -> [seeds, n], the same data for every key."""

    def gain(design: Design, key: Key, than: Key) -> Gain:
        return difference(online[design][key][:, -1], online[design][than][:, -1])

    gains: dict[str, Gain] = {
        "online, optimistic": gain(MIXED, UP, DPO),
        "online, pessimistic": gain(MIXED, DOWN, DPO),
        "offline, pessimistic": paired(offline[DOWN], offline[DPO]),
        "offline, optimistic": paired(offline[UP], offline[DPO]),
        "online with own pairs, optimistic": gain(OWN, UP, DPO),
        "online with own pairs, pessimistic": gain(OWN, DOWN, DPO),
    }
    heart = gains["online, optimistic"][2] < 0 and gains["offline, pessimistic"][2] < 0
    others = (
        gains["online, pessimistic"][1] > 0,
        gains["offline, optimistic"][1] > 0,
        gain(MIXED, UP, DOWN)[2] < 0,
        paired(offline[DOWN], offline[UP])[2] < 0,
        gains["online with own pairs, optimistic"][2] < 0,
    )
    spoken = "; ".join(
        f"{name} {mean:+.3f} [{low:+.3f}, {high:+.3f}]" for name, (mean, low, high) in gains.items()
    )
    alike = online[OWN][DPO][:, -1].mean() - online[OWN][DPO][:, 0].mean()
    return Evidence(
        verdict=verdict(heart, others),
        summary=f"Final sub-optimality less that of DPO at alpha = {ALPHA:g} (offline at n = {ns[-1]}), with 95 % "
        f"intervals: {spoken}. With own pairs DPO itself ends {alike:+.3f} from where it began: a policy that has "
        "settled on one response writes pairs of equals, which no label can tell apart.",
        tables=(*(online_table(d, found, pairs) for d, found in online.items()), offline_table(offline, ns)),
        panels=panels(online, offline, ns, pairs),
    )


def paired(first: Array, second: Array) -> Gain:
    """Mean difference at the largest n with its 95 % interval, the data sets being the same."""
    mean, low, high = interval((first - second)[:, -1:])
    return float(mean[0]), float(low[0]), float(high[0])


def online_table(design: Design, online: Mapping[Key, Array], pairs: int) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for key, lost in online.items():
        mean, low, _ = interval(lost[:, -1])
        rows.append((*key, float(mean), float(mean - low), float(lost.mean())))
    total = pairs * (next(iter(online.values())).shape[1] - 1)
    return Table(
        f"online ({design}), a rare best arm of share {SHARE:g}: sub-optimality after {total} pairs, reward",
        ("sign", "alpha", "last", "±", "mean over rounds"),
        tuple(rows),
    )


def offline_table(offline: Mapping[Key, Array], ns: tuple[int, ...]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for key, lost in offline.items():
        mean, low, _ = interval(lost)
        rows.append((*key, *map(float, mean), float(mean[-1] - low[-1])))
    return Table(
        "offline, lucky arms: sub-optimality by n, reward",
        ("sign", "alpha", *map(str, ns), f"± at {ns[-1]}"),
        tuple(rows),
    )


def panels(online: Online, offline: Offline, ns: tuple[int, ...], pairs: int) -> tuple[Panel, ...]:
    rounds = online[MIXED][DPO].shape[1] - 1
    at = sorted({round(t * rounds / 25) for t in range(26)})
    return (
        *(
            Panel(
                f"online, {design}, alpha = {ALPHA:g}",
                "labelled pairs",
                "sub-optimality, reward",
                tuple(line(sign, [pairs * t for t in at], lost[:, at]) for (sign, _), lost in found.items()),
                log_x=False,
                log_y=False,
            )
            for design, found in online.items()
        ),
        Panel(
            f"offline, lucky arms, alpha = {ALPHA:g}",
            "recorded pairs n",
            "sub-optimality, reward",
            tuple(line(sign, ns, lost) for (sign, alpha), lost in offline.items() if alpha in (0, ALPHA)),
            log_y=False,
        ),
    )


SIGNS_MATTER = Claim(
    name="vpo_optimism_pessimism",
    sentence="The same term, the optimal value of the fitted reward, explores online with the sign of optimism "
    "and guards offline against over-optimisation with the sign of pessimism; the other sign hurts in either place.",
    paper="2405.19320",
    rule=f"Heart: at alpha = {ALPHA:g} optimism ends below DPO online (a best arm that the reference rarely "
    "writes; every pair holds one response of the reference, which makes it XPO) and pessimism below DPO offline "
    "(poor arms seen rarely, at the largest n): the 95 % intervals of both differences of sub-optimality lie "
    "below 0. Also: with the signs flipped both differences lie above 0; in either place the right sign is below "
    "the wrong one; and optimism is below DPO also where both responses of a pair are the policy's own.",
    program=both_signs,
    set=f"{LATER} Own pairs are no part of the heart; with them optimism does not help (the last condition).",
)
