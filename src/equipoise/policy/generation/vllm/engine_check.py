"""Engine check: an inference engine's log-probs against the policy's own, and whether its seeds write the same again.

An engine holds a copy of the weights. Whether it is the policy's copy can be seen in one place alone: the log-probs of
what it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from equipoise.data.collate import Prompt, Response
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import Measured

GATE = "engine_logprobs"
FEW = 4  # prompts of a process that are asked
# nats per token: two ways to compute in fp32 differ by about 1e-5 (135M parameters); bf16 keeps 8 bits of mantissa
LIMIT = {"fp32": 1e-3, "bf16": 5e-2}


@dataclass(frozen=True, kw_only=True)
class EngineCheck:
    """What a few responses show.

    differences   of each response, |log pi by the engine - log pi by the policy| per token.
    tokens        of these responses together.     same   how many of them the same seeds wrote again.
    """

    differences: tuple[float, ...] = ()
    tokens: int = 0
    same: int = 0

    def __add__(self, other: EngineCheck) -> EngineCheck:
        return EngineCheck(
            differences=(*self.differences, *other.differences),
            tokens=self.tokens + other.tokens,
            same=self.same + other.same,
        )

    @property
    def mean(self) -> float:
        return sum(self.differences) / max(1, len(self.differences))

    @property
    def largest(self) -> float:
        return max(self.differences, default=0.0)

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> dict[str, Any]:
        """Figures for a log."""
        return {
            "responses": len(self.differences),
            "tokens": self.tokens,
            "mean": self.mean,
            "largest": self.largest,
            "same_again": self.same,
        }

    def measured(self, round: int, precision: str) -> Measured:
        """The gate: a mean difference beyond what precision explains means that the engine holds other weights."""
        limit, count = LIMIT[precision], len(self.differences)
        return Measured(
            name=GATE,
            measured=self.mean,
            limit=limit,
            passed=self.mean <= limit,
            sentence=f"round {round}: log-probs of {count:,} responses by vLLM differ from the policy's own by "
            f"{self.mean:.2g} nats per token on average, {self.largest:.2g} at most (limit {limit:g}); the same seeds "
            f"wrote {self.same:,} of {count:,} again",
        )


@torch.no_grad()
def check_engine(
    policy: CausalPolicy,
    prompts: Sequence[Prompt],
    write: Callable[[Sequence[Prompt]], Sequence[Sequence[Response]]],
) -> EngineCheck:
    """Check an engine on one response to each prompt; `write` samples with it, with the same seeds at every call."""
    if not prompts:
        return EngineCheck()
    written, again = write(prompts), write(prompts)
    batch = policy.batch([prompt.ids for prompt in prompts], [[r.ids for r in group] for group in written])
    scored = policy.logprobs(batch)[0].double().cpu()
    pairs = [
        (response, float(own))
        for group, row in zip(written, scored, strict=True)
        for response, own in zip(group, row, strict=True)
    ]
    return EngineCheck(
        differences=tuple(abs((r.logp or 0.0) - own) / len(r.ids) for r, own in pairs),
        tokens=sum(len(r.ids) for r, _ in pairs),
        same=sum(
            a.ids == b.ids for x, y in zip(written, again, strict=True) for a, b in zip(x, y, strict=True)
        ),
    )
