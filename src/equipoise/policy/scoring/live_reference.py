"""Live reference models: per-token KL to a model kept in memory, and the outputs of an auxiliary head."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from equipoise.core.logprob import (
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

EXTRAPOLATED = 512  # tokens whose logits over the vocabulary are held at once


class NextTokenDistribution(NamedTuple):
    """Next-token distributions at N places, by states and a linear head, or by logits where the head is not linear.

    states    [N, D] last hidden states, or [N, V] logits if `head` is None.
    head      [V, D] weight of the head, and its `bias` [V] if it has one.
    layers    [L, N, D] hidden states of all layers there, for an auxiliary head that reads them; otherwise None.
    """

    states: Tensor
    head: Tensor | None
    bias: Tensor | None
    layers: Tensor | None = None

    def logits(self, part: slice) -> Tensor:
        """[n, V] logits at some of the places."""
        at = self.states[part]
        return at if self.head is None else linear(at, self.head.to(at.dtype), self.bias)


class LiveScores(NamedTuple):
    """Live scores of a batch of R responses, token by token [R, T] or one for each response [R].

    logp, mask      token log-probs, and True where there is a token.
    divergences     for each reference, KL(reference || policy) of the next-token distributions, in their order.
    tokens, rows    outputs of the auxiliary head for tokens [R, T], for responses [R], by name.
    """

    logp: Tensor
    mask: Tensor
    divergences: list[Tensor]
    tokens: dict[str, Tensor]
    rows: dict[str, Tensor]


class LiveScorer(nn.Module):
    """Trained module of a fit with live references: the policy's scorer and its auxiliary head, if there is one.

    Batches are padded rows. References enter by their `NextTokenDistribution`, detached.
    """

    def __init__(self, scorer: Scorer, network: nn.Module | None = None) -> None:
        super().__init__()
        self.scorer, self.network = scorer, network

    def forward(self, batch: TokenBatch, references: list[NextTokenDistribution]) -> LiveScores:
        where = scored_positions(batch.scored)
        targets = batch.ids[where.row, where.target]
        with self.scorer.autocast(batch.ids.device):
            states, logits = _read(self.scorer, batch)
            at = (states if logits is None else logits)[where.row, where.predictor]
            if logits is None:
                head = causal_lm(self.scorer.model).get_output_embeddings()
                logps = token_logps(at, head.weight.to(at.dtype), targets, bias=head.bias)
                divergences = [_divergence(at, head, reference) for reference in references]
            else:
                logps = token_logps_from_logits(at, targets)
                divergences = [divergence_of_logits(at, reference.states) for reference in references]
        outputs = {} if self.network is None else self._head_outputs(batch, states, references)
        logp, mask = by_response(logps, where.row, len(batch.ids))
        by_row = {name: values for name, values in outputs.items() if len(values) == len(batch.ids)}
        by_token = {name: values for name, values in outputs.items() if name not in by_row}
        return LiveScores(
            logp,
            mask,
            [by_response(values, where.row, len(batch.ids))[0] for values in divergences],
            {name: by_response(values, where.row, len(batch.ids))[0] for name, values in by_token.items()},
            {name: values.double() for name, values in by_row.items()},
        )

    @torch.no_grad()
    def extrapolated(self, batch: TokenBatch, reference: NextTokenDistribution, mix: float) -> Tensor:
        """[R] log-probs of the responses under the logits mix z + (1 - mix) z_reference of every token."""
        where = scored_positions(batch.scored)
        targets = batch.ids[where.row, where.target]
        with self.scorer.autocast(batch.ids.device):
            states, logits = _read(self.scorer, batch)
            at = (states if logits is None else logits)[where.row, where.predictor]
            head = None if logits is not None else causal_lm(self.scorer.model).get_output_embeddings()
            parts = []
            for begin in range(0, len(at), EXTRAPOLATED):
                part = slice(begin, begin + EXTRAPOLATED)
                own = at[part] if head is None else linear(at[part], head.weight.to(at.dtype), head.bias)
                wide = mix * own.float() + (1 - mix) * reference.logits(part).float()
                parts.append(token_logps_from_logits(wide, targets[part]))
        logps = torch.cat(parts)
        return by_response(logps, where.row, len(batch.ids))[0].sum(dim=1)

    def _head_outputs(
        self, batch: TokenBatch, states: Tensor, references: list[NextTokenDistribution]
    ) -> dict[str, Tensor]:
        """Outputs of the auxiliary head: from the first reference's layers, or from mean states of the responses."""
        assert self.network is not None
        if references and references[0].layers is not None:
            return dict(self.network(references[0].layers.float()))
        scored = batch.scored.unsqueeze(2)
        return dict(self.network(((states * scored).sum(dim=1) / scored.sum(dim=1)).float()))


class FrozenReference:
    """Frozen copy of a policy's current weights: a second model in memory, or with LoRA a second adapter on one base.

    layers    whether its distributions carry the hidden states of all layers.
    """

    def __init__(self, policy: CausalPolicy, *, layers: bool = False) -> None:
        shared = {id(p): p for p in policy.model.parameters() if not p.requires_grad}
        self.scorer = copy.deepcopy(policy.scorer, shared).requires_grad_(False)
        self.layers = layers

    def next_token_distribution(self, batch: TokenBatch) -> NextTokenDistribution:
        """Next-token distributions at the N places of a batch that predict scored tokens, detached."""
        return next_token_distribution(self.scorer, batch, layers=self.layers)


@torch.no_grad()
def next_token_distribution(
    scorer: Scorer, batch: TokenBatch, *, layers: bool = False
) -> NextTokenDistribution:
    """Next-token distributions at the N places of a batch that predict scored tokens, detached.

    layers    whether they carry the hidden states of all layers.
    """
    where = scored_positions(batch.scored)
    with scorer.autocast(batch.ids.device):
        states, logits, *all_states = _read(scorer, batch, layers=layers)
    at = (states if logits is None else logits)[where.row, where.predictor]
    hidden = torch.stack([h[where.row, where.predictor] for h in all_states[0][1:]]) if layers else None
    if logits is not None:
        return NextTokenDistribution(at, None, None, hidden)
    head = causal_lm(scorer.model).get_output_embeddings()
    return NextTokenDistribution(at, head.weight, head.bias, hidden)


def _read(scorer: Scorer, batch: TokenBatch, *, layers: bool = False) -> tuple[Any, ...]:
    """Forward pass: (last hidden states, logits or None if the head is linear), and with `layers` all hidden states."""
    inputs = {"input_ids": batch.ids, "attention_mask": batch.attention, "use_cache": False}
    with scorer.checkpointed():
        if scorer.linear_head:
            out = backbone(scorer.model)(**inputs, output_hidden_states=layers)
            last, logits = out.last_hidden_state, None
        else:
            out = scorer.model(**inputs, output_hidden_states=True)
            last, logits = out.hidden_states[-1], out.logits
    return (last, logits, out.hidden_states) if layers else (last, logits)


def _divergence(states: Tensor, head: Any, reference: NextTokenDistribution) -> Tensor:
    """[N] KL(reference || policy) from hidden states and heads; differentiable in the policy's."""
    assert reference.head is not None
    return token_divergences(
        states,
        head.weight.to(states.dtype),
        reference.states,
        reference.head.to(reference.states.dtype),
        bias=head.bias,
        other_bias=reference.bias,
    )
