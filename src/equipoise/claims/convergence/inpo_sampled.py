"""INPO (2407.00617) from labels alone: how many comparisons a gap costs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from equipoise.claims.claim import Array, Claim, Evidence, Panel, Scale, Table, interval, log_slope, verdict
from equipoise.claims.convergence.sampled_rounds import labelled_pairs, random_games
from equipoise.claims.draws import numpy_draws
from equipoise.claims.small_models import line
from equipoise.core.objectives import Inpo
from equipoise.games import PreferenceGame, TabularPolicy, gap_tau, minimise

TAU, SIZE, PAIRS = 0.1, 5, 64  # KL weight, responses of a game, comparisons of a round
LIMIT = -0.4  # power of the number of comparisons: -1/2 with a tenth for logarithms
SHARE = 0.25  # of the reference's gap that may be left
SCHEDULE, CONSTANT = "eta_t = tau (t + 2)/2", "eta = 0.5"
PLANS: Mapping[Scale, tuple[int, tuple[int, ...]]] = {  # games, rounds at which they are looked at
    "quick": (16, (8, 32, 128, 256)),
    "full": (64, (8, 32, 128, 512, 2048)),
}


def run(scale: Scale) -> Evidence:
    count, at = PLANS[scale]
    game = random_games(count, SIZE)
    start = gap_tau(game, game.initial(), TAU).numpy()
    return judge({step: gaps(game, step, at) for step in (SCHEDULE, CONSTANT)}, start, at)


def gaps(game: PreferenceGame, step: str, at: tuple[int, ...]) -> Array:
    """[games, len(at)] regularised gap of the last iterate: INPO's loss minimised on the round's own labelled pairs.

    A response that no pair of a round holds keeps its logit.
    """
    rng, policy, found = numpy_draws(1), game.initial(), []
    for t in range(1, at[-1] + 1):
        rows = labelled_pairs(game, policy.probs(), policy.probs(), PAIRS, rng)
        loss = Inpo(eta=TAU * (t + 2) / 2 if step == SCHEDULE else 0.5, tau=TAU)
        previous = policy.log_probs()
        anchors = {"reference": game.reference.log(), "previous": previous}
        policy = TabularPolicy(minimise(loss, *rows, start=previous, anchors=anchors))
        if t in at:
            found.append(gap_tau(game, policy, TAU).clamp(min=0).numpy())
    return np.stack(found, axis=1)


def judge(found: Mapping[str, Array], start: Array, at: tuple[int, ...]) -> Evidence:
    """found: inverse step -> gaps [games, len(at)]; start: the reference's [games]."""
    asked = [PAIRS * t for t in at]
    slopes = {step: log_slope(asked, values) for step, values in found.items()}
    left = interval((found[SCHEDULE][:, -1] - SHARE * start)[:, None])
    rate, last = slopes[SCHEDULE], float(found[SCHEDULE][:, -1].mean())
    steady = log_slope(asked[1:], found[SCHEDULE][:, 1:])
    return Evidence(
        verdict=verdict(
            rate.value + 2 * rate.error <= LIMIT and float(left[2][0]) < 0,
            (steady.value + 2 * steady.error <= LIMIT,),
        ),
        summary=f"The mean regularised gap falls from {start.mean():.3f} at the reference to {last:.4f} after "
        f"{asked[-1]:,} comparisons a game, as a power of their number of {rate} ({steady} without the first point), "
        f"where O(1/gap^2) comparisons allow -0.5. With a constant inverse step of 0.5 the power is {slopes[CONSTANT]} "
        f"and {found[CONSTANT][:, -1].mean():.4f} is left.",
        tables=(
            Table(
                f"mean gap_tau, tau = {TAU:g}, over {len(start)} random games of {SIZE} responses, by comparisons",
                ("inverse step", *map(str, asked), "power", "standard error"),
                tuple(
                    (step, *map(float, values.mean(axis=0)), slopes[step].value, slopes[step].error)
                    for step, values in found.items()
                ),
            ),
        ),
        panels=(
            Panel(
                "labels alone",
                "comparisons of a game",
                "regularised gap",
                tuple(line(step, asked, values, log=True) for step, values in found.items()),
            ),
        ),
    )


SAMPLED = Claim(
    name="inpo_sampled_pairs",
    sentence="From labelled pairs of its own responses alone, no win rate estimated, INPO's last iterate approaches "
    "the Nash policy of the regularised game; a gap costs at most O(1/gap^2) comparisons.",
    paper="2407.00617",
    rule=f"Random games of {SIZE} responses, tau = {TAU:g}; {PAIRS} pairs of the policy a round, one drawn label each; "
    "the shipped loss is minimised on these pairs, with inverse steps tau (t + 2)/2. Heart: the power of the number of "
    f"comparisons in the mean regularised gap, plus two standard errors over games, is at most {LIMIT:g}, and the gap "
    f"that is left is below a quarter of the reference's (95 % interval over games). Also: so is the power without "
    "the first point. A constant step is shown and does not count.",
    program=run,
)
