"""Density-ratio reward of two language models (CDR / Dr.SoW), and the implicit reward of a policy trained with DPO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from equipoise.data.rendering.tokens import Codec
from equipoise.oracles.file import ModelFile, digest, relative_to, settings_of
from equipoise.oracles.models.domains import Domains
from equipoise.oracles.models.language_model import (
    Comparisons,
    Reading,
    answered,
    frozen,
    logps,
    renderer_of,
)
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import OracleError, OraclePrompt
from equipoise.oracles.questions.questioner import Failure, Question
from equipoise.oracles.questions.verdicts import Verdict
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.microbatch import Comparison


class Reward(ModelFile):
    """Settings that both rewards share.

    per_token   the mean over the response's tokens instead of their sum
    template    "auto": the chat template of the first model's tokenizer, else a plain transcript; "plain", "tokenizer",
                Jinja text or a Jinja file
    domains     instructions and exemplars by domain, a list or a file with one (`domains.Domain`)
    """

    per_token: bool = False
    template: str = "auto"
    domains: str | list[Any] | None = None


class DensityRatioFile(Reward):
    """A density ratio, as its YAML file says: a folder or hub name of each model, and beta > 0."""

    strong: str
    weak: str
    beta: float = Field(1.0, gt=0, allow_inf_nan=False)


class ImplicitRewardFile(Reward):
    """An implicit reward, as its YAML file says: the trained policy, what it was trained from, and its beta > 0."""

    policy: str
    reference: str
    beta: float = Field(0.1, gt=0, allow_inf_nan=False)


class DensityRatio:
    """Density-ratio reward r(x, y) = beta ( log pi_strong(y|x) - log pi_weak(y|x) ), sums over the response's tokens.

    Two responses compare through Bradley-Terry, P(a > b) = sigma(r(x, a) - r(x, b)). Both models read the same token
    ids: their tokenizers must be identical, and prompts are rendered by the strong model's template. Equal models give
    0, and exchanged ones the negative. If the strong model is the KL-regularised optimum of a reward r* from the
    weak one, r is r* up to a constant of the prompt: with a policy, its reference and its beta this is DPO's implicit
    reward. A sum favours neither short nor long responses only if both models are calibrated; the response's tokens are
    written with every verdict.

    Source: 2411.02481 (CDR, later Dr.SoW). Raises OracleError for models that cannot be loaded or compared.
    """

    scores, both_orders = True, False

    def __init__(
        self,
        strong: CausalPolicy,
        weak: CausalPolicy,
        name: str,
        *,
        beta: float = 1.0,
        per_token: bool = False,
        template: str = "auto",
        domains: Domains | None = None,
    ) -> None:
        check_identical(strong.tokenizer, weak.tokenizer, name)
        self.strong, self.weak, self.name = strong, weak, name
        self.beta, self.per_token, self.domains = beta, per_token, domains or Domains()
        renderer = renderer_of(strong.tokenizer, template)
        self.reading = Reading.of(renderer, (strong, weak), name)
        self.comparisons = Comparisons(self._comparison)
        about = digest(
            checkpoint.fingerprint(strong),
            checkpoint.fingerprint(weak),
            renderer.fingerprint,
            self.domains.model_dump(),
            beta,
            per_token,
        )
        self.fingerprint = f"density ratio {about}"

    def batches(self, questions: Sequence[Question]) -> list[list[int]]:
        return self.comparisons.batches((self.strong, self.weak), questions)

    def answer(self, questions: Sequence[Question]) -> list[Verdict | Failure]:
        return answered(self.comparisons.of(questions), self._verdicts)

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        """(tokens of the longest prompt with what is put before it, the smaller context length)."""
        try:
            return self.reading.longest(
                [self.domains.before(prompt) for prompt in prompts]
            ), self.reading.limit
        except Failure as failure:
            raise OracleError(f"oracle {self.name}: {failure}") from None

    def _comparison(self, question: Question) -> Comparison:
        prompt = self.reading.prompt(self.domains.before(question[0]))
        return prompt.ids, [self.reading.response(prompt, question[1])]

    def _verdicts(self, batch: list[Comparison]) -> list[Verdict]:
        strong, weak = (logps(policy, batch)[:, 0].tolist() for policy in (self.strong, self.weak))
        verdicts = []
        for s, w, (_, (response,)) in zip(strong, weak, batch, strict=True):
            tokens = len(response.ids)  # type: ignore[union-attr]  # a Response, as `_comparison` makes it
            ratio = (s - w) / tokens if self.per_token else s - w
            verdicts.append(Verdict(self.beta * ratio, about={"strong": s, "weak": w, "tokens": tokens}))
        return verdicts


def density_ratio(settings: Mapping[str, Any], file: Path, placement: Placement) -> DensityRatio:
    """The density ratio of a YAML file's settings. Raises OracleError."""
    given = settings_of(DensityRatioFile, settings, file)
    return _ratio(given, (given.strong, given.weak), given.beta, file, placement)


def implicit_reward(settings: Mapping[str, Any], file: Path, placement: Placement) -> DensityRatio:
    """The implicit reward beta (log pi - log pi_ref) of a YAML file's settings. Raises OracleError."""
    given = settings_of(ImplicitRewardFile, settings, file)
    return _ratio(given, (given.policy, given.reference), given.beta, file, placement)


def _ratio(
    given: Reward, models: tuple[str, str], beta: float, file: Path, placement: Placement
) -> DensityRatio:
    domains = None if given.domains is None else Domains.of(given.domains, file)
    strong, weak = (frozen(relative_to(file, model), given.placed(placement)) for model in models)
    template = given.template
    if (file.parent / template).is_file():
        template = str(file.parent / template)
    return DensityRatio(
        strong,
        weak,
        str(file),
        beta=beta,
        per_token=given.per_token,
        template=template,
        domains=domains,
    )


def check_identical(first: Any, second: Any, name: str) -> None:
    """Raises OracleError unless two tokenizers give every text the same ids."""
    ours, theirs = first.get_vocab(), second.get_vocab()
    different = sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token))
    if different:
        token = different[0]
        raise OracleError(
            f"oracle {name}: its two models need identical tokenizers, and theirs give {token!r} the ids "
            f"{ours.get(token)} and {theirs.get(token)} ({len(different):,} tokens differ); take models of one family"
        )
    probes = [
        "a",
        " a",
        "A  b\n\tc",
        "naïve café, 12345.67 — “x” 你好 🙂",
        "don't",
        *map(chr, range(32, 127)),
    ]
    codecs = Codec(first), Codec(second)
    for text in probes:
        if codecs[0].ids(text) != codecs[1].ids(text):
            raise OracleError(
                f"oracle {name}: its two models need identical tokenizers, and theirs split {text!r} differently; take "
                "models of one family"
            )
