"""Exact evaluation of a language model on a game whose responses can be enumerated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

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
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.files import read_tensors, write_tensors
from equipoise.worlds.text.world import TextWorld

LEAST_MASS = 1e-12  # a policy that never leaves the grammar still needs full support as a reference
ENTRIES = 2**22  # of the preference tables that are in memory at once


class Tables(Protocol):
    """P(a beats b) of some prompts, [N, A + 1, A + 1]: a tensor, or what makes them when they are asked for."""

    def __getitem__(self, prompts: Tensor, /) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class FiniteGame:
    """An enumerable game: X prompts with the same A responses, and one outcome for all other text.

    preference  [X, A + 1, A + 1]; the last row and column stand for any other text.
    utilities   name of a group of users -> [X, A + 1] its reward
    held_out    indices of the prompts that are not trained on; the headline figures are means over them.
    splits      name -> indices of held-out prompts whose exploitability is told besides, exploitability_NAME
    gold        the preference that measures, where the game judges by another one: gold_win_rate, gold_exploitability
    enumerate   log-probs [X, A] of the responses under the policy in memory; None: they are scored one by one
    """

    prompts: Sequence[Prompt]
    responses: Sequence[Response]
    preference: Tables
    held_out: Sequence[int]
    utilities: Mapping[str, Tensor] = field(default_factory=dict)
    splits: Mapping[str, Sequence[int]] = field(default_factory=dict)
    gold: Tables | None = None
    enumerate: Callable[[CausalPolicy], Tensor] | None = None
    _initial: dict[Path, TabularPolicy] = field(default_factory=dict)

    def policy(self, world: TextWorld, state: State, name: str) -> TabularPolicy:
        """The transformer's exact policy: the probability of each listed response, and of all other text."""
        folder = state.policies[name]
        if folder not in self._initial:
            found = self._policy(world, state, folder)
            if folder != state.policies[INITIAL]:
                return found
            self._initial[folder] = found
        return self._initial[folder]

    def _policy(self, world: TextWorld, state: State, folder: Path) -> TabularPolicy:
        listed = self._listed(world, state, folder).exp()
        other = (1 - listed.sum(dim=1, keepdim=True)).clamp(min=LEAST_MASS)
        probs = torch.cat([listed, other], dim=1)
        return TabularPolicy.from_probs(probs / probs.sum(dim=1, keepdim=True))

    def _listed(self, world: TextWorld, state: State, folder: Path) -> Tensor:
        """[X, A] log-probs of the listed responses under a checkpoint."""
        if self.enumerate is not None:
            with world.model.playing(folder) as policy:
                return self.enumerate(policy)
        rows = Rows(
            prompts=objects(list(self.prompts)),
            responses=objects([list(self.responses)] * len(self.prompts), width=len(self.responses)),
            weight=np.ones(len(self.prompts)),
            writers=("listed",) * len(self.responses),
        )
        return world.score(state.round - 1, rows, folder, phase="evaluating")

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
        for name, prompts in {"train": seen, **self.splits}.items():
            at = torch.as_tensor(prompts)
            figures[f"exploitability_{name}"] = self._figures(policy, reference, at, tau)["exploitability"]
        if self.gold is not None:
            of_gold = self._figures(policy, reference, unseen, None, self.gold)
            figures["gold_win_rate"] = of_gold["exact_win_rate"]
            figures["gold_exploitability"] = of_gold["exploitability"]
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
        found = []
        for past in filter(lambda round: stored(round).exists(), range(done)):
            world.journal.manifest.verify(stored(past))
            other = read_tensors(stored(past))[0]["logits"]
            rate = sum(
                float(
                    gaps.win_rate(game, TabularPolicy(policy.logits[at]), TabularPolicy(other[places])).sum()
                )
                for game, at, places in self._games(self.preference, reference, prompts)
            ) / len(prompts)
            found.append((past, Interval(value=rate, low=None, high=None, n=len(prompts))))
        return found

    def _games(
        self, preference: Tables, reference: TabularPolicy, prompts: Tensor
    ) -> Iterator[tuple[PreferenceGame, Tensor, Tensor]]:
        """(game, its prompts, their places among `prompts`), a few prompts at a time, as tables grow with A^2."""
        size = max(1, ENTRIES // reference.shape[1] ** 2)
        for places in torch.arange(len(prompts)).split(size):
            at = prompts[places]
            yield PreferenceGame(preference[at], reference.probs()[at]), at, places

    def _gains(self, policy: TabularPolicy, reference: TabularPolicy, prompts: Tensor) -> dict[str, float]:
        """Each group's mean reward less that of the reference, and the smallest of these; nothing without groups."""
        moved = (policy.probs() - reference.probs())[prompts]
        gains = {
            f"gain_{name}": float((moved * rewards[prompts]).sum(dim=1).mean())
            for name, rewards in self.utilities.items()
        }
        return gains | ({"gain_worst": min(gains.values())} if gains else {})

    def _figures(
        self,
        policy: TabularPolicy,
        reference: TabularPolicy,
        prompts: Tensor,
        tau: float | None,
        preference: Tables | None = None,
    ) -> dict[str, Any]:
        """Means over the prompts, by the game's own preference or another."""
        totals = dict.fromkeys(("exact_win_rate", "exploitability", "gap_tau", "exact_kl", "outside"), 0.0)
        for game, at, _ in self._games(preference or self.preference, reference, prompts):
            pi, ref = TabularPolicy(policy.logits[at]), TabularPolicy(reference.logits[at])
            each = {
                "exact_win_rate": gaps.win_rate(game, pi, ref),
                "exploitability": gaps.gap0(game, pi),
                "exact_kl": gaps.kl(pi, ref),
                "outside": pi.probs()[:, -1],
            } | ({"gap_tau": gaps.gap_tau(game, pi, tau)} if tau else {})
            for name, values in each.items():
                totals[name] += float(values.sum())
        found: dict[str, Any] = {name: total / len(prompts) for name, total in totals.items()}
        return found | ({} if tau else {"gap_tau": None})
