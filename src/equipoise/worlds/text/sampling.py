"""Who writes what, and who wins: responses by any policy of the game, and the oracle's answers."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.data.collate import row_length
from equipoise.data.revision_prompt import both_roles
from equipoise.oracles.protocol import OracleError
from equipoise.play.rows import Rows, objects
from equipoise.play.state import INITIAL, START, Floats, Geometric, Past, Perturbation, State, Who
from equipoise.policy import checkpoint
from equipoise.policy.generation import segment_rewrite as segments
from equipoise.policy.generation.sampling import sample
from equipoise.worlds.random_direction import shift
from equipoise.worlds.text.derangement import derangement
from equipoise.worlds.text.features import mean_hidden
from equipoise.worlds.text.fit import TrainingError
from equipoise.worlds.text.journal import load_rows
from equipoise.worlds.text.run_folder import TextRun, pairs_of

log = logging.getLogger(__name__)

JUDGE_BATCH = 256


@dataclass(kw_only=True)
class TextWriting(TextRun):
    """A text world's rows: prompts, recorded pairs, responses by the game's policies, comparisons."""

    def prompts(self, state: State) -> Rows:
        """The round's share of the pool: one permutation of all prompts, dealt out round after round."""
        total = len(self.pool)
        if not total:
            raise TrainingError("this method writes its own responses and needs prompts; none are given")
        count = min(self.prompts_per_round or total, total)
        order = self.seeds.generator("prompts").permutation(total)
        chosen = [self.pool[order[(i + (state.round - 1) * count) % total]] for i in range(count)]
        return Rows(
            prompts=objects(chosen), responses=np.empty((count, 0), object), weight=np.ones(count), writers=()
        )

    def recorded(self, state: State) -> Rows:
        if self.pairs is None:
            raise TrainingError("this method learns from recorded pairs; none are given")
        return self.pairs

    def past(self, state: State, back: int, stage: str = "judging") -> Rows | None:
        path = self.journal.stage(state.round - back, stage)
        return load_rows(path) if state.round > back and path.exists() else None

    def write(self, state: State, rows: Rows, by: Who, count: int, purpose: str = "sampling") -> Rows:
        # a nudged policy draws its base's uniforms: the two differ only where the nudge makes them
        seed = self.seeds(purpose, state.round, by.start if isinstance(by, Perturbation) else str(by))
        sampled = np.empty((len(rows), count), dtype=object)
        evaluating = purpose.startswith("evaluation")
        label = (state.round - 1, "evaluating") if evaluating else (state.round, purpose)
        with self.progress.phase(*label, len(rows), "prompts") as phase:
            for folder, places in self._writers(state, by, len(rows)):
                with (
                    self.playing(folder) as policy,
                    self._nudging(state, by),
                    self._mixing(state, by) as mixed_with,
                ):
                    for begin in range(0, len(places), 8 * self.decoding.batch):
                        part = places[begin : begin + 8 * self.decoding.batch]
                        groups = sample(
                            policy,
                            list(rows.prompts[part]),
                            count,
                            seed=seed,
                            decoding=self.decoding,
                            places=part.tolist(),
                            mixed_with=mixed_with,
                        )
                        sampled[part] = objects(groups, width=count)
                        phase.tokens += sum(len(r.ids) for group in groups for r in group)
                        phase.tick(len(part))
        return rows.append(sampled, str(by))

    def rewrite(self, state: State, rows: Rows, by: Who, longest: int) -> Rows:
        assert isinstance(by, str)
        with (
            self.playing(state.policies[by]) as policy,
            self.progress.phase(state.round, "sampling", len(rows), "prompts") as phase,
        ):
            new = segments.rewrite(
                policy,
                list(rows.prompts),
                list(rows.responses[:, 0]),
                self.uniforms(state, "segment", len(rows)).tolist(),
                longest=longest,
                seed=self.seeds("sampling", state.round, by),
                decoding=self.decoding,
            )
            phase.tokens = sum(len(response.ids) for response in new)
            phase.tick(len(rows))
        return rows.append(objects([[response] for response in new], width=1), by)

    def _writers(self, state: State, by: Who, count: int) -> list[tuple[Path, np.ndarray]]:
        """Which checkpoint writes at which places: all by one, or a past policy drawn for each prompt."""
        everywhere = np.arange(count)
        if not isinstance(by, Past):
            name = by.base if isinstance(by, Geometric) else by.start if isinstance(by, Perturbation) else by
            return [(state.policies[name], everywhere)]
        pool = [*state.past, state.policies[START]]
        drawn = (self.uniforms(state, "past", count) * len(pool)).astype(int)
        return [(pool[k], everywhere[drawn == k]) for k in np.unique(drawn)]

    @contextmanager
    def _mixing(self, state: State, by: Who) -> Iterator[tuple[Any, float] | None]:
        """The second model of a mixture and its share, in memory for as long as it samples."""
        if not isinstance(by, Geometric) or not by.share:
            yield None
            return
        checkpoint.load_into(self.policy, state.policies[by.other])
        other = copy.deepcopy(self.policy.model)
        checkpoint.load_into(self.policy, state.policies[by.base])  # whose weights were in memory
        yield other, by.share

    @contextmanager
    def _nudging(self, state: State, by: Who) -> Iterator[None]:
        """The weights in memory with a nudge, for a while."""
        if not isinstance(by, Perturbation):
            yield
            return
        self._shift(state, by.scale, by.direction, by.block)
        try:
            yield
        finally:
            checkpoint.load_into(self.policy, state.policies[by.start])

    def _shift(self, state: State, scale: float, direction: str, block: int) -> None:
        trained = [parameter for _, parameter in self.policy.parameters()]
        shift(trained, scale, self.seeds("nudge", state.round, direction), block)

    def compare(self, rows: Rows, first: np.ndarray, second: np.ndarray) -> Floats:
        if self.oracle is None:
            raise OracleError("this method asks who wins, but no oracle is given (--oracle)")
        every = np.arange(len(rows))
        contexts = [prompt.context for prompt in rows.prompts]
        texts = [[r.text for r in rows.responses[every, column]] for column in (first, second)]
        answers = []
        for begin in range(0, len(rows), JUDGE_BATCH):
            part = slice(begin, begin + JUDGE_BATCH)
            answers.append(self.oracle.compare(contexts[part], texts[0][part], texts[1][part]))
        return torch.cat(answers).double().numpy() if answers else np.empty(0)

    def both_roles(self, rows: Rows) -> Rows:
        assert self.lead is not None
        groups = [
            both_roles(p, *group, self.lead) for p, group in zip(rows.prompts, rows.responses, strict=True)
        ]
        fits = [
            max(row_length(p.ids, r) for r in group) <= self.policy.max_positions
            for p, group in zip(rows.prompts, groups, strict=True)
        ]
        if not all(fits):
            log.warning(
                "%d pairs are too long to be followed by an improved answer; left out", fits.count(False)
            )
        six = replace(rows, responses=objects(groups, width=6), writers=(*rows.writers, *4 * ("lead",)))
        return six.take(np.array(fits, dtype=bool))

    def degraded(self, rows: Rows, degrees: int) -> Rows:
        assert self.degrade is not None
        groups, kept = [], []
        for i, (prompt, pair) in enumerate(zip(rows.prompts, rows.responses, strict=True)):
            sides = [self.degrade(prompt, response, degrees) for response in pair]
            if None not in sides:
                groups.append([*pair, *sides[0], *sides[1]])  # type: ignore[misc]
                kept.append(i)
        if len(kept) < len(rows):
            log.warning("%d pairs have too few key phrases to be degraded; left out", len(rows) - len(kept))
        left = rows.take(np.array(kept, dtype=int))
        writers = (*rows.writers, *(2 * degrees - 2) * ("degraded",))
        return replace(left, responses=objects(groups, width=2 * degrees), writers=writers)

    def win_rates(
        self, state: State, rows: Rows, against: Who, opponents: int, of: Callable[[Floats], Floats]
    ) -> Floats:
        own = rows.responses.shape[1]
        every = np.arange(len(rows))
        rates = np.zeros((len(rows), own))
        if opponents:
            bare = rows.columns([])
            both = self.write(state, bare, against, opponents, purpose="opponents")
            met = replace(rows, reward=None).append(both.responses, str(against))
            for k in range(own):
                for j in range(own, own + opponents):
                    rates[:, k] += of(self.compare(met, np.full_like(every, k), np.full_like(every, j)))
            return rates / opponents
        if own < 2:
            raise TrainingError("responses that meet each other must be two at least")
        for k, j in combinations(range(own), 2):
            wins = self.compare(rows, np.full_like(every, k), np.full_like(every, j))
            rates[:, k] += of(wins)
            rates[:, j] += of(1 - wins)
        return rates / (own - 1)

    def average(self, rows: Rows, values: Floats) -> float:
        return float(np.average(values, weights=rows.weight))

    def texts(self, rows: Rows) -> list[list[str]]:
        return [[response.text for response in group] for group in rows.responses]

    def unrelated(self, state: State, rows: Rows) -> Rows:
        groups = {prompt.ids: place for place, prompt in enumerate(rows.prompts)}
        group = np.array([groups[prompt.ids] for prompt in rows.prompts], dtype=np.intp)
        met = derangement(group, self.uniforms(state, "unrelated", len(rows)))
        assert rows.reward is not None
        reward = np.concatenate([rows.reward, np.zeros((len(rows), 1))], axis=1)
        return replace(rows.append(rows.responses[met, :1], "unrelated"), reward=reward)

    def prompt_features(self, state: State, rows: Rows) -> Tensor:
        # averaged over the prompt's tokens but the first, which is the same in all, or all there is
        prompts = [(prompt.ids[:1], [prompt.ids[1:] or prompt.ids]) for prompt in rows.prompts]
        with self.playing(state.policies[INITIAL]) as policy:
            return mean_hidden(policy, prompts, self.training.micro_batch)[:, 0]

    def features(self, state: State, rows: Rows) -> Tensor:
        with self.playing(state.policies[INITIAL]) as policy:
            return mean_hidden(policy, pairs_of(rows), self.training.micro_batch)
