"""vLLM backend, where it is installed, behind the same call: `sampling.engine = "vllm"`.

Weights are passed in a checkpoint folder, with adapters merged. vLLM is restarted when they have changed: slow, but
never stale (its own reloading has kept old weights). One engine is alive at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.collate import Ids
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.inverse_cdf import uniforms
from equipoise.policy.generation.vllm.handover import save_merged
from equipoise.policy.protocol import Decoding, ModelError

INSTALL = (
    "sampling.engine=vllm needs vLLM and a GPU it supports: pip install 'equipoise[vllm]'; "
    "sampling.engine=torch needs neither"
)


@dataclass(frozen=True)
class Request:
    """One response to generate: its prompt, its most tokens, and the address of its random stream."""

    prompt: Ids
    max_new_tokens: int
    seed: int
    place: int
    index: int

    @property
    def vllm_seed(self) -> int:
        """vLLM takes one seed per request: the first number of the response's own stream, as 63 bits."""
        return int(uniforms(self.seed, self.place, self.index, 1).view(np.uint64)[0] >> np.uint64(1))


Completion = tuple[list[int], bool, float]  # ids, whether a stop token ended them, log-prob

_running: dict[str, Any] = {}  # the engine, the weights it holds, the longest sequence it takes


def generate(policy: CausalPolicy, requests: Sequence[Request], decoding: Decoding) -> list[Completion]:
    """Generate every requested response, in order. Prompts are shared by vLLM's prefix cache.

    The log-prob is vLLM's raw one: the model's own, before temperature and truncation. Samples are reproducible as far
    as vLLM's are; they differ from those of the torch engine. Raises ModelError if vLLM is not installed.
    """
    llm = _engine(policy, decoding, max(len(request.prompt) + request.max_new_tokens for request in requests))
    if _sleeps(policy):
        llm.wake_up()
    outputs = llm.generate(
        [{"prompt_token_ids": list(request.prompt)} for request in requests],
        [_module().SamplingParams(**settings(request, decoding, policy.stops)) for request in requests],
        use_tqdm=False,
    )
    if _sleeps(policy):
        llm.sleep(level=1)  # weights to the machine's memory, keys and values dropped: training has the GPU
    return [_completion(output.outputs[0], policy.stops) for output in outputs]


def settings(request: Request, decoding: Decoding, stops: Sequence[int]) -> dict[str, Any]:
    """Arguments of `vllm.SamplingParams` for one request."""
    return {
        "n": 1,
        "temperature": decoding.temperature,
        "top_k": decoding.top_k or -1,
        "top_p": decoding.top_p,
        "max_tokens": request.max_new_tokens,
        "seed": request.vllm_seed,
        "stop_token_ids": list(stops),
        "logprobs": 0,  # of the sampled token only
        "detokenize": False,  # done by the policy's tokenizer, as for every engine
    }


def _completion(output: Any, stops: Sequence[int]) -> Completion:
    ids = list(output.token_ids)
    finished = output.finish_reason == "stop"
    if finished and ids[-1] not in stops:
        raise ModelError(
            f"vLLM ended a response with token {ids[-1]}, which is not a stop token of the policy"
        )
    return ids, finished, sum(row[token].logprob for row, token in zip(output.logprobs, ids, strict=True))


def _sleeps(policy: CausalPolicy) -> bool:
    """Whether the engine shares the accelerator's memory with training; vLLM's sleep mode is for GPUs alone."""
    return policy.device.type == "cuda"


def _module() -> Any:
    try:
        import vllm
    except ImportError as error:
        raise ModelError(INSTALL) from error
    return vllm


def _engine(policy: CausalPolicy, decoding: Decoding, longest: int) -> Any:
    from equipoise.policy.checkpoint import fingerprint

    vllm = _module()
    unchanged = _running.get("weights") == (fingerprint(policy), decoding.memory)
    if not unchanged or longest > _running["longest"]:
        _running.clear()  # its memory must be free before the next engine measures what is left
        # a power of two, so that slightly longer prompts do not need another engine
        longest = min(policy.max_positions, 1 << (longest - 1).bit_length())
        with tempfile.TemporaryDirectory() as folder:
            save_merged(policy, Path(folder))
            _running["llm"] = vllm.LLM(
                model=folder,
                dtype="bfloat16" if policy.precision == "bf16" else "float32",
                max_model_len=longest,
                gpu_memory_utilization=decoding.memory,
                enable_prefix_caching=True,
                logprobs_mode="raw_logprobs",
                seed=0,
                enable_sleep_mode=_sleeps(policy),
            )
        # taken after saving, which completes the model's configuration
        _running.update(weights=(fingerprint(policy), decoding.memory), longest=longest)
    return _running["llm"]
