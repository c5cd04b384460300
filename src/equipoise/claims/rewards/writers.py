"""Who wrote the pairs (2312.00886): a Bradley-Terry reward answers for its writer, a preference model does not.

Two data sets of one game, by two writers. From each a Bradley-Terry reward leads to ref exp(r/beta), and a model of
P itself to the regularised Nash policy. How far do the two writers' policies lie apart?
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from equipoise.claims.claim import Array, Claim, Evidence, Panel, Scale, Slope, Table, log_slope, verdict
from equipoise.claims.convergence.sampled_rounds import random_games
from equipoise.claims.draws import numpy_draws, torch_draws
from equipoise.claims.intervals import mean_of
from equipoise.claims.small_models import line
from equipoise.core.dims import Payoff, Strategy
from equipoise.games import PreferenceGame, TabularPolicy, offline, regularised_nash, zoo
from equipoise.games.closed_form import dpo_optimum
from equipoise.games.skew import fit_bradley_terry

SIZE, TAU = 5, 0.2  # responses; KL weight of both policies
FLAT, FALLING = -0.1, -0.3  # powers of the number of pairs
REWARD, MODEL = "Bradley-Terry reward", "preference model"
GENERAL, TRANSITIVE = "random games", "Bradley-Terry games"
PLANS: Mapping[Scale, tuple[int, tuple[int, ...]]] = {
    "quick": (12, (1_000, 10_000, 100_000)),
    "full": (64, (300, 1_000, 3_000, 10_000, 30_000, 100_000)),
}

Runs = Mapping[tuple[str, str], Array]


def run(scale: Scale) -> Evidence:
    count, sizes = PLANS[scale]
    general = random_games(count, SIZE)
    rewards = torch.randn(count, SIZE, generator=torch_draws(1), dtype=torch.float64)
    transitive = zoo.bradley_terry(rewards, general.reference)
    writers = torch.randn(2, count, SIZE, generator=torch_draws(2), dtype=torch.float64).softmax(dim=2)
    found: dict[tuple[str, str], list[Array]] = {}
    for kind, game in ((GENERAL, general), (TRANSITIVE, transitive)):
        for n in sizes:
            wins = [counts(game, writer, n, k) for k, writer in enumerate(writers)]
            for name, policies in (
                (REWARD, [by_reward(game, one) for one in wins]),
                (MODEL, [by_model(game, one) for one in wins]),
            ):
                found.setdefault((kind, name), []).append(apart(*policies))
    return judge({key: np.stack(values, axis=1) for key, values in found.items()}, sizes)


def counts(game: PreferenceGame, writer: Strategy, n: int, stream: int) -> Payoff:
    """[X, A, A] how often i beat j among n pairs of the writer, and half a win more each way.

    Half a win keeps finite the reward of a response that lost every pair; it weighs less, the more pairs there are.
    """
    share = offline.population(game, TabularPolicy.from_probs(writer)).share
    rng = numpy_draws([n, stream])
    drawn = torch.from_numpy(np.stack([rng.multinomial(n, p.flatten()) for p in share.numpy()]).astype(float))
    return drawn.view_as(share) + 0.5


def by_reward(game: PreferenceGame, wins: Payoff) -> TabularPolicy:
    """ref exp(r/beta) at the maximum-likelihood reward, the optimum of RLHF and of DPO."""
    return dpo_optimum(game.initial(), fit_bradley_terry(wins).strength, TAU)


def by_model(game: PreferenceGame, wins: Payoff) -> TabularPolicy:
    """The regularised Nash policy of the shares of wins."""
    share = wins / (wins + wins.transpose(1, 2))  # 1/2 on the diagonal
    return regularised_nash(PreferenceGame(share, game.reference), TAU)


def apart(first: TabularPolicy, second: TabularPolicy) -> Array:
    """[X] total variation between the two writers' policies."""
    return (0.5 * (first.probs() - second.probs()).abs().sum(dim=1)).numpy()


def judge(found: Runs, sizes: tuple[int, ...]) -> Evidence:
    """found: (kind of game, model) -> total variation [games, sizes]."""
    slopes: dict[tuple[str, str], Slope] = {key: log_slope(sizes, values) for key, values in found.items()}
    more = mean_of(found[GENERAL, REWARD][:, -1] - found[GENERAL, MODEL][:, -1])
    flat = slopes[GENERAL, REWARD].value - 2 * slopes[GENERAL, REWARD].error > FLAT
    falls = {key: slope.value + 2 * slope.error < FALLING for key, slope in slopes.items()}
    control = falls[TRANSITIVE, REWARD] and falls[TRANSITIVE, MODEL]
    last = {key: float(values[:, -1].mean()) for key, values in found.items()}
    return Evidence(
        verdict=verdict(more.low > 0 and flat and falls[GENERAL, MODEL], (control,)),
        summary=f"With {sizes[-1]:,} pairs from each of two writers their policies lie apart by a total "
        f"variation of {last[GENERAL, REWARD]:.3f} by Bradley-Terry rewards (power of n "
        f"{slopes[GENERAL, REWARD]}) and {last[GENERAL, MODEL]:.3f} by preference models (power "
        f"{slopes[GENERAL, MODEL]}), more by {more}. Where preferences have a reward: "
        f"{last[TRANSITIVE, REWARD]:.3f} and {last[TRANSITIVE, MODEL]:.3f}.",
        tables=(
            Table(
                f"total variation between the policies of two writers, {len(found[GENERAL, REWARD])} games, "
                f"by pairs",
                ("games", "learnt", *map(str, sizes), "power", "standard error"),
                tuple(
                    (*key, *map(float, values.mean(axis=0)), slopes[key].value, slopes[key].error)
                    for key, values in found.items()
                ),
            ),
        ),
        panels=tuple(
            Panel(
                kind,
                "pairs of each writer",
                "total variation between policies",
                tuple(line(name, sizes, found[kind, name], log=True) for name in (REWARD, MODEL)),
            )
            for kind in (GENERAL, TRANSITIVE)
        ),
    )


WRITERS = Claim(
    name="reward_depends_on_writer",
    sentence="A Bradley-Terry reward, and the policy that follows from it, depend on the policy that wrote "
    "the compared responses; a preference model and its Nash policy do not.",
    paper="2312.00886",
    rule=f"Games of {SIZE} responses, two random writers each, tau = beta = {TAU:g}, maximum-likelihood "
    "rewards and shares of wins. Heart: on random games the total variation between the two writers' policies "
    "is larger by rewards than by preference models at the most pairs (paired 95 % interval over games); its "
    f"power of n less two standard errors is above {FLAT:g} by rewards, and plus two below {FALLING:g} by "
    f"preference models. Also: on Bradley-Terry games both are below {FALLING:g}, so that it is the game and "
    "not the fit.",
    program=run,
)
