"""Comparisons of unpaired feedback: weighting, mismatched prompts, and own samples as the other side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from equipoise.play.capabilities import MismatchedPrompts, PromptFeatures, RandomDraws, needing
from equipoise.play.pairings.density_ratio import LARGEST_WEIGHT, SMALLEST_WEIGHT, odds_of_desirable
from equipoise.play.pairings.protocol import Pairing, at_least
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class Labelled(Pairing):
    """Responses as they are labelled.

    balanced   weigh them so that both kinds count alike: the mean over them is half the sum of two means. A soft label
               counts for both.
    """

    balanced: bool = False

    def check(self, width: int) -> None:
        single(width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        return _balance(_certain(rows)) if self.balanced else rows

    def describe(self) -> str:
        return "as labelled, both kinds weighing alike" if self.balanced else "as labelled"


@dataclass(frozen=True, kw_only=True)
class WithUnrelated(Pairing):
    """Each response with another one, to an unrelated prompt, for a reference point that the policy's drift moves."""

    capabilities: ClassVar[tuple[type, ...]] = (MismatchedPrompts,)

    def check(self, width: int) -> None:
        single(width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        return needing(world, MismatchedPrompts).unrelated(state, rows)

    def describe(self) -> str:
        return "as labelled, each with a response to an unrelated prompt"


@dataclass(frozen=True, kw_only=True)
class MatchedPrompts(Pairing):
    """Underlying-distribution matching: undesirable responses weigh as if their prompts were those of desirable ones.

        w(x) = P(up | x)/P(down | x),  clamped to [0.5, 10],  on undesirable responses;   1 on desirable ones

    P(up | x) is a logistic regression, classes balanced, on what the initial policy makes of the prompt. As `Labelled`
    with `balanced`, apart from w.

    Source: Jung et al. 2024 (2404.04656); the rule and its constants as in TRL's code.
    """

    capabilities: ClassVar[tuple[type, ...]] = (PromptFeatures,)

    def check(self, width: int) -> None:
        single(width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        rows = _certain(rows)
        label = rows.rewards[:, 0]
        if label.min() == label.max():
            return rows  # one kind alone: there is nothing to be matched with
        odds = odds_of_desirable(
            needing(world, PromptFeatures).prompt_features(state, rows).double().numpy(),
            label,
            rows.weight,
            # an exact game draws nothing: there all rows are fitted
            (lambda count: world.uniforms(state, "matching", count))
            if isinstance(world, RandomDraws)
            else None,
        )
        ratio = np.where(label == 0, np.clip(odds, SMALLEST_WEIGHT, LARGEST_WEIGHT), 1.0)
        balanced = _balance(rows)
        return replace(balanced, weight=balanced.weight * ratio)

    def describe(self) -> str:
        return "as labelled, both kinds weighing alike, undesirable ones by how desirable ones' prompts are spread"


@dataclass(frozen=True, kw_only=True)
class AgainstOwnSamples(Pairing):
    """A dispreferred response against own samples: columns own, dispreferred, own, own, ... (D2O)."""

    def check(self, width: int) -> None:
        at_least(2, "a dispreferred response and own samples", width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        order = [1, 0, *range(2, rows.responses.shape[1])]
        turned = rows.columns([np.full(len(rows), column) for column in order])
        return replace(turned, prob=np.ones(len(rows)), reward=None)

    def describe(self) -> str:
        return "the dispreferred response against all own ones together"


def single(width: int) -> None:
    """Raise ValueError unless a row is one labelled response."""
    if width != 1:
        raise ValueError(f"a label is that of one response per row, got {width} responses")


def _certain(rows: Rows) -> Rows:
    """The same rows with labels 0 and 1 alone: a soft one becomes two rows that share its weight."""
    label = rows.rewards[:, 0]
    parts = []
    for kind, share in ((1.0, label), (0.0, 1 - label)):
        part = replace(rows, reward=np.full((len(rows), 1), kind), weight=rows.weight * share)
        parts.append(part.take(share > 0))
    return Rows.join(parts)


def _balance(rows: Rows) -> Rows:
    """Rows with certain labels, weighed so that each kind there is has half of the whole weight."""
    weight, label = rows.weight.copy(), rows.rewards[:, 0]
    for kind in (0.0, 1.0):
        here = label == kind
        if here.any():
            weight[here] *= rows.weight.sum() / (2 * rows.weight[here].sum())
    return replace(rows, weight=weight)
