"""Outputs of a reward model for many texts: each text once, batches by padded size, the order of the question kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.reward_models.batches import by_tokens, padded
from equipoise.reward_models.losses import symmetric_logit
from equipoise.reward_models.model import Read, RewardModel
from equipoise.reward_models.pairs import LabelledPair

Text = tuple[int, ...]


@torch.no_grad()
def outputs(model: RewardModel, texts: Sequence[Text], tokens: int) -> Float[Tensor, "N O"]:
    """Outputs of the last layer for N texts, in float64 on the CPU. Equal texts are read once."""
    return _read(model, texts, tokens, lambda read: read.values)


@torch.no_grad()
def last_states(model: RewardModel, texts: Sequence[Text], tokens: int) -> Float[Tensor, "N D"]:
    """State of the body that the head reads, of N texts: frozen features, in float64 on the CPU."""
    return _read(model, texts, tokens, lambda read: read.states, states=True)


@torch.no_grad()
def prompt_weights(model: RewardModel, prompts: Sequence[Text], tokens: int) -> Float[Tensor, "N O"] | None:
    """What N prompts say to the head: strengths of planes, weights of attributes; None for a head that reads none."""
    head = model.prompt_head
    return (
        None if head is None else _read(model, prompts, tokens, lambda read: head(read.states), states=True)
    )


def _read(
    model: RewardModel,
    texts: Sequence[Text],
    tokens: int,
    of: Callable[[Read], Tensor | None],
    *,
    states: bool = False,
) -> Tensor:
    places: dict[Text, int] = {}
    rows = [places.setdefault(text, len(places)) for text in texts]
    distinct = list(places)
    found: list[Tensor] = [torch.empty(0)] * len(distinct)
    for batch in by_tokens([len(text) for text in distinct], tokens):
        values = of(model.read(*padded([distinct[i] for i in batch], model.pad), states=states))
        assert values is not None, "this body gives no states"
        for index, row in zip(batch, values.double().cpu(), strict=True):
            found[index] = row
    return torch.stack([found[row] for row in rows])


def pair_logits(model: RewardModel, pairs: Sequence[LabelledPair], tokens: int) -> Float[Tensor, "N A"]:
    """Logits that the first response wins, [N, A] in float64; a pairwise model's are those of both orders together."""
    forward = outputs(model, [pair.tokens[0] for pair in pairs], tokens)
    backward = outputs(model, [pair.tokens[1] for pair in pairs], tokens)
    if model.head.kind == "pair":
        return symmetric_logit(forward, backward)
    return model.logits(forward, backward, prompt_weights(model, [pair.opening for pair in pairs], tokens))


def position_bias(model: RewardModel, pairs: Sequence[LabelledPair], tokens: int) -> float:
    """How much a pairwise model favours the response shown first: the mean of P(1, 2) + P(2, 1) - 1; 0 is no bias."""
    first, second = (outputs(model, [pair.tokens[side] for pair in pairs], tokens) for side in (0, 1))
    return float((torch.sigmoid(first) + torch.sigmoid(second) - 1).mean())
