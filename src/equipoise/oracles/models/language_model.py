"""Language models as oracles: frozen policies, questions as token ids within their context, batches by tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from equipoise.data.collate import Prompt, Response, row_length
from equipoise.data.errors import DataError, Refusal
from equipoise.data.records import template_kwargs_of, tools_of
from equipoise.data.rendering.render import Renderer
from equipoise.data.rendering.tokens import NO_LIMIT, load_tokenizer
from equipoise.models.errors import ModelError
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import OracleError, OraclePrompt, shortened
from equipoise.oracles.questions.questioner import Failure, Question
from equipoise.oracles.questions.verdicts import Verdict, key_of
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.microbatch import Comparison, microbatches

# what a template writes as today's date: always the same, so that verdicts do not depend on the day
DAY = "2024-07-26"
STORED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def frozen(path: str, placement: Placement) -> CausalPolicy:
    """A language model that is only asked: a folder or hub name, its adapters merged, as the placement says.

    Raises OracleError, in one sentence, for one that cannot be loaded.
    """
    try:
        tokenizer = load_tokenizer(path)
        policy = CausalPolicy.load(path, tokenizer, adapter="merge", device=placement.device)
    except (ModelError, DataError) as error:
        raise OracleError(str(error)) from None
    policy.model.requires_grad_(False)
    stored = STORED.get(policy.start.chain.base.dtype) if policy.start else None
    dtype = getattr(torch, placement.dtype or stored or "float32")
    if dtype != torch.float32:
        policy = CausalPolicy(policy.model.to(dtype), tokenizer)
    policy.token_budget = placement.tokens
    return policy


def renderer_of(tokenizer: Any, template: str) -> Renderer:
    """How an oracle's texts become token ids, whole: by a chat template, whose date is fixed (`DAY`).

    A system turn that the template has no place for opens the first question. Raises OracleError for a template that
    does not work.
    """
    try:
        return Renderer(
            tokenizer, template=template, max_length=NO_LIMIT, system_turn="merge", template_date=DAY
        )
    except DataError as error:
        raise OracleError(str(error)) from None


@dataclass(frozen=True)
class Reading:
    """Prompts and responses as token ids that some models all accept.

    limit   tokens of a prompt with its response, the smallest context length
    rows    of the smallest embedding
    """

    renderer: Renderer
    limit: int
    rows: int
    name: str

    @classmethod
    def of(cls, renderer: Renderer, policies: Sequence[CausalPolicy], name: str) -> Reading:
        rows = min(policy.model.get_input_embeddings().weight.shape[0] for policy in policies)
        return cls(renderer, min(policy.max_positions for policy in policies), rows, name)

    def prompt(self, prompt: OraclePrompt) -> Prompt:
        """Raises Failure for a prompt that cannot be rendered."""
        tools, kwargs = tools_of(prompt), template_kwargs_of(prompt)
        try:
            return Prompt(self.renderer.prompt(prompt, tools=tools, template_kwargs=kwargs), prompt)
        except Refusal as refusal:
            raise self._failure(f"cannot read {shortened(prompt)}: {refusal}") from None
        except DataError as error:  # a template that fails on every prompt
            raise OracleError(f"oracle {self.name}: {error}") from None

    def response(self, prompt: Prompt, text: str) -> Response:
        """Raises Failure for a response that cannot be rendered, is too long, or has no token."""
        try:
            response = self.renderer.answer(prompt, text)
        except Refusal as refusal:
            raise self._failure(f"cannot read {shortened(text)}: {refusal}") from None
        except DataError as error:
            raise OracleError(f"oracle {self.name}: {error}") from None
        length = row_length(prompt.ids, response)
        if length > self.limit:
            raise self._failure(f"accepts {self.limit:,} tokens; a prompt with its response has {length:,}")
        if not response.ids:
            raise self._failure("has no token to score in an empty response")
        if max(*prompt.ids, *response.ids) >= self.rows:
            token = self.renderer.codec.special_of(max(*prompt.ids, *response.ids))
            raise self._failure(f"has no row for the token {token!r} ({self.rows:,} rows)")
        return response

    def longest(self, prompts: Sequence[OraclePrompt]) -> int:
        """Tokens of the longest prompt, without a response. Raises OracleError for one that cannot be rendered."""
        try:
            return max(len(self.prompt(prompt).ids) for prompt in prompts)
        except Failure as failure:
            raise OracleError(str(failure)) from None

    def _failure(self, why: str) -> Failure:
        return Failure(f"{self.name} {why}", transient=False)


@dataclass
class Comparisons:
    """Questions as comparisons of token ids, in batches within the token budget of the models that score them.

    make    the comparison of a question; raises Failure for one that cannot be rendered. All such are a batch of
            their own, which no model sees.
    """

    make: Callable[[Question], Comparison]
    _made: dict[bytes, Comparison | Failure] = field(default_factory=dict)

    def batches(self, policies: Sequence[CausalPolicy], questions: Sequence[Question]) -> list[list[int]]:
        """Indices of the questions of each batch, every one once; a function of the questions alone."""
        self._made.clear()
        made = self.of(questions)
        right = {i: each for i, each in enumerate(made) if not isinstance(each, Failure)}
        wrong = [i for i in range(len(made)) if i not in right]
        # padded rows take more room than packed ones: where one model needs them, they count
        counts = min(policies, key=lambda policy: policy.scorer.max_packed_length > 0)
        places = list(right)
        found = microbatches(counts, list(right.values())) if right else []
        return [[places[i] for i in batch] for batch in found] + ([wrong] if wrong else [])

    def of(self, questions: Sequence[Question]) -> list[Comparison | Failure]:
        """The comparison of each question, made once since the last call of `batches`."""
        return [self._of(question) for question in questions]

    def _of(self, question: Question) -> Comparison | Failure:
        key = key_of("", question)
        if key not in self._made:
            try:
                self._made[key] = self.make(question)
            except Failure as failure:
                self._made[key] = failure
        return self._made[key]


def answered(
    comparisons: Sequence[Comparison | Failure], answer: Callable[[list[Comparison]], Sequence[Verdict]]
) -> list[Verdict | Failure]:
    """The verdicts of a batch; a question that could not be rendered keeps its Failure."""
    right = [each for each in comparisons if not isinstance(each, Failure)]
    verdicts = iter(answer(right) if right else ())
    return [each if isinstance(each, Failure) else next(verdicts) for each in comparisons]


@torch.no_grad()
def logps(policy: CausalPolicy, comparisons: Sequence[Comparison]) -> Tensor:
    """[N, K] log-probs of the responses, sums over their tokens in nats, on the CPU in float64."""
    batch = policy.batch([prompt for prompt, _ in comparisons], [group for _, group in comparisons])
    return policy.logprobs(batch)[0].double().cpu()
