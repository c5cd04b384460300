"""Which vLLM servers answer, and how they come to hold a policy's weights: those of the user, or one begun here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.json_http import JsonServer, Refused, Send, Unanswered, completed, value_of
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.vllm import handover
from equipoise.policy.generation.vllm.serve_process import ServeProcess
from equipoise.policy.protocol import ModelError

TIMEOUT = 900.0  # seconds of a request, with its time in the server's queue
REPLY = 2**24  # bytes of a reply: a token takes about a hundred
HANDED = "equipoise-"  # names of adapters: this and the hash of their weights
NAME = "policy"  # of the model that a server begun here holds
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that --max-lora-rank takes
SHORTEST = 2048  # tokens that a server begun here takes at least, so that longer prompts seldom need another


def given(addresses: Sequence[str], key: str | None) -> GivenServers:
    """The servers at these addresses; `key` names the environment variable that holds their bearer token."""
    return GivenServers(
        [JsonServer(url=a.rstrip("/"), key=key, timeout=TIMEOUT, longest=REPLY) for a in addresses]
    )


class GivenServers:
    """Servers that the user runs, by their addresses. Their model is the policy, or what its adapter stands on.

    They must see the temporary folder into which weights are written ($TMPDIR), as they read it themselves.
    """

    def __init__(self, addresses: Sequence[JsonServer]) -> None:
        self.addresses = addresses
        self.held: tuple[str, str] | None = None  # hash of the weights, name of what answers with them
        self.folder: tempfile.TemporaryDirectory[str] | None = None  # of an adapter, which may be read again

    def hold(self, policy: CausalPolicy, longest: int) -> str:
        key = handover.weights_key(policy)
        if self.held is None or self.held[0] != key:
            hand = self._adapter if handover.adapted(policy) else self._reloaded
            folder = tempfile.TemporaryDirectory(prefix="equipoise-weights-")
            try:
                name = hand(policy, key, Path(folder.name))
            except BaseException:
                folder.cleanup()
                raise
            self._let_go()
            self.held, self.folder = (key, name), folder
        return self.held[1]

    def asleep(self, policy: CausalPolicy, sleeping: bool) -> None:
        """Servers of the user stay as they are."""

    def revived(self) -> bool:
        return False

    def close(self) -> None:
        self._let_go()

    def _let_go(self) -> None:
        """Unload the adapter that is held, and remove its folder."""
        if self.held is not None and self.held[1].startswith(HANDED):
            name = self.held[1]
            for server in self.addresses:
                with suppress(
                    ModelError
                ):  # it has been begun again since, or is gone: the next request says so
                    completed(
                        _with(server, lambda send: send("/v1/unload_lora_adapter", {"lora_name": name}))
                    )
        if self.folder is not None:
            self.folder.cleanup()
        self.held, self.folder = None, None

    def _adapter(self, policy: CausalPolicy, key: str, folder: Path) -> str:
        """Hand an adapter over, under a name that says what it holds: old weights cannot answer in its place."""
        handover.save_adapter(policy, folder)
        name = f"{HANDED}{key[:16]}"
        self._each(lambda send: load_adapter(send, name, folder))
        return name

    def _reloaded(self, policy: CausalPolicy, key: str, folder: Path) -> str:
        """Have the servers read all weights again, by the worker's own method."""
        handover.save_merged(policy, folder)
        names = self._each(lambda send: reload(send, folder))
        if len(set(names)) > 1:
            raise ModelError(f"the servers call their model by different names: {', '.join(map(str, names))}")
        return str(names[0])

    def _each(self, act: Callable[[Send], Awaitable[Any]]) -> list[Any]:
        return [completed(_with(server, act)) for server in self.addresses]


