"""Scores that no cache holds: divergences from a model that is alive, and what a network beside the policy says."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from equipoise.core.logprob import (
    TokenPositions,
    by_response,
    divergence_of_logits,
    scored_positions,
    token_divergences,
    token_logps,
    token_logps_from_logits,
)
from equipoise.data.collate import TokenBatch
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scorer import Scorer, backbone, causal_lm


class Law(NamedTuple):
    """The whole law of the next token at N places: states and a linear head, or logits where there is no such head.

    layers    [L, N, D] states of all layers there; None where nobody reads them.
    """

    states: Tensor
    head: Tensor | None
    bias: Tensor | None
    layers: Tensor | None = None


class Live(NamedTuple):
    """What a batch of R rows gives, token by token [R, T] or response by response [R].

    logp, mask      log-probs of the scored tokens, and True where there is one.
    divergences     KL of the policy's law from each frozen one, in their order.
    tokens, rows    what the network says of tokens, of responses.
    """

    logp: Tensor
    mask: Tensor
    divergences: list[Tensor]
    tokens: dict[str, Tensor]
    rows: dict[str, Tensor]


class LiveScorer(nn.Module):
    """The part that is trained where more is read than log-probs: the policy's scorer, and the network beside it.

    Batches are padded rows. Frozen models are met by their `Law`; they are no part of what is trained.
    """

    def __init__(self, scorer: Scorer, network: nn.Module | None = None) -> None:
        super().__init__()
        self.scorer, self.network = scorer, network

    def forward(self, batch: TokenBatch, laws: list[Law]) -> Live:
        where = scored_positions(batch.scored)
        targets = batch.ids[where.row, where.target]
        with self.scorer.autocast(batch.ids.device):
            states, logits = _read(self.scorer, batch)
            at = (states if logits is None else logits)[where.row, where.predictor]
            if logits is None:
                head = causal_lm(self.scorer.model).get_output_embeddings()
                logps = token_logps(at, head.weight.to(at.dtype), targets, bias=head.bias)
                drifts = [_divergence(at, head, law) for law in laws]
            else:
                logps = token_logps_from_logits(at, targets)
                drifts = [divergence_of_logits(at, law.states) for law in laws]
        said = {} if self.network is None else self._said(batch, where, states, laws)
        logp, mask = by_response(logps, where.row, len(batch.ids))
        by_row = {name: values for name, values in said.items() if len(values) == len(batch.ids)}
        by_token = {name: values for name, values in said.items() if name not in by_row}
        return Live(
            logp,
            mask,
            [by_response(drift, where.row, len(batch.ids))[0] for drift in drifts],
            {name: by_response(values, where.row, len(batch.ids))[0] for name, values in by_token.items()},
            {name: values.double() for name, values in by_row.items()},
        )

    def _said(
        self, batch: TokenBatch, where: TokenPositions, states: Tensor, laws: list[Law]
    ) -> dict[str, Tensor]:
        assert self.network is not None
        if laws and laws[0].layers is not None:
            return dict(self.network(laws[0].layers.float()))
        scored = batch.scored.unsqueeze(2)
        return dict(self.network(((states * scored).sum(dim=1) / scored.sum(dim=1)).float()))


class Frozen:
    """A frozen copy of a policy as it stands: a second model in memory, as long as it is needed."""

    def __init__(self, policy: CausalPolicy, *, layers: bool = False) -> None:
        self.scorer = copy.deepcopy(policy.scorer).requires_grad_(False)
        self.layers = layers

    @torch.no_grad()
    def law(self, batch: TokenBatch) -> Law:
        """Its law of the next token wherever a scored token of the batch is predicted."""
        where = scored_positions(batch.scored)
        with self.scorer.autocast(batch.ids.device):
            states, logits, *layers = _read(self.scorer, batch, layers=self.layers)
        at = (states if logits is None else logits)[where.row, where.predictor]
        seen = torch.stack([h[where.row, where.predictor] for h in layers[0][1:]]) if self.layers else None
        if logits is not None:
            return Law(at, None, None, seen)
        head = causal_lm(self.scorer.model).get_output_embeddings()
        return Law(at, head.weight, head.bias, seen)


def _read(scorer: Scorer, batch: TokenBatch, *, layers: bool = False) -> tuple[Any, ...]:
    """(last hidden states, logits or None where the head is linear), and with `layers` the states of all layers."""
    inputs = {"input_ids": batch.ids, "attention_mask": batch.attention, "use_cache": False}
    if scorer.linear_head:
        found = backbone(scorer.model)(**inputs, output_hidden_states=layers)
        last, logits = found.last_hidden_state, None
    else:
        found = scorer.model(**inputs, output_hidden_states=True)
        last, logits = found.hidden_states[-1], found.logits
    return (last, logits, found.hidden_states) if layers else (last, logits)


def _divergence(states: Tensor, head: Any, law: Law) -> Tensor:
    assert law.head is not None
    return token_divergences(
        states,
        head.weight.to(states.dtype),
        law.states,
        law.head.to(law.states.dtype),
        bias=head.bias,
        other_bias=law.bias,
    )
