"""OSP (2405.14103): the strength of a preference as its label, from a judge who is noisy, and from one who is not.

A noisy judge answers each pair VOTES times by one draw of a probability of its own, whose log-odds lie off the true
ones by normal noise. The share of its votes is the strength, their majority the winner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from equipoise.claims.claim import Array, Claim, Evidence, Panel, Scale, Table, verdict
from equipoise.claims.draws import numpy_draws
from equipoise.claims.intervals import mean_of
from equipoise.claims.small_models import line
from equipoise.core.dims import Strategy
from equipoise.core.objectives import Dpo
from equipoise.games import PreferenceGame, zoo
from equipoise.games.expectation import Comparisons
from equipoise.games.fit import gradient
from equipoise.play.pairings.ranking import Neighbours
from equipoise.play.pairings.sampled import logit
from equipoise.play.rows import Rows
from equipoise.play.state import Floats, State
from equipoise.worlds.table.world import TableWorld

ARMS, BETA, RATE = 6, 0.5, 20.0
SPREAD = 1.0  # standard deviation of the rewards
SMOOTHING = 0.1
NEAR, FAR = 0.01, 0.1  # mean |sigma(margin) - P| that counts as recovered, and as not
STRENGTHS, WINNERS, DRAWN, SMOOTHED = (
    "strengths (OSP)",
    "winners (DPO)",
    "one drawn label",
    "winners, smoothed",
)
LOUD = "strengths, doubled log-odds"  # of a judge who is too sure
SHARES, MAJORITY, VOTE = "shares of votes (OSP)", "majority of votes", "one vote"
VOTES, NOISE = 5, 0.5  # questions a pair; standard deviation of the judge's log-odds
PLANS: Mapping[Scale, tuple[int, int]] = {"quick": (12, 3000), "full": (100, 10_000)}  # seeds, steps


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """[seeds, len(at)]: mean |sigma(margin) - P| over all pairs, and how far E r - beta KL is below its maximum."""

    error: Array
    lost: Array


def run(scale: Scale) -> Evidence:
    seeds, steps = PLANS[scale]
    rewards = SPREAD * torch.as_tensor(numpy_draws(0).normal(size=(seeds, ARMS)))
    game = zoo.bradley_terry(rewards)
    at = sorted({round(t) for t in np.geomspace(1, steps, 16)})
    return judge({name: course(game, rewards, rows, at) for name, rows in labels(game).items()}, at)


def labels(game: PreferenceGame) -> dict[str, Comparisons]:
    """Neighbours in the ranking of every response of each prompt, with the label in four forms."""
    world, state = TableWorld(game), State.begin(game.initial())
    every = np.tile(np.arange(game.actions), (game.prompts, 1))
    own = Rows(
        prompts=np.arange(game.prompts),
        responses=every,
        weight=np.ones(game.prompts),
        writers=("start",) * game.actions,
    )
    pairs = Neighbours().form(world, state, own)
    assert pairs.prob is not None
    won = (pairs.prob >= 0.5).astype(float)
    drawn = (numpy_draws(1).random(len(pairs)) < pairs.prob).astype(float)
    forms = {
        STRENGTHS: pairs.prob,
        WINNERS: won,
        DRAWN: drawn,
        SMOOTHED: (1 - SMOOTHING) * won + SMOOTHING * (1 - won),
        LOUD: 1 / (1 + np.exp(-2 * logit(pairs.prob))),
        **noisy(pairs.prob),
    }
    return {name: _comparisons(replace(pairs, prob=prob)) for name, prob in forms.items()}


def noisy(prob: Floats) -> dict[str, Floats]:
    """Labels of the noisy judge in three forms, from the same votes."""
    rng = numpy_draws(2)
    own = 1 / (1 + np.exp(-logit(prob) - NOISE * rng.normal(size=prob.shape)))
    votes = (rng.random((VOTES, len(prob))) < own).astype(float)
    return {SHARES: votes.mean(axis=0), MAJORITY: (votes.mean(axis=0) > 0.5).astype(float), VOTE: votes[0]}


def _comparisons(rows: Rows) -> Comparisons:
    assert rows.prob is not None
    return Comparisons(*map(torch.from_numpy, (rows.prompts, rows.responses, rows.weight, rows.prob)))


def course(game: PreferenceGame, rewards: Strategy, rows: Comparisons, at: list[int]) -> Course:
    """Gradient steps from the reference on DPO's loss in expectation over the labels."""
    reference = game.initial().log_probs()
    logits, found = reference, []
    for step in range(1, at[-1] + 1):
        slope = gradient(Dpo(beta=BETA), rows, start=logits, anchors={"reference": reference})
        logits = (logits - RATE * slope).log_softmax(dim=1)
        if step in at:
            found.append((miscalibration(game, logits - reference), shortfall(rewards, logits, reference)))
    error, lost = (np.stack([f[k].numpy() for f in found], axis=1) for k in (0, 1))
    return Course(error=error, lost=lost)


