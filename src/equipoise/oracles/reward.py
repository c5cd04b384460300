"""A Bradley-Terry reward model from a Hugging Face sequence-classification checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from equipoise.core.links import bradley_terry
from equipoise.data.records import template_kwargs_of, tools_of
from equipoise.oracles.protocol import OracleError, OraclePrompt


class RewardOracle:
    """Bradley-Terry reward model: P(a > b) = sigma(r(a) - r(b)), with r(x, y) the scalar of the model's head.

    Rows are right-padded. A decoder's head (`score`) is read at the last token that is not padding, so padding
    changes nothing; any other model returns its own logit. Text beyond the model's context length is refused, not
    cut: a cut response is a different response.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, batch: int = 16) -> None:
        if getattr(model.config, "num_labels", 1) != 1:
            raise OracleError(
                f"{name} has {model.config.num_labels} classes; a Bradley-Terry reward model has one output"
            )
        self.model, self.tokenizer, self.name, self.batch = model.eval(), tokenizer, name, batch
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.model.config.pad_token_id = self.pad

    @classmethod
    def load(cls, path: str | Path, batch: int = 16) -> RewardOracle:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                str(path),
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError) as error:
            raise OracleError(f"cannot load a reward model from {path}: {error}") from error
        if loading["missing_keys"]:  # transformers would initialise them at random
            missing = ", ".join(sorted(loading["missing_keys"])[:3])
            raise OracleError(f"{path} is not a trained reward model: the checkpoint lacks {missing}")
        return cls(model, tokenizer, str(path), batch)

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        return bradley_terry(self.score(prompts, a), self.score(prompts, b))

    @torch.no_grad()
    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        ids = [self._ids(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
        device = next(self.model.parameters()).device
        scores = torch.empty(len(ids), dtype=torch.float64)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for begin in range(0, len(order), self.batch):
            chosen = order[begin : begin + self.batch]
            width = len(ids[chosen[-1]])
            batch = torch.full((len(chosen), width), self.pad, dtype=torch.long)
            mask = torch.zeros((len(chosen), width), dtype=torch.long)
            for row, i in enumerate(chosen):
                batch[row, : len(ids[i])] = torch.tensor(ids[i])
                mask[row, : len(ids[i])] = 1
            scores[chosen] = self._rewards(batch.to(device), mask.to(device)).double().cpu()
        return scores

    def _rewards(self, ids: Tensor, mask: Tensor) -> Tensor:
        inputs = {"input_ids": ids, "attention_mask": mask}
        if not hasattr(self.model, "score"):  # an encoder pools in its own way
            return self.model(**inputs).logits[:, 0]
        hidden = getattr(self.model, self.model.base_model_prefix)(**inputs).last_hidden_state
        # the head is read at the known last position: a pad id that also occurs in text cannot mislead it
        return self.model.score(hidden[torch.arange(len(ids)), mask.sum(1) - 1])[:, 0]

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        """(tokens of the longest prompt with an empty response, context length); None if it is not bounded."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        return (max(len(self._tokens(prompt, "")) for prompt in prompts), int(limit)) if limit else None

    def _rendered(self, messages: list[dict[str, Any]], tools: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The token ids of a conversation in the model's own template, with its tools and template settings."""
        try:
            return self.tokenizer.apply_chat_template(
                messages, tools=list(tools) or None, tokenize=True, return_dict=True, **kwargs
            )["input_ids"]
        except (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise OracleError(
                f"the chat template of the reward model {self.name} cannot render a prompt: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _ids(self, prompt: OraclePrompt, response: str) -> list[int]:
        ids = self._tokens(prompt, response)
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit and len(ids) > limit:
            raise OracleError(
                f"{self.name} accepts {limit} tokens; a prompt with its response has {len(ids)}"
            )
        return ids

    def _tokens(self, prompt: OraclePrompt, response: str) -> list[int]:
        if isinstance(prompt, str):
            ids = self.tokenizer(prompt + response).input_ids
        elif self.tokenizer.chat_template:
            messages = [*prompt, {"role": "assistant", "content": response}]
            ids = self._rendered(messages, tools_of(prompt), template_kwargs_of(prompt))
        else:
            raise OracleError(f"{self.name} has no chat template, but the prompts are chat messages")
        return list(ids)
