"""LLM judges behind an OpenAI-compatible server: pairwise or pointwise questions, fenced, with structured answers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from equipoise.data.records import tools_of
from equipoise.oracles.chat_reply import ChatReply, Unreadable, seconds_to_wait
from equipoise.oracles.protocol import OracleError, OraclePrompt
from equipoise.oracles.questioner import Ask, Estimate, Failure, Policy
from equipoise.oracles.verdicts import Verdict

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

T = TypeVar("T")
PROMPTS = Path(__file__).with_name("prompts")
VALUE = {"A": 1.0, "B": 0.0, "tie": 0.5}
SCALE = (1.0, 10.0)
RULE = "===="  # between the system message and the question
CHARACTERS = 4.0  # of a token, where tokens are estimated
NEVER = (401, 402, 403, 404)  # statuses that no other question would change
PASSING = (408, 409, 425, 429)  # and all from 500 on: another attempt may help
SHOWN = 200  # characters of an unreadable answer that a message quotes
ANSWER_FORMAT = {
    ("pairwise", "json"): 'Answer with JSON: {"winner": "A"}, {"winner": "B"} or {"winner": "tie"}.',
    ("pairwise", "token"): "Answer with one letter, A or B.",
    ("pointwise", "json"): 'Answer with JSON: {"score": a number from 1 to 10}.',
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "pairwise": {"winner": {"type": "string", "enum": list(VALUE)}},
    "pointwise": {"score": {"type": "number"}},
}


class Price(BaseModel):
    """Price of a judge's tokens, in money per million."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    input: float = Field(0.0, ge=0)
    output: float = Field(0.0, ge=0)


