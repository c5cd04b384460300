"""Own samples and negative gradients (2404.14367): a bandit whose best responses are common, less common or rare.

A hundred responses, from one of 7 % of the reference to one of 7e-5, and a reward with one peak. Every learner sees
the same number of labelled pairs, in as many steps of as many pairs: recorded ones of the reference, each once, or
its own. Maximum likelihood of winners has no negative gradient, DPO has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from equipoise.claims.claim import Array, Claim, Evidence, Scale, Table, interval, verdict
from equipoise.claims.draws import numpy_draws
from equipoise.claims.intervals import Mean, mean_of
from equipoise.claims.small_models import LinearSoftmax, choose, descend, kl_rows
from equipoise.core.dims import Strategy
from equipoise.core.objectives import Dpo, Rloo, Sft
from equipoise.core.objectives.base import Objective
from equipoise.games.expectation import Comparisons

ARMS, DECAY, WIDTH, HEIGHT = (
    100,
    0.07,
    6.0,
    4.0,
)  # responses, nats from one to the next, the peak's width and reward
PEAKS: Mapping[str, int] = {"mode": 0, "tenth percentile": 33, "tail": 70}
BETA, PAIRS = 0.1, 16  # of DPO and RLOO; pairs of a step
RATES = (0.01, 0.03, 0.1, 0.3)
CLOSE = 0.05  # share of the peak's reward that counts as none
REUSE = 16  # steps that a batch of own pairs serves
PLANS: Mapping[Scale, tuple[int, int]] = {"quick": (6, 96), "full": (20, 400)}  # seeds, steps


@dataclass(frozen=True)
class Learner:
    """A loss, and how many steps the policy's own samples serve; 0: recorded pairs of the reference."""

    objective: Callable[[], Objective]
    serve: int


SFT, DPO = "winners' likelihood, recorded", "DPO, recorded"
OWN_SFT, OWN_DPO, RL = "winners' likelihood, own", "DPO, own", "RLOO, own"
OLD_SFT, OLD_DPO = f"winners' likelihood, own, {REUSE} steps each", f"DPO, own, {REUSE} steps each"
LEARNERS: Mapping[str, Learner] = {
    SFT: Learner(Sft, 0),
    DPO: Learner(lambda: Dpo(beta=BETA), 0),
    OWN_SFT: Learner(Sft, 1),
    OWN_DPO: Learner(lambda: Dpo(beta=BETA), 1),
    RL: Learner(lambda: Rloo(tau=BETA), 1),
    OLD_SFT: Learner(Sft, REUSE),
    OLD_DPO: Learner(lambda: Dpo(beta=BETA), REUSE),
}


@dataclass(frozen=True, eq=False)
class End:
    """[seeds] expected reward and KL from the reference after the last step, at the rate with the highest reward."""

    reward: Array
    kl: Array
    rate: float


def reference() -> Strategy:
    """[A] log-probs that fall by DECAY from each response to the next."""
    return (-DECAY * torch.arange(ARMS, dtype=torch.float64)).log_softmax(dim=0)


def rewards(peak: str) -> Strategy:
    away = torch.arange(ARMS, dtype=torch.float64) - PEAKS[peak]
    return HEIGHT * (-((away / WIDTH) ** 2) / 2).exp()


def run(scale: Scale) -> Evidence:
    seeds, steps = PLANS[scale]
    return judge({(peak, name): best(peak, name, seeds, steps) for peak in PEAKS for name in LEARNERS})


def best(peak: str, name: str, seeds: int, steps: int) -> End:
    ends = [learn(peak, name, rate, seeds, steps) for rate in RATES]
    return max(ends, key=lambda end: float(end.reward.mean()))


def learn(peak: str, name: str, rate: float, seeds: int, steps: int) -> End:
    learner, reward, rng = LEARNERS[name], rewards(peak), numpy_draws([1, PEAKS[peak]])
    objective = learner.objective()
    start = reference().expand(seeds, 1, ARMS)
    model = LinearSoftmax.tabular(start)
    anchor, step = start.flatten(0, 1), 0
    held: Comparisons | None = None

    def feed(table: Strategy) -> tuple[Comparisons, Mapping[str, Strategy]]:
        nonlocal step, held
        if held is None or learner.serve == 0 or step % learner.serve == 0:
            held = labelled((table if learner.serve else anchor).exp(), reward, rng, objective.candidates)
        step += 1
        return held, {"reference": anchor}

    theta = descend(objective, model, model.start(), feed, steps=steps, rate=rate)
    log_pi = model.log_probs(theta)
    return End((log_pi.exp() @ reward).numpy(), kl_rows(log_pi, anchor).numpy(), rate)


