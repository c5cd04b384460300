"""Evaluation after a round: win rate against the reference, KL, accuracy on held-out pairs, lengths, samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.core.intervals import POSITIVE, Interval, clustered_mean, clustered_share
from equipoise.data.collate import Prompt
from equipoise.evaluate.exact import FiniteGame
from equipoise.play.rows import Rows, objects
from equipoise.play.state import INITIAL, START, Floats, State
from equipoise.worlds.text.world import TextWorld


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Evaluates the policy at a round boundary against the policy that the run started from.

    prompts   held-out prompts on which both write `samples` responses each.
    pairs     held-out recorded pairs, or None.
    finite    the game whose responses are enumerable, or None.
    tau       KL weight of the method's game, for the regularised gap.
    """

    world: TextWorld
    prompts: Sequence[Prompt]
    samples: int
    pairs: Rows | None = None
    finite: FiniteGame | None = None
    tau: float | None = None

    def measure(self, state: State) -> tuple[dict[str, Any], Rows]:
        """One line of evaluation.jsonl, and the responses sampled for it."""
        done = state.round - 1
        own = self._sampled(state, START, "policy")
        reference = self._sampled(state, INITIAL, "reference")
        # a self-judging oracle: the same judge in every round, so that its figures compare
        with self.world.judge.judged_by(state.policies[INITIAL]):
            line: dict[str, Any] = {"round": done, "win_rate": self._win_rate(done, own, reference)}
        line |= dict.fromkeys(
            ("exact_win_rate", "exploitability", "exploitability_train", "gap_tau", "exact_kl", "outside")
        )
        if self.finite:
            line |= self.finite.measure(self.world, state, self.tau)
        line |= self._drift(state, own)
        line |= self._pairs(state)
        return line, own

    def _sampled(self, state: State, by: str, name: str) -> Rows:
        """Responses of a policy to the evaluation prompts; the reference's are sampled once per run."""
        done = state.round - 1 if name == "policy" else 0
        path = self.world.journal.stage(done, f"evaluation-{name}")
        if not path.exists():
            empty = Rows(
                prompts=objects(list(self.prompts)),
                responses=np.empty((len(self.prompts), 0), dtype=object),
                weight=np.ones(len(self.prompts)),
                writers=(),
            )
            sampled = self.world.sample(state, empty, by, self.samples, purpose=f"evaluation-{name}")
            self.world.journal.save(path, sampled)
        return self.world.journal.load(path)

    def _win_rate(self, round: int, own: Rows, reference: Rows) -> Interval | None:
        """Mean P(own > reference) over prompts and samples, with an interval clustered by prompt."""
        if self.world.oracle is None:
            return None
        both = own.append(reference.responses, "reference")
        with self.world.folder.asking(round, "judging"):
            wins = [
                self.world.compare(both, np.full(len(own), k), np.full(len(own), self.samples + k))
                for k in range(self.samples)
            ]
        self.world.judge.note(self.world.journal, round, "evaluation")
        judged = np.tile(
            [prompt.ids not in self.world.judge.unjudged for prompt in own.prompts], self.samples
        )
        self.world.judge.unjudged.clear()
        if not judged.any():
            return None
        prompts = np.tile(np.arange(len(own)), self.samples)
        return clustered_share(np.concatenate(wins)[judged], prompts[judged])

    def _drift(self, state: State, own: Rows) -> dict[str, Any]:
        """KL(pi || reference) in nats per response (the unbiased k1 estimate), lengths, finished share; and how
        much the reference is surprised by the policy's responses, in nats per token."""
        logp = np.array([[r.logp for r in group] for group in own.responses])
        anchor = self.world.score(state.round - 1, own, state.policies[INITIAL], phase="evaluating").numpy()
        length = np.array([[len(r.ids) for r in group] for group in own.responses], dtype=float)
        finished = np.array([[r.finished for r in group] for group in own.responses], dtype=float)
        prompts = np.repeat(np.arange(len(own)), self.samples)
        return {
            "kl": clustered_mean((logp - anchor).ravel(), prompts),
            "length": clustered_mean(length.ravel(), prompts, bounds=POSITIVE),
            "finished": float(finished.mean()),
            "surprisal": float((-anchor / np.maximum(length, 1)).mean()),
        }

    def _pairs(self, state: State) -> dict[str, Any]:
        """Accuracy of the implicit reward on held-out pairs (ties count half), and the mean log-ratio of each side.

        For held-out unpaired feedback see `_labels`. None before training, where every margin is 0. With them, of the
        recorded responses: the reference's surprisal, nats per token, and the mean length.
        """
        names = (
            "accuracy",
            "chosen_log_ratio",
            "rejected_log_ratio",
            "recorded_surprisal",
            "recorded_length",
        )
        if self.pairs is None or state.round == 1:
            return dict.fromkeys(names)
        policy, reference = (
            self.world.score(state.round - 1, self.pairs, state.policies[name], phase="evaluating")
            for name in (START, INITIAL)
        )
        ratio = (policy - reference).numpy()
        length = np.array([[len(r.ids) for r in group] for group in self.pairs.responses], dtype=float)
        recorded = {
            "recorded_surprisal": float((-reference.numpy() / np.maximum(length, 1)).mean()),
            "recorded_length": float(length.mean()),
        }
        if self.pairs.responses.shape[1] == 1:
            return self._labels(ratio[:, 0]) | recorded
        margin = ratio[:, 0] - ratio[:, 1]
        prompts = np.unique([hash(p.ids) for p in self.pairs.prompts], return_inverse=True)[1]
        right = (margin > 0) + 0.5 * (margin == 0)
        return {
            "accuracy": clustered_share(right, prompts),
            "chosen_log_ratio": float(ratio[:, 0].mean()),
            "rejected_log_ratio": float(ratio[:, 1].mean()),
            **recorded,
        }

    def _labels(self, ratio: Floats) -> dict[str, Any]:
        """The same for unpaired feedback: accuracy is the area under the ROC curve, the share of pairs
        (desirable, undesirable) in which the desirable response has the larger log-ratio; ties count half. None if one
        kind is missing.

        The interval is clustered by the desirable responses' prompts; the undesirable responses are taken as fixed.
        """
        assert self.pairs is not None and self.pairs.reward is not None
        up = self.pairs.reward[:, 0] >= 0.5
        good, bad = ratio[up], ratio[~up]
        figures: dict[str, Any] = {
            "accuracy": None,
            "chosen_log_ratio": float(good.mean()) if len(good) else None,
            "rejected_log_ratio": float(bad.mean()) if len(bad) else None,
        }
        if len(good) and len(bad):
            rank = np.sort(bad)
            below, to = np.searchsorted(rank, good, "left"), np.searchsorted(rank, good, "right")
            prompts = np.unique([hash(p.ids) for p in self.pairs.prompts[up]], return_inverse=True)[1]
            figures["accuracy"] = clustered_share((below + to) / (2 * len(bad)), prompts)
        return figures