class OwnServer:
    """One `vllm serve` of our own, begun on the policy's model.

    An adapter is handed to it. For other weights, and for longer sequences, it is begun again: slow, but never stale,
    where vLLM's reload has kept the old output layer of models with tied embeddings (0.32).

    memory   share of the GPU's memory that it may take.
    """

    def __init__(self, memory: float) -> None:
        self.memory = memory
        self.process: ServeProcess | None = None
        self.begun: tuple[Any, ...] = ()  # on what
        self.longest = 0
        self.adapters: GivenServers | None = None
        self.sleeping = False

    @property
    def addresses(self) -> Sequence[JsonServer]:
        assert self.process is not None
        return [replace(self.process.server, timeout=TIMEOUT, longest=REPLY)]

    def hold(self, policy: CausalPolicy, longest: int) -> str:
        base = handover.base_of(policy)
        wanted = (base or handover.weights_key(policy), policy.precision, base and handover.rank_of(policy))
        if self.process is None or self.begun != wanted or longest > self.longest:
            self.close()
            self._begin(policy, base, longest)
            self.begun = wanted
        if self.adapters is None:
            return NAME
        self.asleep(policy, False)
        return self.adapters.hold(policy, longest)

    def asleep(self, policy: CausalPolicy, sleeping: bool) -> None:
        if not _on_gpu(policy) or sleeping == self.sleeping:
            return
        path = "/sleep?level=1" if sleeping else "/wake_up"
        completed(_with(self.addresses[0], lambda send: _posted(send, path, {}, "sleep mode")))
        self.sleeping = sleeping

    def revived(self) -> bool:
        """Whether the process had ended: the next request begins another."""
        if self.process is None or not self.process.ended(within=2.0):
            return False
        self.close()
        return True

    def close(self) -> None:
        if self.process is not None:
            self.process.stop()
        if self.adapters is not None:
            self.adapters.close()
        self.process, self.adapters, self.begun, self.sleeping = None, None, (), False

    def _begin(self, policy: CausalPolicy, base: str | None, longest: int) -> None:
        # a power of two, so that slightly longer prompts do not need another process
        self.longest = min(policy.max_positions, max(SHORTEST, 1 << (longest - 1).bit_length()))
        with tempfile.TemporaryDirectory(prefix="equipoise-weights-") as folder:
            if base is None:
                handover.save_merged(policy, Path(folder))
            elif not (Path(base) / "tokenizer.json").exists():  # a base that was merged for the adapter
                policy.model.config.save_pretrained(folder)
                policy.tokenizer.save_pretrained(folder)
            options, variables = self._options(policy, base)
            if base is not None and any(Path(folder).iterdir()):
                options += ["--tokenizer", folder]
            self.process = ServeProcess(base or folder, options, variables)
        if base is not None:
            self.adapters = GivenServers(self.addresses)

    def _options(self, policy: CausalPolicy, base: str | None) -> tuple[list[str], Mapping[str, str]]:
        """Options and environment variables of the process."""
        options = [
            *("--served-model-name", NAME),
            *("--dtype", "bfloat16" if policy.precision == "bf16" else "float32"),
            *("--max-model-len", str(self.longest)),
            *("--logprobs-mode", "raw_logprobs"),
            *("--generation-config", "vllm"),  # no sampling defaults from the model's folder
        ]
        variables: dict[str, str] = {}
        if base is not None:
            rank = next((r for r in RANKS if r >= handover.rank_of(policy)), RANKS[-1])
            options += ["--enable-lora", "--max-lora-rank", str(rank)]
            variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
        if _on_gpu(policy):
            options += ["--gpu-memory-utilization", str(self.memory), "--enable-sleep-mode"]
            variables |= {"VLLM_SERVER_DEV_MODE": "1", "CUDA_VISIBLE_DEVICES": _device(policy)}
        return options, variables


async def load_adapter(send: Send, name: str, folder: Path) -> None:
    """Load an adapter, unless one of this name, which says what it holds, is there."""
    listed = value_of(await send("/v1/models"))
    if name in [model.get("id") for model in listed.get("data", ())]:
        return
    await _posted(
        send,
        "/v1/load_lora_adapter",
        {"lora_name": name, "lora_path": str(folder)},
        "--enable-lora, a --max-lora-rank of at least model.lora_rank, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in "
        "its environment",
    )


async def reload(send: Send, folder: Path) -> str:
    """Have a server read a model folder's weights; gives the name of its model."""
    wanted = "VLLM_SERVER_DEV_MODE=1 in its environment, since all weights are trained"
    about = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
    await _posted(send, "/collective_rpc", about, wanted)
    await _posted(send, "/reset_prefix_cache", {}, wanted)
    listed = value_of(await send("/v1/models"))
    names = [model.get("id") for model in listed.get("data", ()) if not model.get("parent")]
    if not names or not isinstance(names[0], str):
        raise ModelError("the server lists no model")
    return names[0]


async def _posted(send: Send, path: str, fields: Mapping[str, Any], wanted: str) -> None:
    """Post; `wanted` says with what the server must have been started."""
    try:
        await send(path, fields)
    except (Refused, Unanswered) as error:
        raise ModelError(
            f"the vLLM server does not take the weights at {path.partition('?')[0]}: {error}; it must be started with "
            f"{wanted}, and see the folder of temporary files ({tempfile.gettempdir()}, set by TMPDIR)"
        ) from None


async def _with(server: JsonServer, act: Callable[[Send], Awaitable[Any]]) -> Any:
    try:
        async with server.open() as send:
            return await act(send)
    except (Refused, Unanswered) as error:
        raise ModelError(
            f"the vLLM server at {server.url} does not answer: {error}; start it and repeat the command: the run goes "
            "on from its last finished stage"
        ) from None
    except (AttributeError, TypeError):
        raise ModelError(f"{server.url} is no vLLM server: its list of models cannot be read") from None


def _on_gpu(policy: CausalPolicy) -> bool:
    return policy.device.type == "cuda"


def _device(policy: CausalPolicy) -> str:
    """The policy's GPU, as CUDA_VISIBLE_DEVICES of a child names it."""
    index, seen = policy.device.index or 0, os.environ.get("CUDA_VISIBLE_DEVICES")
    return seen.split(",")[index] if seen else str(index)