def labelled(writer: Strategy, reward: Strategy, rng: np.random.Generator, candidates: int) -> Comparisons:
    """PAIRS pairs of each writer [S, A], the one that Bradley-Terry drew first; rewards for losses that read them."""
    both = torch.from_numpy(choose(writer, rng.random((len(writer), 2 * PAIRS)))).view(-1, 2)
    gap = reward[both[:, 0]] - reward[both[:, 1]]
    won = torch.from_numpy(rng.random(len(both))) < gap.sigmoid()
    ordered = torch.where(won[:, None], both, both.flip(1))[:, :candidates]
    given = torch.ones(len(both), 1, dtype=torch.float64) if candidates == 1 else reward[ordered]
    prompts = torch.arange(len(writer)).repeat_interleave(PAIRS)
    return Comparisons(prompts, ordered, torch.ones(len(both), dtype=torch.float64) / PAIRS, None, given)


def judge(found: Mapping[tuple[str, str], End]) -> Evidence:
    def less(peak: str, first: str, second: str) -> Mean:
        return mean_of(found[peak, first].reward - found[peak, second].reward)

    own, push = less("tail", OWN_DPO, DPO), less("tail", DPO, SFT)
    alike = less("mode", OWN_DPO, DPO)
    together = less("tail", OWN_DPO, OWN_SFT)
    reuse = {peak: (less(peak, OWN_SFT, OLD_SFT), less(peak, OWN_DPO, OLD_DPO)) for peak in PEAKS}
    hurt = mean_of(
        (found["tail", OWN_SFT].reward - found["tail", OLD_SFT].reward)
        - (found["tail", OWN_DPO].reward - found["tail", OLD_DPO].reward)
    )
    same = alike.high < CLOSE * HEIGHT and alike.low > -CLOSE * HEIGHT
    return Evidence(
        verdict=verdict(own.low > 0 and push.low > 0, (same, together.low > 0, hurt.low > 0)),
        summary=f"Expected reward (at most {HEIGHT:g}), the peak in the tail: own pairs add {own} to DPO's "
        f"recorded ones, and DPO {push} to the likelihood of winners; on own pairs DPO is ahead of that by "
        f"{together}. The peak at the mode: own pairs add {alike} to DPO. Using a batch {REUSE} times costs "
        f"the likelihood of winners {reuse['tail'][0]}, DPO {reuse['tail'][1]}.",
        tables=(
            Table(
                f"after training, means over {len(found['tail', DPO].reward)} seeds, each at the best of "
                f"{len(RATES)} rates",
                ("peak", "learner", "rate", "expected reward", "from", "to", "KL, nats"),
                tuple(
                    (
                        peak,
                        name,
                        end.rate,
                        *map(float, np.ravel(interval(end.reward[:, None]))),
                        float(end.kl.mean()),
                    )
                    for (peak, name), end in found.items()
                ),
            ),
        ),
    )


STUDY = Claim(
    name="on_policy_negative_gradients",
    sentence="Where the best responses are rare under the reference, learning from own samples is better than "
    "from recorded ones, and losses with a negative gradient are better than the likelihood of winners; where "
    "they are common, it makes no difference.",
    paper="2404.14367",
    rule=f"A bandit of {ARMS} responses, equal numbers of labelled pairs and of steps, each learner at the "
    f"best of {len(RATES)} rates. Heart: with the peak in the tail the expected reward of DPO on own pairs is "
    "above that on recorded ones, and that above the likelihood of recorded winners, beyond the paired 95 % "
    f"intervals over seeds. Also: at the mode own and recorded pairs differ by less than {CLOSE:.0%} of the "
    "peak for DPO; in the tail DPO on own pairs is ahead of the likelihood of own winners; and there using a "
    f"batch {REUSE} times costs the latter more. RLOO and the peak at the tenth percentile are shown and do "
    "not count.",
    program=run,
    set="where the tail's peak lies was settled on pilot seeds: twenty responses further out no learner but "
    "RLOO found it.",
)
