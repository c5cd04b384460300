"""Reward model as a module: a language model's body, what is read at a text's end, and a preference from that."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from equipoise.core.links import skew_score
from equipoise.reward_models.head import Head
from equipoise.reward_models.losses import tempered

Ids: TypeAlias = Int[Tensor, "R T"]
Values: TypeAlias = Float[Tensor, "*R O"]
States: TypeAlias = Float[Tensor, "R D"]


class Read(NamedTuple):
    """What is read of R texts: the last layer's outputs [R, O], and the states [R, D] that it reads."""

    values: Tensor
    states: Tensor | None


class Scales(nn.Module):
    """Strengths of a general preference's k planes, from the prompt's last state: lambda = c softmax(W h / b) >= 0."""

    def __init__(
        self, width: int, planes: int, *, total: float | None = None, divisor: float | None = None
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(width, planes, bias=False)
        self.total = float(planes) if total is None else total
        self.divisor = math.sqrt(width) if divisor is None else divisor

    def forward(self, states: States) -> Values:
        states = states.to(self.linear.weight.dtype)
        return self.total * torch.softmax(self.linear(states) / self.divisor, dim=-1)


class RewardModel(nn.Module):
    """A body with a head, for texts that are padded on the right.

    body         a transformers sequence classifier; or, with `value`, a bare model
    head         what its outputs mean
    value        last layer of a published layout on the body's last state; None: the classifier's own
    pad          id that fills up shorter texts; it is masked, and read nowhere
    prompt_head  from a prompt's last state: strengths of a gpm head's planes, or weights of a bt head's attributes

    A decoder's head (`score`) is read at the last token that is not padding, so padding changes nothing; any other
    classifier pools in its own way.
    """

    def __init__(
        self,
        body: Any,
        head: Head,
        *,
        value: nn.Module | None = None,
        prompt_head: nn.Module | None = None,
        pad: int = 0,
    ) -> None:
        super().__init__()
        self.body, self.head, self.value, self.prompt_head, self.pad = body, head, value, prompt_head, pad

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def read(self, ids: Ids, mask: Ids, *, states: bool = False) -> Read:
        """Outputs [R, O] of R texts; of an encoder its states only if asked for (a decoder has them anyway)."""
        inputs = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
        if self.value is None and not hasattr(self.body, "score"):  # an encoder pools in its own way
            found = self.body(**inputs, output_hidden_states=states)
            return Read(found.logits, found.hidden_states[-1][:, 0] if states else None)
        body = self.body if self.value is not None else getattr(self.body, self.body.base_model_prefix)
        hidden = body(**inputs).last_hidden_state
        # read at the known last position: a pad id that also occurs in text cannot mislead it
        last = hidden[torch.arange(len(ids), device=self.device), inputs["attention_mask"].sum(1) - 1]
        value = self.body.score if self.value is None else self.value
        return Read(value(last.to(next(value.parameters()).dtype)), last)

    def single(self) -> None:
        """Compute the last layer in fp32, whatever the body's dtype: a bf16 reward has less than three digits."""
        if self.value is None and hasattr(self.body, "score"):
            self.body.score.float()

    def embedding(self, values: Values) -> Values:
        """A gpm head's outputs as embeddings."""
        return normalize(values, dim=-1) if self.head.normalise else values

    def reward(self, values: Values, weights: Values | None = None) -> Float[Tensor, "*R"]:
        """Reward of a bt head: the weighted sum of its attributes; the weights are the prompt's, or the head's own."""
        own = torch.tensor(self.head.mixture, dtype=values.dtype, device=values.device)
        return (values * (own if weights is None else weights)).sum(-1)

    def logits(self, first: Values, second: Values, weights: Values | None = None) -> Values:
        """Logits [..., A] that the first response wins, for each attribute (a general preference has one)."""
        if self.head.kind == "gpm":
            score = skew_score(self.embedding(first), self.embedding(second), weights)
            return tempered(score, self.head.tau)[..., None]
        return first - second

    def trained(self) -> list[nn.Parameter]:
        """Parameters that are trained."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]
