"""RSO (2309.06657): rejection sampling: the distribution of accepted responses, and the value of pairs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from equipoise.claims.claim import Array, Claim, Evidence, Panel, Scale, Table, interval, verdict
from equipoise.claims.draws import moved_seed, numpy_draws
from equipoise.claims.small_models import LinearSoftmax, always, by_copy, choose, descend, kl_rows, line
from equipoise.core.dims import Strategy
from equipoise.core.objectives import RsoNorm
from equipoise.games import PreferenceGame, TabularPolicy, enumerate_data, enumerate_pairs, offline, zoo
from equipoise.play.players.rejection import accept

SMALL, FEW = "few features, all pairs", "free tables, few pairs"
PAIRS = 32  # of each prompt, where they are few
BETA = 0.5  # of the sampler, and gamma of the loss: both seek pi_ref exp(r/beta)/Z
PROMPTS, ARMS, FEATURES = 4, 24, 6  # of the small models; features are shared by the prompts
CANDIDATES, SAMPLES = 64, 8  # the paper's
NEAR = 2.0  # times the noise of the sample that the first accepted response's distribution may be off
COUNTS = (8, 16, 32, 64, 128, 256)  # candidates
RSO, BEST, FIRST = "rejection sampling", "best of all", "reference (SFT)"
TEMPERATURES: Mapping[str, float] = {
    RSO: BETA,
    BEST: 1e-9,
    FIRST: 1e9,
}  # top-k and first k are the sampler's limits
PLANS: Mapping[Scale, tuple[int, int, int]] = {"quick": (12, 2000, 400), "full": (60, 20_000, 1000)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Laws:
    """Total variation between accepted responses and the target, by rule: [games, len(COUNTS)].

    first    the first accepted one's;   all    that of all `SAMPLES`, taken together.
    noise    [games] what the first one's would be if it had the target distribution.
    """

    first: Mapping[str, Array]
    all: Mapping[str, Array]
    noise: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """[copies], per distribution of pairs: E P(y beats y') over the reference, E r - beta KL less the reference's."""

    win: Array
    value: Array


def run(scale: Scale) -> Evidence:
    copies, draws, steps = PLANS[scale]
    return judge(laws(draws), trained(copies, steps))


def laws(draws: int, games: int = 4) -> Laws:
    """Distribution of what is accepted among M draws from the reference, estimated from `draws` prompts each."""
    first: dict[str, list[list[float]]] = {rule: [] for rule in TEMPERATURES}
    together: dict[str, list[list[float]]] = {rule: [] for rule in TEMPERATURES}
    noises = []
    for seed in range(games):
        rng = numpy_draws(seed)
        reward = rng.normal(size=10)
        reference = torch.as_tensor(rng.normal(size=(1, 10))).softmax(dim=1)
        target = (reference.log() + torch.as_tensor(reward) / BETA).softmax(dim=1)[0].numpy()
        noises.append(noise(target, draws))
        for rule, beta in TEMPERATURES.items():
            rows: tuple[list[float], list[float]] = ([], [])
            for count in COUNTS:
                arms = choose(reference.expand(draws, -1), rng.random((draws, count)))
                taken = np.take_along_axis(arms, accepted(reward[arms], beta, rng), axis=1)
                for found, columns in zip(rows, (taken[:, 0], taken.ravel()), strict=True):
                    share = np.bincount(columns, minlength=10) / columns.size
                    found.append(float(abs(share - target).sum() / 2))
            first[rule].append(rows[0])
            together[rule].append(rows[1])
    return Laws(
        first={rule: np.array(v) for rule, v in first.items()},
        all={rule: np.array(v) for rule, v in together.items()},
        noise=np.array(noises),
    )


def accepted(reward: Array, beta: float, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Columns of the `SAMPLES` candidates that rejection sampling accepts."""
    return accept(reward, SAMPLES, beta, lambda _: rng.random(reward.shape))


def trained(copies: int, steps: int) -> dict[str, dict[str, Trained]]:
    """Models fitted to each distribution of pairs, by setting: too small for the reward and all pairs, or few pairs.

    Where the pairs lie decides which errors are made: by the fit of a small model, or by few labels, drawn from P.
    """
    rng = numpy_draws(5)
    reference = torch.as_tensor(rng.normal(size=(copies * PROMPTS, ARMS))).log_softmax(dim=1)
    features = torch.as_tensor(rng.normal(size=(copies, PROMPTS, ARMS, FEATURES)) / FEATURES**0.5)
    weights = torch.as_tensor(rng.normal(size=(copies, FEATURES)))
    linear = (features @ weights[:, None, :, None]).flatten(0, 1).squeeze(-1)
    rewards = (linear + torch.as_tensor(rng.normal(size=linear.shape))) / 2**0.5  # half of it is linear
    game = PreferenceGame(zoo.bradley_terry(rewards).preference, reference.exp())
    of_copy = reference.view(copies, PROMPTS, ARMS)
    small = LinearSoftmax(reference=of_copy, features=features)
    own = LinearSoftmax.tabular(of_copy)
    found: dict[str, dict[str, Trained]] = {SMALL: {}, FEW: {}}
    for rule, pair_probs in pair_laws(reference, rewards).items():
        few = offline.sample_pairs(game, TabularPolicy(pair_probs.log()), PAIRS, seed=moved_seed(6))
        for setting, model, rows in (
            (SMALL, small, enumerate_pairs(game, pair_probs)),
            (FEW, own, enumerate_data(few.share)),
        ):
            feed = always(rows, reference=reference)
            theta = descend(RsoNorm(gamma=BETA), model, model.start(), feed, steps=steps, rate=0.02)
            found[setting][rule] = scored(game, rewards, reference, model.log_probs(theta), copies)
    return found


def pair_laws(reference: Strategy, rewards: Strategy) -> dict[str, Strategy]:
    """[X, A] who writes the pairs: the limit of rejection sampling, the best of several, the reference.

    The best of CANDIDATES/SAMPLES draws stands for the top SAMPLES of CANDIDATES.
    """
    order = rewards.argsort(dim=1)
    below = reference.exp().gather(1, order).cumsum(dim=1)
    power = below.clamp(max=1) ** (CANDIDATES // SAMPLES)
    best = torch.zeros_like(below).scatter(
        1, order, power.diff(dim=1, prepend=torch.zeros_like(power[:, :1]))
    )
    return {RSO: (reference + rewards / BETA).softmax(dim=1), BEST: best, FIRST: reference.exp()}


def scored(
    game: PreferenceGame, rewards: Strategy, reference: Strategy, policy: Strategy, copies: int
) -> Trained:
    win = game.value(TabularPolicy(policy), game.initial())
    value = (policy.exp() * rewards).sum(dim=1) - BETA * kl_rows(policy, reference)
    return Trained(
        win=by_copy(win, copies), value=by_copy(value - (reference.exp() * rewards).sum(dim=1), copies)
    )


def noise(target: Array, draws: int) -> float:
    """Expected total variation between a distribution and the shares of `draws` samples (normal approximation)."""
    return float(np.sqrt(2 * target * (1 - target) / (np.pi * draws)).sum() / 2)


def judge(found: Laws, models: Mapping[str, Mapping[str, Trained]]) -> Evidence:
    far = float((found.first[RSO][:, -1] / found.noise).max())
    paper = COUNTS.index(CANDIDATES)
    own, *others = (float(found.all[rule][:, paper].mean()) for rule in (RSO, BEST, FIRST))
    leads = {
        (setting, rule): interval((of[RSO].win - of[rule].win)[:, None])
        for setting, of in models.items()
        for rule in (FIRST, BEST)
    }
    points = "; ".join(
        f"{setting}: {100 * mean[0]:+.1f} ({100 * low[0]:+.1f} to {100 * high[0]:+.1f}) over {rule}"
        for (setting, rule), (mean, low, high) in leads.items()
    )
    return Evidence(
        verdict=verdict(
            far <= NEAR and own < min(others), [bool(low[0] > 0) for _, low, _ in leads.values()]
        ),
        summary=f"Of {COUNTS[-1]} candidates the first accepted one has the law pi_ref exp(r/beta)/Z up to "
        f"{far:.1f} times the noise of the sample; the {SAMPLES} accepted of {CANDIDATES} together are {own:.2f} from "
        f"it, the best {SAMPLES} and the reference's own {min(others):.2f} or more. Points of win rate over the "
        f"reference that models trained on pairs of the limit gain: {points}.",
        tables=(
            Table(
                f"total variation from pi_ref exp(r/beta)/Z, mean of {len(found.first[RSO])} games",
                ("rule", "accepted", *(f"M = {m}" for m in COUNTS)),
                tuple(
                    (rule, which, *map(float, table[rule].mean(axis=0)))
                    for which, table in (("the first", found.first), (f"all {SAMPLES}", found.all))
                    for rule in TEMPERATURES
                ),
            ),
            Table(
                f"models trained on pairs, means over {len(models[FEW][RSO].win)} copies",
                ("setting", "pairs by", "win rate over the reference", "E r - beta KL, over the reference's"),
                tuple(
                    (setting, rule, float(m.win.mean()), float(m.value.mean()))
                    for setting, of in models.items()
                    for rule, m in of.items()
                ),
            ),
        ),
        panels=(
            Panel(
                "who is accepted first",
                "candidates",
                "total variation from the optimal policy",
                tuple(line(rule, COUNTS, values) for rule, values in found.first.items()),
                log_y=False,
                bottom=0.0,
            ),
            Panel(
                f"all {SAMPLES} that are accepted",
                "candidates",
                "total variation from the optimal policy",
                tuple(line(rule, COUNTS, values) for rule, values in found.all.items()),
                log_y=False,
                bottom=0.0,
            ),
        ),
    )


ACCEPTED = Claim(
    name="rso_accepted",
    sentence="Statistical rejection sampling takes pairs from the estimated optimal policy, and preference losses "
    "learn more from those than from the reference's own.",
    paper="2309.06657",
    rule=f"Heart: of {COUNTS[-1]} candidates the first accepted one's law is pi_ref exp(r/beta)/Z up to {NEAR:g} times "
    f"the sample's noise in total variation in every game, and that of all {SAMPLES} of {CANDIDATES} is nearer to it "
    f"than those of the best {SAMPLES} and of the first {SAMPLES}. Also: models trained on pairs of the limit win more "
    "against the reference than those trained on the reference's pairs, and than those trained on the best of several "
    "(95 % interval over copies above 0 each), both where the model is too small and where pairs are few. The "
    "regularised reward is shown and does not count.",
    program=run,
)
