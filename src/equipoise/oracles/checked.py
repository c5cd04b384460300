"""Contract checks of an oracle's answers: range on every call, antisymmetry on a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.oracles.protocol import Attributed, Oracle, OracleError, OraclePrompt, may_fail, shortened


@dataclass(frozen=True)
class Checked:
    """Wraps an oracle and checks its answers before they are used.

    On every call: one finite number per question, probabilities in [0, 1]; nan, a question without a verdict, only
    from an oracle that says so (`may_fail`). On `probe` questions of a call, evenly spread: P(a > b) + P(b > a) = 1
    within `tolerance`; probe 0 is for those who measure what the order does. Raises OracleError that names the first
    failing question.
    """

    inner: Oracle
    tolerance: float = 1e-6
    probe: int = 4

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def parts(self) -> tuple[Oracle]:
        return (self.inner,)

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        prob = self._finite(self.inner.compare(prompts, a, b), len(prompts), "compare")
        outside = ((prob < 0) | (prob > 1)).nonzero().flatten().tolist()
        if outside:
            i = outside[0]
            raise OracleError(
                f"oracle {self.name} answered {float(prob[i])!r} for {shortened(a[i])} against {shortened(b[i])}; "
                "compare must return a probability in [0, 1]"
            )
        if not self.probe:
            return prob
        probed = sorted({i * len(prompts) // self.probe for i in range(self.probe)}) if len(prompts) else []
        there, first, second = [prompts[i] for i in probed], [b[i] for i in probed], [a[i] for i in probed]
        back = self._finite(self.inner.compare(there, first, second), len(probed), "compare")
        off = (prob[probed] + back - 1).abs().nan_to_num(0.0)
        if len(probed) and float(off.max()) > self.tolerance:
            worst = int(off.argmax())
            i = probed[worst]
            raise OracleError(
                f"oracle {self.name} is not antisymmetric: P(a > b) = {float(prob[i]):.4f} and "
                f"P(b > a) = {float(back[worst]):.4f} for a = {shortened(a[i])}, b = {shortened(b[i])}; "
                "ask in both orders and average"
            )
        return prob

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        return self._finite(self.inner.score(prompts, responses), len(prompts), "score")

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the oracle's scores of a response; none where it has no such scores."""
        return self.inner.attributes if isinstance(self.inner, Attributed) else ()

    def scores(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        """[N, A] the named scores. Raises OracleError where the oracle has none."""
        if not isinstance(self.inner, Attributed):
            raise OracleError(f"oracle {self.name} has no named scores")
        answer = torch.as_tensor(self.inner.scores(prompts, responses))
        if answer.shape != (len(prompts), len(self.attributes)):
            raise OracleError(
                f"oracle {self.name}: scores of {len(prompts)} responses and {len(self.attributes)} attributes have "
                f"shape {tuple(answer.shape)}"
            )
        columns = [self._finite(column, len(prompts), "scores") for column in answer.unbind(1)]
        return torch.stack(columns, dim=1) if columns else answer.double()

    def _finite(self, answer: Any, count: int, call: str) -> Tensor:
        try:
            answer = torch.as_tensor(answer)
        except (TypeError, ValueError, RuntimeError) as error:
            raise OracleError(
                f"oracle {self.name}: {call} must return {count} numbers, and returned {shortened(answer)}"
            ) from error
        if answer.shape != (count,):
            raise OracleError(
                f"oracle {self.name}: {call} of {count} questions returned shape {tuple(answer.shape)}"
            )
        fine = torch.isfinite(answer)
        if may_fail(self.inner):
            fine |= answer.isnan()
        bad = (~fine).nonzero().flatten().tolist()
        if bad:
            raise OracleError(
                f"oracle {self.name}: {call} returned {float(answer[bad[0]])} for question {bad[0]}"
            )
        return answer.double()


def unwrapped(oracle: Oracle | None) -> Oracle | None:
    """The oracle whose answers are checked, for what only some oracles have (`Counting`, `Fingerprinted`, `Room`)."""
    return oracle.inner if isinstance(oracle, Checked) else oracle