def miscalibration(game: PreferenceGame, ratio: Strategy) -> torch.Tensor:
    """[X] mean over pairs of |sigma(beta (lr_i - lr_j)) - P(i > j)|."""
    said = (BETA * (ratio[:, :, None] - ratio[:, None, :])).sigmoid()
    off = (said - game.preference).abs().sum(dim=(1, 2))
    return off / (game.actions * (game.actions - 1))


def shortfall(rewards: Strategy, logits: Strategy, reference: Strategy) -> torch.Tensor:
    """[X] max E r - beta KL less that of the policy; the maximum is beta log E_ref exp(r/beta)."""
    best = BETA * (reference + rewards / BETA).logsumexp(dim=1)
    probs = logits.exp()
    return best - (probs * (rewards - BETA * (logits - reference))).sum(dim=1)


def judge(courses: Mapping[str, Course], at: list[int]) -> Evidence:
    error = {name: mean_of(c.error[:, -1]) for name, c in courses.items()}
    last = {
        name: mean_of(courses[name].lost[:, -1] - courses[SHARES].lost[:, -1]) for name in (MAJORITY, VOTE)
    }
    stopped = mean_of(courses[MAJORITY].lost.min(axis=1) - courses[SHARES].lost.min(axis=1))
    exact = (
        float(courses[STRENGTHS].error[:, -1].max()) <= NEAR
        and min(error[WINNERS].low, error[DRAWN].low) > FAR
    )
    return Evidence(
        verdict=verdict(last[MAJORITY].low > 0 and last[VOTE].low > 0, (stopped.low > 0, exact)),
        summary=f"After {at[-1]} steps on {VOTES} votes a pair of a noisy judge, the majority as winner costs "
        f"{last[MAJORITY]} more of the regularised reward than the share of votes as strength, and a single "
        f"vote {last[VOTE]} more; each stopped at its best step, the majority costs {stopped} more. The "
        f"implicit preference is off by {error[SHARES].value:.2f}, {error[MAJORITY].value:.2f} and "
        f"{error[VOTE].value:.2f}; with a judge's exact strengths by {error[STRENGTHS].value:.2g}, with its "
        f"winners by {error[WINNERS].value:.2f}.",
        tables=(
            Table(
                f"after {at[-1]} steps, means over {len(courses[WINNERS].error)} games",
                (
                    "label",
                    "mean |sigma(margin) - P|",
                    "low",
                    "high",
                    "least on the way",
                    "lost E r - beta KL",
                    "least lost",
                ),
                tuple(
                    (
                        name,
                        *error[name],
                        float(c.error.mean(axis=0).min()),
                        float(c.lost[:, -1].mean()),
                        float(c.lost.mean(axis=0).min()),
                    )
                    for name, c in courses.items()
                ),
            ),
        ),
        panels=(
            Panel(
                "implicit preferences against the judge's",
                "gradient steps",
                "mean |sigma(margin) - P|",
                tuple(line(name, at, c.error) for name, c in courses.items()),
                log_y=False,
            ),
            Panel(
                "regularised reward lost",
                "gradient steps",
                "best E r - beta KL less that of the policy",
                tuple(line(name, at, c.lost) for name, c in courses.items()),
                log_y=False,
            ),
        ),
    )


STRENGTHS_CLAIM = Claim(
    name="osp_strengths",
    sentence="Preference strengths of a noisy judge, as soft labels, keep a policy from overfitting to its "
    "winners.",
    paper="2405.14103",
    rule="Bradley-Terry games, neighbours in the ranking of all responses, gradient steps from the reference "
    f"on DPO's loss with labels from {VOTES} votes a pair of a judge whose log-odds are off by normal noise of "
    f"{NOISE:g}. Heart: the regularised reward E r - beta KL ends higher with shares of votes than with the "
    "majority, and than with one vote, beyond the paired 95 % interval over games. Also: so it is, against "
    "the majority, with each stopped at its own best step; and with a judge without noise the mean "
    f"|sigma(margin) - P| ends at {NEAR:g} or less in every game with strengths, above {FAR:g} (interval) with "
    "winners and with one drawn label a pair. Smoothed winners and a judge who is too sure are shown and do "
    "not count.",
    program=run,
    set="a first rule had the judge without noise alone, where soft labels fit soft labels; the noisy one was "
    "set after its figures, with no run on votes.",
)
