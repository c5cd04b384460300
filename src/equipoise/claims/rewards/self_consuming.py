"""Self-consuming training with curation (2407.09499): what K-choice curation optimises, and what real data prevents.

Random games, each loop in closed form (`games.curation`): the next policy is the maximum-likelihood fit to what a
Bradley-Terry choice keeps of K samples, mixed with a share of real data, from which every loop starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.claims.claim import Array, Claim, Evidence, Panel, Scale, Table, interval, verdict
from equipoise.claims.draws import numpy_draws
from equipoise.claims.small_models import line
from equipoise.games.curation import curated, divergence_bound, odds_of

PROMPTS, ACTIONS, CHOICES = 4, 6, 4
ONLY, EVEN, MOSTLY = "curated alone", "half real data", "80 % real data"
REAL: Mapping[str, float] = {
    ONLY: 0.0,
    EVEN: 0.5,
    MOSTLY: 0.8,
}  # lambda infinite, 1 and 1/4: lambda (K - 1) = 3/4
PLANS: Mapping[Scale, tuple[int, int]] = {"quick": (10, 40), "full": (100, 100)}  # games, rounds
LEFT = 0.01  # of the first variance that may be left
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """One loop by game and round, [games, rounds + 1], means over prompts.

    reward, growth   E r, and E e^r.
    least            growth's least increase in the next round by the paper's inequality, the smallest slack over
                     prompts: E' e^r - E e^r - (K - 1)/K Var(e^r)/e^max r, [games, rounds].
    spread           Var e^r.
    kl               the largest KL from the data over prompts, in nats.
    entropy          in nats.
    """

    reward: Array
    growth: Array
    least: Array
    spread: Array
    kl: Array
    entropy: Array


def courses(games: int, rounds: int) -> dict[str, Course]:
    """Every loop on the same games."""
    return {name: course(games, rounds, share) for name, share in REAL.items()}


def course(games: int, rounds: int, share: float) -> Course:
    rng = numpy_draws(7)
    reward = torch.from_numpy(rng.normal(size=(games * PROMPTS, ACTIONS)))
    data = torch.from_numpy(rng.normal(size=reward.shape)).softmax(dim=1)
    value, probs = reward.exp(), data
    rows: list[list[Tensor]] = []
    growths, spreads = [], []
    for number in range(rounds + 1):
        if number:
            probs = curated(probs, odds_of(reward), CHOICES, real=data, share=share)
        growth = (probs * value).sum(dim=1)
        spread = (probs * (value - growth[:, None]) ** 2).sum(dim=1)
        growths.append(growth)
        spreads.append(spread)
        kl = torch.special.xlogy(probs, probs / data).sum(dim=1)
        entropy = -torch.special.xlogy(probs, probs).sum(dim=1)
        rows.append([(probs * reward).sum(dim=1), growth, spread, kl, entropy])
    by_game = [
        torch.stack(values, dim=1).view(games, PROMPTS, rounds + 1) for values in zip(*rows, strict=True)
    ]
    rise = torch.stack(growths, dim=1).diff(dim=1)
    floor = (CHOICES - 1) / CHOICES * torch.stack(spreads[:-1], dim=1) / value.amax(dim=1, keepdim=True)
    slack = (rise - floor).view(games, PROMPTS, rounds).amin(dim=1)
    means = [values.mean(dim=1).numpy() for values in by_game]
    return Course(
        reward=means[0],
        growth=means[1],
        least=slack.numpy(),
        spread=means[2],
        kl=by_game[3].amax(dim=1).numpy(),
        entropy=means[4],
    )


def judge(found: Mapping[str, Course]) -> Evidence:
    only, mostly = found[ONLY], found[MOSTLY]
    rises = bool((only.least >= -ROUNDING).all())
    left = interval((only.spread[:, -1] / only.spread[:, 0])[:, None])
    bound = divergence_bound(CHOICES, REAL[MOSTLY])
    farthest = float(mostly.kl.max())
    gain = interval((mostly.reward[:, -1] - mostly.reward[:, 0])[:, None])
    kept = interval((mostly.entropy[:, -1] - only.entropy[:, -1])[:, None])
    rounds = only.reward.shape[1] - 1
    return Evidence(
        verdict=verdict(
            rises and float(left[2][0]) <= LEFT,
            [farthest <= bound, float(gain[1][0]) > 0, float(kept[1][0]) > 0],
        ),
        summary=f"Curated alone, E e^r rises in every round of every game by what the inequality says at least (least "
        f"slack {only.least.min():.1e}), and after {rounds} rounds {100 * left[0][0]:.2g} % "
        f"({100 * left[1][0]:.2g} to {100 * left[2][0]:.2g}) of the variance of e^r is left, with "
        f"{only.entropy[:, -1].mean():.2f} nats of entropy. With 80 % real data the largest KL from the data is "
        f"{farthest:.2f} nats (bound {bound:.2f}), the reward is {gain[0][0]:.2f} ({gain[1][0]:.2f} to "
        f"{gain[2][0]:.2f}) above the data's, and {mostly.entropy[:, -1].mean():.2f} nats of entropy are left.",
        tables=(
            Table(
                f"after {rounds} rounds, means over {len(only.reward)} games of {PROMPTS} prompts, {CHOICES} choices",
                (
                    "loop",
                    "reward",
                    "reward of the data",
                    "variance of e^r, of the first",
                    "KL, largest",
                    "entropy",
                ),
                tuple(
                    (
                        name,
                        float(of.reward[:, -1].mean()),
                        float(of.reward[:, 0].mean()),
                        float((of.spread[:, -1] / of.spread[:, 0]).mean()),
                        float(of.kl.max()),
                        float(of.entropy[:, -1].mean()),
                    )
                    for name, of in found.items()
                ),
            ),
        ),
        panels=(
            _panel("expected reward", "E r", {name: of.reward for name, of in found.items()}),
            _panel("entropy", "nats", {name: of.entropy for name, of in found.items()}),
        ),
    )


def _panel(title: str, unit: str, values: Mapping[str, Array]) -> Panel:
    rounds = range(next(iter(values.values())).shape[1])
    lines = tuple(line(name, rounds, of) for name, of in values.items())
    return Panel(title, "round", unit, lines, log_x=False, log_y=False)


def run(scale: Scale) -> Evidence:
    return judge(courses(*PLANS[scale]))


CURATION = Claim(
    name="self_consuming_curation",
    sentence="Retraining on curated samples of one's own maximises the expected reward while its variance vanishes; "
    "mixing real data in keeps the loop stable, near the data and still better than it.",
    paper="2407.09499",
    rule=f"Random games of {ACTIONS} responses, {CHOICES} choices, loops in closed form from the data's distribution. "
    "Heart: curated alone, E e^r rises in every round at every prompt by (K - 1)/K Var(e^r)/e^max r at least, and at "
    f"most {100 * LEFT:g} % of the first variance of e^r is left in the end (95 % interval over games). Also: with "
    "80 % real data (lambda (K - 1) = 3/4) the KL from the data stays below -log(1 - lambda (K - 1)) in every round, "
    "the expected reward ends above the data's, and the entropy above that of the loop without real data (95 % "
    "intervals). Half real data, to which no bound applies, is shown and does not count.",
    program=run,
)
