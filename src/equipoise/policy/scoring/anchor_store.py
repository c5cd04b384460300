"""The store of anchor log-probs: computed once per frozen policy and comparison set, then read from disk.

An entry's key covers everything a log-prob depends on: the policy's weights, precision and scoring path, and
the token ids scored and read (which carry tokenizer, template and truncation with them). Change any and the key
changes, so a stale entry cannot be read; it is simply never asked for again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from equipoise.data.collate import lead_and_ids
from equipoise.data.pack import Batch
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.files import read_tensors, write_tensors
from equipoise.policy.scoring.microbatch import Pair, portions


class AnchorStore:
    """Log-probs by key, one safetensors file each, in a folder that runs may share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, fingerprint: str, comparisons: Sequence[Pair]) -> str:
        digest = hashlib.sha256(fingerprint.encode())
        for prompt, responses in comparisons:
            for ids in (prompt, *(part for response in responses for part in lead_and_ids(response))):
                digest.update(len(ids).to_bytes(4, "little"))
                digest.update(np.asarray(ids, dtype=np.int64).tobytes())
            digest.update(b"|")
        return digest.hexdigest()[:32]

    def get(
        self, fingerprint: str, comparisons: Sequence[Pair], make: Callable[[], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """(log-probs [N, K], lengths [N, K]); `make` is called only if no entry has this key.

        Anything else that is known of the comparisons' tokens, [N, K, T], is stored the same way under a fingerprint
        that says what it is; see `tokenwise`.
        """
        path = self.folder / f"{self.key(fingerprint, comparisons)}.safetensors"
        if not path.exists():
            logp, length = make()
            write_tensors(path, {"logp": logp, "length": length}, fingerprint=fingerprint)
        stored, _ = read_tensors(path)
        return stored["logp"], stored["length"]


def tokenwise(fingerprint: str) -> str:
    """The fingerprint under which the same policy's log-probs are stored token by token."""
    return f"{fingerprint}|tokens"


@torch.no_grad()
def score(
    policy: CausalPolicy,
    comparisons: Sequence[Pair],
    batch: int | None = None,
    tick: Callable[[int], None] | None = None,
    *,
    tokens: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probs [N, K] and lengths [N, K] of every response under the policy, a portion at a time.

    `batch` bounds the comparisons of a portion, the policy's budget their tokens. `tick(n)` is told of every n
    comparisons done. Needs N >= 1. With `tokens` the log-probs are [N, K, T], one for each token, 0 where a response
    is over.
    """
    parts, lengths, places = [], [], []
    for chosen, rows in batches(policy, comparisons, batch):
        if tokens:
            logp, mask = policy.token_logprobs(rows)
            length = mask.sum(dim=2).to(logp)
        else:
            logp, length = policy.logprobs(rows)
        parts.append(logp.cpu())
        lengths.append(length.cpu())
        places += chosen
        if tick:
            tick(len(chosen))
    back = torch.tensor(places).argsort()
    if tokens:
        longest = max(part.shape[2] for part in parts)
        parts = [pad(part, (0, longest - part.shape[2])) for part in parts]
    return torch.cat(parts)[back], torch.cat(lengths)[back]


def batches(
    policy: CausalPolicy, comparisons: Sequence[Pair], batch: int | None = None
) -> Iterator[tuple[list[int], Batch]]:
    """All comparisons, a portion at a time: their places, and what the model reads."""
    for chosen in portions(policy, comparisons, batch):
        yield chosen, policy.batch([comparisons[i][0] for i in chosen], [comparisons[i][1] for i in chosen])
