"""Table oracles: a preference matrix over known responses, and recorded votes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.oracles.protocol import OracleError, OraclePrompt, shortened
from equipoise.oracles.rules.code_hash import code_hash


@dataclass(frozen=True)
class TableOracle:
    """P(a > b | x) from a table, `preference` [X, A, A], with responses identified by their text.

    Raises OracleError for a prompt or response that is not in the table, and if it is not one of probabilities.
    """

    prompts: Mapping[str, int]
    responses: Sequence[Mapping[str, int]]  # one per prompt: text -> action
    preference: Tensor
    name: str = "table"

    def __post_init__(self) -> None:
        if self.preference.ndim != 3 or not ((self.preference >= 0) & (self.preference <= 1)).all():
            raise OracleError(
                f"oracle {self.name}: a table holds probabilities [X, A, A], got shape {tuple(self.preference.shape)}"
                " or values outside [0, 1]"
            )

    @property
    def fingerprint(self) -> str:
        known = dict(self.prompts), [dict(actions) for actions in self.responses]
        return f"{self.name} {code_hash([*known, self.preference])}"

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        rows = [self._row(prompt) for prompt in prompts]
        i = [self._action(x, text) for x, text in zip(rows, a, strict=True)]
        j = [self._action(x, text) for x, text in zip(rows, b, strict=True)]
        return self.preference[rows, i, j].double()

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        raise OracleError(f"oracle {self.name} is a general preference: it compares and has no scalar score")

    def _row(self, prompt: OraclePrompt) -> int:
        if not isinstance(prompt, str) or prompt not in self.prompts:
            raise OracleError(f"oracle {self.name} has no prompt {shortened(prompt)}")
        return self.prompts[prompt]

    def _action(self, row: int, text: str) -> int:
        known = self.responses[row]
        if text not in known:
            raise OracleError(f"oracle {self.name} has no response {shortened(text)} to prompt {row}")
        return known[text]


class RecordedOracle:
    """P(a > b | prompt) as recorded, in either order; repeated votes are averaged.

    Raises OracleError for a pair without a recorded judgement, and for one that is not a probability.
    """

    name = "recorded"

    def __init__(self, judgements: Iterable[tuple[OraclePrompt, str, str, float]]) -> None:
        votes: dict[tuple[str, str, str], list[float]] = {}
        for prompt, a, b, prob in judgements:
            if not 0 <= prob <= 1:
                raise OracleError(
                    f"a recorded judgement of {shortened(a)} against {shortened(b)} is {prob}, not a probability"
                )
            votes.setdefault((repr(prompt), a, b), []).append(prob)
            votes.setdefault((repr(prompt), b, a), []).append(1 - prob)
        self._prob = {pair: sum(probs) / len(probs) for pair, probs in votes.items()}

    @property
    def fingerprint(self) -> str:
        return f"{self.name} {code_hash(self._prob)}"

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        questions = [(repr(p), x, y) for p, x, y in zip(prompts, a, b, strict=True)]
        for _, x, y in (q for q in questions if q not in self._prob):
            raise OracleError(
                f"no recorded judgement of {shortened(x)} against {shortened(y)} for this prompt"
            )
        return torch.tensor([self._prob[q] for q in questions], dtype=torch.float64)

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        raise OracleError("recorded votes compare two responses; they have no scalar score")
