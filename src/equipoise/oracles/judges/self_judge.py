"""Self-judging: the policy of the round is asked which of two responses is better, or how many points one deserves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from equipoise.data.collate import Response
from equipoise.oracles.file import OracleFile, digest, settings_of
from equipoise.oracles.judges.judge_prompt import JudgePrompt, disarmed, prompt_text
from equipoise.oracles.models.language_model import Comparisons, Reading, answered, logps, renderer_of
from equipoise.oracles.protocol import OracleError, OraclePrompt
from equipoise.oracles.questions.questioner import Failure, Question
from equipoise.oracles.questions.verdicts import Verdict
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.microbatch import Comparison

LETTERS = ("A", "B")
POINTS = ("0", "1", "2", "3", "4", "5")
ANSWER_FORMAT = {
    "pairwise": "Answer with one letter, A or B.",
    "pointwise": "Answer with one digit, from 0 to 5.",
    "correctness": "Answer with one letter, A or B.",
}
PROMPT = {"pairwise": "pairwise.jinja", "pointwise": "points.jinja", "correctness": "correctness.jinja"}


class SelfFile(OracleFile):
    """A self-judge, as its YAML file says.

    question   "pairwise": which of two responses is better, A or B; "pointwise": 0 to 5 points for each; "correctness":
               whether a response, so far, is correct (A) or not (B)
    prompt     file of the question, a Jinja template; None: the one of this package
    template   "auto": the policy's chat template, else a plain transcript; "plain", "tokenizer" or Jinja text
    beta       > 0, how many logits a point, or correctness, is worth where two responses are compared by it
    """

    question: Literal["pairwise", "pointwise", "correctness"] = "pairwise"
    prompt: str | None = None
    template: str = "auto"
    beta: float = Field(1.0, gt=0, allow_inf_nan=False)


class SelfJudge:
    """The policy of the round as its own judge, read by its next-token probabilities; nothing is sampled.

    pairwise    P(a > b) = pi("A")/(pi("A") + pi("B")) after the question, asked in both orders and averaged: OSP's
                strength of a preference
    pointwise   the expected number of points, sum_d d pi(d) / sum_d pi(d), d = 0, ..., 5; times beta it is a
                Bradley-Terry reward (self-rewarding language models, 2401.10020, which samples the points)
    correctness P(correct) = pi("A")/(pi("A") + pi("B")), the policy's confidence in a response, begun or whole
                (MCTS-DPO, 2405.00451); times beta it is a Bradley-Terry reward

    The probability of all these answers together is written with every verdict as `mass`: near 0 the policy would
    say something else, and the verdict means little.

    The weights that judge are part of the fingerprint: another round asks again. Raises OracleError before a policy
    was shown (`see`).
    """

    def __init__(self, file: SelfFile, template: str, name: str) -> None:
        self.file, self.name = file, name
        self.scores = file.question != "pairwise"
        self.both_orders = not self.scores
        self.prompt = JudgePrompt(template, ANSWER_FORMAT[file.question], scores=self.scores, name=name)
        self.options = POINTS if file.question == "pointwise" else LETTERS
        self.comparisons = Comparisons(self._comparison)
        self._about = digest(file.model_dump(exclude={"prompt"}), template)
        self._policy: CausalPolicy | None = None
        self._reading: Reading | None = None
        self._weights = ""

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path) -> SelfJudge:
        """The self-judge of a YAML file's settings. Raises OracleError."""
        given = settings_of(SelfFile, settings, file)
        return cls(given, prompt_text(given.prompt, file, PROMPT[given.question]), str(file))

    @property
    def fingerprint(self) -> str:
        """Settings and prompt and, once a policy was shown, its weights and its rendering."""
        return f"self {self._about} {self._weights}".rstrip()

    def see(self, policy: CausalPolicy, digest: str) -> None:
        """The policy that judges from now on, with the hash of its weights."""
        if self._reading is None or self._policy is not policy:
            renderer = renderer_of(policy.tokenizer, self.file.template)
            self._policy, self._reading = policy, Reading.of(renderer, (policy,), self.name)
        self._weights = f"{digest} {self._reading.renderer.fingerprint}"

    def batches(self, questions: Sequence[Question]) -> list[list[int]]:
        return self.comparisons.batches((self._seen()[0],), questions)

    def answer(self, questions: Sequence[Question]) -> list[Verdict | Failure]:
        return answered(self.comparisons.of(questions), self._verdicts)

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        """(tokens of the longest question about empty responses, context length); None before a policy was shown."""
        if self._policy is None or self._reading is None:
            return None
        empty = ("",) if self.scores else ("", "")
        return self._reading.longest([self.prompt.messages(p, *empty) for p in prompts]), self._reading.limit

    def _seen(self) -> tuple[CausalPolicy, Reading]:
        if self._policy is None or self._reading is None:
            raise OracleError(
                f"oracle {self.name} asks the policy of a run, and none was shown; it judges what a run samples"
            )
        return self._policy, self._reading

    def _comparison(self, question: Question) -> Comparison:
        """The question's tokens, and each possible answer up to the first token that tells it from the others."""
        _, reading = self._seen()
        special = reading.renderer.codec.special_texts
        messages = [
            {"role": turn["role"], "content": _without(turn["content"], special)}
            for turn in self.prompt.messages(*question)
            if turn["content"]
        ]
        prompt = reading.prompt(messages)
        return prompt.ids, _told_apart([reading.response(prompt, option) for option in self.options])

    def _verdicts(self, batch: list[Comparison]) -> list[Verdict]:
        policy, _ = self._seen()
        logp = logps(policy, batch)
        mass, values = logp.exp().sum(dim=1).tolist(), self._values(logp).tolist()
        return [Verdict(value, about={"mass": total}) for value, total in zip(values, mass, strict=True)]

    def _values(self, logp: Tensor) -> Tensor:
        """[N] P("A"), or what it scores times beta: expected points or P("A"), of log-probs [N, options]."""
        prob = logp.softmax(dim=1)
        if self.file.question == "pairwise":
            return prob[:, 0]
        if self.file.question == "correctness":
            return self.file.beta * prob[:, 0]
        return self.file.beta * (prob * torch.arange(len(POINTS))).sum(dim=1)


def _told_apart(answers: Sequence[Response]) -> list[tuple[int, ...]]:
    """The answers' tokens up to the first at which all of them differ. Raises Failure if two are the same."""
    longest = max(len(answer.ids) for answer in answers)
    for end in range(1, longest + 1):
        begun = [answer.ids[:end] for answer in answers]
        if all(a != b for a, b in combinations(begun, 2)):
            return begun
    raise Failure(
        "the policy's tokenizer writes two of the possible answers in the same way", transient=False
    )


def _without(text: str, special: Mapping[str, int]) -> str:
    """A text in which the tokenizer finds none of its special tokens, which would leave the turn."""
    text = disarmed(text)
    for mark in special:
        if mark.strip() and mark in text:
            text = text.replace(mark, f"{mark[:1]} {mark[1:]}")
    return text
