"""Sampling by vLLM where it is installed, behind the same call: `sampling.engine = "vllm"`.

The weights are handed over in a checkpoint folder, with adapters merged. vLLM is started again when they have
changed: slow, but never stale (its own reloading has kept old weights). One engine lives at a time.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.collate import Ids
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.inverse_cdf import uniforms
from equipoise.policy.protocol import Decoding, ModelError

INSTALL = "sampling.engine=vllm needs vLLM and a GPU it supports: pip install vllm; sampling.engine=torch needs neither"


@dataclass(frozen=True)
class Wanted:
    """One response: its prompt, the most tokens it may have, and its stream, addressed as everywhere."""

    prompt: Ids
    room: int
    seed: int
    place: int
    index: int

    @property
    def own_seed(self) -> int:
        """vLLM takes one number for a request: the first of the response's own stream, as 63 bits."""
        return int(uniforms(self.seed, self.place, self.index, 1).view(np.uint64)[0] >> np.uint64(1))


Written = tuple[list[int], bool, float]  # ids, whether a stop token ended them, log-prob

_running: dict[str, Any] = {}  # the engine that lives, the weights it holds, the longest row it takes


def write(policy: CausalPolicy, wanted: Sequence[Wanted], decoding: Decoding) -> list[Written]:
    """Every response, in order. Prompts are shared by vLLM's prefix cache.

    The log-prob is vLLM's raw one: of the model itself, before temperature and truncation. Draws are reproducible
    as far as vLLM's are; they are not those of the torch engine. Raises ModelError if vLLM is not installed.
    """
    llm = _engine(policy, decoding, max(len(w.prompt) + w.room for w in wanted))
    outputs = llm.generate(
        [{"prompt_token_ids": list(w.prompt)} for w in wanted],
        [_module().SamplingParams(**settings(w, decoding, policy.stops)) for w in wanted],
        use_tqdm=False,
    )
    return [_written(output.outputs[0], policy.stops) for output in outputs]


def settings(wanted: Wanted, decoding: Decoding, stops: Sequence[int]) -> dict[str, Any]:
    """What `vllm.SamplingParams` is told of one response."""
    return {
        "n": 1,
        "temperature": decoding.temperature,
        "top_k": decoding.top_k or -1,
        "top_p": decoding.top_p,
        "max_tokens": wanted.room,
        "seed": wanted.own_seed,
        "stop_token_ids": list(stops),
        "logprobs": 0,  # of the sampled token only
        "detokenize": False,  # the policy's tokenizer does it, as everywhere
    }


def _written(found: Any, stops: Sequence[int]) -> Written:
    ids = list(found.token_ids)
    finished = found.finish_reason == "stop"
    if finished and ids[-1] not in stops:
        raise ModelError(f"vLLM ended a response with token {ids[-1]}, which is no stop token of the policy")
    return ids, finished, sum(row[token].logprob for row, token in zip(found.logprobs, ids, strict=True))


def _module() -> Any:
    try:
        import vllm
    except ImportError as error:
        raise ModelError(INSTALL) from error
    return vllm


def _engine(policy: CausalPolicy, decoding: Decoding, longest: int) -> Any:
    from equipoise.policy.checkpoint import fingerprint

    vllm = _module()
    held = _running.get("weights") == (fingerprint(policy), decoding.memory)
    if not held or longest > _running["longest"]:
        _running.clear()  # its memory must be free before the next one measures what is there
        # a power of two, so that somewhat longer prompts do not start another engine
        longest = min(policy.max_positions, 1 << (longest - 1).bit_length())
        with tempfile.TemporaryDirectory() as folder:
            _save(policy, Path(folder))
            _running["llm"] = vllm.LLM(
                model=folder,
                dtype="bfloat16" if policy.precision == "bf16" else "float32",
                max_model_len=longest,
                gpu_memory_utilization=decoding.memory,
                enable_prefix_caching=True,
                logprobs_mode="raw_logprobs",
                seed=0,
            )
        # taken after saving, which completes the model's configuration
        _running.update(weights=(fingerprint(policy), decoding.memory), longest=longest)
    return _running["llm"]


def _save(policy: CausalPolicy, folder: Path) -> None:
    model = policy.model
    if hasattr(model, "merge_and_unload"):
        model = copy.deepcopy(model).merge_and_unload()
    model.save_pretrained(str(folder), safe_serialization=True)
    policy.tokenizer.save_pretrained(str(folder))
