"""Start of a reward model's training: a language model's body with a new head, in full or with a LoRA adapter."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from equipoise.data.rendering.tokens import load_tokenizer
from equipoise.models.adapters import Chain, chain
from equipoise.models.errors import ModelError, first_line
from equipoise.models.tokenizer import settings_of
from equipoise.policy.loading import Lora, load_model, plan, read_model, with_lora
from equipoise.reward_models.bodies import check_finite, context_length, embedding_rows
from equipoise.reward_models.folder import load
from equipoise.reward_models.head import Head
from equipoise.reward_models.model import RewardModel, Scales
from equipoise.reward_models.texts import Texts

log = logging.getLogger(__name__)

# chat turns for a model without a template: "Human: ...", a blank line, "Assistant: ..."
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ '\n\n' if not loop.first else '' }}"
    "{{ {'user': 'Human', 'assistant': 'Assistant'}.get(m.role, m.role | capitalize) }}: {{ m.content }}{% endfor %}"
    "{{ '\n\nAssistant:' if add_generation_prompt else '' }}"
)


@dataclass
class Beginning:
    """A reward model before its training.

    wrapped   PEFT's wrapper around the body where an adapter is trained, else None
    """

    model: RewardModel
    texts: Texts
    wrapped: Any = None

    def finish(self) -> RewardModel:
        """The model with its adapter merged into the weights."""
        if self.wrapped is None:
            return self.model
        body = self.wrapped.merge_and_unload()
        return RewardModel(body, self.model.head, prompt_head=self.model.prompt_head, pad=self.model.pad)


def begin(
    path: str | Path, head: Head, *, lora: Lora | None = None, seed: int = 0, max_length: int | None = None
) -> Beginning:
    """Load a start in fp32 on the CPU: a decoder (its adapters merged), an encoder, or a reward model of this kind.

    head   of a new model: its weights are drawn from the seed; a reward model that is given keeps its head.

    max_length   most tokens of a text in training; None: the model's context length

    A model without a chat template gets a plain one, which is saved with it. Raises ModelError for what cannot be used.
    """
    found = chain(path)
    tokenizer = load_tokenizer(path)
    tokenizer.chat_template = tokenizer.chat_template or PLAIN_TEMPLATE
    _choose_padding(tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _continued(found, head) or _new(found, head)
        check_finite(model, found.top)
        limits = [limit for limit in (context_length(model.body), max_length) if limit]
        texts = Texts(
            tokenizer, str(path), rows=embedding_rows(model.body), limit=min(limits) if limits else None
        )
        model.pad = model.body.config.pad_token_id = texts.pad
        if lora is None or not lora.rank:
            return Beginning(model, texts)
        return _adapted(model, texts, replace(lora, seed=seed))


def _choose_padding(tokenizer: Any) -> None:
    """Pad with a token that ends no text: transformers' own classifiers look for the last token that is not padding."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    for token in (tokenizer.bos_token, tokenizer.unk_token):
        if token is not None and token != tokenizer.eos_token:
            tokenizer.pad_token = token
            return


def _continued(found: Chain, head: Head) -> RewardModel | None:
    """A reward model that is trained further; None if the folder holds a language model."""
    names = [str(name) for name in found.base.settings.get("architectures") or []]
    if not any("SequenceClassification" in name for name in names):
        return None
    if found.adapters:
        raise ModelError(f"{found.top} is an adapter on a reward model; merge it first")
    loaded = load(found.top, device="cpu")
    if replace(loaded.head, temperature=head.temperature) != head:
        raise ModelError(
            f"{found.top} is a reward model with another head ({loaded.head.kind}, {loaded.head.outputs} outputs); "
            "train it further with its own settings, or start from a language model"
        )
    return RewardModel(loaded.model.body, head, prompt_head=loaded.model.prompt_head).train()


def _new(found: Chain, head: Head) -> RewardModel:
    from transformers import AutoModelForSequenceClassification

    config = settings_of(found.base.path)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{found.top} is an encoder-decoder ({config.model_type}); take a decoder or an encoder"
        )
    config.num_labels = head.outputs
    config.use_cache = False
    try:
        body: Any = AutoModelForSequenceClassification.from_config(
            config, trust_remote_code=False, dtype=torch.float32
        )
    except Exception as error:  # noqa: BLE001 - a model class may raise anything
        raise ModelError(f"{found.top} cannot become a reward model: {first_line(error)}") from None
    if hasattr(body, "score"):
        start: Any = load_model(plan(found, Lora(), "merge"), Lora())
        body.base_model.load_state_dict(start.base_model.state_dict())
        width = body.score.in_features
        # small rewards at the start; embeddings whose products are about tau: much smaller ones have no gradient
        std = (head.tau / width) ** 0.5 if head.kind == "gpm" else 1 / (width + 1)
        nn.init.normal_(body.score.weight, std=std)
    elif found.adapters:
        raise ModelError(f"{found.top} is an adapter on an encoder; merge it first")
    else:
        body = _encoder(found, config)
    scales = Scales(config.hidden_size, head.planes) if head.scaled else None
    return RewardModel(body, head, prompt_head=scales).train()


def _encoder(found: Chain, config: Any) -> Any:
    """An encoder with a new classifier (and pooler, where its checkpoint has none)."""
    from transformers import AutoModelForSequenceClassification

    path = found.base.path
    kind = AutoModelForSequenceClassification
    body, info = read_model(kind, path, "an encoder", config=config, dtype=torch.float32)
    prefix = f"{body.base_model_prefix}."
    lacking = sorted(
        key for key in info["missing_keys"] if key.startswith(prefix) and ".pooler." not in f".{key}"
    )
    if lacking:
        raise ModelError(f"{path} lacks weights of the model: {', '.join(lacking[:3])}")
    return body


def _adapted(model: RewardModel, texts: Texts, lora: Lora) -> Beginning:
    """The model with a new LoRA adapter on its linear layers; its head is trained in full."""
    wrapped = with_lora(model.body, lora, "SEQ_CLS")
    inner = wrapped.base_model.model
    adapted = RewardModel(inner, model.head, prompt_head=model.prompt_head, pad=model.pad)
    return Beginning(adapted.train(), texts, wrapped)
