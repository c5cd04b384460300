"""Teacher of a run: a model behind an OpenAI-compatible server that writes responses, read as text.

Its text is tokenised as an answer of the data is; it has no log-prob. Replies are kept as they come in teacher.jsonl,
so that none is paid for twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise import safe_yaml
from equipoise.data.collate import Prompt, Response, cut, laid_out
from equipoise.data.records import digest, tools_of
from equipoise.oracles.file import settings_of
from equipoise.oracles.judges.chat_client import Charged, Messages
from equipoise.oracles.judges.chat_writer import ChatWriter, WriterFile
from equipoise.oracles.protocol import OracleError
from equipoise.worlds.folder.manifest import append_line, complete_lines

LOG = "teacher.jsonl"


@dataclass(frozen=True)
class Teacher:
    """A model that is asked for one response to each prompt.

    answer   renders a text as the answer to a prompt.      log   file of its replies.
    """

    file: WriterFile
    name: str
    answer: Callable[[Prompt, str], Response]
    log: Path

    def responses(self, prompts: Sequence[Prompt], round: int) -> list[Response]:
        """One response to each prompt; those of teacher.jsonl are not asked for again.

        A reply that the server has cut is not finished, and neither is one that data.max_length cuts. Raises
        OracleError if the server does not answer.
        """
        keys = [self._key(prompt, round, number) for number, prompt in enumerate(prompts)]
        known = self._known()
        asked = [
            (number, messages_of(prompt))
            for number, (prompt, key) in enumerate(zip(prompts, keys, strict=True))
            if key not in known
        ]

        def keep(number: int, charged: Charged) -> None:
            reply = charged.reply
            line = {"key": keys[number], "round": round, "text": reply.text, "cut": reply.cut}
            append_line(
                self.log, {**line, "tokens": list(charged.tokens), "cost": charged.cost}, durable=True
            )
            known[keys[number]] = line

        after = "its replies so far are kept: the same command goes on from there"
        ChatWriter(self.file, f"teacher {self.name}", after).write(asked, keep)
        return [self._response(prompt, known[key]) for prompt, key in zip(prompts, keys, strict=True)]

    def _response(self, prompt: Prompt, reply: Mapping[str, Any]) -> Response:
        made = self.answer(prompt, str(reply["text"]))
        if not reply["cut"] or not made.finished:
            return made
        return cut(
            made, len(laid_out(made)[0]) - 1
        )  # without the token that closes an answer: it was not closed

    def _key(self, prompt: Prompt, round: int, number: int) -> str:
        about = {name: value for name, value in self.file.plain().items() if name != "base_url"}
        place = None if self.file.seed is None else number  # which goes into the seed
        return digest([about, messages_of(prompt), round, place])

    def _known(self) -> dict[str, Mapping[str, Any]]:
        if not self.log.exists():
            return {}
        return {line["key"]: line for _, line in complete_lines(self.log)}


def writer_file(path: Path) -> WriterFile:
    """The settings of a teacher's YAML file. Raises OracleError that names the file and the setting."""
    try:
        settings = safe_yaml.load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OracleError(f"cannot read the teacher {path}: {error}") from error
    return settings_of(WriterFile, settings, path, what="teacher")


def messages_of(prompt: Prompt) -> Messages:
    """A prompt as turns of a conversation. Raises OracleError for one with tools, which have no place in a request."""
    if tools_of(prompt.context):
        raise OracleError(
            "a prompt has tools, which a teacher's request has no place for; leave play.teacher out"
        )
    if isinstance(prompt.context, str):
        return [{"role": "user", "content": prompt.context}]
    return [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in prompt.context]
