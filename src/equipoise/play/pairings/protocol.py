"""The pairing protocol: which responses are compared, and how a verdict becomes a label or a reward.

A pairing is the second phase of a round (`play.round`), the stage "judging". It is given the players' rows and asks
with the verbs `compare` (P(first beats second) of every row), `win_rates` (against an opponent) and `past` (comparisons
of earlier rounds); its comparisons carry a label (`Rows.prob`), rewards (`Rows.reward`) or both.

    sampled              i.i.d. pairs, tournaments, win rates, best against worst
    recorded             the data's own pairs and labels
    unpaired             single labelled responses: weighting, mismatched prompts, own samples
    ranking              matches and neighbours of a ranking
    score_margin         pairs filtered by score thresholds
    confidence_weighted  labels weighted by an estimator's confidence
    self_labelled        labels by the policy's implicit reward
    learned_reward       rewards of a model that is learned during the run
    curated              one response of a row kept by a Bradley-Terry choice
    replay_buffer        comparisons of earlier rounds again
    greedy_split         two sets of responses, split by a reward of whole sets
    max_min              rewards of the group of users that is worst off
    constrained          a Lagrangian of several scores with thresholds
    best_along           the best response along a direction among several scores
    votes                votes of several annotators
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from equipoise.play.component import Component
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.play.world import World


class Pairing(Component, Protocol):
    """Which responses of a row are compared, and whether a comparison gives a label or a reward."""

    def check(self, width: int) -> None:
        """Raise ValueError if rows of `width` responses cannot be paired this way."""
        return

    def check_scores(self, names: Sequence[str]) -> None:
        """Raise ValueError if it cannot read named scores of these names."""
        return

    def form(self, world: World, state: State, rows: Rows) -> Rows:
        """The round's comparisons, with labels (`prob`), rewards or both."""
        ...

    def comparisons(self, width: int) -> int:
        """Comparisons that a row of `width` responses gives, at most."""
        return 1

    def reach(self, rounds: int) -> int:
        """Replay horizon: how many rounds back comparisons are replayed from, in a run of `rounds` rounds."""
        return 0


def at_least(least: int, what: str, width: int) -> None:
    """Raise ValueError unless a row has at least `least` responses."""
    if width < least:
        words = {1: "one response", 2: "two responses", 3: "three responses"}
        raise ValueError(f"at least {words[least]} per prompt are needed for {what}, got {width}")
