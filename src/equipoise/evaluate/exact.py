"""Exact evaluation of a language model on a game whose responses can be enumerated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.core.intervals import Interval
from equipoise.data.collate import Prompt, Response
from equipoise.games import gaps
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy
from equipoise.play.rows import Rows, objects
from equipoise.play.state import INITIAL, START, State
from equipoise.policy.files import read_tensors, write_tensors
from equipoise.worlds.text.world import TextWorld

LEAST_MASS = 1e-12  # a policy that never leaves the grammar still needs full support as a reference


@dataclass(frozen=True, kw_only=True)
class FiniteGame:
    """An enumerable game: X prompts with the same A responses, and one outcome for all other text.

    preference  [X, A + 1, A + 1]; the last row and column stand for any other text.
    utilities   name of a group of users -> [X, A + 1] its reward
    held_out    indices of the prompts that are not trained on; the headline figures are means over them.
    """

    prompts: Sequence[Prompt]
    responses: Sequence[Response]
    preference: Tensor
    held_out: Sequence[int]
    utilities: Mapping[str, Tensor] = field(default_factory=dict)

    def policy(self, world: TextWorld, state: State, name: str) -> TabularPolicy:
        """The transformer's exact policy: the probability of each listed response, and of all other text."""
        rows = Rows(
            prompts=objects(list(self.prompts)),
            responses=objects([list(self.responses)] * len(self.prompts), width=len(self.responses)),
            weight=np.ones(len(self.prompts)),
            writers=("listed",) * len(self.responses),
        )
        listed = world.score(state.round - 1, rows, state.policies[name], phase="evaluating").exp()
        other = (1 - listed.sum(dim=1, keepdim=True)).clamp(min=LEAST_MASS)
        probs = torch.cat([listed, other], dim=1)
        return TabularPolicy.from_probs(probs / probs.sum(dim=1, keepdim=True))

    def measure(
        self, world: TextWorld, state: State, tau: float | None
    ) -> tuple[dict[str, Any], list[tuple[int, Interval]]]:
        """Exact win rate against the reference, exploitability (gap0), regularised gap, KL, mass outside the list; and
        the exact win rate against the policy of each earlier evaluated round."""
        policy, reference = self.policy(world, state, START), self.policy(world, state, INITIAL)
        unseen = torch.tensor(list(self.held_out))
        seen = torch.tensor([i for i in range(len(self.prompts)) if i not in set(self.held_out)])
        figures = self._figures(policy, reference, unseen, tau)
        figures |= self._gains(policy, reference, unseen)
        figures["exploitability_train"] = self._figures(policy, reference, seen, tau)["exploitability"]
        return figures, self._earlier(world, state.round - 1, policy, reference, unseen)

    def _earlier(
        self, world: TextWorld, done: int, policy: TabularPolicy, reference: TabularPolicy, prompts: Tensor
    ) -> list[tuple[int, Interval]]:
        """Win rates of a round's policy, which is stored, against the stored ones of the rounds before."""

        def stored(round: int) -> Path:
            return world.journal.stage(round, "evaluation-exact").with_suffix(".safetensors")

        path = stored(done)

        def keep() -> None:
            if not path.exists():
                write_tensors(path, {"logits": policy.logits[prompts]})
                world.journal.manifest.record(path)

        world.folder.once(keep)
        game = PreferenceGame(self.preference[prompts], reference.probs()[prompts])
        found = []
        for past in filter(lambda round: stored(round).exists(), range(done)):
            world.journal.manifest.verify(stored(past))
            other = TabularPolicy(read_tensors(stored(past))[0]["logits"])
            rate = game.mean(gaps.win_rate(game, TabularPolicy(policy.logits[prompts]), other))
            found.append((past, Interval(value=rate, low=None, high=None, n=len(prompts))))
        return found

    def _gains(self, policy: TabularPolicy, reference: TabularPolicy, prompts: Tensor) -> dict[str, float]:
        """Each group's mean reward less that of the reference, and the smallest of these; nothing without groups."""
        moved = (policy.probs() - reference.probs())[prompts]
        gains = {
            f"gain_{name}": float((moved * rewards[prompts]).sum(dim=1).mean())
            for name, rewards in self.utilities.items()
        }
        return gains | ({"gain_worst": min(gains.values())} if gains else {})

    def _figures(
        self, policy: TabularPolicy, reference: TabularPolicy, prompts: Tensor, tau: float | None
    ) -> dict[str, Any]:
        game = PreferenceGame(self.preference[prompts], reference.probs()[prompts])
        pi, ref = TabularPolicy(policy.logits[prompts]), TabularPolicy(reference.logits[prompts])
        return {
            "exact_win_rate": game.mean(gaps.win_rate(game, pi, ref)),
            "exploitability": game.mean(gaps.gap0(game, pi)),
            "gap_tau": game.mean(gaps.gap_tau(game, pi, tau)) if tau else None,
            "exact_kl": game.mean(gaps.kl(pi, ref)),
            "outside": float(pi.probs()[:, -1].mean()),
        }
