"""Values of prefixes by a critic, as the scores of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from equipoise.core.objectives import Objective
from equipoise.data.collate import Ids, Response
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scorer import causal_lm
from equipoise.policy.scoring.critic import ValueHead, values_of
from equipoise.worlds.text.fit import Reading


def value_head(policy: CausalPolicy, folder: Path) -> ValueHead:
    """The value head saved with a critic's checkpoint; a new one if it has none, as the initial policy."""
    head = ValueHead(causal_lm(policy.model).config.hidden_size)
    checkpoint.load_network(head, folder)
    return head


class ValueScoring:
    """The critic's value before each token in the place of its log-prob; the head is `policy.network`."""

    live = False

    def __init__(self, policy: CausalPolicy, objective: Objective, head: ValueHead) -> None:
        self.policy, self.objective, self.head = policy, objective, head
        policy.network = head

    @property
    def learned(self) -> set[str]:
        """No token weights are learned."""
        return set()

    def groups(self) -> list[dict[str, Any]]:
        """One group: the critic's body and its head."""
        return [{"params": [p for _, p in self.policy.trained()], "rate": 1.0}]

    def extrapolated(
        self, prompts: Sequence[Ids], responses: Sequence[Sequence[Response]]
    ) -> Mapping[str, Tensor]:
        """Nothing: values have no reference."""
        return {}

    def read(self, prompts: Sequence[Ids], responses: Sequence[Sequence[Response]]) -> Reading:
        """Values and mask of some responses."""
        return Reading(*values_of(self.policy, self.head, self.policy.batch(prompts, responses)))
