"""CoPG (2406.19185): the same optimum from any policy's responses, where vanilla policy gradient goes elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from equipoise.claims.claim import LATER, Array, Claim, Evidence, Panel, Scale, Table, interval, verdict
from equipoise.claims.draws import numpy_draws
from equipoise.claims.small_models import LinearSoftmax, descend, draw, kl_rows, line
from equipoise.core.dims import Strategy
from equipoise.core.objectives import Copg, Reinforce, Rloo
from equipoise.core.objectives.base import Objective
from equipoise.games import minimise
from equipoise.games.expectation import Comparisons
from equipoise.games.fit import gradient

ARMS, BETA = 5, 0.2
AGREE, ELSEWHERE = 1e-6, 1e-2  # nats of KL to pi_ref exp(R/beta)/Z
STATIONARY = 1e-10
RATE = 0.02
ROUNDING = 1e-12
NS = (30, 100, 300, 1000)
ON_POLICY = "the policy itself"
OFF_POLICY = ("the reference", "a random policy", "mostly the worst response", "two policies")
LEARNERS: Mapping[str, Objective] = {
    "CoPG": Copg(beta=BETA),
    "REINFORCE": Reinforce(tau=BETA),
    "RLOO": Rloo(tau=BETA),
    "no KL": Copg(beta=0.0),
}

Laws: TypeAlias = tuple[Strategy, ...]  # [S, A] probabilities, one per response of a group
Sampled: TypeAlias = tuple[
    Array, npt.NDArray[np.bool_]
]  # KL of each bandit, and whether all of it was compared
Far: TypeAlias = Mapping[
    tuple[str, str], Array
]  # (learner, writer) -> [seeds] KL from the target to what was found


@dataclass(frozen=True, eq=False)
class Bandits:
    """Bandits side by side, [S, A]: rewards in [0, 1] and the log-probs of a reference."""

    reward: Strategy
    reference: Strategy

    @property
    def target(self) -> Strategy:
        """log of pi_ref exp(R/beta)/Z."""
        return (self.reference + self.reward / BETA).log_softmax(dim=1)

    @property
    def anchors(self) -> dict[str, Strategy]:
        return {"reference": self.reference}

    def repeated(self, times: int) -> Bandits:
        return Bandits(self.reward.repeat(times, 1), self.reference.repeat(times, 1))

    def groups(self, distributions: Laws) -> Comparisons:
        """Every group (y_1, .., y_K), y_k ~ distributions[k], with its probability and its rewards."""
        size = len(distributions)
        cells = torch.cartesian_prod(*[torch.arange(ARMS)] * size).view(-1, size)
        weight = torch.stack(
            [distribution[:, cells[:, k]] for k, distribution in enumerate(distributions)]
        ).prod(dim=0)
        return self._rows(cells.repeat(len(self.reward), 1), weight.flatten())

    def recorded(self, distributions: Laws, n: int, rng: np.random.Generator) -> Comparisons:
        """n sampled groups of each bandit."""
        written = np.stack([draw(distribution, n, rng) for distribution in distributions], axis=2).reshape(
            -1, len(distributions)
        )
        return self._rows(torch.from_numpy(written), torch.ones(len(written), dtype=torch.float64))

    def _rows(self, responses: torch.Tensor, weight: torch.Tensor) -> Comparisons:
        prompts = torch.arange(len(self.reward)).repeat_interleave(len(responses) // len(self.reward))
        return Comparisons(prompts, responses, weight, None, self.reward[prompts.unsqueeze(1), responses])

    def far(self, found: Strategy) -> Array:
        """KL(pi* || pi), [S]."""
        return kl_rows(self.target, found).clamp(min=0).numpy()


def bandits_and_writers(seeds: int, rng: np.random.Generator) -> tuple[Bandits, dict[str, Laws]]:
    """Random bandits, and who writes the first and the second response of a pair off-policy."""
    reward = torch.as_tensor(rng.random((seeds, ARMS)))
    reference = torch.as_tensor(rng.normal(size=(seeds, ARMS))).log_softmax(dim=1)
    one, two = (torch.as_tensor(rng.dirichlet(np.ones(ARMS), size=seeds)) for _ in range(2))
    mostly = 0.9 * torch.nn.functional.one_hot(reward.argmin(dim=1), ARMS).double() + 0.1 / ARMS
    distributions = ((reference.exp(),) * 2, (one, one), (mostly, mostly), (one, two))
    return Bandits(reward, reference), dict(zip(OFF_POLICY, distributions, strict=True))


def minimised(bandits: Bandits, rows: Comparisons) -> Strategy:
    """CoPG's exact minimiser."""
    return minimise(Copg(beta=BETA), *rows, start=bandits.reference, anchors=bandits.anchors)


