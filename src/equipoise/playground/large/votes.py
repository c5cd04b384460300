"""Verdicts as votes: what a panel of noisy judges says, instead of the exact probability."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Votes:
    """M Bernoulli votes on each question, some of them wrong, some of them swayed by the position.

    A vote on (a, b), shown in this order, is for a with probability

        (1 - sway) ((1 - flips) p + flips (1 - p)) + sway,    p = P(a beats b)

    and the verdict is the share of the votes for a. Which response is shown first is drawn for every vote, so the two
    orders of a question have verdicts that sum to 1 and position bias is noise towards 1/2. The draws depend on
    the seed and the question alone: asked again, it has the same verdict.

    count   M, at least 1
    flips   share of votes that are given to the wrong side, in [0, 1/2]
    sway    share of votes that go to whatever is shown first, in [0, 1]

    Raises ValueError for values outside these ranges.
    """

    count: int
    flips: float = 0.0
    sway: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.flips <= 0.5 or not 0 <= self.sway <= 1:
            raise ValueError(
                "need at least one vote, flips in [0, 0.5] and sway in [0, 1]; got "
                f"{self.count}, {self.flips}, {self.sway}"
            )

    def chance(self, prob: Tensor, first: bool) -> Tensor:
        """Probability of a vote for a, which is shown first or second."""
        told = (1 - self.flips) * prob + self.flips * (1 - prob)
        return (1 - self.sway) * told + self.sway * first

    def verdicts(self, prob: Tensor, prompt: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """[N] the share of votes for a[i]; float64. An answer against itself has 1/2."""
        turned = a > b
        draws = torch.tensor(
            [
                self._uniforms(*question)
                for question in zip(
                    prompt.tolist(),
                    torch.minimum(a, b).tolist(),
                    torch.maximum(a, b).tolist(),
                    strict=True,
                )
            ],
            dtype=torch.float64,
        ).reshape(len(prob), self.count, 2)
        low = torch.where(turned, 1 - prob, prob)[:, None]  # of the answer that comes first in the grammar
        first = draws[..., 0] < 0.5
        chance = torch.where(first, self.chance(low, True), self.chance(low, False))
        share = (draws[..., 1] < chance).double().mean(1)
        share = torch.where(turned, 1 - share, share)
        return torch.where(a == b, torch.full_like(share, 0.5), share)

    def _uniforms(self, *question: int) -> list[float]:
        """2 M uniforms of a question."""
        count = 2 * self.count
        data = b""
        block = 0
        while len(data) < 4 * count:
            data += blake2b(repr((self.seed, block, *question)).encode()).digest()
            block += 1
        return [int.from_bytes(data[4 * i : 4 * i + 4], "big") / 2**32 for i in range(count)]
