"""SPAC (2406.04274): the saddle point of its game, and one arm that was lucky."""

from __future__ import annotations

import numpy as np
import torch

from equipoise.claims.claim import Claim, Evidence, Scale, Table, verdict
from equipoise.claims.draws import numpy_draws
from equipoise.games import PairData, TabularPolicy, offline
from equipoise.games.closed_form import spac_saddle
from equipoise.games.spac_t import critic, spac_t

ARMS = 4
CLOSE = 1e-4
WINS = 0.7  # P(a beats b) in the game of two arms


def saddle(scale: Scale) -> Evidence:
    seeds, rounds = {"quick": (2, 2000), "full": (20, 6000)}[scale]
    rows = [saddle_row(lam, seeds, rounds) for lam in (0.3, 0.8, 1.0, 1.1)]
    return judge_saddle(rows, [two_arms_row(lam, rounds) for lam in (0.25, 0.5, 1.0, 2.0, 5.0)])


def saddle_row(lam: float, seeds: int, rounds: int) -> tuple[float, float, float]:
    """(lam, largest distance of the last iterate from the closed form, spread of its critic)."""
    data = offline.stack([dense_pairs(seed) for seed in range(seeds)])
    run = spac_t(data, uniform(seeds, ARMS), lam=lam, bound=5.0, eta=0.05, rounds=rounds)
    off = (run.last.probs() - spac_saddle(data.winner, data.loser, lam).probs()).abs().max()
    return lam, float(off), float((run.critic.amax(dim=1) - run.critic.amin(dim=1)).max())


def two_arms_row(lam: float, rounds: int) -> tuple[float, float, float]:
    """(lam, measured pi(a), min(1, 1/2 + lam (p - 1/2)))."""
    data = offline.from_pairs([(0, 0, 1, WINS), (0, 1, 0, 1 - WINS)], 1, 2)
    run = spac_t(data, uniform(1, 2), lam=lam, bound=5.0, eta=0.1, rounds=rounds)
    return lam, float(run.last.probs()[0, 0]), min(1.0, 0.5 + lam * (WINS - 0.5))


def judge_saddle(four: list[tuple[float, float, float]], two: list[tuple[float, float, float]]) -> Evidence:
    off = max(row[1] for row in four)
    off_two = max(abs(measured - expected) for _, measured, expected in two)
    return Evidence(
        verdict=verdict(off < CLOSE, (off_two < CLOSE,)),
        summary=f"The last iterate meets the closed form to {off:.1g} on random data over {ARMS} arms and to "
        f"{off_two:.1g} on two arms.",
        tables=(
            Table(
                f"{ARMS} arms, random pairs: last iterate against [(1 + lambda) w + (1 - lambda) l]/2",
                ("lambda", "largest difference", "spread of the critic"),
                tuple(four),
            ),
            Table(
                f"two arms, a beats b with probability {WINS:g}: pi(a)",
                ("lambda", "measured", "min(1, 1/2 + lambda (p - 1/2))"),
                tuple(two),
            ),
        ),
    )


def dense_pairs(seed: int) -> PairData:
    """Random counts of every ordered pair."""
    counts = numpy_draws(seed).integers(5, 40, size=(1, ARMS, ARMS)).astype(float)
    return PairData(torch.as_tensor(counts * (1 - np.eye(ARMS))))


def uniform(prompts: int, arms: int) -> TabularPolicy:
    return TabularPolicy(torch.zeros(prompts, arms, dtype=torch.float64))


def lucky_arm(scale: Scale) -> Evidence:
    """60 times a > b, 40 times b > a, once c > a; the critic's box is 2, the start (0.4, 0.4, 0.2)."""
    rounds = {"quick": 1000, "full": 3000}[scale]
    lams = (5.0, 10.0, 30.0, 1000.0)
    data = offline.from_pairs([(0, 0, 1, 60), (0, 1, 0, 40), (0, 2, 0, 1)], 1, 3)
    start = TabularPolicy.from_probs([[0.4, 0.4, 0.2]] * len(lams))
    run = spac_t(
        offline.stack([data] * len(lams)),
        start,
        lam=torch.tensor(lams, dtype=torch.float64),
        bound=2.0,
        eta=0.05,
        rounds=rounds,
    )
    greedy = critic(data, TabularPolicy.from_probs(data.mu), lam=1.0, bound=2.0)[0]
    found = [(lam, *row) for lam, row in zip(lams, run.mixture().probs().tolist(), strict=True)]
    return judge_lucky_arm(found, greedy.tolist())


def judge_lucky_arm(found: list[tuple[float, ...]], greedy: list[float]) -> Evidence:
    """found: (lambda, pi(a), pi(b), pi(c)) with lambda ascending, lambda = sqrt(n) second."""
    fooled = max(range(3), key=greedy.__getitem__) == 2
    moderate, extreme = found[1], found[-1]
    return Evidence(
        verdict=verdict(fooled and moderate[1] > 0.8, (extreme[3] > 0.8,)),
        summary=f"The maximum-likelihood reward ranks {'abc'[int(np.argmax(greedy))]} first. SPAC-T at lambda = "
        f"{moderate[0]:g} (about sqrt(n)) writes a with probability {moderate[1]:.3f} and c with {moderate[3]:.3f}; "
        f"at lambda = {extreme[0]:g} it writes c with {extreme[3]:.3f}.",
        tables=(
            Table("mixture of SPAC-T", ("lambda", "a", "b", "c"), tuple(found)),
            Table("maximum-likelihood reward in the box", ("a", "b", "c"), (tuple(greedy),)),
        ),
    )


SADDLE = Claim(
    name="spac_saddle",
    sentence="Self-play against the adversarial critic settles at a saddle point of the Stackelberg game; inside the "
    "simplex it is [(1 + lambda) w + (1 - lambda) l]/2, with w and l the shares of winners and losers (derived here).",
    paper="2406.04274",
    rule="Heart: on random data over four arms the last iterate meets the closed form to 1e-4 for every lambda. "
    "Also: on two arms it meets min(1, 1/2 + lambda (p - 1/2)) to 1e-4.",
    program=saddle,
)

LUCKY_ARM = Claim(
    name="spac_lucky_arm",
    sentence="Pessimism keeps an arm that was seen once, and won, from being chosen, where the maximum-likelihood "
    "reward chooses it; as lambda grows the greedy choice returns.",
    paper="2406.04274",
    rule="Heart: the maximum-likelihood reward ranks the lucky arm c first, and SPAC-T at lambda about sqrt(n) writes "
    "the well-covered best arm a with probability above 0.8. Also: at lambda = 1000 it writes c with probability "
    "above 0.8.",
    program=lucky_arm,
)