class JudgeFile(BaseModel):
    """A judge, as its YAML file says.

    model        name of the model at the server
    base_url     the server's address; None: OpenAI's own, or $OPENAI_BASE_URL
    key          NAME of the environment variable that holds the key; the key itself is never written anywhere
    question     "pairwise": which of two responses is better; "pointwise": a score from 1 to 10 of each
    answer       "json": a JSON object with one field; "token": P(A > B) from the probabilities of the first token
    structured   whether the server can enforce a JSON schema
    attributes   names of several scores that a pointwise judge gives at once; its score is their mean
    prompt       file of the question, a Jinja template; None: the one of this package
    temperature, max_tokens, timeout   of a request; seconds
    price        per million tokens, for the account and the cap
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    model: str
    base_url: str | None = None
    key: str = "OPENAI_API_KEY"
    question: Literal["pairwise", "pointwise"] = "pairwise"
    answer: Literal["json", "token"] = "json"
    structured: bool = True
    attributes: tuple[str, ...] = ()
    prompt: str | None = None
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(256, gt=0)
    timeout: float = Field(60.0, gt=0)
    price: Price = Price()

    @field_validator("base_url")
    @classmethod
    def _without_secrets(cls, value: str | None) -> str | None:
        if value is not None and ("@" in value or "?" in value):
            raise ValueError(
                "an address with a password or a query may hold a secret; keep keys in the environment"
            )
        return value


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
        system, rule, question = template.partition(RULE + "\n")
        if not rule:
            raise OracleError(f"{name}: the prompt needs a line {RULE} between system message and question")
        self.file, self.name = file, name
        self.scores = file.question == "pointwise"
        self.attributes = tuple(dict.fromkeys(file.attributes))
        # text for a model, not a page; a misspelt name is an error, not nothing
        environment = ImmutableSandboxedEnvironment(autoescape=False, undefined=StrictUndefined)
        try:
            self._system, self._question = environment.from_string(system), environment.from_string(question)
        except TemplateError as error:
            raise OracleError(f"{name}: the prompt is not a Jinja template: {error}") from error
        self._try_prompt()
        beside = {"key", "price", "timeout", "prompt"} | (set() if file.attributes else {"attributes"})
        about = file.model_dump(exclude=beside)
        text = json.dumps([about, template], sort_keys=True)
        self.fingerprint = f"judge {file.model} {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def _try_prompt(self) -> None:
        """Write one question. Raises OracleError if it cannot be written, or does not show what is to be judged."""
        samples = ("first sample",) if self.scores else ("first sample", "second sample")
        try:
            question = self.messages("a conversation", *samples)[1]["content"]
        except Exception as error:
            raise OracleError(f"{self.name}: the prompt cannot be written: {error}") from error
        for sample, field in zip(
            samples, ("response",) if self.scores else ("response_a", "response_b"), strict=True
        ):
            if sample not in question:
                raise OracleError(f"{self.name}: the prompt does not show the judge {{{{ {field} }}}}")

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path) -> JudgeOracle:
        """The judge of a YAML file's settings. Raises OracleError that names the file and the setting."""
        try:
            judge = JudgeFile.model_validate(settings)
            prompt = file.parent / judge.prompt if judge.prompt else PROMPTS / f"{judge.question}.jinja"
            template = prompt.read_text(encoding="utf-8")
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()
            )
            raise OracleError(f"judge {file}: {problems}") from error
        except (OSError, ValueError) as error:
            raise OracleError(f"cannot read the prompt of judge {file}: {error}") from error
        return cls(judge, template, str(file))

    @asynccontextmanager
    async def open(self, policy: Policy) -> AsyncIterator[Ask]:
        """A session with the server. A question is one request: what failed is repeated by whoever asks."""
        try:
            from openai import AsyncOpenAI
        except ImportError as error:
            raise OracleError("a judge needs the openai client: pip install 'equipoise[judge]'") from error
        # servers of one's own often take no key, but the client wants one
        key = os.environ.get(self.file.key) or ("none" if self.file.base_url else None)
        if key is None:
            raise OracleError(f"judge {self.name}: set the environment variable {self.file.key} to its key")
        async with AsyncOpenAI(
            api_key=key, base_url=self.file.base_url, timeout=self.file.timeout, max_retries=0
        ) as client:

            async def ask(prompt: OraclePrompt, *responses: str) -> Verdict:
                return await self._ask(client, self.messages(prompt, *responses))

            yield ask

    def estimate(self, prompt: OraclePrompt, *responses: str) -> Estimate:
        """Tokens and cost of one question: a token for four characters, and the longest answer that is allowed."""
        length = sum(len(message["content"]) for message in self.messages(prompt, *responses))
        answer = 1 if self.file.answer == "token" else self.file.max_tokens
        return self._priced(length / CHARACTERS, float(answer))

    def _priced(self, input: float, output: float) -> Estimate:
        price = self.file.price
        cost = (input * price.input + output * price.output) / 1e6
        return Estimate(input=input, output=output, cost=cost)

    def messages(self, prompt: OraclePrompt, *responses: str) -> list[dict[str, str]]:
        """The request's messages: the instructions, and the fenced question."""
        conversation = prompt if isinstance(prompt, str) else "\n".join(_turn(turn) for turn in prompt)
        if tools_of(prompt):
            conversation = f"tools: {json.dumps(tools_of(prompt), default=str)}\n{conversation}"
        texts = [conversation, *responses]
        mark = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
        opened, closed = f"[[{mark}]]", f"[[/{mark}]]"
        fenced = [f"{opened}\n{text}\n{closed}" for text in texts]
        names = ("conversation", "response") if self.scores else ("conversation", "response_a", "response_b")
        fields = dict(zip(names, fenced, strict=True))
        fields["answer_format"] = _answer_format(self.file)
        marks = {"open": opened, "close": closed}
        return [
            {"role": "system", "content": self._system.render(**marks).strip()},
            {"role": "user", "content": self._question.render(**fields, **marks).strip()},
        ]

    async def _ask(self, client: AsyncOpenAI, messages: Sequence[Mapping[str, str]]) -> Verdict:
        body = await self._body(client, self._request(messages))
        try:
            reply = ChatReply.of(body)
        except Unreadable as error:
            raise Failure(str(error), transient=True) from None
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
        request: dict[str, Any] = {"model": file.model, "messages": messages, "temperature": file.temperature}
        if file.answer == "token":
            return request | {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
        request |= {"max_tokens": file.max_tokens}
        if file.structured:
            request["response_format"] = {"type": "json_schema", "json_schema": _schema(file)}
        return request

    async def _body(self, client: AsyncOpenAI, request: Mapping[str, Any]) -> bytes:
        """The body of the server's reply to one request. The whole request has `timeout` seconds: a client's own
        timeout begins anew with each piece that a slow server sends."""
        import openai

        asking = client.chat.completions.with_raw_response.create(**request)
        try:
            return bytes((await asyncio.wait_for(asking, self.file.timeout)).content)
        except asyncio.TimeoutError:
            raise Failure(f"no answer within {self.file.timeout:g} s", transient=True) from None
        except openai.APIStatusError as error:
            raise self._refused(error) from None
        except openai.OpenAIError as error:
            passing = isinstance(error, openai.APIConnectionError)
            raise Failure(_said(error), transient=passing) from None
        except ValueError as error:  # of the client's own, on a body that is no JSON
            raise Failure(f"the server's reply cannot be read: {error}", transient=True) from None

    def _refused(self, error: APIStatusError) -> Exception:
        """What a status means: no question will be answered, or this one not now, or this one never."""
        status = error.status_code
        if status in NEVER or error.code == "insufficient_quota":
            return OracleError(f"judge {self.name}: the server refuses every question: {_said(error)}")
        after = seconds_to_wait(error.response.headers, time.time())
        return Failure(_said(error), transient=status in PASSING or status >= 500, after=after)

    def _json(self, reply: ChatReply, read: Callable[[Any], T]) -> T:
        said = reply.text
        try:
            return read(json.loads(said[said.index("{") : said.rindex("}") + 1]))
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
        if not total > 0:
            raise Failure(f"neither A nor B among the likely answers: {reply.text!r}", transient=True)
        return mass["A"] / total


def _score(number: Any) -> float:
    """A score within the scale. Raises ValueError for one outside it, and as `float` does."""
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


def _turn(turn: Mapping[str, Any]) -> str:
    """A turn of a conversation for the judge; tool calls are shown as they were made."""
    calls = turn.get("tool_calls")
    return f"{turn['role']}: {turn['content']}" + (f"\n{json.dumps(calls, default=str)}" if calls else "")


def _said(error: Exception) -> str:
    """An API error in one line, without the request, which may hold a key."""
    status = getattr(error, "status_code", None)
    text = str(getattr(error, "message", error)).replace("\n", " ")[:SHOWN]
    return f"{type(error).__name__}{f' {status}' if status else ''}: {text}"
