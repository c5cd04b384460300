"""SRPO on finite games: generator and improver, their closed-form solution, and exact fits of the objective.

A policy in two roles is one table of A + 1 contexts of A responses per prompt: context 0 is the prompt alone
(generator), context 1 + z the prompt and an answer z (improver).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.core.dims import Payoff, PerPrompt, Strategy
from equipoise.core.objectives.srpo import Srpo
from equipoise.games.expectation import Comparisons
from equipoise.games.fit import minimise
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy


@dataclass(frozen=True, kw_only=True, eq=False)
class Roles:
    """One policy in two roles, as log-probs in nats, float64.

    generator    [X, A] log pi(y|x)        improver    [X, A, A] log pid(y2|y1, x), row y1 the answer to improve
    """

    generator: Strategy
    improver: Payoff

    @classmethod
    def of(cls, game: PreferenceGame, kernel: Any = None) -> Roles:
        """The reference in both roles: the game's, and `kernel` [X, A, A] (or [A, A] for every prompt), the
        probabilities of y2 (column) given y1 in the context (row).

        Default kernel: the game's reference, for every context. Raises ValueError unless every row of the
        kernel is a distribution with full support.
        """
        shape = (game.prompts, game.actions, game.actions)
        given = (
            game.reference.unsqueeze(1) if kernel is None else torch.as_tensor(kernel, dtype=torch.float64)
        )
        try:
            rows = given.expand(shape).flatten(0, 1)
        except RuntimeError:
            raise ValueError(f"kernel has shape {tuple(given.shape)}, expected {shape}") from None
        if not bool((rows > 0).all()):
            raise ValueError("the kernel needs full support: every answer needs a probability > 0")
        improver = TabularPolicy.from_probs(rows).log_probs()
        return cls(generator=game.initial().log_probs(), improver=improver.view(shape))

    @classmethod
    def of_table(cls, table: Strategy) -> Roles:
        """The inverse of `table`."""
        actions = round((table.shape[1] + 0.25) ** 0.5 - 0.5)  # A (A + 1) columns
        generator, improver = table.split([actions, actions**2], dim=1)
        return cls(generator=generator, improver=improver.unflatten(1, (actions, actions)))

    def table(self) -> Strategy:
        """[X, (A + 1) A]: the columns of context 0, then those of each context 1 + z."""
        return torch.cat([self.generator, self.improver.flatten(1)], dim=1)


def log_normaliser(game: PreferenceGame, reference: Roles, beta: float) -> Strategy:
    """log Z(y1) = log sum_y2 ref(y2|y1) exp(P(y2 > y1)/beta), [X, A]; beta log Z is the improver's gain on y1."""
    return torch.logsumexp(reference.improver + game.preference.mT / beta, dim=2)


def solution(game: PreferenceGame, reference: Roles, beta: float) -> Roles:
    """Closed-form saddle point of `value`.

        pid(y2|y1) = ref(y2|y1) exp(P(y2 > y1)/beta) / Z(y1),     pi(y) ~ ref(y) / Z(y)

    The generator prefers answers that are hard to improve: a robust policy, but in general not a Nash policy.

    Source: the min-max of Choi et al. 2024 (2406.01660); solution DERIVED (the improver maximises per row, which
    leaves the generator with a linear payoff -beta log Z and a KL).
    """
    generator = reference.generator - log_normaliser(game, reference, beta)
    improver = reference.improver + game.preference.mT / beta
    return Roles(generator=generator.log_softmax(dim=1), improver=improver.log_softmax(dim=2))


def value(game: PreferenceGame, roles: Roles, reference: Roles, beta: float) -> PerPrompt:
    """Min-max objective, [X]: the improver maximises it, the generator minimises it.

        E_{y1 ~ pi, y2 ~ pid(.|y1)} P(y2 > y1)  -  beta E_{y1 ~ pi} KL(pid || ref | y1)  +  beta KL(pi || ref)

    At the saddle point it is -beta log sum_y ref(y)/Z(y). Source: Choi et al. 2024 (2406.01660).
    """
    gain = game.preference.mT - beta * (roles.improver - reference.improver)
    per_answer = (roles.improver.exp() * gain).sum(dim=2) + beta * (roles.generator - reference.generator)
    return (roles.generator.exp() * per_answer).sum(dim=1)


def saddle_value(game: PreferenceGame, reference: Roles, beta: float) -> PerPrompt:
    """Saddle value -beta log sum_y ref(y)/Z(y), [X]: `value` at `solution`."""
    log_z = log_normaliser(game, reference, beta)
    return -beta * torch.logsumexp(reference.generator - log_z, dim=1)


def both_roles(pairs: Comparisons, actions: int) -> Comparisons:
    """The six columns that `Srpo` reads of each pair (w, l), as cells of `Roles.table()`."""
    won, lost = pairs.responses.unbind(1)

    def given(y: Tensor, z: Tensor) -> Tensor:
        return (1 + z) * actions + y

    columns = [won, lost, given(won, lost), given(lost, won), given(won, won), given(lost, lost)]
    cells = torch.stack(columns, dim=1)
    return pairs._replace(responses=cells)


def fit(objective: Srpo, pairs: Comparisons, reference: Roles, **solver: Any) -> Roles:
    """The exact population minimiser of the core objective over both tables, from the reference.

    pairs    labelled pairs of a game, such as `enumerate_pairs`, K = 2.
    solver   further settings of `minimise`.
    """
    start, actions = reference.table(), reference.generator.shape[1]
    rows, anchors = both_roles(pairs, actions), {"reference": start}
    return Roles.of_table(
        minimise(objective, *rows, start=start, anchors=anchors, contexts=actions + 1, **solver)
    )
