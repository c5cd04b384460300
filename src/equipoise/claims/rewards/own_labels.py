"""SPA (2406.04412), CREAM (2410.12735) and UPO (2409.11212): what a policy makes of labels that it gives itself, or
that a doubtful estimator gives, on games whose prompts share features (`rewards.label_flips`).

The pairings are those of the methods. What is told of a policy is its expected reward, mean over prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Claim, Evidence, Panel, Scale, Table, interval, verdict
from equipoise.claims.draws import moved_seed, numpy_draws, torch_draws
from equipoise.claims.rewards.label_flips import BETA, BOUND, World, draw, sample
from equipoise.claims.small_models import Parameters, always, by_copy, choose, descend, line
from equipoise.core.objectives import Dpo, Objective, Sft, Spa
from equipoise.games.expectation import Comparisons
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy
from equipoise.oracles.learned import feature_reward
from equipoise.oracles.learned.feature_reward import LearnedReward
from equipoise.play.pairings.confidence_weighted import ConfidenceWeighted
from equipoise.play.pairings.self_labelled import ImplicitRewardLabels
from equipoise.play.rows import Rows
from equipoise.play.state import BASE, BEFORE, INITIAL, START, State
from equipoise.worlds.table.enumeration import comparisons
from equipoise.worlds.table.world import TableWorld

RATE = 0.05
ALL, SHARE = 600, 1 / 30  # labelled pairs of a game, and the share of them that is read
REPEATS = 15  # draws of each prompt in a round
MIXES = (1.5, 1.25)  # extrapolation in the rounds after the seed
DEMONSTRATIONS, CREAM_ROUNDS = 40, 4
NOISY, FLIPPED, UPO_ROUNDS, DROPOUT, PASSES = 60, 0.2, 3, 0.1, 10
SEED, PLAIN, REFINED, EVERY = "seed alone (DPO)", "own labels (DPO)", "own labels (SPA)", "all labels (DPO)"
TRUSTING, CONSISTENT = "self-rewarding", "CREAM"
HARD, WEIGHED = "every label trusted", "UPO"


def one_of(world: World, copy: int) -> World:
    """A single copy of the experiment."""
    at = slice(copy, copy + 1)
    model = replace(world.model, reference=world.model.reference[at], features=world.model.features[at])
    return World(model, world.reward[at])


def expected(world: World, log_probs: Tensor) -> Array:
    """E_pi r, mean over prompts, [S]."""
    return by_copy((log_probs.exp() * world.reward.flatten(0, 1)).sum(dim=1), len(world.reward))


def written(world: World, log_probs: Tensor, samples: int, uniforms: Array) -> Rows:
    """Each prompt REPEATS times, with `samples` responses of the policy."""
    prompts = np.arange(len(log_probs)).repeat(REPEATS)
    responses = choose(log_probs.exp()[prompts], uniforms[: len(prompts), :samples])
    return Rows(
        prompts=prompts,
        responses=responses,
        weight=np.full(len(prompts), 1 / len(prompts)),
        writers=("start",) * samples,
    )


def own_labels(
    world: World, pairing: ImplicitRewardLabels, round: int, path: Sequence[Tensor], rows: Rows
) -> Comparisons:
    """Pairs that the last policy of a path of log-probs labels, copy by copy; the first is where rewards begin."""
    named = dict(zip((BASE, INITIAL, BEFORE, START), (path[0], path[0], path[-2], path[-1]), strict=True))
    state = State(round=round, policies={name: TabularPolicy(table) for name, table in named.items()})
    table = TableWorld(PreferenceGame(world.prefer, world.reference.exp()))
    copies = np.split(np.arange(len(rows)), len(world.reward))
    return comparisons(Rows.join([pairing.form(table, state, rows.take(copy)) for copy in copies]))


def fit(
    objective: Objective, world: World, theta: Parameters, rows: Comparisons, steps: int, **anchors: Tensor
) -> Parameters:
    return descend(
        objective, world.model, theta, always(rows, **anchors), steps=steps, rate=RATE, bound=BOUND
    )


# --- SPA


def few_labels(world: World, steps: int, rng: np.random.Generator) -> dict[str, float]:
    """Expected reward of one copy, by what was trained on."""
    policy, reference, start = world.model.log_probs, world.reference, world.model.start()
    found = {}
    for name, pairs in ((SEED, round(ALL * SHARE)), (EVERY, ALL)):
        theta = fit(Dpo(beta=BETA), world, start, sample(world, pairs, 0.0), steps, reference=reference)
        found[name] = theta
    draws = rng.random((len(MIXES), len(reference) * REPEATS, 2))
    for name in (PLAIN, REFINED):
        theta, path = found[SEED], [reference, policy(found[SEED])]
        for round_, (mix, uniforms) in enumerate(zip(MIXES, draws, strict=True), start=2):
            own = written(world, path[-1], 2, uniforms)
            rows = own_labels(world, ImplicitRewardLabels(), round_, path, own)
            loss = Spa(beta=BETA, smoothing=0.1 if name == REFINED else 0.0, share=0.1, mix=mix)
            begun = fit(replace(loss, smoothing=0.0), world, theta, rows, steps // 5, reference=path[-1])
            theta = fit(loss, world, begun, rows, steps - steps // 5, reference=path[-1])
            path.append(policy(theta))
        found[name] = theta
    return {name: float(expected(world, policy(theta))[0]) for name, theta in found.items()}


def run_spa(scale: Scale) -> Evidence:
    seeds, steps = {"quick": (8, 60), "full": (40, 150)}[scale]
    world = draw(seeds)
    runs = [few_labels(one_of(world, s), steps, numpy_draws([1, s])) for s in range(seeds)]
    return judge_spa(
        {name: np.array([run[name] for run in runs]) for name in runs[0]}, expected(world, world.reference)
    )


def judge_spa(reward: Mapping[str, Array], reference: Array) -> Evidence:
    more, refined = (_interval(reward[REFINED] - reward[name]) for name in (SEED, PLAIN))
    return Evidence(
        verdict=verdict(more[1] > 0, (refined[1] > 0,)),
        summary=f"From {reference.mean():.2f} at the reference, {round(ALL * SHARE)} labels lead DPO to "
        f"{reward[SEED].mean():.2f} and SPA to {reward[REFINED].mean():.2f}, more by {_said(more)}; all {ALL} lead DPO "
        f"to {reward[EVERY].mean():.2f}. Without the refinement own labels lead to {reward[PLAIN].mean():.2f}, less by "
        f"{_said(refined)}.",
        tables=(_table("expected reward", reward),),
    )


# --- CREAM


def run_cream(scale: Scale) -> Evidence:
    seeds, steps = {"quick": (20, 40), "full": (100, 80)}[scale]
    world = draw(seeds)
    policy, reference = world.model.log_probs, world.reference
    rng = numpy_draws(2)
    shown = choose(world.best.exp(), rng.random((len(reference), DEMONSTRATIONS // world.reward.shape[1])))
    prompts = torch.arange(len(reference)).repeat_interleave(shown.shape[1])
    ones = torch.ones(len(prompts), dtype=torch.float64)
    demonstrated = Comparisons(prompts, torch.from_numpy(shown).reshape(-1, 1), ones, None, ones[:, None])
    tuned = fit(Sft(), world, world.model.start(), demonstrated, steps)
    draws = rng.random((CREAM_ROUNDS, len(reference) * REPEATS, 5))
    found = {}
    for name, consistency in ((TRUSTING, "none"), (CONSISTENT, "corpus")):
        pairing = ImplicitRewardLabels(reference=BASE, seeded=False, consistency=consistency)  # type: ignore[arg-type]
        theta, path = tuned, [reference, policy(tuned)]
        for round_, uniforms in enumerate(draws, start=1):
            rows = own_labels(world, pairing, round_, path, written(world, path[-1], 5, uniforms))
            theta = fit(Dpo(beta=BETA), world, theta, rows, steps, reference=path[-1])
            path.append(policy(theta))
        found[name] = np.stack([expected(world, table) for table in path], axis=1)
    return judge_cream(found)


def judge_cream(course: Mapping[str, Array]) -> Evidence:
    """course    [S, 2 + rounds] expected reward of M0, M1 (fine-tuned) and each round's policy."""
    last = {name: values[:, -1] for name, values in course.items()}
    more = _interval(last[CONSISTENT] - last[TRUSTING])
    gained = _interval(last[CONSISTENT] - course[CONSISTENT][:, 1])
    return Evidence(
        verdict=verdict(more[1] > 0, (gained[1] > 0,)),
        summary=f"Fine-tuning leads to {course[CONSISTENT][:, 1].mean():.2f} expected reward, {CREAM_ROUNDS} rounds of "
        f"own labels to {last[TRUSTING].mean():.2f} when trusted and {last[CONSISTENT].mean():.2f} with CREAM, more by "
        f"{_said(more)}.",
        tables=(_table("expected reward after the last round", last),),
        panels=(
            Panel(
                "expected reward",
                "0: M0, 1: fine-tuned, then rounds of own labels",
                "E r",
                tuple(line(name, range(values.shape[1]), values) for name, values in course.items()),
                log_x=False,
                log_y=False,
            ),
        ),
    )


