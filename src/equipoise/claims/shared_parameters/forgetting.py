"""Fast-slow chasing (2406.05534): what is left of a first domain after a second one was learnt.

A linear softmax policy with a dozen shared features learns two domains one after the other. Each domain's rewards are
linear in the features, with weights that agree more or less (their cosine), so that no policy serves both and
what is learnt second overwrites what was learnt first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import LATER, Array, Claim, Evidence, Scale, Table, interval, verdict
from equipoise.claims.draws import moved_seed, numpy_draws
from equipoise.claims.shared_parameters.shared_world import Shared, SharedWorld
from equipoise.core.dims import Strategy
from equipoise.games.offline import PairData, sample_pairs
from equipoise.games.preference import PreferenceGame
from equipoise.methods.dpo import DPO
from equipoise.methods.ofs_dpo import COFS_DPO, OFS_DPO
from equipoise.play.method import Method
from equipoise.play.players.by_domain import ByDomain
from equipoise.play.round import play_round
from equipoise.play.rows import Rows
from equipoise.play.state import START, State
from equipoise.play.updates.basic import Descend
from equipoise.play.updates.fast_slow import FastSlow

PROMPTS, ACTIONS, FEATURES = 8, 4, 12  # prompts of each domain
PAIRS = 12  # recorded for each prompt
RECALLED = 16  # pairs of each domain on which the weights are chosen
SETTINGS = {"beta": 0.5, "rate": 2.0}
CHASE, SPEED = 0.5, 0.5
ALONE, JOINED, CHASED, BOTH = "DPO", "DPO, combined", "OFS-DPO", "COFS-DPO"


@dataclass(frozen=True)
class TwoDomains(SharedWorld):
    """The first half of the prompts is one domain, the second half the other."""

    def recorded(self, state: State) -> Rows:
        rows = super().recorded(state)
        return replace(rows, domain=(rows.prompts >= PROMPTS).astype(np.intp))


@dataclass(frozen=True, eq=False)
class Problem:
    """features [2 X, A, D]; reward [2 X, A] of the game that labels the data."""

    features: Tensor
    reward: Strategy
    game: PreferenceGame
    data: PairData

    @classmethod
    def draw(cls, agreement: float, seed: int) -> Problem:
        """Reward weights of the two domains with this cosine; Bradley-Terry labels."""
        rng = numpy_draws(seed)
        features = torch.from_numpy(rng.normal(size=(2 * PROMPTS, ACTIONS, FEATURES))) / FEATURES**0.5
        one, across = np.linalg.qr(rng.normal(size=(FEATURES, 2)))[0].T
        other = agreement * one + (1 - agreement**2) ** 0.5 * across
        weights = torch.from_numpy(1.5 * FEATURES**0.5 * np.repeat([one, other], PROMPTS, axis=0))
        reward = torch.einsum("xad,xd->xa", features, weights)
        preference = torch.sigmoid(reward[:, :, None] - reward[:, None, :])
        game = PreferenceGame(preference, [1 / ACTIONS] * ACTIONS)
        return cls(features, reward, game, sample_pairs(game, game.initial(), PAIRS, moved_seed(seed)))

    def table(self, theta: Tensor) -> Strategy:
        return (self.features @ theta).log_softmax(dim=1)

    def accuracy(self, policy: Shared, domain: int) -> float:
        """Share of all pairs of responses that the policy puts in the order of the rewards."""
        own = slice(domain * PROMPTS, (domain + 1) * PROMPTS)
        first, second = np.triu_indices(ACTIONS, 1)
        wanted, found = (t[own][:, first] > t[own][:, second] for t in (self.reward, policy.log_probs()))
        return float((wanted == found).double().mean())


def contenders(stay: int) -> dict[str, Method]:
    """The same pairs and steps for each: `stay` rounds of one gradient step in each domain."""
    players, steps = ByDomain(stay=stay, parts=1), {"stay": stay, "parts": 1, "recall": RECALLED}
    chasing = replace(OFS_DPO, players=players, update=FastSlow(speed=SPEED))
    combined = COFS_DPO.with_parameters({**SETTINGS, **steps, "speed": SPEED})
    return {
        ALONE: replace(DPO, players=players, update=Descend()).with_parameters(SETTINGS),
        JOINED: combined.with_parameters({"chase": 0.0}),
        CHASED: chasing.with_parameters({**SETTINGS, "chase": CHASE}),
        BOTH: combined.with_parameters({"chase": CHASE}),
    }


def accuracies(agreement: float, stay: int, seed: int) -> dict[str, Array]:
    """Of every contender: accuracy on domain 1 after it, and on domains 1 and 2 after both."""
    problem = Problem.draw(agreement, seed)
    world = TwoDomains(problem.game, problem.data)
    found = {}
    for name, method in contenders(stay).items():
        start = Shared(torch.zeros(FEATURES, dtype=torch.float64), problem.table)
        state, seen = State.begin(start, method.update.memory), []
        for done in range(1, 2 * stay + 1):
            state = play_round(method, world, state)
            if done % stay == 0:
                domains = range(done // stay)
                seen += [problem.accuracy(state.policies[START], domain) for domain in domains]
        found[name] = np.array(seen)
    return found


def run(scale: Scale) -> Evidence:
    agreements, stay, seeds = {"quick": ((-0.5,), 40, 12), "full": ((-0.5, 0.0, 0.5), 150, 40)}[scale]
    found: dict[tuple[float, str], Array] = {}
    for agreement in agreements:
        runs = [accuracies(agreement, stay, seed) for seed in range(seeds)]
        found |= {(agreement, name): np.stack([r[name] for r in runs]) for name in runs[0]}
    return judge(found)


def judge(found: Mapping[tuple[float, str], Array]) -> Evidence:
    """found: (agreement, contender) -> [seeds, 3], the columns of `accuracies`."""
    agreements = sorted({agreement for agreement, _ in found})

    def lead(agreement: float, one: str, other: str, of: tuple[int, ...]) -> tuple[float, float, float]:
        """Mean paired lead, averaged over columns, with its 95 % interval."""
        gap = found[agreement, one][:, of].mean(axis=1) - found[agreement, other][:, of].mean(axis=1)
        mean, low, high = interval(gap)
        return float(mean), float(low), float(high)

    questions = {
        "COFS-DPO keeps more of domain 1 than DPO": (BOTH, ALONE, (1,)),
        "OFS-DPO alone keeps more of domain 1 than DPO": (CHASED, ALONE, (1,)),
        "the chase keeps more than the combination alone": (BOTH, JOINED, (1,)),
        "COFS-DPO's mean of both domains exceeds DPO's": (BOTH, ALONE, (1, 2)),
        "OFS-DPO exceeds DPO on the first domain, just learnt": (CHASED, ALONE, (0,)),
    }
    leads = {question: [lead(a, *about) for a in agreements] for question, about in questions.items()}
    held = {question: all(low > 0 for _, low, _ in values) for question, values in leads.items()}
    heart, *others = held.values()
    kept = ", ".join(
        f"{value[0]:+.3f} (cosine {a:g})"
        for a, value in zip(agreements, leads[next(iter(leads))], strict=True)
    )
    return Evidence(
        verdict=verdict(heart, others),
        summary=f"After the second domain COFS-DPO's accuracy on the first differs from DPO's by {kept}. Not shown: "
        f"{'; '.join(question for question, yes in held.items() if not yes) or 'nothing'}.",
        tables=(
            Table(
                "share of pairs in the right order, mean over seeds",
                ("cosine", "method", "domain 1 after it", "domain 1 after both", "domain 2 after both"),
                tuple((a, name, *map(float, values.mean(axis=0))) for (a, name), values in found.items()),
            ),
            Table(
                "paired leads with 95 % intervals",
                ("question", "cosine", "lead", "low", "high"),
                tuple(
                    (question, a, *value)
                    for question, values in leads.items()
                    for a, value in zip(agreements, values, strict=True)
                ),
            ),
        ),
    )


FORGETTING = Claim(
    name="ofs_forgetting",
    sentence="Fast-slow chasing DPO learns a domain better than DPO; combining the fast policies of several domains "
    "(COFS-DPO) keeps what was learnt in earlier ones.",
    paper="2406.05534",
    rule="Equal pairs and gradient steps, at every cosine between the domains' reward weights, by 95 % intervals of "
    "paired differences over seeds. Heart: after domain 2 COFS-DPO's accuracy on domain 1 exceeds DPO's. Also: so does "
    "OFS-DPO's alone; the chase adds to the combination; COFS-DPO's mean over both domains exceeds DPO's; OFS-DPO "
    "exceeds DPO on the domain just learnt.",
    program=run,
    set=f"{LATER} The heart is about the combination (COFS-DPO); the chase is in the other conditions.",
)