def course(objective: Objective, bandits: Bandits, distributions: Laws | None, at: list[int]) -> Array:
    """KL(pi*||pi) after `at` steps along the expected gradient, [S, len(at)]; None: fresh pairs of the policy."""
    model = LinearSoftmax.tabular(bandits.reference.unsqueeze(1))
    fixed = bandits.groups(distributions) if distributions else None
    seen: list[Strategy] = []

    def feed(table: Strategy) -> tuple[Comparisons, Mapping[str, Strategy]]:
        seen.append(table)
        return fixed or bandits.groups((table.exp(), table.exp())), bandits.anchors

    descend(objective, model, model.start(), feed, steps=at[-1] + 1, rate=RATE)
    return np.stack([bandits.far(seen[t]) for t in at], axis=1)


def compared(rows: Comparisons, bandits: int) -> npt.NDArray[np.bool_]:
    """Whether every response of a bandit stands in some group with another one, [S]."""
    differs = (rows.responses != rows.responses[:, :1]).any(dim=1)
    seen = torch.zeros(bandits, ARMS, dtype=torch.bool)
    seen[rows.prompts[differs].unsqueeze(1), rows.responses[differs]] = True
    return seen.all(dim=1).numpy()


def slope(objective: Objective, bandits: Bandits, distributions: Laws) -> Array:
    """Largest entry of the expected gradient in the logits at pi*, [S]."""
    found = gradient(objective, bandits.groups(distributions), start=bandits.target, anchors=bandits.anchors)
    return found.abs().amax(dim=1).numpy()


def off_policy(scale: Scale) -> Evidence:
    seeds, steps = {"quick": (30, 400), "full": (50, 3000)}[scale]
    rng = numpy_draws(11)
    bandits, writers = bandits_and_writers(seeds, rng)
    at = sorted({round(t) for t in np.geomspace(1, steps, 30)})
    every = bandits.repeated(len(writers))
    stacked = tuple(torch.cat([distributions[k] for distributions in writers.values()]) for k in range(2))
    courses: dict[tuple[str, str], Array] = {}
    for name, objective in LEARNERS.items():
        courses[name, ON_POLICY] = course(objective, bandits, None, at)
        found = course(objective, every, stacked, at).reshape(len(writers), seeds, -1)
        courses |= {(name, writer): found[i] for i, writer in enumerate(writers)}
    worst = {
        (writer, k): float(
            bandits.far(minimised(bandits, bandits.groups((*distributions, *distributions)[:k]))).max()
        )
        for writer, distributions in writers.items()
        for k in (2, 3, 4)
    }
    still = max(
        float(slope(Copg(beta=BETA), bandits, distributions).max()) for distributions in writers.values()
    )
    pull = {
        w: float(slope(Reinforce(tau=BETA), bandits, distributions).min())
        for w, distributions in writers.items()
    }
    distribution = writers["a random policy"][0]
    samples: dict[tuple[int, int], Sampled] = {}
    for k in (2, 4):
        for n in NS:
            rows = bandits.recorded((distribution,) * k, n, rng)
            samples[k, n] = bandits.far(minimised(bandits, rows)), compared(rows, seeds)
    return judge(worst, still, pull, courses, at, samples)