# --- UPO


def run_upo(scale: Scale) -> Evidence:
    seeds, steps = {"quick": (20, 40), "full": (100, 80)}[scale]
    world = draw(seeds)
    policy, reference, start = world.model.log_probs, world.reference, world.model.start()
    score, passes = estimated(world, sample(world, NOISY, FLIPPED))
    draws = numpy_draws(3).random((UPO_ROUNDS, len(reference) * REPEATS, 4))
    found = {}
    for name in (HARD, WEIGHED):
        theta, path = start, [reference]
        for uniforms in draws:
            rows = halves(passes, score, written(world, path[-1], 4, uniforms))
            if name == HARD:
                rows = rows._replace(prob=torch.ones_like(rows.weight), weight=torch.ones_like(rows.weight))
            theta = fit(Dpo(beta=BETA), world, theta, rows, steps, reference=path[-1])
            path.append(policy(theta))
        found[name] = expected(world, path[-1])
    return judge_upo(found, expected(world, reference))


def estimated(world: World, rows: Comparisons) -> tuple[Tensor, Tensor]:
    """Rewards [S X, A] of the method's estimator, learned copy by copy, and those of its dropout passes [T, S X, A]."""
    features, scores, passes = world.model.features.flatten(0, 1), [], []
    for copy, prompts in enumerate(np.split(np.arange(len(features)), len(world.reward))):
        mine = (rows.prompts >= prompts[0]) & (rows.prompts <= prompts[-1])
        shown = features[rows.prompts[mine, None], rows.responses[mine]]
        made = feature_reward.fit(
            shown, torch.ones_like(rows.weight[mine]), rows.weight[mine], seed=moved_seed(copy)
        )
        estimator = LearnedReward.of(made)
        with torch.no_grad():
            parts = estimator.hidden(features[prompts]) * estimator.head.weight[0]
        draw_ = torch_draws(copy)
        stay = torch.rand(PASSES, 1, 1, parts.shape[2], generator=draw_) >= DROPOUT
        scores.append(parts.sum(dim=2))
        passes.append((parts * stay / (1 - DROPOUT)).sum(dim=3))
    return torch.cat(scores), torch.cat(passes, dim=1)


