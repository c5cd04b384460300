"""Sampling of responses from any policy of the game: checkpoints, mixtures, perturbations, past iterates."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.collate import Response
from equipoise.play.capabilities import Step, StepCut
from equipoise.play.decoding import AS_SET, Decode
from equipoise.play.rows import Rows, objects
from equipoise.play.state import START, Geometric, Past, Perturbation, State, Tilted, Who
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation import segment_rewrite
from equipoise.policy.generation.sampling import sample
from equipoise.policy.generation.step_continuation import StepEnd, continue_steps
from equipoise.policy.generation.vllm.engine_check import FEW, EngineCheck, check_engine
from equipoise.policy.protocol import Decoding, Measured
from equipoise.worlds.text.folder.row_files import plain, response_of
from equipoise.worlds.text.folder.run_folder import RunFolder
from equipoise.worlds.text.held_model import HeldModel
from equipoise.worlds.text.progress import Phase
from equipoise.worlds.text.ranks import Places
from equipoise.worlds.text.teacher import Teacher

Group = list[Response]  # responses to one prompt
ENGINE_LOG = "engine.jsonl"  # log-probs of an inference engine against our own


@dataclass(kw_only=True)
class Sampler:
    """Samples responses to rows of prompts."""

    folder: RunFolder
    model: HeldModel
    decoding: Decoding
    _ends: dict[str, StepEnd] = field(default_factory=dict)

    def sample(
        self,
        state: State,
        rows: Rows,
        by: Who,
        count: int,
        decode: Decode = AS_SET,
        purpose: str = "sampling",
    ) -> Rows:
        """Append `count` responses per row; `purpose` addresses the random numbers and names the progress line."""
        # common random numbers: a perturbed policy uses its base's uniforms
        address = by.start if isinstance(by, Perturbation) else str(by)
        seed = self.folder.seeds(purpose, *state.address, address)
        decoding = replace(self.decoding, **decode.given())
        sampled = np.empty((len(rows), count), dtype=object)
        evaluating = purpose.startswith("evaluation")
        label = (state.round - 1, "evaluating") if evaluating else (state.round, purpose)
        writers = self._writers(state, by, len(rows))
        shares = sum(len(self.folder.ranks.mine(len(places))) for _, places in writers)
        with self.folder.progress.phase(*label, shares, "prompts") as phase:
            for checkpoint_folder, places in writers:
                with (
                    self.model.playing(checkpoint_folder) as policy,
                    self._perturbed(state, by),
                    self._mixed(state, by) as mixed_with,
                ):
                    write = partial(
                        sample, policy, count=count, seed=seed, decoding=decoding, mixed_with=mixed_with
                    )
                    first = purpose in ("sampling", "evaluation-reference")
                    if decoding.engine != "torch":
                        self._check_engine(label[0], by, write, policy, rows.prompts, places)
                    share = partial(self._share, write, rows.prompts, places, phase, judged=first)
                    sampled[places] = objects(self._dealt(len(places), share), width=count)
            phase.tokens = sum(len(response.ids) for response in sampled.reshape(-1))
        return rows.append(sampled, str(by))

    def _share(
        self,
        write: Callable[..., list[Group]],
        prompts: np.ndarray,
        places: Places,
        phase: Phase,
        own: Places,
        *,
        judged: bool,
    ) -> list[Group]:
        """Responses to this process's share of the prompts at `places`, in parts that show progress.

        judged  whether the first part says if responses end at all.
        """
        made: list[Group] = []
        size = 8 * self.decoding.batch
        for begin in range(0, len(own), size):
            part = places[own[begin : begin + size]]
            groups = write(prompts=list(prompts[part]), places=part.tolist())
            if judged and not phase.done and self.folder.ranks.first:
                self._see_ends(phase.round, groups)
            made += groups
            phase.tokens += sum(len(r.ids) for group in groups for r in group)
            phase.tick(len(part))
        return made

    def _check_engine(
        self,
        round: int,
        by: Who,
        write: Callable[..., list[Group]],
        policy: CausalPolicy,
        prompts: np.ndarray,
        places: Places,
    ) -> None:
        """Judge whether the engine holds the policy's weights, by a few responses of each process, and log it."""
        at = places[self.folder.ranks.mine(len(places))[:FEW]]
        own = check_engine(
            policy, list(prompts[at]), lambda asked: write(prompts=asked, places=at.tolist(), count=1)
        )
        found = sum(
            (
                EngineCheck(**json.loads(part))
                for part in self.folder.ranks.gathered(json.dumps(own.plain()).encode())
            ),
            EngineCheck(),
        )
        line = {"round": round, "policy": str(by), **found.line()}
        if self.folder.ranks.first:
            self.folder.journal.append(ENGINE_LOG, line)
        self.folder.gates.judge(found.measured(round, policy.precision), round)

    def _dealt(self, count: int, make: Callable[[Places], Sequence[Group]]) -> list[Group]:
        """Groups of responses to `count` rows, of which each process makes its share."""
        return self.folder.ranks.items(count, make, _packed, _unpacked)

    def _see_ends(self, round: int, groups: Sequence[Sequence[Response]]) -> None:
        """Judge whether responses end at all by the first ones of a round, before the others are sampled."""
        ended = [response.finished for group in groups for response in group]
        share = sum(ended) / len(ended)
        found = Measured(
            name="no_sample_ended",
            measured=share,
            limit=0.0,
            passed=share > 0,
            sentence=f"round {round}: {sum(ended):,} of the first {len(ended):,} sampled responses ended by themselves",
        )
        self.folder.gates.judge(found, round)

    def taught(self, round: int, rows: Rows, teacher: Teacher) -> Group:
        """One response of the teacher to each row: asked for by the first process, which pays and keeps them."""
        ranks = self.folder.ranks
        with self.folder.progress.phase(round, "teacher", len(rows), "prompts") as phase:
            made = teacher.responses(list(rows.prompts), round) if ranks.first else []
            (group,) = _unpacked(ranks.gathered(_packed([made]))[0])
            phase.tick(len(rows))
        return group

    def rewrite(self, state: State, rows: Rows, by: str, longest: int) -> Rows:
        """Append the first response with one segment resampled."""
        with (
            self.model.playing(state.policies[by]) as policy,
            self.folder.progress.phase(state.round, "sampling", len(rows), "prompts") as phase,
        ):
            new = segment_rewrite.rewrite(
                policy,
                list(rows.prompts),
                list(rows.responses[:, 0]),
                self.folder.uniforms(state, "segment", len(rows)).tolist(),
                longest=longest,
                seed=self.folder.seeds("sampling", state.round, by),
                decoding=self.decoding,
            )
            phase.tokens = sum(len(response.ids) for response in new)
            phase.tick(len(rows))
        return rows.append(objects([[response] for response in new], width=1), by)

    def next_steps(
        self, state: State, rows: Rows, by: str, count: int, cut: StepCut, places: Sequence[int]
    ) -> list[list[Step]]:
        """Samples of the next step of begun responses; see `capabilities.StepContinuation`."""
        begun = [() if head is None else head.lead + head.ids for head in rows.responses[:, 0]]
        most = self.decoding.max_new_tokens
        with self.model.playing(state.policies[by]) as policy:
            ended = self._step_end(cut.mark) if cut.mark else None
            longest = 1 if cut.mark == "" else most if cut.mark is None else cut.longest
            groups = self._dealt(
                len(rows),
                lambda own: continue_steps(
                    policy,
                    list(rows.prompts[own]),
                    [begun[i] for i in own],
                    count,
                    ended=ended,
                    longest=longest,
                    seed=self.folder.seeds("steps", state.round, by),
                    decoding=self.decoding,
                    places=[places[i] for i in own],
                ),
            )
            room = [min(most, policy.max_positions - len(prompt.ids)) for prompt in rows.prompts]
        return [
            [
                Step(r, r.ids, r.logp or 0.0, len(r.ids), r.finished or len(r.lead) + len(r.ids) >= longest)
                for r in group
            ]
            for group, longest in zip(groups, room, strict=True)
        ]

    def _step_end(self, mark: str) -> StepEnd:
        if mark not in self._ends:
            self._ends[mark] = StepEnd(self.model.policy.tokenizer, mark)
        return self._ends[mark]

    def _writers(self, state: State, by: Who, count: int) -> list[tuple[Path, np.ndarray]]:
        """(checkpoint, row indices): one checkpoint for all rows, or a past policy drawn for each prompt."""
        everywhere = np.arange(count)
        if isinstance(by, Tilted):
            raise ValueError(
                "a tilted policy can be enumerated in exact games only; use the players Rejected"
            )
        if not isinstance(by, Past):
            name = by.base if isinstance(by, Geometric) else by.start if isinstance(by, Perturbation) else by
            return [(state.policies[name], everywhere)]
        pool = [*state.past, state.policies[START]]
        drawn = (self.folder.uniforms(state, "past", count) * len(pool)).astype(int)
        return [(pool[k], everywhere[drawn == k]) for k in np.unique(drawn)]

    @contextmanager
    def _mixed(self, state: State, by: Who) -> Iterator[tuple[Any, float] | None]:
        """Context manager: the second model of a mixture and its share, in memory during sampling."""
        if not isinstance(by, Geometric) or not by.share:
            yield None
            return
        policy = self.model.policy
        self.model.read(state.policies[by.other])
        other = copy.deepcopy(policy.model)
        self.model.read(state.policies[by.base])  # restore the weights that were in memory
        yield other, by.share

    @contextmanager
    def _perturbed(self, state: State, by: Who) -> Iterator[None]:
        """Context manager: temporarily perturb the weights in memory."""
        if not isinstance(by, Perturbation):
            yield
            return
        self.model.shift(by.scale, self.folder.seeds("nudge", state.round, by.direction), by.block)
        try:
            yield
        finally:
            self.model.read(state.policies[by.start])


def _packed(groups: Sequence[Group]) -> bytes:
    return json.dumps([[plain(response) for response in group] for group in groups]).encode()


def _unpacked(data: bytes) -> list[Group]:
    return [[response_of(response) for response in group] for group in json.loads(data)]