def judge(
    worst: Mapping[tuple[str, int], float],
    still: float,
    pull: Mapping[str, float],
    courses: Far,
    at: list[int],
    samples: Mapping[tuple[int, int], Sampled],
) -> Evidence:
    """worst: (writer, K) -> largest KL(pi*||pi) of exact minimisers; courses: [seeds, len(at)] KL along the descent."""
    last = {key: course[:, -1] for key, course in courses.items()}
    reinforce = min(float(last["REINFORCE", writer].mean()) for writer in OFF_POLICY)
    goes_elsewhere = (
        all(interval(last["REINFORCE", w])[1] > ELSEWHERE for w in OFF_POLICY) and min(pull.values()) > 0
    )
    reached = max(worst.values())
    left = max(float(far[whole].max()) for far, whole in samples.values() if whole.any())
    on_policy = float(last["REINFORCE", ON_POLICY].mean())
    diverges = all(last["no KL", w].mean() > last["CoPG", w].mean() + ELSEWHERE for w in OFF_POLICY)
    return Evidence(
        verdict=verdict(
            reached < AGREE and still < STATIONARY and goes_elsewhere,
            (on_policy < ELSEWHERE, diverges, left < AGREE),
        ),
        summary=f"CoPG's minimiser is pi_ref exp(R/beta)/Z to {reached:.1g} nats of KL, whoever wrote the "
        f"responses and for 2, 3 or 4 of them; its gradient there is at most {still:.1g}. REINFORCE on the same "
        f"responses ends at least {reinforce:.2g} nats away in the mean (its own samples: {on_policy:.1g}). RLOO "
        "with the KL in its reward has CoPG's direction and ends "
        f"{max(float(last['RLOO', w].max()) for w in OFF_POLICY):.1g} away at most.",
        tables=(exact_table(worst), descent_table(last, pull, at[-1]), samples_table(samples)),
        panels=panels(courses, at),
    )


def exact_table(worst: Mapping[tuple[str, int], float]) -> Table:
    sizes = sorted({k for _, k in worst})
    writers = list(dict.fromkeys(writer for writer, _ in worst))
    return Table(
        "CoPG's exact minimiser: largest KL(pi*||pi) over bandits, nats",
        ("responses from", *(f"K = {k}" for k in sizes)),
        tuple((writer, *(worst[writer, k] for k in sizes)) for writer in writers),
    )


def descent_table(last: Far, pull: Mapping[str, float], steps: int) -> Table:
    rows = []
    for (name, writer), values in last.items():
        mean, low, _ = interval(values)
        least = pull.get(writer) if name == "REINFORCE" else None
        rows.append((name, writer, float(mean), float(mean - low), float(values.max()), least))
    return Table(
        f"after {steps} steps along the expected gradient: KL(pi*||pi), nats",
        ("learner", "responses from", "mean", "±", "largest", "its least gradient at pi*"),
        tuple(rows),
    )


def samples_table(samples: Mapping[tuple[int, int], Sampled]) -> Table:
    rows = []
    for (k, n), (far, whole) in samples.items():
        rows.append(
            (k, n, float(far.mean()), float(whole.mean()), float(far[whole].max()) if whole.any() else None)
        )
    return Table(
        "CoPG on n recorded groups of a random policy: KL(pi*||pi), nats",
        ("K", "n", "mean", "bandits with every response compared", "largest among these"),
        tuple(rows),
    )


def panels(courses: Far, at: list[int]) -> tuple[Panel, ...]:
    return tuple(
        Panel(
            f"responses from {writer}",
            "step",
            "mean KL(pi*||pi), nats",
            tuple(
                line(name, at, np.maximum(courses[name, writer], ROUNDING), log=True)
                for name in ("CoPG", "REINFORCE", "no KL")
            ),
            bottom=ROUNDING,
        )
        for writer in (ON_POLICY, "a random policy", "mostly the worst response")
    )


OFF_POLICY_CLAIM = Claim(
    name="copg_off_policy",
    sentence="CoPG's solution is pi_ref exp(R/beta)/Z whichever policies wrote the responses and however many are "
    "compared; vanilla policy gradient on the same responses, uncorrected, goes elsewhere.",
    paper="2406.19185",
    rule="Heart: the exact minimiser on responses of four off-policy writers, for K = 2, 3 and 4, is within "
    f"{AGREE:g} nats of pi_ref exp(R/beta)/Z on every bandit and the gradient there is below {STATIONARY:g}, "
    "while for each writer the 95 % interval of where the expected gradient of REINFORCE with a constant "
    f"baseline leads lies above {ELSEWHERE:g} nats. Also: on its own samples REINFORCE does come within "
    f"{ELSEWHERE:g} nats in the mean; without a KL term (beta = 0) the direction ends {ELSEWHERE:g} nats further "
    f"away than CoPG; and on recorded samples CoPG is within {AGREE:g} nats on every bandit whose responses were "
    "all compared with another. RLOO is shown beside them and does not count.",
    program=off_policy,
    set=f"{LATER} The heart follows from CoPG's formula; RLOO, which does not count, has the same optimum.",
)
