"""LLM judges behind an OpenAI-compatible server: pairwise or pointwise questions, fenced, with structured answers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from equipoise.oracles.file import settings_of
from equipoise.oracles.judges.chat_client import Charged, ChatClient, ServerFile, score_within
from equipoise.oracles.judges.chat_reply import ChatReply
from equipoise.oracles.judges.judge_prompt import JudgePrompt, prompt_text
from equipoise.oracles.protocol import OracleError, OraclePrompt
from equipoise.oracles.questions.questioner import Ask, Estimate, Failure, Policy
from equipoise.oracles.questions.verdicts import Verdict

VALUE = {"A": 1.0, "B": 0.0, "tie": 0.5}
SCALE = (1.0, 10.0)
LEAST_MASS = 0.01  # of A and B together among the first tokens: with less the judge says something else
ANSWER_FORMAT = {
    ("pairwise", "json"): 'Answer with JSON: {"winner": "A"}, {"winner": "B"} or {"winner": "tie"}.',
    ("pairwise", "token"): "Answer with one letter, A or B.",
    ("pointwise", "json"): 'Answer with JSON: {"score": a number from 1 to 10}.',
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "pairwise": {"winner": {"type": "string", "enum": list(VALUE)}},
    "pointwise": {"score": {"type": "number"}},
}


class JudgeFile(ServerFile):
    """A judge, as its YAML file says: a chat model at its server, and what it is asked.

    question     "pairwise": which of two responses is better; "pointwise": a score from 1 to 10 of each
    answer       "json": a JSON object with one field; "token": P(A > B) from the probabilities of the first token
    attributes   names of several scores that a pointwise judge gives at once; its score is their mean
    prompt       file of the question, a Jinja template; None: the one of this package
    """

    question: Literal["pairwise", "pointwise"] = "pairwise"
    answer: Literal["json", "token"] = "json"
    attributes: tuple[str, ...] = ()
    prompt: str | None = None


class JudgeOracle:
    """A language model that is asked which of two responses is better, or how good one is (Zheng et al. 2023).

    The responses stand between marks made from a hash of the whole question, so that no response can close its
    fence. A pairwise judge answers A, B or tie: P(A > B) is 1, 0 or 1/2; with `answer: token` it is
    P("A") / (P("A") + P("B")) of the first token. A pointwise judge gives a score; two scores compare through
    Bradley-Terry. Answers that cannot be read are asked again, then counted as failed.
    """

    both_orders = True  # judges prefer positions: compare in both orders unless told otherwise

    def __init__(self, file: JudgeFile, template: str, name: str) -> None:
        if file.question == "pointwise" and file.answer == "token":
            raise OracleError(f"{name}: a pointwise judge answers in JSON; set `answer: json`")
        if file.attributes and file.question != "pointwise":
            raise OracleError(f"{name}: a pairwise judge has no attributes; set `question: pointwise`")
        self.file, self.name = file, name
        self.client = ChatClient(file, f"judge {name}")
        self.scores = file.question == "pointwise"
        self.attributes = tuple(dict.fromkeys(file.attributes))
        self.prompt = JudgePrompt(template, _answer_format(file), scores=self.scores, name=name)
        not_asked = {"key", "price", "timeout", "prompt"} | (set() if file.attributes else {"attributes"})
        about = file.model_dump(exclude=not_asked)
        text = json.dumps([about, template], sort_keys=True)
        self.fingerprint = f"judge {file.model} {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path) -> JudgeOracle:
        """The judge of a YAML file's settings. Raises OracleError that names the file and the setting."""
        judge = settings_of(JudgeFile, settings, file)
        return cls(judge, prompt_text(judge.prompt, file, f"{judge.question}.jinja"), str(file))

    @asynccontextmanager
    async def open(self, policy: Policy) -> AsyncIterator[Ask]:
        """A session with the server. A question is one request: what failed is repeated by the caller."""
        async with self.client.open() as send:

            async def ask(prompt: OraclePrompt, *responses: str) -> Verdict:
                return self._verdict(await send(self.prompt.messages(prompt, *responses), self._fields()))

            yield ask

    def estimate(self, prompt: OraclePrompt, *responses: str) -> Estimate:
        """Tokens and cost of one question: a token for four characters, and the longest answer that is allowed."""
        answer = 1 if self.file.answer == "token" else self.file.max_tokens
        return self.client.estimate(self.prompt.messages(prompt, *responses), float(answer))

    def _verdict(self, charged: Charged) -> Verdict:
        scores = None
        if self.file.answer == "token":
            value = _token(charged.reply, charged.cost)
        elif self.attributes:
            scores = self.client.read_json(
                charged, lambda answer: {name: score_within(answer[name], *SCALE) for name in self.attributes}
            )
            value = math.fsum(scores.values()) / len(scores)
        else:
            value = self.client.read_json(
                charged,
                lambda answer: (
                    score_within(answer["score"], *SCALE) if self.scores else VALUE[answer["winner"]]
                ),
            )
        about = {"answer": charged.reply.text, "tokens": list(charged.tokens)}
        return Verdict(value, charged.cost, about, scores)

    def _fields(self) -> dict[str, Any]:
        if self.file.answer == "token":
            return {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
        named = {name: {"type": "number"} for name in self.attributes}
        return self.client.json_fields("verdict", named or SCHEMAS[self.file.question])


def _answer_format(file: JudgeFile) -> str:
    if not file.attributes:
        return ANSWER_FORMAT[file.question, file.answer]
    fields = ", ".join(f"{json.dumps(name)}: a number from 1 to 10" for name in file.attributes)
    return f"Answer with JSON: {{{fields}}}."


def _token(reply: ChatReply, cost: float) -> float:
    """P("A") / (P("A") + P("B")) of the first token. Raises Failure."""
    if not reply.first:
        raise Failure("the server gives no log-probs; set `answer: json`", transient=False, cost=cost)
    mass = dict.fromkeys("AB", 0.0)
    for token, logprob in reply.first:
        if token.strip() in mass:
            mass[token.strip()] += math.exp(min(logprob, 0.0))
    total = sum(mass.values())
    if not total >= LEAST_MASS:
        raise Failure(
            f"neither A nor B among the likely answers: {reply.text!r}",
            transient=True,
            cost=cost,
            unreadable=True,
        )
    return mass["A"] / total
