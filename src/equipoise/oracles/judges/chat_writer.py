"""Chat model behind an OpenAI-compatible server as a writer of responses: many requests, repeated where that helps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from equipoise.json_http import completed
from equipoise.oracles.judges.chat_client import Charged, ChatClient, Messages, Send, ServerFile
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.questions.questioner import Failure

LONGEST_WAIT = 120.0  # seconds before another attempt, whatever the server asks for


class WriterFile(ServerFile):
    """A writer behind a server, as a YAML file says.

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

    def plain(self) -> dict[str, Any]:
        """What its responses depend on: not how it is asked."""
        beside = {"key", "timeout", "price", "structured", "concurrency", "retries", "wait"}
        return self.model_dump(exclude=beside)


@dataclass(frozen=True)
class ChatWriter:
    """A chat model that is asked for responses.

    called   what messages call it.      after   what to do after a failure, as the end of its sentence.
    """

    file: WriterFile
    called: str
    after: str

    def write(
        self,
        asked: Sequence[tuple[int, Messages]],
        written: Callable[[int, Charged], None] = lambda number, charged: None,
    ) -> list[Charged]:
        """A reply to each (number, messages); the number goes into the seed.

        written(number, reply)   is told of each as it comes, so that it can be kept.

        Raises OracleError if one stays without a reply; the others are then not asked.
        """
        return completed(self._all(asked, written))

    async def _all(
        self, asked: Sequence[tuple[int, Messages]], written: Callable[[int, Charged], None]
    ) -> list[Charged]:
        gate = asyncio.Semaphore(self.file.concurrency)
        async with ChatClient(self.file, self.called).open() as send:

            async def one(number: int, messages: Messages) -> Charged:
                async with gate:
                    charged = await self._one(send, number, messages)
                written(number, charged)
                return charged

            tasks = [asyncio.ensure_future(one(*question)) for question in asked]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:  # after a failure the others are not paid for
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, send: Send, number: int, messages: Messages) -> Charged:
        fields: dict[str, Any] = {"max_tokens": self.file.max_tokens}
        if self.file.seed is not None:
            fields["seed"] = self.file.seed + number
        attempt = 0
        while True:
            try:
                return await send(messages, fields)
            except Failure as failure:
                wait = self.file.wait * 2**attempt if failure.after is None else failure.after
                if not failure.transient or attempt == self.file.retries or wait > LONGEST_WAIT:
                    raise OracleError(
                        f"{self.called}: {failure} (attempt {attempt + 1}); {self.after}"
                    ) from None
            attempt += 1
            await asyncio.sleep(wait)
