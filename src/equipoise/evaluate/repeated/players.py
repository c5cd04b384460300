"""Players of a repeated game: a checkpoint on disk, or a model behind an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from equipoise import safe_yaml
from equipoise.data.records import digest
from equipoise.evaluate.writer import Writer
from equipoise.oracles.file import settings_of
from equipoise.oracles.judges.chat_client import ChatClient, Send, ServerFile
from equipoise.oracles.judges.judge_prompt import disarmed
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.questions.questioner import Failure
from equipoise.play.seeds import Seeds
from equipoise.policy.generation.sampling import sample
from equipoise.policy.protocol import Decoding

LONGEST_WAIT = 120.0  # seconds before another attempt, whatever the server asks for


class Player(Protocol):
    """Who answers prompts.

    fingerprint   of everything that the answers depend on
    answers(prompts, round)   one answer to each; the same for the same prompts, round and fingerprint where the player
                              can promise it
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def answers(self, prompts: Sequence[str], round: int) -> list[str]: ...


@dataclass(frozen=True)
class ModelPlayer:
    """A policy on disk, asked through its chat template if it has one; its draws are addressed by seed and round."""

    writer: Writer
    decoding: Decoding
    seed: int = 0

    @property
    def name(self) -> str:
        return self.writer.name

    @property
    def fingerprint(self) -> str:
        about = {k: v for k, v in vars(self.decoding).items() if k != "batch"}
        return digest([self.writer.fingerprint, about, self.seed])

    def answers(self, prompts: Sequence[str], round: int) -> list[str]:
        chat = self.writer.renderer.template is not None
        asked = [
            self.writer.prompt([{"role": "user", "content": text}] if chat else text) for text in prompts
        ]
        seed = Seeds(self.seed)("repeated game", round)
        groups = sample(self.writer.policy, asked, 1, seed=seed, decoding=self.decoding)
        return [group[0].text for group in groups]


class PlayerFile(ServerFile):
    """A player behind a server, as a YAML file says.

    temperature, max_tokens   of a request
    seed          sent with each request, plus its number; None: none, for servers that refuse it
    concurrency   requests in flight at once
    retries       further attempts after a passing failure, with waits of wait, 2 wait, ... seconds
    """

    temperature: float = Field(1.0, ge=0)
    max_tokens: int = Field(64, gt=0)
    seed: int | None = None
    concurrency: int = Field(4, gt=0)
    retries: int = Field(3, ge=0)
    wait: float = Field(1.0, ge=0)


@dataclass(frozen=True)
class ServerPlayer:
    """A model behind a chat server. What it answers again is the server's business: the transcript is what lasts."""

    file: PlayerFile
    name: str

    @classmethod
    def load(cls, path: Path) -> ServerPlayer:
        """The player of a YAML file. Raises OracleError that names the file and the setting."""
        try:
            settings = safe_yaml.load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OracleError(f"cannot read the player {path}: {error}") from error
        return cls(settings_of(PlayerFile, settings, path, what="player"), str(path))

    @property
    def fingerprint(self) -> str:
        beside = {"key", "timeout", "price", "structured", "concurrency", "retries", "wait"}
        return digest(["chat server", self.file.model_dump(exclude=beside)])

    def answers(self, prompts: Sequence[str], round: int) -> list[str]:
        return asyncio.run(self._all(prompts, round))

    async def _all(self, prompts: Sequence[str], round: int) -> list[str]:
        gate = asyncio.Semaphore(self.file.concurrency)
        async with ChatClient(self.file, f"player {self.name}").open() as send:

            async def one(number: int, prompt: str) -> str:
                async with gate:
                    return await self._one(send, prompt, round * len(prompts) + number)

            tasks = [asyncio.ensure_future(one(i, prompt)) for i, prompt in enumerate(prompts)]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:  # after a failure the others are not paid for
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, send: Send, prompt: str, number: int) -> str:
        messages = [{"role": "user", "content": disarmed(prompt)}]
        fields: dict[str, Any] = {"max_tokens": self.file.max_tokens}
        if self.file.seed is not None:
            fields["seed"] = self.file.seed + number
        attempt = 0
        while True:
            try:
                return (await send(messages, fields)).reply.text
            except Failure as failure:
                wait = self.file.wait * 2**attempt if failure.after is None else failure.after
                if not failure.transient or attempt == self.file.retries or wait > LONGEST_WAIT:
                    raise OracleError(
                        f"player {self.name}: {failure} (attempt {attempt + 1}); with --transcript the same command "
                        "goes on from the last finished round"
                    ) from None
            attempt += 1
            await asyncio.sleep(wait)
