"""Constrained RLHF (2310.04373): proxies are useful up to a point, and constraints stop there.

Each response has proxies r_1, r_2; its true score grows with each proxy and falls again beyond a point, and the two
interact, as correlated rewards do. Proxy points are found on one set of prompts and used on another. Policies are
tables that move by mirror steps on the exact Lagrangian; the multipliers are those of `core.multipliers`, moved once in
each step. The same steps on the plain sum of the proxies are the baseline.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Cell, Claim, Evidence, Scale, Table, interval, verdict
from equipoise.claims.draws import numpy_draws
from equipoise.core.multipliers import Form, Multipliers
from equipoise.games.tabular import TabularPolicy
from equipoise.games.utilities import best_policy, constrained, expected

PROMPTS, ACTIONS, PROXIES = 40, 30, 2  # prompts of each set
TAU, STEPS, STRIDE = 0.1, 600, 0.5  # KL weight, mirror steps, size of a mirror step
RATE, MOMENTUM = 0.1, 0.1  # of the multipliers
STRENGTHS = torch.logspace(-1.5, 1.5, 60, dtype=torch.float64)  # lambda along which points are looked for
SHARED = 0.4  # correlation of the proxies


def drawn(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(proxies [2, X, A] of standard deviation 1, true score [X, A]) of a set of prompts."""
    cov = np.array([[1.0, SHARED], [SHARED, 1.0]])
    proxies = torch.from_numpy(
        rng.multivariate_normal(np.zeros(PROXIES), cov, size=(PROMPTS, ACTIONS)).transpose(2, 0, 1).copy()
    )
    first, second = proxies
    true = first + 0.8 * second - 0.5 * first**2 - 0.7 * second**2 - 0.3 * first * second
    return proxies, true + 0.3 * torch.from_numpy(rng.normal(size=(PROMPTS, ACTIONS)))


def points(proxies: Tensor, true: Tensor, *, jointly: bool) -> Array:
    """Proxy points [2]: the means of the proxies where the true score is highest along lambda.

    jointly    both proxies grow along one lambda; otherwise each alone, as if the other were not there.
    """
    reference = TabularPolicy(torch.zeros(PROMPTS, ACTIONS, dtype=torch.float64))
    best, found = np.full(PROXIES, -np.inf), np.zeros(PROXIES)
    kinds = [np.ones(PROXIES)] if jointly else list(np.eye(PROXIES))
    for place, kind in enumerate(kinds):
        for strength in STRENGTHS:
            policy = best_policy(proxies, strength * torch.from_numpy(kind), reference, 1.0)
            score, at = float(expected(true[None], policy)[0]), expected(proxies, policy).numpy()
            if score > best[place]:
                best[place] = score
                found = at if jointly else np.where(kind > 0, at, found)
    return found


def trained(proxies: Tensor, true: Tensor, thresholds: Array | None, form: Form = "at_least") -> list[float]:
    """[true score at the end, its best on the way, both proxies at the end] of mirror steps.

    thresholds   None: the plain sum of the proxies.
    """
    reference = torch.full((PROMPTS, ACTIONS), -float(np.log(ACTIONS)), dtype=torch.float64)
    logp, multipliers, best = reference, Multipliers.new(PROXIES, form), -np.inf
    for _ in range(STEPS):
        policy = TabularPolicy(logp)
        best = max(best, float(expected(true[None], policy)[0]))
        weights = np.ones(PROXIES)
        if thresholds is not None:
            short = thresholds - expected(proxies, policy).numpy()
            multipliers = multipliers.moved(short, rate=RATE, momentum=MOMENTUM)
            weights = multipliers.relative
        scale = STRIDE / max(1.0, float(np.abs(weights).max()))
        climb = torch.einsum("g,gxa->xa", torch.from_numpy(weights), proxies) - TAU * (logp - reference)
        logp = (logp + scale * climb).log_softmax(dim=1)
    policy = TabularPolicy(logp)
    return [float(expected(true[None], policy)[0]), best, *expected(proxies, policy).tolist()]


