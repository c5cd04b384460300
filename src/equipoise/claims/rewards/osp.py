"""OSP (2405.14103): the strength of a preference as its label keeps margins where the judge has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from equipoise.claims.claim import Array, Claim, Evidence, Panel, Scale, Table, interval, verdict
from equipoise.claims.draws import numpy_draws
from equipoise.claims.small_models import line
from equipoise.core.dims import Strategy
from equipoise.core.objectives import Dpo
from equipoise.games import PreferenceGame, zoo
from equipoise.games.expectation import Comparisons
from equipoise.games.fit import gradient
from equipoise.play.pairings.ranking import Neighbours
from equipoise.play.pairings.sampled import logit
from equipoise.play.rows import Rows
from equipoise.play.state import State
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
    }
    return {name: _comparisons(replace(pairs, prob=prob)) for name, prob in forms.items()}


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
    last = {name: interval(c.error[:, -1:]) for name, c in courses.items()}
    error = {name: float(mean[0]) for name, (mean, _, _) in last.items()}
    least = {name: float(low[0]) for name, (_, low, _) in last.items()}
    more = interval((courses[WINNERS].lost - courses[STRENGTHS].lost)[:, -1:])
    heart = float(courses[STRENGTHS].error[:, -1].max()) <= NEAR and min(least[WINNERS], least[DRAWN]) > FAR
    return Evidence(
        verdict=verdict(heart, (float(more[1][0]) > 0,)),
        summary=f"After {at[-1]} steps the implicit preference is off by {error[STRENGTHS]:.2g} on average with "
        f"strengths, by {error[WINNERS]:.2f} with winners and {error[DRAWN]:.2f} with one drawn label for each pair; "
        f"smoothing all winners alike leaves {error[SMOOTHED]:.2f}. Winners cost {float(more[0][0]):.2f} of the "
        f"regularised reward ({float(more[1][0]):.2f} to {float(more[2][0]):.2f}).",
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
                        error[name],
                        least[name],
                        float(last[name][2][0]),
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
    sentence="Preference strengths as soft labels train a policy whose implicit reward has the judge's own margins; "
    "trained on winners alone it is over-confident.",
    paper="2405.14103",
    rule="Heart: on Bradley-Terry games, neighbours in the ranking, the mean |sigma(margin) - P| over all pairs ends "
    f"at {NEAR:g} or less in every game with strengths, and above {FAR:g} (95 % interval over games) with winners and "
    "with one drawn label for each pair. Also: the regularised reward ends higher with strengths than with winners. "
    "Smoothed winners, a judge who is too sure, and the best that each label reaches on the way are shown and do not "
    "count.",
    program=run,
)
