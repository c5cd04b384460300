"""Questions of several forms to one chat model, fenced and answered in JSON: one client, one account, one cap."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from equipoise.oracles.file import digest
from equipoise.oracles.judges.chat_client import ChatClient, ServerFile
from equipoise.oracles.protocol import OraclePrompt
from equipoise.oracles.questions.questioner import Ask, Estimate, Policy
from equipoise.oracles.questions.verdicts import Verdict


class Form(Protocol):
    """One form of question about a conversation.

    name         what a question says behind its conversation: (conversation, name, *about), `about` JSON-serialisable
    fingerprint  everything of the form that its verdicts depend on
    temperature  of its requests; None: the model's
    messages     the fenced question
    properties   JSON schemas of the answer's fields, by their names
    read         the answer as a verdict; ValueError, KeyError or TypeError for one that cannot be read
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def temperature(self) -> float | None: ...

    def messages(self, conversation: OraclePrompt, *about: Any) -> list[dict[str, str]]: ...

    def properties(self, *about: Any) -> Mapping[str, Any]: ...

    def read(self, answer: Any, *about: Any) -> Verdict: ...


class JsonQuestions:
    """A chat model that is asked questions of several forms: a questioner for `questions.asking.Asking`."""

    scores = True
    both_orders = False

    def __init__(self, file: ServerFile, forms: Sequence[Form], name: str) -> None:
        self.file, self.name = file, name
        self.client = ChatClient(file, f"judge {name}")
        self.forms = {form.name: form for form in forms}
        about = file.model_dump(exclude={"key", "price", "timeout"})
        self.fingerprint = f"questions {file.model} {digest(about, [form.fingerprint for form in forms])}"

    @asynccontextmanager
    async def open(self, policy: Policy) -> AsyncIterator[Ask]:
        """A session with the server."""
        async with self.client.open() as send:

            async def ask(conversation: OraclePrompt, kind: str, *about: Any) -> Verdict:
                form = self.forms[kind]
                fields = self.client.json_fields(kind, form.properties(*about))
                if form.temperature is not None:
                    fields["temperature"] = form.temperature
                charged = await send(form.messages(conversation, *about), fields)
                verdict = self.client.read_json(charged, lambda answer: form.read(answer, *about))
                return Verdict(verdict.value, charged.cost, verdict.about, verdict.scores)

            yield ask

    def estimate(self, conversation: OraclePrompt, kind: str, *about: Any) -> Estimate:
        """Tokens and cost of one question, with the longest answer that is allowed."""
        messages = self.forms[kind].messages(conversation, *about)
        return self.client.estimate(messages, float(self.file.max_tokens))
