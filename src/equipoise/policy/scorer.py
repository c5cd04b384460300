"""Scoring module of a policy, the part that is trained: a batch in, response log-probs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
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
from equipoise.data.collate import Ids, Response, ScoredIds, collate
from equipoise.data.pack import Batch, PackedBatch, pack
from equipoise.policy.activation_checkpointing import blocks_of, checkpointed
from equipoise.policy.dependence import readable, tokens_read
from equipoise.policy.kernels.attention import NAME, attend, packed_row
from equipoise.policy.kernels.decoder_layer import DecoderLayers
from equipoise.policy.kernels.held_linear import HeldEmbedding, HeldLinear, new_memory
from equipoise.policy.kernels.linear import UNPACKING, UnsupportedLayer
from equipoise.policy.kernels.segment_layout import Layout
from equipoise.policy.rounding import disagreement

log = logging.getLogger(__name__)

PROBED_LOGITS = (30.0, 1e3, 1e5)  # sizes of logits at which the head is probed


class Scorer(nn.Module):
    """Log-probs of a batch of comparisons, packed or as padded rows.

    What the model supports is probed when it is loaded, not assumed from its name; each fallback is logged once.

    max_packed_length   tokens of the longest sequence that a packed row may contain. Prompts and responses are then
                        computed once and nothing is padded; 0: the model takes padded rows only.
    linear_head         whether the head is a plain linear map. Only the states that predict scored tokens pass through
                        it, in chunks; otherwise the model's own logits are used.
    attention           kernel of a GPU for packed rows in half precision; None: the device's usual one.
    recompute           activation checkpointing: blocks keep their inputs alone for the backward.
    decoder_layers      kernels that replace the model's layers on packed rows, where those have the common structure;
                        the last layer then computes only the states that predict scored tokens. None: as transformers.
    """

    def __init__(self, model: nn.Module, precision: str) -> None:
        super().__init__()
        self.model = model
        self.precision = precision
        self.linear_head = head_is_linear(model)
        if not self.linear_head:
            log.warning("the model's head is not a plain linear layer: scoring through its full logits")
        self.recompute = False
        self.attention: str | None = None
        self.decoder_layers: DecoderLayers | None = None
        self.max_packed_length = self._probe_packing()

    def forward(self, batch: Batch, tokens: bool = False, collisions: bool = False) -> tuple[Tensor, ...]:
        """Response log-probs: R = B * K sums [R] in float64, and numbers of scored tokens [R].

        tokens       return token log-probs [R, T] instead, and a mask [R, T], True where there is a token.
        collisions   also return [R, T] log sum_v pi(v)^2 of the distributions that predict the tokens, detached.
        """
        inputs, log_collisions = _ScoringInputs.of(batch, self.decoder_layers is not None), None
        with self.autocast(batch.ids.device):
            if self.linear_head:
                states = self.states(batch, inputs)
                head = causal_lm(self.model).get_output_embeddings()
                weight = head_weight(head, states)
                logps = token_logps(states, weight, inputs.targets, bias=head.bias)
                log_collisions = token_collisions(states, weight, bias=head.bias) if collisions else None
            else:
                with self._prepared(batch, inputs):
                    logits = self.model(**inputs.model_inputs, use_cache=False).logits
                logps = token_logps_from_logits(logits[inputs.places], inputs.targets)
                log_collisions = collisions_of_logits(logits[inputs.places]) if collisions else None
        count = response_count(batch)
        scores = (by_response if tokens else response_logps)(*inputs.by_token(logps), count)
        if log_collisions is None:
            return scores
        return *scores, by_response(*inputs.by_token(log_collisions), count)[0]

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of the scored tokens: ([R, T, D] last hidden states that predict them, [R, T] mask)."""
        inputs = _ScoringInputs.of(batch, self.decoder_layers is not None)
        with self.autocast(batch.ids.device):
            states = self.states(batch, inputs)
        return by_response(*inputs.by_token(states.float()), response_count(batch))

    def states(self, batch: Batch, inputs: _ScoringInputs) -> Tensor:
        """[M, D] last hidden states that predict a scored token."""
        with self._prepared(batch, inputs):
            states: Tensor = backbone(self.model)(**inputs.model_inputs, use_cache=False).last_hidden_state
        return states[inputs.places]

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        bf16 = self.precision == "bf16"
        return torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()

    @contextmanager
    def _prepared(self, batch: Batch, inputs: _ScoringInputs) -> Iterator[None]:
        """Context manager: the model temporarily reads a batch of this kind and layout."""
        with ExitStack() as stack:
            if not isinstance(batch, PackedBatch):
                stack.enter_context(self.checkpointed())
                yield
                return
            layout = Layout(batch.tree, batch.ids.device, form=self.attention)
            stack.enter_context(packed_row(self.model, layout))
            if self.decoder_layers is not None and inputs.kept is not None:
                kernels = self.decoder_layers.reading(layout, inputs.kept, recompute=self.recompute)
                stack.enter_context(kernels)
            else:
                stack.enter_context(self.checkpointed(partial(packed_row, self.model, layout)))
            yield

    def checkpointed(
        self, again: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> AbstractContextManager[None]:
        """Context manager: with `recompute`, transformers' blocks keep their inputs alone.

        again    what their forward stands in when it is computed again.
        """
        return checkpointed(blocks_of(backbone(self.model)), again) if self.recompute else nullcontext()

    def _probe_packing(self) -> int:
        """Probe packed rows: the value of `max_packed_length`; sets `decoder_layers` where they pass the probe.

        Windows longer than the probe are read from the configuration.
        """
        AttentionInterface.register(NAME, attend)
        try:
            self.decoder_layers = DecoderLayers(backbone(self.model))
            failure = self._probe_failure()
        except UnsupportedLayer as error:
            failure = str(error)
        if failure:
            log.info("the model's layers run as transformers has them: %s", failure)
            self.decoder_layers = None
            failure = self._probe_failure()
        if not failure:
            return _window(self.model)
        log.warning(
            "the model takes no packed rows (%s): scoring through padded rows, which is slower", failure
        )
        return 0

    def _probe_failure(self) -> str:
        """Compare packed with padded rows on a small batch with every kind of branch: what differs, or "".

        States are compared, and with `decoder_layers` gradients of the first and last layer too, by the padded rows'
        own rounding (`policy.rounding`).
        """
        weight = next(self.model.parameters())
        size = causal_lm(self.model).get_input_embeddings().weight.shape[0]
        ids = [7 * i % (size - 1) + 1 for i in range(40)]
        prompts: list[Ids] = [tuple(ids[:5]), tuple(ids[5:8])]
        with_lead = Response(tuple(ids[13:15]), "", lead=tuple(ids[10:13]))
        responses: list[list[ScoredIds]] = [
            [tuple(ids[8:10]), with_lead],
            [tuple(ids[20:21]), tuple(ids[21:27])],
        ]
        packed, padded = (
            batch.to(weight.device) for batch in (pack(prompts, responses), collate(prompts, responses, 0))
        )
        try:
            ours, exact = self._probe(packed), self._probe(padded)
            leak = self._leak(packed)
            for part in ours:
                again = partial(lambda part: self._probe(padded)[part], part)
                differs = disagreement(self.model, ours[part], exact[part], again, states_dtype(self.model))
                if differs:
                    return f"{part} {differs}"
        except Exception as error:  # noqa: BLE001 - a foreign model may raise anything on a packed row
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return leak

    def _leak(self, batch: Batch) -> str:
        """Whether states of a packed row read tokens of other branches, as recurrent layers do: which, or ""."""
        assert isinstance(batch, PackedBatch)
        inputs = _ScoringInputs.of(batch, self.decoder_layers is not None)
        for index in (0, -1):  # the first must not read what follows, the last not what other branches say
            read = tokens_read(causal_lm(self.model), lambda i=index: self.states(batch, inputs)[i])  # type: ignore[misc]
            if read is None:
                return "its states cannot be followed to its tokens"
            if bool((read.cpu() & ~readable(batch.tree, int(batch.predictor[index]))).any()):
                return "its layers read tokens of other responses"
        return ""

    def _probe(self, batch: Batch) -> dict[str, list[list[Tensor]]]:
        """States of a batch, and weight gradients of a fixed linear function of them, as rows to compare."""
        layers = []
        if self.decoder_layers is not None:
            layers = [self.decoder_layers.layers[0], self.decoder_layers.layers[-1]]
        weights = list({p: None for layer in layers for p in layer.parameters() if p.requires_grad})
        with torch.set_grad_enabled(bool(weights)):
            states = self.states(batch, _ScoringInputs.of(batch, self.decoder_layers is not None))
            slope = torch.linspace(-1, 1, states.numel()).view(states.shape).to(states)
            grads = torch.autograd.grad((slope * states).sum(), weights) if weights else ()
        return {"states": [[state] for state in states.detach()], "gradients": [list(grads)]}


def response_count(batch: Batch) -> int:
    """Responses in a batch."""
    return batch.shape[0] * batch.shape[1]


class _ScoringInputs(NamedTuple):
    """What the model is given for a batch, and which of its states and tokens are scored.

    places    index of the M states that predict scored tokens.      targets   [M] those tokens.
    token     for each scored token of each response, which of the M it is; None: all in order.
    row       the response of each scored token.
    kept      the only places of a packed row whose states the last layer returns; None: all.
    """

    model_inputs: dict[str, Tensor]
    places: tuple[Any, Tensor]
    targets: Tensor
    token: Tensor | None
    row: Tensor
    kept: Tensor | None = None

    @classmethod
    def of(cls, batch: Batch, prunes: bool) -> _ScoringInputs:
        """`prunes`: the last layer returns the needed states of a packed row only."""
        if isinstance(batch, PackedBatch):
            inputs = {"input_ids": batch.ids[None], "position_ids": batch.positions[None]}
            kept = batch.needed if prunes else None
            places = batch.predictor if kept is None else torch.searchsorted(kept, batch.predictor)
            return cls(inputs, (0, places), batch.target, batch.token, batch.row, kept)
        where = scored_positions(batch.scored)
        inputs = {"input_ids": batch.ids, "attention_mask": batch.attention}
        targets = batch.ids[where.row, where.target]
        return cls(inputs, (where.row, where.predictor), targets, None, where.row)

    def by_token(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values [M, ...] for every scored token of every response, and each token's response."""
        return values if self.token is None else values[self.token], self.row


def causal_lm(model: nn.Module) -> Any:
    """The causal language model inside PEFT's wrapper, if there is one."""
    wrapped: Any = model
    return wrapped.get_base_model() if hasattr(model, "get_base_model") else model


def backbone(model: nn.Module) -> Any:
    """The backbone, the model without its head: token ids in, hidden states out."""
    base = causal_lm(model)
    named = getattr(base, base.base_model_prefix, None)  # a few models do not have what they name
    return base.get_decoder() if named is None else named


def head_weight(head: Any, states: Tensor) -> Tensor:
    """The head's weight [V, D] as it meets these states: one held in bfloat16 is converted tile by tile, where the
    products of `core.logprob` do so exactly."""
    weight: Tensor = head.weight
    exact = states.device.type == "cpu" or torch.is_autocast_enabled(states.device.type)
    return weight if type(head) is HeldLinear and exact else weight.to(states.dtype)


def states_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of hidden states without autocast: that of the embedding's output."""
    embedding = causal_lm(model).get_input_embeddings()
    return torch.float32 if is_held(embedding) else embedding.weight.dtype


def is_linear(module: nn.Module) -> bool:
    """Whether a module is exactly a linear map with weights of its own."""
    return type(module) in (nn.Linear, HeldLinear)


def is_held(module: nn.Module) -> bool:
    """Whether a module's frozen weight is held in another dtype than it computes in."""
    base = getattr(module, "base_layer", module)
    return isinstance(base, HeldEmbedding) or type(base) in UNPACKING


def held_values(model: nn.Module) -> dict[int, Callable[[], Tensor]]:
    """By the identity of a weight that is held in another form: what gives its values in float32."""
    found: dict[int, Callable[[], Tensor]] = {}
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if type(module) in UNPACKING:
            unpack = UNPACKING[type(module)](module)
            found[id(weight)] = partial(unpack, weight.detach(), torch.float32, new_memory)  # type: ignore[union-attr]
        elif isinstance(module, HeldEmbedding):
            found[id(weight)] = partial(module.weight.detach().to, torch.float32)
    return found


def _window(model: nn.Module) -> int:
    """The shortest attention window of the model's layers; 2**31 without any."""
    names = ("sliding_window", "attention_chunk_size")
    configs = [m.config for m in model.modules() if hasattr(m, "config")]
    windows = [getattr(config, name, None) for config in configs for name in names]
    return min((w for w in windows if isinstance(w, int)), default=2**31)


@torch.no_grad()
def head_is_linear(model: nn.Module) -> bool:
    """Whether the model's logits are head(states), a plain linear map, for states of any size; probed, not assumed.

    A model may scale its logits or cap them at c tanh(z / c), which small logits do not show: the probe puts larger and
    larger states in place of the backbone's.
    """
    head = causal_lm(model).get_output_embeddings()
    if not is_linear(head):
        return False
    ids = torch.arange(1, 6, device=head.weight.device).remainder(head.weight.shape[0])[None]
    core = backbone(model)
    hidden = core(input_ids=ids, use_cache=False).last_hidden_state
    size = float(head(hidden).float().abs().max()) or 1.0
    for largest in (size, *PROBED_LOGITS):
        states = hidden * (largest / size)

        def larger(module: nn.Module, inputs: Any, output: Any, states: Tensor = states) -> Any:
            output.last_hidden_state = states
            return output

        hook = core.register_forward_hook(larger)
        try:
            own = model(input_ids=ids, use_cache=False).logits.float()
        finally:
            hook.remove()
        if not torch.allclose(head(states).float(), own, rtol=1e-4, atol=1e-4 * float(own.abs().max())):
            return False
    return True
