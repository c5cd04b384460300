"""The part of a policy that is trained: a batch in, response log-probs out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from equipoise.core.logprob import (
    by_response,
    collisions_of_logits,
    response_logps,
    scored_positions,
    token_collisions,
    token_logps,
    token_logps_from_logits,
)
from equipoise.data.collate import Response, collate
from equipoise.data.pack import Batch, PackedBatch, pack
from equipoise.policy.kernels.attention import NAME, attend, packed_row
from equipoise.policy.kernels.decoder_layer import DecoderLayers
from equipoise.policy.kernels.linear import UnsupportedLayer
from equipoise.policy.kernels.segment_layout import Layout

log = logging.getLogger(__name__)


class Scorer(nn.Module):
    """Log-probs of a batch of comparisons, packed or as padded rows.

    What the model allows is probed when it is loaded, not assumed from its name. Where its attention can read a packed
    row (`reach` > 0), prompts and responses are computed once and nothing is padded; else rows are. Where the head is
    a plain linear map (`linear_head`), only the states that predict scored tokens pass through it, in chunks; else the
    model's own logits are used. Where its layers have the common shape (`blocks`), they run as those of
    `kernels.decoder_layer`, and the last one computes no other states either. What is lost is said once in the log.
    """

    def __init__(self, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.model = model
        self.precision = precision
        self.linear_head = _head_is_linear(model)
        if not self.linear_head:
            log.warning("the model's head is not a plain linear map: scoring through its full logits")
        self.blocks: DecoderLayers | None = None
        self.reach = self._reach()

    def forward(self, batch: Batch, tokens: bool = False, collisions: bool = False) -> tuple[Tensor, ...]:
        """R = B * K summed response log-probs [R] in float64, and numbers of scored tokens [R].

        With `tokens` instead ([R, T] log-probs of the scored tokens, [R, T] True where there is one), and with
        `collisions` [R, T] log sum_v pi(v)^2 where each of them is written, without gradient.
        """
        reading, met = _Reading.of(batch, self.blocks is not None), None
        with self.autocast(batch.ids.device):
            if self.linear_head:
                states = self.states(batch, reading)
                head = causal_lm(self.model).get_output_embeddings()
                weight = head.weight.to(states.dtype)
                logps = token_logps(states, weight, reading.targets, bias=head.bias)
                met = token_collisions(states, weight, bias=head.bias) if collisions else None
            else:
                with self._reading(batch, reading):
                    logits = self.model(**reading.inputs, use_cache=False).logits
                logps = token_logps_from_logits(logits[reading.places], reading.targets)
                met = collisions_of_logits(logits[reading.places]) if collisions else None
        found = (by_response if tokens else response_logps)(*reading.each(logps), rows_of(batch))
        return found if met is None else (*found, by_response(*reading.each(met), rows_of(batch))[0])

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """([R, T, D] states that predict the scored tokens, [R, T] True where there is one)."""
        reading = _Reading.of(batch, self.blocks is not None)
        with self.autocast(batch.ids.device):
            states = self.states(batch, reading)
        return by_response(*reading.each(states.float()), rows_of(batch))

    def states(self, batch: Batch, reading: _Reading) -> Tensor:
        """[M, D] last hidden states that predict a scored token."""
        with self._reading(batch, reading):
            found: Tensor = backbone(self.model)(**reading.inputs, use_cache=False).last_hidden_state
        return found[reading.places]

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        bf16 = self.precision == "bf16"
        return torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()

    @contextmanager
    def _reading(self, batch: Batch, reading: _Reading) -> Iterator[None]:
        """The model reads such a batch, for a while."""
        with ExitStack() as stack:
            if isinstance(batch, PackedBatch):
                layout = Layout(batch.tree, batch.ids.device)
                stack.enter_context(packed_row(self.model, layout))
                if self.blocks is not None and reading.kept is not None:
                    stack.enter_context(self.blocks.reading(layout, reading.kept))
            yield

    def _reach(self) -> int:
        """Tokens of the longest sequence that a packed row may hold; 0 where the model takes padded rows only.

        Chooses `blocks` on the way: kept if the probe finds no fault with them. Windows that it does not fill are read
        from the configuration.
        """
        AttentionInterface.register(NAME, attend)
        try:
            self.blocks = DecoderLayers(backbone(self.model))
            why = self._trouble()
        except UnsupportedLayer as error:
            why = str(error)
        if why:
            log.info("the model's layers run as transformers has them: %s", why)
            self.blocks = None
            why = self._trouble()
        if not why:
            return _window(self.model)
        log.warning("the model takes no packed rows (%s): scoring through padded rows, which is slower", why)
        return 0

    def _trouble(self) -> str:
        """Why a small batch of every kind of branch does not give the states of its padded rows; "" where it does.

        Nor gradients, where those are not transformers' own: of the first layer and the last.
        """
        weight = next(self.model.parameters())
        size = causal_lm(self.model).get_input_embeddings().weight.shape[0]
        ids = [7 * i % (size - 1) + 1 for i in range(40)]
        prompts = [tuple(ids[:5]), tuple(ids[5:8])]
        led = Response(tuple(ids[13:15]), "", lead=tuple(ids[10:13]))
        responses = [[tuple(ids[8:10]), led], [tuple(ids[20:21]), tuple(ids[21:27])]]
        bound = 1e-4 if weight.dtype in (torch.float32, torch.float64) else 5e-2
        try:
            packed, padded = (
                self._probe(batch.to(weight.device))
                for batch in (pack(prompts, responses), collate(prompts, responses, 0))
            )
        except Exception as error:  # whatever a model does with a row it was not written for
            return f"{type(error).__name__}: {error}".splitlines()[0]
        for what, found, wanted in zip(("states", "gradients"), packed, padded, strict=True):
            off = sum(float((a - b).square().sum()) for a, b in zip(found, wanted, strict=True))
            whole = sum(float(b.square().sum()) for b in wanted)
            if not off <= bound**2 * whole:
                return f"{what} differ by {(off / whole) ** 0.5 if whole else off:.0e}"
        return ""

    def _probe(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """States of a batch, and gradients of some function of them."""
        layers = [] if self.blocks is None else [self.blocks.layers[0], self.blocks.layers[-1]]
        weights = list({p: None for layer in layers for p in layer.parameters() if p.requires_grad})
        with torch.set_grad_enabled(bool(weights)):
            states = self.states(batch, _Reading.of(batch, self.blocks is not None))
            slope = torch.linspace(-1, 1, states.numel()).view(states.shape).to(states)
            slopes = torch.autograd.grad((slope * states).sum(), weights) if weights else ()
        return [states.detach()], list(slopes)


def rows_of(batch: Batch) -> int:
    """Responses in a batch."""
    return batch.shape[0] * batch.shape[1]


class _Reading(NamedTuple):
    """What the model reads of a batch, and which of its states and tokens are looked at.

    places    where the M states that predict scored tokens are.      targets   [M] the tokens.
    kept      the only places in a packed row whose states the last layer gives; None where it gives all.
    token     which of the M each scored token of each response is; all of them in turn if None.
    row       the response of each scored token.
    """

    inputs: dict[str, Tensor]
    places: tuple[Any, Tensor]
    targets: Tensor
    token: Tensor | None
    row: Tensor
    kept: Tensor | None = None

    @classmethod
    def of(cls, batch: Batch, prunes: bool) -> _Reading:
        if isinstance(batch, PackedBatch):
            inputs = {"input_ids": batch.ids[None], "position_ids": batch.positions[None]}
            kept, places = batch.predictor.unique(return_inverse=True) if prunes else (None, batch.predictor)
            return cls(inputs, (0, places), batch.target, batch.token, batch.row, kept)
        where = scored_positions(batch.scored)
        inputs = {"input_ids": batch.ids, "attention_mask": batch.attention}
        targets = batch.ids[where.row, where.target]
        return cls(inputs, (where.row, where.predictor), targets, None, where.row)

    def each(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """What is known of the M tokens, for every token of every response: (values, its response)."""
        return values if self.token is None else values[self.token], self.row


def causal_lm(model: nn.Module) -> Any:
    """The causal language model inside adapters, if there are any."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def backbone(model: nn.Module) -> Any:
    """The model without its head: ids in, hidden states out."""
    base = causal_lm(model)
    return getattr(base, base.base_model_prefix)


def _window(model: nn.Module) -> int:
    """The shortest window any of the model's layers may attend within."""
    names = ("sliding_window", "attention_chunk_size")
    configs = [m.config for m in model.modules() if hasattr(m, "config")]
    windows = [getattr(config, name, None) for config in configs for name in names]
    return min((w for w in windows if isinstance(w, int)), default=2**31)


@torch.no_grad()
def _head_is_linear(model: nn.Module) -> bool:
    """Whether head(backbone(ids)) gives the model's own logits: scaled or capped heads do not."""
    head = causal_lm(model).get_output_embeddings()
    if type(head) is not nn.Linear:
        return False
    ids = torch.arange(1, 6, device=head.weight.device).remainder(head.weight.shape[0])[None]
    hidden = backbone(model)(input_ids=ids, use_cache=False).last_hidden_state
    own = model(input_ids=ids, use_cache=False).logits.float()
    return bool(torch.allclose(head(hidden).float(), own, rtol=1e-4, atol=1e-4 * float(own.abs().max())))
