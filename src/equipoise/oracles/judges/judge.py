"""LLM judges behind an OpenAI-compatible server: pairwise or pointwise questions, fenced, with structured answers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from equipoise.oracles.file import OracleFile, settings_of
from equipoise.oracles.judges.chat_reply import ChatReply
from equipoise.oracles.judges.chat_server import SHOWN, ChatServer, Complete, ServerFile
from equipoise.oracles.judges.judge_prompt import JudgePrompt, prompt_text
from equipoise.oracles.protocol import OracleError, OraclePrompt
from equipoise.oracles.questions.questioner import Ask, Estimate, Failure, Policy
from equipoise.oracles.questions.verdicts import Verdict

T = TypeVar("T")
VALUE = {"A": 1.0, "B": 0.0, "tie": 0.5}
SCALE = (1.0, 10.0)
LEAST_MASS = 0.01  # of A and B together among the first tokens: with less the judge says something else
CHARACTERS = 4.0  # of a token, where tokens are estimated
ANSWER_FORMAT = {
    ("pairwise", "json"): 'Answer with JSON: {"winner": "A"}, {"winner": "B"} or {"winner": "tie"}.',
    ("pairwise", "token"): "Answer with one letter, A or B.",
    ("pointwise", "json"): 'Answer with JSON: {"score": a number from 1 to 10}.',
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "pairwise": {"winner": {"type": "string", "enum": list(VALUE)}},
    "pointwise": {"score": {"type": "number"}},
}


class Price(OracleFile):
    """Price of a judge's tokens, in money per million."""

    input: float = Field(0.0, ge=0)
    output: float = Field(0.0, ge=0)


class JudgeFile(ServerFile):
    """A judge, as its YAML file says: a server, and how it is asked.

    question     "pairwise": which of two responses is better; "pointwise": a score from 1 to 10 of each
    answer       "json": a JSON object with one field; "token": P(A > B) from the probabilities of the first token
    structured   whether the server can enforce a JSON schema
    attributes   names of several scores that a pointwise judge gives at once; its score is their mean
    prompt       file of the question, a Jinja template; None: the one of this package
    temperature, max_tokens   of a request
    price        per million tokens, for the account and the cap
    """

    question: Literal["pairwise", "pointwise"] = "pairwise"
    answer: Literal["json", "token"] = "json"
    structured: bool = True
    attributes: tuple[str, ...] = ()
    prompt: str | None = None
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(256, gt=0)
    price: Price = Price()


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
        self.scores = file.question == "pointwise"
        self.attributes = tuple(dict.fromkeys(file.attributes))
        self.prompt = JudgePrompt(template, _answer_format(file), scores=self.scores, name=name)
        beside = {"key", "price", "timeout", "prompt"} | (set() if file.attributes else {"attributes"})
        about = file.model_dump(exclude=beside)
        text = json.dumps([about, template], sort_keys=True)
        self.fingerprint = f"judge {file.model} {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path) -> JudgeOracle:
        """The judge of a YAML file's settings. Raises OracleError that names the file and the setting."""
        judge = settings_of(JudgeFile, settings, file)
        return cls(judge, prompt_text(judge.prompt, file, f"{judge.question}.jinja"), str(file))

    @asynccontextmanager
    async def open(self, policy: Policy) -> AsyncIterator[Ask]:
        """A session with the server. A question is one request: what failed is repeated by whoever asks."""
        async with ChatServer(self.file, f"judge {self.name}").open() as complete:

            async def ask(prompt: OraclePrompt, *responses: str) -> Verdict:
                return await self._ask(complete, self.prompt.messages(prompt, *responses))

            yield ask

    def estimate(self, prompt: OraclePrompt, *responses: str) -> Estimate:
        """Tokens and cost of one question: a token for four characters, and the longest answer that is allowed."""
        length = sum(len(message["content"]) for message in self.prompt.messages(prompt, *responses))
        answer = 1 if self.file.answer == "token" else self.file.max_tokens
        return self._priced(length / CHARACTERS, float(answer))

    def _priced(self, input: float, output: float) -> Estimate:
        price = self.file.price
        cost = (input * price.input + output * price.output) / 1e6
        return Estimate(input=input, output=output, cost=cost)

    async def _ask(self, complete: Complete, messages: Sequence[Mapping[str, str]]) -> Verdict:
        reply = await complete(self._request(messages))
        length = sum(len(message["content"]) for message in messages)
        # a server that counts nothing is charged by length, so that a limit of cost still holds
        used = reply.tokens or (math.ceil(length / CHARACTERS), math.ceil(len(reply.text) / CHARACTERS))
        cost = self._priced(*used).cost
        try:
            scores = None
            if self.file.answer == "token":
                value = self._token(reply)
            elif self.attributes:
                scores = self._json(
                    reply, lambda answer: {name: _score(answer[name]) for name in self.attributes}
                )
                value = math.fsum(scores.values()) / len(scores)
            else:
                value = self._json(
                    reply, lambda answer: _score(answer["score"]) if self.scores else VALUE[answer["winner"]]
                )
        except Failure as failure:
            failure.cost = cost
            raise
        return Verdict(value, cost, {"answer": reply.text, "tokens": list(used)}, scores)

    def _request(self, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        file = self.file
        request: dict[str, Any] = {"messages": messages, "temperature": file.temperature}
        if file.answer == "token":
            return request | {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
        request |= {"max_tokens": file.max_tokens}
        if file.structured:
            request["response_format"] = {"type": "json_schema", "json_schema": _schema(file)}
        return request

    def _json(self, reply: ChatReply, read: Callable[[Any], T]) -> T:
        said = reply.text
        try:
            end = said.rindex("}") + 1
            if said[end:].strip(" \t\r\n`"):
                raise ValueError("words behind the verdict, which may be a quotation")
            return read(json.loads(said[said.index("{") : end], object_pairs_hook=_once))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            cut = f" (cut off after max_tokens = {self.file.max_tokens:,})" if reply.cut else ""
            raise Failure(f"an answer that cannot be read{cut}: {said[:SHOWN]!r}", transient=True) from None

    def _token(self, reply: ChatReply) -> float:
        if not reply.first:
            raise Failure("the server gives no log-probs; set `answer: json`", transient=False)
        mass = dict.fromkeys("AB", 0.0)
        for token, logprob in reply.first:
            if token.strip() in mass:
                mass[token.strip()] += math.exp(min(logprob, 0.0))
        total = sum(mass.values())
        if not total >= LEAST_MASS:
            raise Failure(f"neither A nor B among the likely answers: {reply.text!r}", transient=True)
        return mass["A"] / total


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, each of whose names stands there once: of two verdicts neither counts."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name that stands there twice")
    return dict(pairs)


def _score(number: Any) -> float:
    """A score within the scale. Raises ValueError for one outside it, and as `float` does."""
    if isinstance(number, bool):
        raise ValueError("a truth value is no score")
    score = float(number)
    if not SCALE[0] <= score <= SCALE[1]:
        raise ValueError(f"a score outside {SCALE}")
    return score


def _answer_format(file: JudgeFile) -> str:
    if not file.attributes:
        return ANSWER_FORMAT[file.question, file.answer]
    fields = ", ".join(f"{json.dumps(name)}: a number from 1 to 10" for name in file.attributes)
    return f"Answer with JSON: {{{fields}}}."


def _schema(file: JudgeFile) -> dict[str, Any]:
    named = {name: {"type": "number"} for name in file.attributes}
    fields = named or SCHEMAS[file.question]
    schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"name": "verdict", "strict": True, "schema": schema}
