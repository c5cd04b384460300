"""Contract checks of an oracle's answers: range on every call, antisymmetry on a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.oracles.asking import Account
from equipoise.oracles.protocol import Oracle, OracleError, OraclePrompt


@dataclass(frozen=True)
class Checked:
    """Wraps an oracle and checks its answers before they are used.

    On every call: one finite number per question, probabilities in [0, 1]; nan, a question without a verdict, only
    from an oracle that says so (`may_fail`). On the first `probe` questions of a call: P(a > b) + P(b > a) = 1 within
    `tolerance`. Raises OracleError that names the first failing question.
    """

    inner: Oracle
    tolerance: float = 1e-6
    probe: int = 4

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def account(self) -> Account | None:
        """What was asked so far, of an oracle that answers single questions."""
        return getattr(self.inner, "account", None)

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        prob = self._finite(self.inner.compare(prompts, a, b), len(prompts), "compare")
        outside = ((prob < 0) | (prob > 1)).nonzero().flatten().tolist()
        if outside:
            i = outside[0]
            raise OracleError(
                f"oracle {self.name} answered {float(prob[i])!r} for {_short(a[i])} against {_short(b[i])}; "
                "compare must return a probability in [0, 1]"
            )
        n = min(self.probe, len(prompts))
        back = self._finite(self.inner.compare(prompts[:n], b[:n], a[:n]), n, "compare")
        off = (prob[:n] + back - 1).abs().nan_to_num(0.0)
        if n and float(off.max()) > self.tolerance:
            i = int(off.argmax())
            raise OracleError(
                f"oracle {self.name} is not antisymmetric: P(a > b) = {float(prob[i]):.4f} and "
                f"P(b > a) = {float(back[i]):.4f} for a = {_short(a[i])}, b = {_short(b[i])}; "
                "ask in both orders and average"
            )
        return prob

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        return self._finite(self.inner.score(prompts, responses), len(prompts), "score")

    def _finite(self, answer: Tensor, count: int, call: str) -> Tensor:
        if answer.shape != (count,):
            raise OracleError(
                f"oracle {self.name}: {call} of {count} questions returned shape {tuple(answer.shape)}"
            )
        fine = torch.isfinite(answer)
        if getattr(self.inner, "may_fail", False):
            fine |= answer.isnan()
        bad = (~fine).nonzero().flatten().tolist()
        if bad:
            raise OracleError(
                f"oracle {self.name}: {call} returned {float(answer[bad[0]])} for question {bad[0]}"
            )
        return answer.double()


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
