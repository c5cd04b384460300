"""Reward from a language model's answer Yes or No: r = log P(yes) - log P(no) at the end of a question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from equipoise.data.errors import DataError
from equipoise.data.rendering.tokens import Codec, load_tokenizer
from equipoise.models.adapters import chain
from equipoise.models.errors import ModelError
from equipoise.policy.loading import Lora, load_model, plan
from equipoise.reward_models.bodies import context_length, embedding_rows
from equipoise.reward_models.folder import DTYPES, Loaded, content_hash
from equipoise.reward_models.head import Head
from equipoise.reward_models.layouts import Linear
from equipoise.reward_models.model import RewardModel
from equipoise.reward_models.texts import Texts, transcript

QUESTION = "{prompt}\n\nResponse:\n{response}\n\nIs this a good response? Answer Yes or No."


@dataclass(frozen=True, kw_only=True)
class YesNo:
    """Settings of a scorer: a causal language model that is asked about one response at a time.

    model      its folder or hub name, an adapter's too
    question   what it is asked, with {prompt} and {response} in their places; a user's turn if it has a chat template
    positive   the word that says yes, and `negative` the one that says no; their first tokens are compared

    Raises ModelError for settings that cannot be.
    """

    model: str
    question: str = QUESTION
    positive: str = "Yes"
    negative: str = "No"

    def __post_init__(self) -> None:
        if not all(isinstance(value, str) and value for value in vars(self).values()):
            raise ModelError("model, question, positive and negative must be texts")
        if "{prompt}" not in self.question or "{response}" not in self.question:
            raise ModelError("question must hold {prompt} and {response}")

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path) -> YesNo:
        """The settings of a file; a relative folder is relative to it. Raises ModelError."""
        unknown = sorted(settings.keys() - {"model", "question", "positive", "negative"})
        if unknown:
            raise ModelError(
                f"{file}: unknown setting {unknown[0]!r}; there are model, question, positive and negative"
            )
        if "model" not in settings:
            raise ModelError(f"{file}: which model? give its folder as model")
        words = {True: "Yes", False: "No"}  # what YAML makes of a bare Yes or No
        settings = {
            name: words[value] if isinstance(value, bool) else value for name, value in settings.items()
        }
        try:
            made = cls(**settings)
        except ModelError as error:
            raise ModelError(f"{file}: {error}") from None
        near = file.parent / made.model
        return cls(**settings | {"model": str(near)}) if near.is_dir() else made

    def asked(self, prompt: Any, response: str) -> str:
        """The question about a response; what stands in one part is not looked through for the other's place."""
        before, _, rest = self.question.partition("{prompt}")
        if "{response}" in before:
            first, _, between = before.partition("{response}")
            return first + response + between + transcript(prompt) + rest
        between, _, after = rest.partition("{response}")
        return before + transcript(prompt) + between + response + after


def load(
    settings: YesNo, *, dtype: str | None = "float32", device: str | torch.device | None = None
) -> Loaded:
    """The scorer as a reward model, whose last layer is the difference of two rows of the language model's head.

    Raises ModelError for a model that cannot be used: words that share their first token, or logits that are not its
    head times its last state.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
    found = chain(settings.model)
    try:
        tokenizer = load_tokenizer(settings.model)
    except DataError as error:
        raise ModelError(str(error)) from None
    model = load_model(plan(found, Lora(), "merge"), Lora())
    if dtype not in (None, "float32"):
        model = model.to(DTYPES[str(dtype)])
    codec = Codec(tokenizer)
    yes, no = (codec.ids(word)[:1] for word in (settings.positive, settings.negative))
    if not yes or not no or yes == no:
        raise ModelError(
            f"{settings.model}: each of {settings.positive!r} and {settings.negative!r} must begin with one token of "
            "its own"
        )
    if getattr(model.config, "final_logit_softcapping", None):
        raise ModelError(f"{settings.model} caps its logits, so that they are not linear in its last state")
    head = model.get_output_embeddings()
    scale = float(getattr(model.config, "logit_scale", None) or 1.0)
    weight = (head.weight[yes] - head.weight[no]).float().detach() * scale
    bias = None if head.bias is None else (head.bias[yes] - head.bias[no]).float().detach() * scale
    texts = Texts(
        tokenizer,
        settings.model,
        rows=embedding_rows(model),
        limit=context_length(model),
        question=settings.asked,
    )
    reward = RewardModel(model.base_model, Head(), value=Linear(weight, bias), pad=texts.pad)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    folders = [found.base.path, *(adapter.path for adapter in found.adapters)]
    content = " ".join(
        [*map(content_hash, folders), repr((settings.question, settings.positive, settings.negative))]
    )
    return Loaded(reward.to(device).eval(), texts, settings.model, content)