def run_of(seed: int) -> Array:
    """[true and miss of each: sum, at least, equal, individually found points], best of the sum, closed form's true
    score, gap of the policies' proxies from the closed form's."""
    rng = numpy_draws([seed, 2310])
    known, unseen = drawn(rng), drawn(rng)
    joint, alone = points(*known, jointly=True), points(*known, jointly=False)
    reference = TabularPolicy(torch.zeros(PROMPTS, ACTIONS, dtype=torch.float64))
    plain = trained(*unseen, None)
    least, equal = trained(*unseen, joint), trained(*unseen, joint, "equal")
    single = trained(*unseen, alone)
    exact = constrained(unseen[0], joint, reference)
    ideal = float(expected(unseen[1][None], exact.policy)[0])
    gap = float(np.abs(np.array(least[2:]) - exact.utilities.numpy()).max())

    return np.array(
        [
            plain[0],
            plain[1],
            least[0],
            float(np.maximum(joint - least[2:], 0.0).max()),
            equal[0],
            float(np.abs(joint - equal[2:]).max()),
            single[0],
            ideal,
            gap,
            sum(plain[2:]) - sum(least[2:]),
        ]
    )


def proxy_points(scale: Scale) -> Evidence:
    return judge(np.array([run_of(seed) for seed in range({"quick": 8, "full": 40}[scale])]))


def judge(figures: Array) -> Evidence:
    """The verdict on figures [seeds, 10] of `run_of`."""
    plain, peak, least, missed, equal, missed_equal, single, ideal, gap, more = figures.T
    gain, over, joint, excess = (
        tuple(float(v) for v in interval(values))
        for values in (least - plain, peak - plain, least - single, more)
    )
    worst = float(max(missed.max(), missed_equal.max()))
    heart = gain[1] > 0 and worst < 0.02
    others = (over[1] > 0 and excess[1] > 0, joint[1] > 0, float(gap.max()) < 0.02)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, float(true.mean()), note)
        for name, true, note in (
            ("sum of the proxies", plain, f"{peak.mean():.2f} at its best on the way"),
            ("constrained, at least", least, f"short of a point by {missed.max():.3f} at most"),
            ("constrained, equal", equal, f"off a point by {missed_equal.max():.3f} at most"),
            ("constrained, points found one by one", single, ""),
            ("closed form", ideal, f"its proxies within {gap.max():.3f} of the trained ones"),
        )
    )

    def shown(values: tuple[float, ...]) -> str:
        return f"{values[0]:.2f} [{values[1]:.2f}, {values[2]:.2f}]"

    return Evidence(
        verdict=verdict(heart, others),
        summary=f"Constraints at the proxy points are met within {worst:.3f} standard deviations, and the true score "
        f"is higher by {shown(gain)} than that of maximising the sum of the proxies, which loses {shown(over)} of its "
        f"own best. Points found jointly are better than points found one by one by {shown(joint)}.",
        tables=(
            Table(f"{len(figures)} games: true score on new prompts", ("policy", "true score", ""), rows),
        ),
    )


PROXY_POINTS = Claim(
    name="constrained_proxy_points",
    sentence="Reward models are effective proxies only up to a point; constraining each to its proxy point by Lagrange "
    "multipliers prevents over-optimisation, and correlated rewards need points that are found jointly.",
    paper="2310.04373",
    set="A first run of the program counted a constraint of the inequality form that was exceeded as missed (by 0.025"
    " in one game of eight); now only what falls short counts. Nothing else was changed.",
    rule="Two proxies of standard deviation 1 and correlation 0.4, a true score that is quadratic in them; points "
    "found on 40 prompts, 600 steps on 40 others, 95 % intervals over games. Heart: at the end both constraints "
    "are met within 0.02 (short of it, or off it in the form of equalities), and the constrained policy (at "
    "least) has the higher true score than the plain sum's. Also: the sum's true score falls from its best on the"
    " way although its proxies end higher; points found jointly give a higher true score than points found one by"
    " one; the trained policy's proxies are within 0.02 of the closed form's.",
    program=proxy_points,
)
