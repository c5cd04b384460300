"""The store of anchor log-probs: computed once per frozen policy and comparison set, then read from disk.

An entry's key covers everything a log-prob depends on: the policy's weights, precision and scoring path, and
the token ids scored (which carry tokenizer, template and truncation with them). Change any and the key
changes, so a stale entry cannot be read; it is simply never asked for again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from equipoise.data.collate import Ids, collate
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.files import read_tensors, write_tensors

Pair = tuple[Ids, Sequence[Ids]]  # one prompt's ids and its responses' ids


class AnchorStore:
    """Log-probs by key, one safetensors file each, in a folder that runs may share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, fingerprint: str, comparisons: Sequence[Pair]) -> str:
        digest = hashlib.sha256(fingerprint.encode())
        for prompt, responses in comparisons:
            for ids in (prompt, *responses):
                digest.update(len(ids).to_bytes(4, "little"))
                digest.update(np.asarray(ids, dtype=np.int64).tobytes())
            digest.update(b"|")
        return digest.hexdigest()[:32]

    def get(
        self, fingerprint: str, comparisons: Sequence[Pair], make: Callable[[], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """(log-probs [N, K], lengths [N, K]); `make` is called only if no entry has this key."""
        path = self.folder / f"{self.key(fingerprint, comparisons)}.safetensors"
        if not path.exists():
            logp, length = make()
            write_tensors(path, {"logp": logp, "length": length}, fingerprint=fingerprint)
        stored, _ = read_tensors(path)
        return stored["logp"], stored["length"]


@torch.no_grad()
def score(
    policy: CausalPolicy, comparisons: Sequence[Pair], batch: int, tick: Callable[[int], None] | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probs [N, K] and lengths [N, K] of every response under the policy, `batch` comparisons at a time.

    Similar lengths share a batch. `tick(n)` is told of every n comparisons done. Needs N >= 1.
    """
    order = sorted(range(len(comparisons)), key=lambda i: _longest(comparisons[i]))
    parts: list[tuple[Tensor, Tensor]] = []
    for begin in range(0, len(order), batch):
        chosen = [comparisons[i] for i in order[begin : begin + batch]]
        tokens = collate([prompt for prompt, _ in chosen], [list(group) for _, group in chosen], policy.pad)
        logp, length = policy.logprobs(tokens)
        parts.append((logp.cpu(), length.cpu()))
        if tick:
            tick(len(chosen))
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order, dtype=torch.long)] = torch.arange(len(order))
    return torch.cat([p[0] for p in parts])[back], torch.cat([p[1] for p in parts])[back]


def _longest(comparison: Pair) -> int:
    prompt, responses = comparison
    return len(prompt) + max(len(ids) for ids in responses)
