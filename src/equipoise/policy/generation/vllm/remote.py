"""vLLM servers behind the same call: `sampling.engine = "vllm_server"`; prompts are dealt among them, as token ids.

Weights are handed over when they have changed: a LoRA adapter through the server's adapter endpoint, in a second;
all weights by a reload (servers that the user runs) or a restart (one that is begun here). One set of servers is held.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

from equipoise.json_http import JsonServer, Refused, Send, Unanswered, completed, value_of
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.vllm.in_process import Completion, Request
from equipoise.policy.generation.vllm.replies import completion_of, fields_of
from equipoise.policy.generation.vllm.servers import OwnServer, given
from equipoise.policy.protocol import Decoding, ModelError

ATTEMPTS = 4  # of a request, with waits of 1, 2 and 4 seconds between, or as long as the server asks for
WAIT = 1.0


class Servers(Protocol):
    """Where requests go. One process speaks to them; their weights are those of one policy at a time."""

    @property
    def addresses(self) -> Sequence[JsonServer]: ...

    def hold(self, policy: CausalPolicy, longest: int) -> str:
        """Have every server hold the policy's weights; gives the name by which requests ask for them.

        longest   tokens of the longest prompt with its response.
        """
        ...

    def asleep(self, policy: CausalPolicy, sleeping: bool) -> None:
        """Free the accelerator's memory for training, or take it back."""
        ...

    def revived(self) -> bool:
        """Whether a server had ended by itself and another will take its place."""
        ...

    def close(self) -> None: ...


_held: dict[tuple[Any, ...], Servers] = {}


def generate(policy: CausalPolicy, requests: Sequence[Request], decoding: Decoding) -> list[Completion]:
    """Generate every requested response, in order; all responses to one prompt come from one server.

    The log-prob is the server's raw one: before temperature and truncation. Raises ModelError, naming the server and
    what to do, if one does not answer, refuses the weights, or answers anything but what was asked.
    """
    servers = _servers(decoding)
    longest = max(len(request.prompt) + request.max_new_tokens for request in requests)
    try:
        return _generated(servers, policy, requests, decoding, longest)
    except ModelError:
        if not servers.revived():
            raise
    return _generated(servers, policy, requests, decoding, longest)


def close() -> None:
    """End the servers that were begun here, and let go of the others."""
    while _held:
        _held.popitem()[1].close()


atexit.register(close)


def _servers(decoding: Decoding) -> Servers:
    key = (decoding.servers, decoding.key, decoding.memory)
    if key not in _held:
        close()
        _held[key] = given(decoding.servers, decoding.key) if decoding.servers else OwnServer(decoding.memory)
    return _held[key]


def _generated(
    servers: Servers,
    policy: CausalPolicy,
    requests: Sequence[Request],
    decoding: Decoding,
    longest: int,
) -> list[Completion]:
    model = servers.hold(policy, longest)
    servers.asleep(policy, False)
    vocabulary = int(policy.model.get_input_embeddings().weight.shape[0])
    stops = policy.stops

    def ask(request: Request) -> tuple[dict[str, Any], Callable[[Any], Completion]]:
        fields = fields_of(model, request, decoding, stops)
        return fields, lambda reply: completion_of(reply, request, stops, vocabulary)

    most = decoding.batch * (1 + max(request.index for request in requests))
    made = completed(_all(servers.addresses, [(r.place, *ask(r)) for r in requests], most))
    servers.asleep(policy, True)
    return made


async def _all(
    servers: Sequence[JsonServer],
    asked: Sequence[tuple[int, dict[str, Any], Callable[[Any], Completion]]],
    most: int,
) -> list[Completion]:
    """Ask all requests (place, fields, reader), at most so many at once of a server; the first failure ends all."""
    async with AsyncExitStack() as stack:
        try:
            sends = [await stack.enter_async_context(server.open()) for server in servers]
        except Refused as error:
            raise ModelError(f"sampling.servers: {error}") from None
        gates = [asyncio.Semaphore(most) for _ in servers]

        async def one(place: int, fields: dict[str, Any], read: Callable[[Any], Completion]) -> Completion:
            at = place % len(servers)
            async with gates[at]:
                return await _answer(servers[at], sends[at], fields, read)

        tasks = [asyncio.ensure_future(one(*request)) for request in asked]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(
    server: JsonServer, send: Send, fields: dict[str, Any], read: Callable[[Any], Completion]
) -> Completion:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return read(value_of(await send("/v1/completions", fields)))
        except Refused as error:
            raise ModelError(f"sampling with vLLM: {error}") from None
        except ValueError as error:
            raise ModelError(f"the reply of {server.url} cannot be used: {error}") from None
        except Unanswered as error:
            if not error.transient:
                raise ModelError(
                    f"the vLLM server at {server.url} does not take a request: {error}"
                ) from None
            if attempt == ATTEMPTS:
                raise ModelError(
                    f"the vLLM server at {server.url} does not answer, {ATTEMPTS} times: {error}; start it again and "
                    "repeat the command: the run goes on from its last finished stage"
                ) from None
            await asyncio.sleep(WAIT * 2 ** (attempt - 1) if error.after is None else min(error.after, 60.0))
    raise AssertionError("unreachable")