def halves(passes: Tensor, score: Tensor, rows: Rows) -> Comparisons:
    """Better half against worse half by a score [N, A], labelled by the confidence of the passes [T, N, A]."""
    prompts, drawn = torch.from_numpy(rows.prompts), torch.from_numpy(rows.responses)
    ranked = drawn.gather(1, score[prompts[:, None], drawn].argsort(dim=1, descending=True, stable=True))
    pairs = torch.cat([ranked[:, [better, worse]] for better in (0, 1) for worse in (2, 3)])
    prompts = prompts.repeat(4)
    differ = pairs[:, 0] != pairs[:, 1]
    prompts, pairs = prompts[differ], pairs[differ]
    votes = passes[:, prompts[:, None], pairs]
    sure = torch.from_numpy(ConfidenceWeighted().confidence((votes[..., 0] - votes[..., 1]).sigmoid()))
    return Comparisons(prompts, pairs, sure, (1 + sure) / 2)


def judge_upo(reward: Mapping[str, Array], reference: Array) -> Evidence:
    more = _interval(reward[WEIGHED] - reward[HARD])
    return Evidence(
        verdict=verdict(more[1] > 0),
        summary=f"From {reference.mean():.2f} at the reference, an estimator learned from {NOISY} labels, {FLIPPED:.0%}"
        f" of them flipped, leads to {reward[HARD].mean():.2f} expected reward where every label is trusted and to "
        f"{reward[WEIGHED].mean():.2f} where labels are weighed by its confidence, more by {_said(more)}.",
        tables=(_table("expected reward", reward),),
    )


def _interval(values: Array) -> tuple[float, float, float]:
    mean, low, high = interval(values[:, None])
    return float(mean[0]), float(low[0]), float(high[0])


def _said(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.3f} ({found[1]:.3f} to {found[2]:.3f})"


def _table(title: str, values: Mapping[str, Array]) -> Table:
    rows = tuple((name, *_interval(found)) for name, found in values.items())
    return Table(
        f"{title}, mean over {len(next(iter(values.values())))} games",
        ("trained on", "mean", "from", "to"),
        rows,
    )


FEW_LABELS = Claim(
    name="spa_few_labels",
    sentence="With 3.3 % of the preference labels, self-labelled pairs with refined labels train a policy that is "
    "better than DPO on those labels alone.",
    paper="2406.04412",
    rule="Heart: the expected reward ends higher with SPA than with DPO on the same seed (paired 95 % interval over "
    "games). Also: higher than with own labels and no refinement. DPO on all labels is shown and does not count.",
    program=run_spa,
)

NOISE = Claim(
    name="cream_noise",
    sentence="Trusting self-labelled pairs as far as two successive models agree in their ranking improves on "
    "self-rewarding that trusts them all.",
    paper="2410.12735",
    rule=f"Heart: after {CREAM_ROUNDS} rounds from one fine-tuned model the expected reward is higher with CREAM than "
    "with hard own labels (paired 95 % interval over games). Also: it is higher than the fine-tuned model's.",
    program=run_cream,
)

NOISY_LABELS = Claim(
    name="upo_noisy_labels",
    sentence="Weighing and smoothing pairs by an estimator's certainty, from passes with dropout, trains a better "
    "policy than trusting all of its labels.",
    paper="2409.11212",
    rule=f"Heart: after {UPO_ROUNDS} rounds the expected reward is higher than with hard labels of the same estimator "
    "(paired 95 % interval over games).",
    set="the estimator is the method's own, a small network with dropout, since a first run had failed with a linear "
    "one that lost some of its six weights in each pass.",
    program=run_upo,
)
