"""Evaluation after a round: win rate against the reference, KL, accuracy on held-out pairs, lengths, samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.core.calibration import likelihood_ece
from equipoise.core.intervals import POSITIVE, Interval, clustered_mean, clustered_share
from equipoise.data.collate import Prompt
from equipoise.evaluate.details import (
    HELD_OUT,
    VERDICTS,
    WIN_MATRIX,
    Evaluated,
    Line,
    feedback_lines,
    matrix_lines,
    pair_lines,
    verdict_lines,
)
from equipoise.evaluate.exact import FiniteGame
from equipoise.evaluate.named_scores import score_means, told_samples
from equipoise.play.players.protocol import Players
from equipoise.play.rows import Rows, objects
from equipoise.play.state import INITIAL, START, Floats, State
from equipoise.worlds.text.folder import row_files
from equipoise.worlds.text.world import TextWorld

HALF = Interval(value=0.5, low=None, high=None, n=0)  # the win rate of a policy against itself, not measured
PAIR_FIGURES = (
    "accuracy",
    "ranking",
    "ranking_gain",
    "chosen_log_ratio",
    "rejected_log_ratio",
    "chosen_probability",
    "rejected_probability",
    "likelihood_ece",
    "recorded_surprisal",
    "recorded_length",
)


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Evaluates the policy at a round boundary against the policy that the run started from.

    What the start writes is sampled once in a run. Before training it is the policy: its responses are then both sides,
    and no oracle is asked which is better, as a policy wins one half against itself.

    prompts   held-out prompts on which both write `samples` responses each.
    pairs     held-out recorded pairs, or None.
    finite    the game whose responses are enumerable, or None.
    tau       KL weight of the method's game, for the regularised gap.
    earlier   whether the oracle also compares the policy with those of all earlier evaluated rounds.
    scores    whether the oracle's named scores of the policy's responses are measured.
    players   the method's, whose prompts may tell the policy a direction among those scores; None: none does.
    """

    world: TextWorld
    prompts: Sequence[Prompt]
    samples: int
    pairs: Rows | None = None
    finite: FiniteGame | None = None
    tau: float | None = None
    earlier: bool = False
    scores: bool = False
    players: Players | None = None

    def measure(self, state: State) -> Evaluated:
        """Evaluate the policy of a round boundary: its line of evaluation.jsonl, and what that is made of."""
        done, trained = state.round - 1, state.policies[START] != state.policies[INITIAL]
        reference = self._sampled(state, INITIAL, "reference")
        own = self._sampled(state, START, "policy") if trained else reference
        # a self-judging oracle: the same judge in every round, so that its figures compare
        with self.world.judge.judged_by(state.policies[INITIAL]):
            wins = self._wins(done, own, reference) if trained else None
            even = None if trained or self.world.oracle is None else HALF
            line: dict[str, Any] = {"round": done, "win_rate": even or _rate(wins)}
            against = self._earlier(done, own)
            scores = self._scores(state, own)
        line |= dict.fromkeys(
            ("exact_win_rate", "exploitability", "exploitability_train", "gap_tau", "exact_kl", "outside")
        )
        if self.finite:
            figures, against = self.finite.measure(self.world, state, self.tau)
            line |= figures
        line["judge_calls"] = self.world.journal.judge_calls(*range(1, done + 1))
        line |= self._drift(state, own)
        found, pairs = self._pairs(state)
        verdicts = [] if wins is None else verdict_lines(done, wins, own, reference)
        logs = {VERDICTS: verdicts, HELD_OUT: pairs, WIN_MATRIX: matrix_lines(done, against)}
        return Evaluated(line | found | scores, own, reference, logs)

    def _sampled(self, state: State, by: str, name: str) -> Rows:
        """Responses of a policy to the evaluation prompts; the reference's are sampled once per run."""
        done = state.round - 1 if name == "policy" else 0
        path = self.world.journal.stage(done, f"evaluation-{name}")
        purpose = f"evaluation-{name}"
        return self.world.folder.kept(
            path, lambda: self.world.sample(state, self._asked(), by, self.samples, purpose=purpose)
        )

    def _asked(self) -> Rows:
        """The evaluation prompts without responses."""
        return Rows(
            prompts=objects(list(self.prompts)),
            responses=np.empty((len(self.prompts), 0), dtype=object),
            weight=np.ones(len(self.prompts)),
            writers=(),
        )

    def _scores(self, state: State, own: Rows) -> dict[str, Any]:
        """The oracle's named scores of the policy's responses, and of those to prompts that tell a direction."""
        if not self.scores or self.world.oracle is None:
            return {}
        told = (
            []
            if self.players is None
            else told_samples(self.world, state, self._asked(), self.players, self.samples)
        )
        with self.world.folder.asking(state.round - 1, "judging"):
            found: dict[str, Any] = {"scores": score_means(self.world, own)}
            if told:
                found["told"] = [
                    {"direction": direction, "scores": score_means(self.world, rows)}
                    for direction, rows in told
                ]
        return found

    def _wins(self, round: int, own: Rows, other: Rows) -> Floats | None:
        """P(own sample k > other's sample k) [N, K], nan for a prompt without a verdict; None without an oracle."""
        if self.world.oracle is None:
            return None
        both = own.append(other.responses, "reference")
        with self.world.folder.asking(round, "judging"):
            wins = np.stack(
                [
                    self.world.compare(both, np.full(len(own), k), np.full(len(own), self.samples + k))
                    for k in range(self.samples)
                ],
                axis=1,
            )
        self.world.judge.note(self.world.journal, round, "evaluation")
        missing = [prompt.ids in self.world.judge.unjudged for prompt in own.prompts]
        self.world.judge.unjudged.clear()
        wins[missing] = np.nan
        return wins

    def _earlier(self, done: int, own: Rows) -> list[tuple[int, Interval]]:
        """Win rates against the policies of the evaluated rounds between the reference and this one, if asked for."""
        found = []
        for past in range(1, done) if self.earlier and not self.finite else ():
            path = self.world.journal.stage(past, "evaluation-policy")
            if path.exists() and (
                rate := _rate(self._wins(done, own, row_files.load(self.world.journal, path)))
            ):
                found.append((past, rate))
        return found

    def _drift(self, state: State, own: Rows) -> dict[str, Any]:
        """KL(pi || reference) in nats per response (the unbiased k1 estimate), lengths, finished share; and how
        much the policy itself (its entropy) and the reference are surprised by its responses, in nats per token."""
        logp = np.array([[r.logp for r in group] for group in own.responses])
        anchor = self.world.score(state.round - 1, own, state.policies[INITIAL], phase="evaluating").numpy()
        length = np.array([[len(r.ids) for r in group] for group in own.responses], dtype=float)
        finished = np.array([[r.finished for r in group] for group in own.responses], dtype=float)
        prompts = np.repeat(np.arange(len(own)), self.samples)
        return {
            "kl": clustered_mean((logp - anchor).ravel(), prompts),
            "length": clustered_mean(length.ravel(), prompts, bounds=POSITIVE),
            "finished": float(finished.mean()),
            "entropy": clustered_mean((-logp / np.maximum(length, 1)).ravel(), prompts),
            "surprisal": float((-anchor / np.maximum(length, 1)).mean()),
        }

    def _pairs(self, state: State) -> tuple[dict[str, Any], list[Line]]:
        """Accuracy of the implicit reward on held-out pairs (ties count half), the mean log-ratio of each side, the
        mean probability of each side, exp(log pi(y)/|y|), the calibration error of the likelihoods, and the ranking
        accuracy of the policy, with what it gains on the reference's.

        ranking         share of held-out pairs with log pi(y_w|x) > log pi(y_l|x), ties half; at round 0 that of the
                        reference.
        ranking_gain    its difference to the reference's, pair by pair. None before training.

        recorded_surprisal, recorded_length   of the recorded responses: the reference's surprisal, nats per token, and
                        the mean length.

        For held-out unpaired feedback see `_labels`. The other figures are None before training, where every margin
        is 0. The second value has the lines of held_out.jsonl.
        """
        none = dict.fromkeys(PAIR_FIGURES)
        if self.pairs is None:
            return none, []
        single, before = self.pairs.responses.shape[1] == 1, state.round == 1
        if single and before:
            return none, []
        policy, reference = (
            self.world.score(state.round - 1, self.pairs, state.policies[name], phase="evaluating").numpy()
            for name in (START, INITIAL)
        )
        ratio = policy - reference
        tokens = np.array([[len(r.ids) for r in group] for group in self.pairs.responses], dtype=float)
        mean_logp = policy / tokens
        probability = np.exp(mean_logp)
        recorded = {
            "recorded_surprisal": float((-reference / np.maximum(tokens, 1)).mean()),
            "recorded_length": float(tokens.mean()),
        }
        if single:
            found = none | self._labels(ratio[:, 0], probability[:, 0]) | recorded
            labels = np.ones(len(ratio)) if self.pairs.reward is None else self.pairs.reward[:, 0]
            return found, feedback_lines(state.round - 1, ratio[:, 0], labels >= 0.5)
        prompts = np.unique([hash(p.ids) for p in self.pairs.prompts], return_inverse=True)[1]
        ranked, at_first = preferred(policy), preferred(reference)
        found = none | {"ranking": clustered_share(ranked, prompts)}
        lines = pair_lines(state.round - 1, ratio, prompts, ranked)
        if before:
            return found, lines
        return found | {
            "accuracy": clustered_share(preferred(ratio), prompts),
            "ranking_gain": clustered_mean(ranked - at_first, prompts, bounds=(-1.0, 1.0)),
            "chosen_log_ratio": float(ratio[:, 0].mean()),
            "rejected_log_ratio": float(ratio[:, 1].mean()),
            "chosen_probability": float(probability[:, 0].mean()),
            "rejected_probability": float(probability[:, 1].mean()),
            "likelihood_ece": likelihood_ece(mean_logp),
            **recorded,
        }, lines

    def _labels(self, ratio: Floats, probability: Floats) -> dict[str, Any]:
        """The same for unpaired feedback: accuracy is the area under the ROC curve, the share of pairs
        (desirable, undesirable) in which the desirable response has the larger log-ratio; ties count half. None if one
        kind is missing.

        The interval is clustered by the desirable responses' prompts; the undesirable responses are taken as fixed.
        """
        assert self.pairs is not None and self.pairs.reward is not None
        up = self.pairs.reward[:, 0] >= 0.5
        good, bad = ratio[up], ratio[~up]
        figures: dict[str, Any] = {"accuracy": None, "likelihood_ece": None}  # of pairs alone
        for name, values in (("log_ratio", ratio), ("probability", probability)):
            for side, rows in (("chosen", up), ("rejected", ~up)):
                figures[f"{side}_{name}"] = float(values[rows].mean()) if rows.any() else None
        if len(good) and len(bad):
            rank = np.sort(bad)
            below, to = np.searchsorted(rank, good, "left"), np.searchsorted(rank, good, "right")
            prompts = np.unique([hash(p.ids) for p in self.pairs.prompts[up]], return_inverse=True)[1]
            figures["accuracy"] = clustered_share((below + to) / (2 * len(bad)), prompts)
        return figures


def _rate(wins: Floats | None) -> Interval | None:
    """Mean of wins [N, K] over prompts and samples, clustered by prompt; None without a verdict."""
    if wins is None or np.isnan(wins).all():
        return None
    prompts = np.tile(np.arange(len(wins)), wins.shape[1])
    flat = wins.T.ravel()  # sample by sample
    return clustered_share(flat[~np.isnan(flat)], prompts[~np.isnan(flat)])


def preferred(values: Floats) -> Floats:
    """[N] 1 where the first of two values [N, 2] is larger, 1/2 where they are equal, else 0."""
    return np.asarray((values[:, 0] > values[:, 1]) + 0.5 * (values[:, 0] == values[:, 1]), dtype=np.float64)
