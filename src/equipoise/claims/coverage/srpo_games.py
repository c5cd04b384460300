"""What the claim on SRPO plays: random games with a usual and a shifted writer, and prompts that training never saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import Array
from equipoise.claims.draws import moved_seed, numpy_draws
from equipoise.claims.small_models import LinearSoftmax, always, descend
from equipoise.core.dims import Strategy
from equipoise.core.objectives import Dpo, Ipo
from equipoise.core.objectives.base import Objective
from equipoise.core.objectives.srpo import Srpo
from equipoise.games import (
    PreferenceGame,
    TabularPolicy,
    enumerate_data,
    enumerate_pairs,
    minimise,
    offline,
    srpo,
    zoo,
)
from equipoise.games.expectation import Comparisons
from equipoise.games.srpo import Roles

REVISIONS = 5
ALPHA = 0.5  # of Srpo
ARMS = 5
TOLERANCE = 1e-6  # of gradients: recorded labels may have their minimum at infinity, where they only fade
KEEPS = 0.5  # reference's probability of keeping the answer that it is asked to improve
SRPO, AFRESH = (
    "SRPO",
    "SRPO afresh",
)  # reference improvers: keeps the answer or writes a new one; writes a new one
METHODS = ("DPO", "IPO", SRPO, AFRESH)


def objective(method: str, beta: float) -> Objective:
    """beta: the KL weight of every loss, called tau in IPO."""
    if has_improver(method):
        return Srpo(beta=beta, alpha=ALPHA)
    return Dpo(beta=beta) if method == "DPO" else Ipo(tau=beta)


def has_improver(method: str) -> bool:
    return method in (SRPO, AFRESH)


def kernel(method: str, reference: Strategy) -> Tensor:
    """What the reference writes, column, when asked to improve an answer, row; [X, A, A] probabilities."""
    keeps = KEEPS if method == SRPO else 0.0
    return keeps * torch.eye(reference.shape[1]) + (1 - keeps) * reference.unsqueeze(1)


def revised(roles: Roles) -> list[Strategy]:
    """pi, pi pid, pi pid pid, ...: the distribution of the answer after 0 .. REVISIONS revisions, [X, A] each."""
    distributions = [roles.generator.exp()]
    for _ in range(REVISIONS):
        distributions.append(torch.einsum("xz,xzy->xy", distributions[-1], roles.improver.exp()))
    return distributions


# --- every prompt a game of its own


def random_games(kind: str, count: int) -> PreferenceGame:
    """`count` games as prompts: "general", P(i > j) ~ U(0, 1), or "Bradley-Terry" with standard normal rewards."""
    games = [zoo.random(ARMS, moved_seed(seed)) for seed in range(count)]
    reference = torch.cat([game.reference for game in games])
    if kind == "general":
        return PreferenceGame(torch.cat([game.preference for game in games]), reference)
    return zoo.bradley_terry(numpy_draws(5).normal(size=(count, ARMS)), reference)


def writers(game: PreferenceGame) -> Mapping[str, TabularPolicy]:
    """The reference, and one that prefers responses which lose to the reference: pi ~ pi_ref exp(-4 P(. > pi_ref))."""
    usual = game.initial()
    return {"usual": usual, "shifted": TabularPolicy(usual.log_probs() - 4 * game.win(usual))}


def fitted(method: str, beta: float, game: PreferenceGame, rows: Comparisons) -> list[Strategy]:
    """Laws of the answer after each revision; a method without an improver has one."""
    reference = game.initial().log_probs()
    if has_improver(method):
        roles = Roles.of(game, kernel(method, game.reference))
        return revised(srpo.fit(Srpo(beta=beta, alpha=ALPHA), rows, roles, tolerance=TOLERANCE))
    anchors = {"reference": reference}
    fit = minimise(objective(method, beta), *rows, start=reference, anchors=anchors, tolerance=TOLERANCE)
    return [fit.exp()]


def population(game: PreferenceGame, writer: TabularPolicy) -> Comparisons:
    return enumerate_pairs(game, writer.probs())


def recorded(game: PreferenceGame, writer: TabularPolicy, n: int) -> Comparisons:
    """n labelled pairs of each prompt."""
    return enumerate_data(offline.sample_pairs(game, writer, n, seed=moved_seed(17)).share)


def win_rates(game: PreferenceGame, distributions: list[Strategy]) -> Array:
    """P(revision > reference) by revision, [X, len(distributions)]."""
    against = game.win(game.initial())
    return torch.stack([(distribution * against).sum(dim=1) for distribution in distributions], dim=1).numpy()


# --- prompts that share parameters

SHAPE = 3  # of a response's features and of a prompt's
ANSWERS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompts:
    """Copies side by side, [S, X, A, ...]: responses phi = c(x) + noise, whose preferences are

        P(y > y') = sigma( 2 w . (phi - phi') + phi . M phi' ),   w random, M random and antisymmetric.

    context [S, X, d] c(x), which every policy sees; phi [S, X, A, d]; preference [S, X, A, A].
    """

    context: Tensor
    phi: Tensor
    preference: Tensor

    def generator(self) -> Tensor:
        """Features of an answer to the prompt: phi and phi c(x)^T, [S, X, A, d + d^2]."""
        mixed = torch.einsum("sxai,sxj->sxaij", self.phi, self.context).flatten(3)
        return torch.cat([self.phi, mixed], dim=3)

    def both(self) -> Tensor:
        """Features in both roles, [S, X, A + A A, D]: the improver's add phi(y) phi(z)^T of the answer z to improve."""
        own = self.generator()
        seen = torch.einsum("sxyi,sxzj->sxzyij", self.phi, self.phi).flatten(4)
        first = torch.nn.functional.pad(own, (0, own.shape[3] + seen.shape[4]))
        given = own.unsqueeze(2).expand(*seen.shape[:4], -1)
        second = torch.nn.functional.pad(torch.cat([given, seen], dim=4), (own.shape[3], 0))
        return torch.cat([first, second.flatten(2, 3)], dim=2)

    def win_rates(self, distributions: list[Strategy]) -> Array:
        """P(revision > uniform) by revision, [S, len(distributions)], mean over prompts."""
        against = self.preference.mean(dim=3)
        shape = against.shape
        return torch.stack(
            [(distribution.view(shape) * against).sum(dim=2).mean(dim=1) for distribution in distributions],
            dim=1,
        ).numpy()


