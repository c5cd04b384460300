"""Unpaired feedback as comparisons: class weights, mismatched prompts, own samples as the winners."""

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
    """Labelled single responses, as recorded.

    balanced   weigh the two classes equally: the mean over all is half the sum of the classes' means. A soft label
               counts for both.
    """

    balanced: bool = False

    def check(self, width: int) -> None:
        single(width)

    def comparisons(self, width: int) -> int:
        return 2 if self.balanced else 1  # of a soft label

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        return _balance(_certain(rows)) if self.balanced else rows

    def describe(self) -> str:
        return "as labelled, classes balanced" if self.balanced else "as labelled"


@dataclass(frozen=True, kw_only=True)
class WithUnrelated(Pairing):
    """Each response with a mismatched one, recorded for another prompt, to estimate the KL reference point (KTO)."""

    capabilities: ClassVar[tuple[type, ...]] = (MismatchedPrompts,)

    def check(self, width: int) -> None:
        single(width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        return needing(world, MismatchedPrompts).unrelated(state, rows)

    def describe(self) -> str:
        return "as labelled, each with a mismatched response (to another prompt)"


@dataclass(frozen=True, kw_only=True)
class MatchedPrompts(Pairing):
    """Underlying-distribution matching (BCO): importance weights that match undesirable to desirable prompts.

        w(x) = P(up | x)/P(down | x),  clamped to [0.5, 10],  on undesirable responses;   1 on desirable ones

    P(up | x) is a logistic regression with balanced classes on the initial policy's hidden states of the prompt. Apart
    from w, the same as `Labelled` with `balanced`.

    Source: Jung et al. 2024 (2404.04656); the rule and its constants as in TRL's code.
    """

    capabilities: ClassVar[tuple[type, ...]] = (PromptFeatures,)

    def check(self, width: int) -> None:
        single(width)

    def comparisons(self, width: int) -> int:
        return 2  # of a soft label

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        rows = _certain(rows)
        label = rows.rewards[:, 0]
        if label.min() == label.max():
            return rows  # one class only: nothing to match
        odds = odds_of_desirable(
            needing(world, PromptFeatures).prompt_features(state, rows).double().numpy(),
            label,
            rows.weight,
            # an exact game draws nothing and fits all rows
            (lambda count: world.uniforms(state, "matching", count))
            if isinstance(world, RandomDraws)
            else None,
        )
        ratio = np.where(label == 0, np.clip(odds, SMALLEST_WEIGHT, LARGEST_WEIGHT), 1.0)
        balanced = _balance(rows)
        return replace(balanced, weight=balanced.weight * ratio)

    def describe(self) -> str:
        return "as labelled, classes balanced, undesirable ones reweighted to the prompts of desirable ones"


@dataclass(frozen=True, kw_only=True)
class AgainstOwnSamples(Pairing):
    """A dispreferred response against own samples: columns own, dispreferred, own, own, ... (D2O)."""

    def check(self, width: int) -> None:
        at_least(2, "a dispreferred response against own samples", width)

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        self.check(rows.responses.shape[1])
        order = [1, 0, *range(2, rows.responses.shape[1])]
        turned = rows.columns([np.full(len(rows), column) for column in order])
        return replace(turned, prob=np.ones(len(rows)), reward=None)

    def describe(self) -> str:
        return "the dispreferred response against all own samples jointly"


def single(width: int) -> None:
    """Raise ValueError unless a row is one labelled response."""
    if width != 1:
        raise ValueError(f"unpaired labels need one response per row, got {width}")


def _certain(rows: Rows) -> Rows:
    """Rows with hard labels 0 and 1: a soft label becomes two rows that share its weight."""
    label = rows.rewards[:, 0]
    parts = []
    for kind, share in ((1.0, label), (0.0, 1 - label)):
        part = replace(rows, reward=np.full((len(rows), 1), kind), weight=rows.weight * share)
        parts.append(part.take(share > 0))
    return Rows.join(parts)


def _balance(rows: Rows) -> Rows:
    """Rows with hard labels, reweighted so that each class present has half of the total weight."""
    weight, label = rows.weight.copy(), rows.rewards[:, 0]
    for kind in (0.0, 1.0):
        here = label == kind
        if here.any():
            weight[here] *= rows.weight.sum() / (2 * rows.weight[here].sum())
    return replace(rows, weight=weight)
