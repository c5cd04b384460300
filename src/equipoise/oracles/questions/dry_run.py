"""Questions of a run counted before it begins: an oracle that counts, and that asks nothing which would cost money."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from equipoise.oracles.checked import Checked
from equipoise.oracles.protocol import OracleError, OraclePrompt
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.questioner import Estimate, Mirrored, Priced, Question
from equipoise.oracles.questions.verdicts import key_of


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Questions and what they would take.

    fixed       tokens and cost of the questions without their responses, and of the answers
    responses   of the responses in them, which grow with their length
    """

    questions: float = 0
    fixed: Estimate = field(default_factory=Estimate)
    responses: Estimate = field(default_factory=Estimate)

    def __mul__(self, times: float) -> Asked:
        return Asked(
            questions=self.questions * times, fixed=self.fixed * times, responses=self.responses * times
        )

    def __add__(self, other: Asked) -> Asked:
        return Asked(
            questions=self.questions + other.questions,
            fixed=self.fixed + other.fixed,
            responses=self.responses + other.responses,
        )

    def estimate(self, longer: float) -> Estimate:
        """Of all questions, if responses are `longer` times as long."""
        return self.fixed + self.responses * longer


class DryRun:
    """Counts the distinct questions that an oracle of single questions is asked.

    Whose answers are priced is asked nothing, nor are people: a verdict is then made from hashes of the responses, so
    that a pairing that selects by verdicts asks as many questions as it would. Any other oracle is asked.
    """

    def __init__(self, oracle: Checked, asking: Asking) -> None:
        self.oracle, self.asking = oracle, asking
        self.spared = isinstance(asking.questioner, Priced | Mirrored)
        self._seen: set[bytes] = set()
        self._asked = Asked()

    @property
    def name(self) -> str:
        return self.asking.name

    def taken(self) -> Asked:
        """What was asked since the last call."""
        asked, self._asked = self._asked, Asked()
        return asked

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        forth = list(zip(prompts, a, b, strict=True))
        if self.asking.questioner.scores:
            self._count([(x, response) for x, *pair in forth for response in pair])
        else:
            back = [(x, z, y) for x, y, z in forth] if self.asking.both_orders else []
            self._count([*forth, *back])
        if not self.spared:
            return self.oracle.compare(prompts, a, b)
        return torch.tensor([0.5 + (_share(y) - _share(z)) / 2 for _, y, z in forth], dtype=torch.float64)

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        if not self.asking.questioner.scores:
            raise OracleError(f"{self.name} compares two responses; it has no scalar score")
        self._count(list(zip(prompts, responses, strict=True)))
        if not self.spared:
            return self.oracle.score(prompts, responses)
        return torch.tensor([_share(response) for response in responses], dtype=torch.float64)

    def _count(self, questions: Sequence[Question]) -> None:
        for question in questions:
            key = key_of(self.asking.fingerprint, question)
            if key not in self._seen:
                self._seen.add(key)
                self._add(question)

    def _add(self, question: Question) -> None:
        whole = fixed = Estimate()
        priced = self.asking.questioner
        if isinstance(priced, Priced):
            whole = priced.estimate(*question)
            fixed = priced.estimate(question[0], *[""] * (len(question) - 1))
        before = self._asked
        self._asked = Asked(
            questions=before.questions + 1,
            fixed=before.fixed + fixed,
            responses=before.responses + whole + fixed * -1,
        )


def _share(text: str) -> float:
    """A number in [0, 1) made from a text."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