def make_prompts(seeds: int, count: int, shift: float, stream: int) -> Prompts:
    """c(x) ~ N(shift u, 1/4), u a random direction; w, M and u depend on the seed alone, prompts on the stream too."""
    context, phi, preference = [], [], []
    for seed in range(seeds):
        world, rng = numpy_draws([seed, 0]), numpy_draws([seed, stream])
        w, m, u = world.normal(size=SHAPE), world.normal(size=(SHAPE, SHAPE)), world.normal(size=SHAPE)
        c = shift * u / np.linalg.norm(u) + rng.normal(size=(count, SHAPE)) / 2
        features = c[:, None] + rng.normal(size=(count, ANSWERS, SHAPE))
        score = features @ w
        cycle = np.einsum("xai,ij,xbj->xab", features, (m - m.T) / 2, features)
        context.append(c)
        phi.append(features)
        preference.append(1 / (1 + np.exp(-(2 * (score[:, :, None] - score[:, None]) + cycle))))
    return Prompts(
        context=torch.as_tensor(np.stack(context)),
        phi=torch.as_tensor(np.stack(phi)),
        preference=torch.as_tensor(np.stack(preference)),
    )


def sampled(prompts: Prompts, pairs: int) -> Comparisons:
    """`pairs` labelled pairs of distinct uniform responses per prompt."""
    game = PreferenceGame(prompts.preference.flatten(0, 1))
    return enumerate_data(offline.sample_pairs(game, game.initial(), pairs, seed=moved_seed(19)).counts)


def trained(
    method: str, beta: float, train: Prompts, tests: Mapping[str, Prompts], pairs: int, steps: int
) -> dict[str, Array]:
    """Win rates on each set of test prompts, [S, revisions + 1 or 1], after training on `train`."""
    rows = sampled(train, pairs)
    rows = srpo.both_roles(rows, ANSWERS) if has_improver(method) else rows
    learner = small(method, train)
    anchor = learner.log_probs(learner.start())
    theta = descend(
        objective(method, beta),
        learner,
        learner.start(),
        always(rows, reference=anchor),
        steps=steps,
        rate=0.02,
    )
    found = {}
    for name, test in tests.items():
        table = small(method, test).log_probs(theta)
        found[name] = test.win_rates(
            revised(Roles.of_table(table)) if has_improver(method) else [table.exp()]
        )
    return found


def small(method: str, prompts: Prompts) -> LinearSoftmax:
    """The policy of a method on these prompts; its reference is uniform."""
    copies, count = prompts.phi.shape[:2]
    uniform = torch.full((copies * count, ANSWERS), 1 / ANSWERS, dtype=torch.float64)
    if not has_improver(method):
        return LinearSoftmax(reference=uniform.log().view(copies, count, -1), features=prompts.generator())
    table = torch.cat([uniform, kernel(method, uniform).flatten(1)], dim=1).log()
    reference = table.view(copies, count, -1)
    return LinearSoftmax(reference=reference, features=prompts.both(), contexts=ANSWERS + 1)
