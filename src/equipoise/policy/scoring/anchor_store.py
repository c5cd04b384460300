"""Store of anchor log-probs: computed once per frozen policy and set of comparisons, then read from disk.

An entry's key covers everything a log-prob depends on: the policy's weights, precision and scoring path, and the token
ids scored and read (which reflect tokenizer, template and truncation). If any changes, so does the key, and a stale
entry is never read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from equipoise.data.collate import between_of, lead_and_ids
from equipoise.data.pack import Batch
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.files import Seal, read_tensors, write_tensors
from equipoise.policy.scoring.microbatch import Comparison, microbatches


class AnchorStore:
    """Anchor log-probs by key, one safetensors file each, in a folder that runs may share.

    seal    records each entry when it is written and verifies it when it is read; None: entries are not verified.
    """

    def __init__(self, folder: Path, seal: Seal | None = None) -> None:
        self.folder, self.seal = folder, seal

    def key(self, fingerprint: str, comparisons: Sequence[Comparison]) -> str:
        digest = hashlib.sha256(fingerprint.encode())
        for prompt, responses in comparisons:
            for ids in (prompt, *(part for response in responses for part in lead_and_ids(response))):
                digest.update(len(ids).to_bytes(4, "little"))
                digest.update(np.asarray(ids, dtype=np.int64).tobytes())
            for k, response in enumerate(responses):
                for place, read in between_of(response):
                    digest.update(b"@" + k.to_bytes(4, "little") + place.to_bytes(4, "little"))
                    digest.update(np.asarray(read, dtype=np.int64).tobytes())
            digest.update(b"|")
        return digest.hexdigest()[:32]

    def get(
        self, fingerprint: str, comparisons: Sequence[Comparison], make: Callable[[], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Cached (log-probs [N, K], lengths [N, K]); `make` is called only if no entry has this key.

        Other values of the comparisons' tokens, [N, K, T], are stored in the same way under a fingerprint that tells
        them apart; see `tokenwise`.
        """
        path = self.entry(fingerprint, comparisons)
        if not path.exists():
            self.write(path, fingerprint, *make())
        return self.read(path)

    def entry(self, fingerprint: str, comparisons: Sequence[Comparison]) -> Path:
        """The file that holds the values of these comparisons, if it is there."""
        return self.folder / f"{self.key(fingerprint, comparisons)}.safetensors"

    def write(self, path: Path, fingerprint: str, logp: Tensor, length: Tensor) -> None:
        write_tensors(path, {"logp": logp, "length": length}, fingerprint=fingerprint)
        if self.seal:
            self.seal.record(path)

    def read(self, path: Path) -> tuple[Tensor, Tensor]:
        if self.seal:
            self.seal.verify(path)
        stored, _ = read_tensors(path)
        return stored["logp"], stored["length"]


def tokenwise(fingerprint: str) -> str:
    """Fingerprint under which a policy's token log-probs are stored."""
    return f"{fingerprint}|tokens"


@torch.no_grad()
def score(
    policy: CausalPolicy,
    comparisons: Sequence[Comparison],
    batch: int | None = None,
    tick: Callable[[int], None] | None = None,
    *,
    tokens: bool = False,
) -> tuple[Tensor, Tensor]:
    """Score every response under the policy, in micro-batches: log-probs [N, K] and lengths [N, K], N >= 1.

    batch    comparisons in a micro-batch, at most; the policy's token budget limits them too.
    tick     called with the number of comparisons after each micro-batch.
    tokens   return token log-probs [N, K, T] instead, 0 after a response's end.
    """
    parts, lengths, places = [], [], []
    for indices, inputs in batches(policy, comparisons, batch):
        if tokens:
            logp, mask = policy.token_logprobs(inputs)
            length = mask.sum(dim=2).to(logp)
        else:
            logp, length = policy.logprobs(inputs)
        parts.append(logp.cpu())
        lengths.append(length.cpu())
        places += indices
        if tick:
            tick(len(indices))
    order = torch.tensor(places).argsort()
    if tokens:
        longest = max(part.shape[2] for part in parts)
        parts = [pad(part, (0, longest - part.shape[2])) for part in parts]
    return torch.cat(parts)[order], torch.cat(lengths)[order]


def batches(
    policy: CausalPolicy, comparisons: Sequence[Comparison], batch: int | None = None
) -> Iterator[tuple[list[int], Batch]]:
    """Micro-batches of all comparisons: (indices of the comparisons, the model's input)."""
    for indices in microbatches(policy, comparisons, batch):
        prompts, responses = [comparisons[i][0] for i in indices], [comparisons[i][1] for i in indices]
        yield indices, policy.batch(prompts, responses)
