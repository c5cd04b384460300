"""A Bradley-Terry reward model from a Hugging Face sequence-classification checkpoint."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.core.links import bradley_terry
from equipoise.data.errors import DataError
from equipoise.data.records import template_kwargs_of, tools_of
from equipoise.data.rendering.tokens import load_tokenizer
from equipoise.models.adapters import local
from equipoise.models.errors import ModelError, first_line
from equipoise.models.folder import inspect
from equipoise.models.tokenizer import check_tokenizer
from equipoise.oracles.protocol import OracleError, OraclePrompt

log = logging.getLogger(__name__)
VOLATILE = ("_name_or_path", "transformers_version", "dtype")  # settings on which no verdict depends


class RewardOracle:
    """Bradley-Terry reward model: P(a > b) = sigma(r(a) - r(b)), with r(x, y) the scalar of the model's head.

    Rows are right-padded. A decoder's head (`score`) is read at the last token that is not padding, so padding
    changes nothing; any other model returns its own logit. Text beyond the model's context length is refused, not
    cut: a cut response is a different response. Prompt and response are one text, by the model's chat template if the
    prompt is a conversation, and one segment also for models of BERT's kind: one that was trained on two segments
    scores differently here.

    Raises OracleError for a model that cannot be a reward model: several classes, a template that refuses or loses a
    plain exchange, special tokens without a row in its embedding.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, batch: int = 16) -> None:
        if getattr(model.config, "num_labels", 1) != 1:
            raise OracleError(
                f"{name} has {model.config.num_labels} classes; a Bradley-Terry reward model has one output"
            )
        self.model, self.tokenizer, self.name, self.batch = model.eval(), tokenizer, name, batch
        pads = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)  # masked: any token will do
        self.pad = next(pad for pad in pads if pad is not None)
        self.model.config.pad_token_id = self.pad
        self.rows = model.get_input_embeddings().weight.shape[0]
        try:
            check_tokenizer(name, tokenizer, rows=self.rows)
        except ModelError as error:
            raise OracleError(str(error)) from None
        if tokenizer.chat_template:
            self._probe_template()

    @classmethod
    def load(
        cls, path: str | Path, batch: int = 16, device: str | torch.device | None = None
    ) -> RewardOracle:
        """Load a reward model from a folder (safetensors) or by its hub name, on the GPU if there is one.

        Raises OracleError, in one sentence, for a folder that is broken or holds no trained reward model.
        """
        from transformers import AutoModelForSequenceClassification

        try:
            folder = inspect(local(path, weights=True)).path
            tokenizer = load_tokenizer(path)
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                str(folder),
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (ModelError, DataError) as error:
            raise OracleError(f"cannot load a reward model from {path}: {error}") from None
        except Exception as error:  # a model class may raise anything
            raise OracleError(f"cannot load a reward model from {path}: {first_line(error)}") from error
        if loading["missing_keys"]:  # transformers would initialise them at random
            missing = ", ".join(sorted(loading["missing_keys"])[:3])
            raise OracleError(f"{path} is not a trained reward model: the checkpoint lacks {missing}")
        for name, parameter in model.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise OracleError(
                    f"{path}: the weight {name} has NaN or infinite values; the checkpoint is broken"
                )
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model.to(device), tokenizer, str(path), batch)

    @property
    def network(self) -> Any:
        return self.model

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, settings, tokenizer and template."""
        settings = self.model.config.to_dict()
        settings = {name: value for name, value in settings.items() if name not in VOLATILE}
        about = json.dumps([settings, self.tokenizer.chat_template], sort_keys=True, default=str)
        digest = hashlib.sha256(about.encode())
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        digest.update((backend.to_str() if backend is not None else vocabulary).encode())
        for name, parameter in sorted(self.model.named_parameters()):
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        return f"reward model {digest.hexdigest()[:32]}"

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
        """(tokens of the longest prompt with an empty response, context length); None if it is not bounded.

        Raises OracleError for a prompt that the model's template refuses.
        """
        longest = max(len(self._tokens(prompt, "")) for prompt in prompts)
        limit = self.max_positions
        return None if limit is None else (longest, limit)

    @property
    def max_positions(self) -> int | None:
        """Context length: most tokens of a prompt with its response; None if the model names none."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        return int(limit) if limit else None

    def _ids(self, prompt: OraclePrompt, response: str) -> list[int]:
        ids = self._tokens(prompt, response)
        limit = self.max_positions
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
            tools = list(tools_of(prompt)) or None
            own = template_kwargs_of(prompt)
            ids = self._templated(messages, tools=tools, tokenize=True, return_dict=True, **own)["input_ids"]
        else:
            raise OracleError(f"{self.name} has no chat template, but the prompts are chat messages")
        if ids and max(ids) >= self.rows:
            raise OracleError(
                f"{self.name} has no row for token {max(ids)} of its tokenizer, which a text contains "
                f"({self.rows:,} rows)"
            )
        return list(ids)

    def _templated(self, messages: Sequence[Any], **how: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(list(messages), **how)
        except Exception as error:  # a template is a program, and raises what it likes
            roles = ", ".join(str(message["role"]) for message in messages)
            raise OracleError(
                f"{self.name}: its chat template refuses the turns {roles}: {first_line(error)}; leave such "
                "prompts out, or take a reward model that reads them"
            ) from error

    def _probe_template(self) -> None:
        """Check that the template takes a plain exchange and keeps its words; a system turn that it loses is said."""
        user, answer = {"role": "user", "content": "lantern"}, {"role": "assistant", "content": "harbour"}
        text = str(self._templated([user, answer], tokenize=False))
        lost = [turn["role"] for turn in (user, answer) if turn["content"] not in text]
        if lost:
            raise OracleError(
                f"{self.name}: its chat template loses what the {lost[0]} says, so that it cannot judge it"
            )
        try:
            text = str(
                self._templated([{"role": "system", "content": "meadow"}, user, answer], tokenize=False)
            )
        except OracleError as error:
            log.info("%s", error)  # a prompt with a system turn is refused when it comes
            return
        if "meadow" not in text:
            log.warning("%s: its chat template leaves system turns out; it judges without them", self.name)
