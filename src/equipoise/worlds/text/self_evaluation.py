"""Self-evaluation: how sure a policy is that a response, begun or whole, is correct, by its next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from equipoise.oracles.judges.self_judge import SelfJudge
from equipoise.oracles.questions.questioner import Failure, Question
from equipoise.play.rows import Rows
from equipoise.play.state import Floats, State
from equipoise.policy.checkpoint import stored_fingerprint
from equipoise.worlds.text.held_model import HeldModel
from equipoise.worlds.text.ranks import Ranks


@dataclass
class SelfEvaluator:
    """Asks the model in memory, under the weights of a checkpoint, by the question of `SelfJudge`."""

    model: HeldModel
    ranks: Ranks

    def confidences(self, state: State, rows: Rows, by: str) -> Floats:
        """[N, K] P("correct") of each response; 0 for one that cannot be asked about: it is too long for the model."""
        questions: list[Question] = [
            (prompt.context, response.text)
            for prompt, group in zip(rows.prompts, rows.responses, strict=True)
            for response in group
        ]
        folder = state.policies[by]
        found = self.ranks.rows(len(questions), lambda own: self._asked(folder, [questions[i] for i in own]))
        return found["confidence"].numpy().reshape(rows.responses.shape)

    def _asked(self, folder: Path, questions: Sequence[Question]) -> dict[str, Tensor]:
        found = np.zeros(len(questions))
        with self.model.playing(folder) as policy:
            self._judge.see(policy, stored_fingerprint(folder))
            for places in self._judge.batches(questions):
                for k, verdict in zip(
                    places, self._judge.answer([questions[k] for k in places]), strict=True
                ):
                    found[k] = 0.0 if isinstance(verdict, Failure) else verdict.value
        return {"confidence": torch.from_numpy(found)}

    @cached_property
    def _judge(self) -> SelfJudge:
        return SelfJudge.of({"question": "correctness"}, Path("self-evaluation"))
