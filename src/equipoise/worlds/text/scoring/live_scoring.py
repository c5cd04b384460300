"""Live scoring in every step: references and an auxiliary head in memory with the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from equipoise.core.auxiliary_heads import AuxiliaryHead
from equipoise.core.objectives import Objective
from equipoise.data.collate import Ids, Response, collate
from equipoise.play.schedules import at_step
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.live_reference import FrozenReference, LiveScorer, LiveScores
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.text.fit import Reading


class LiveScoring:
    """The policy's log-probs, divergences from live references, and outputs of an auxiliary head.

    frozen   anchor -> its frozen copy; a head that reads layers reads those of the first.
    head     specification of the head in `policy.network`, if any; `rate` multiplies its learning rate.

    Raises TrainingError for an objective that weighs responses by the current policy.
    """

    live = True

    def __init__(
        self,
        policy: CausalPolicy,
        objective: Objective,
        *,
        frozen: Mapping[str, FrozenReference],
        head: AuxiliaryHead | None = None,
        rate: float = 1.0,
    ) -> None:
        if objective.reads.response_weights:
            raise TrainingError(
                f"{type(objective).__name__} weighs responses, which live references do not support; use Refit"
            )
        self.policy, self.objective, self.frozen, self.head, self.rate = policy, objective, frozen, head, rate
        self.module: nn.Module = LiveScorer(policy.scorer, policy.network)

    @property
    def learned(self) -> set[str]:
        """Names of the head's outputs."""
        return set(self.head.outputs) if self.head is not None else set()

    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's parameter groups: the policy's, and the head's with separate rate and weight decay."""
        network = self.policy.network
        own: list[dict[str, Any]] = [{"params": [p for _, p in self.policy.parameters()], "rate": 1.0}]
        if network is None or self.head is None:
            return own
        decay = self.head.weight_decay
        return [*own, {"params": list(network.parameters()), "weight_decay": decay, "rate": self.rate}]

    def extrapolated(
        self, prompts: Sequence[Ids], responses: Sequence[Sequence[Response]]
    ) -> dict[str, Tensor]:
        """Anchor -> log-probs [B, K] under logits extrapolated away from it, at the objective's `mix`."""
        batch = collate(prompts, responses, self.policy.pad).to(self.policy.device)
        mix = float(getattr(at_step(self.objective, 0), "mix", 1.0))
        assert isinstance(self.module, LiveScorer)
        return {
            name: self.module.extrapolated(batch, self.frozen[name].next_token_distribution(batch), mix)
            .double()
            .unflatten(0, batch.shape)
            for name in self.objective.reads.extrapolated
        }

    def read(self, prompts: Sequence[Ids], responses: Sequence[Sequence[Response]]) -> Reading:
        """Forward outputs for some responses."""
        batch = collate(prompts, responses, self.policy.pad).to(self.policy.device)
        distributions = {name: frozen.next_token_distribution(batch) for name, frozen in self.frozen.items()}
        scores: LiveScores = self.module(batch, list(distributions.values()))
        reads = self.objective.reads

        def laid(values: Tensor) -> Tensor:
            return values.to(scores.logp).unflatten(0, batch.shape)

        drifts = dict(zip(distributions, map(laid, scores.divergences), strict=True))
        reading = Reading(
            laid(scores.logp),
            scores.mask.unflatten(0, batch.shape),
            {n: laid(scores.tokens[n]) for n in reads.token_weights if n in scores.tokens},
            {n: drifts[n] for n in reads.divergences},
            {n: laid(scores.rows[n]) for n in reads.auxiliary},
        )
        return reading if reads.tokens else reading.summed()
