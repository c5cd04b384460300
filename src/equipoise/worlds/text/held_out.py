"""Evaluation inside a fit: loss, accuracy and margin on held-out pairs every few steps; best checkpoint; early stop."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from equipoise.core import reduce
from equipoise.play.row_check import unmet
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, Floats, State
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring import anchor_store
from equipoise.policy.scoring.microbatch import out_of_memory
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.folder.manifest import WITHIN
from equipoise.worlds.text import batch_context
from equipoise.worlds.text.fit import Fit
from equipoise.worlds.text.folder.best import CANDIDATE, WITHIN_A_FIT, Best
from equipoise.worlds.text.folder.run_folder import RunFolder
from equipoise.worlds.text.scoring.frozen_scores import FrozenScores, pairs_of


@dataclass(frozen=True, kw_only=True)
class Watching:
    """What is done inside a fit besides training.

    steps     optimizer steps between evaluations on held-out pairs; 0: none. A fit's last step is evaluated too.
    save      optimizer steps between policies that are kept in checkpoints/step-ROUND-STEP; 0: none.
    keep      how many of these policies are kept, the last ones; None: all.
    best      metric of the best checkpoint, measured here or at the ends of rounds; None: no best checkpoint.
    patience  evaluations without a better value of that metric after which a fit ends; 0: it runs to its end.
    """

    steps: int = 0
    save: int = 0
    keep: int | None = None
    best: str | None = None
    patience: int = 0


@dataclass(frozen=True)
class Held:
    """Held-out rows with the frozen scores that they are evaluated by.

    reference  [N, K] log-probs under the policy that the run started from.
    anchors    those of the objective, by name; None where they cannot be scored, and there is no loss.
    """

    rows: Rows
    reference: Tensor
    anchors: Mapping[str, Tensor] | None


class OneProcess:
    """An accelerator's place in sums over processes, where one process has all the rows."""

    process_index, num_processes = 0, 1

    def reduce(self, values: Tensor, how: str) -> Tensor:
        return values


@dataclass(kw_only=True)
class Watch:
    """Evaluates and saves a policy while it is trained. It draws nothing and changes nothing that training reads.

    pairs      held-out recorded comparisons, or unpaired feedback.
    anchored   the objective's anchors of the round: name -> policy.
    """

    folder: RunFolder
    frozen: FrozenScores
    watching: Watching
    pairs: Rows | None = None
    anchored: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> Best:
        """What a fit finds best: the run accepts it once the round is judged."""
        return Best(self.folder.journal, CANDIDATE)

    def prepare(self, state: State, anchors: Mapping[str, Tensor], *, tokens: bool) -> Held | None:
        """Frozen scores of the held-out rows, taken before a fit moves the weights in memory; None: no evaluation."""
        rows, policies = self.pairs, state.policies
        if not self.watching.steps or rows is None:
            return None

        def score(policy: str, by_token: bool = False) -> Tensor:
            return self.frozen.score(state.round, rows, policies[policy], "evaluating", tokens=by_token)

        known = anchors.keys() <= self.anchored.keys()
        frozen = {name: score(self.anchored[name], tokens) for name in anchors} if known else None
        return Held(rows, score(INITIAL), frozen)

    def check(self, fit: Fit, held: Held | None) -> None:
        """Raises TrainingError, before the first step, if the best checkpoint's metric cannot be measured."""
        best = self.watching.best
        if held is None or best not in WITHIN_A_FIT:
            return
        lack = _lack(fit, held) if best == "loss" else None
        if best != "loss" and figures_of(np.zeros(held.reference.shape), held.rows)[best] is None:
            lack = "the held-out rows have no responses of both kinds to compare"
        if lack:
            raise TrainingError(f"evaluate.best: {best} cannot be measured on held-out rows: {lack}")

    def after_step(self, fit: Fit, held: Held | None, round: int, step: int) -> bool:
        """Evaluate and save as asked after a step; whether the fit is to end here. All processes agree.

        step  of the round, as logged: a round may have several fits.
        """
        w, ended = self.watching, fit.position == fit.steps
        saves = bool(w.save) and fit.position % w.save == 0 and not ended
        evaluates = held is not None and (ended or fit.position % w.steps == 0)
        if not saves and not evaluates:
            return False

        first, line = self.folder.ranks.first, None
        if evaluates and held is not None and (first or fit.policy.shards):
            line = {"round": round, "step": step, **measured(fit, held)}
        improved = first and line is not None and self._told(line)
        if self.folder.ranks.agreed(lambda: saves or improved):
            with fit.policy.joined():
                self.folder.once(
                    lambda: self._save(fit.policy, round, step, line if improved else None, kept=saves)
                )
        return bool(w.patience) and evaluates and self._stale(round) >= w.patience

    def _told(self, line: dict[str, Any]) -> bool:
        """Log a line; gives whether it is the best so far."""
        self.folder.journal.append(WITHIN, line)
        self.folder.progress.evaluated(line)
        best = self.watching.best
        return best in line and self.best.is_best(best, self._lines(), line)

    def _lines(self) -> list[dict[str, Any]]:
        return list(self.folder.journal.lines(WITHIN))

    def _save(
        self, policy: CausalPolicy, round: int, step: int, best: dict[str, Any] | None, *, kept: bool
    ) -> None:
        """Save the policy in memory: as one that is kept, as the best one with its line, or both."""
        journal = self.folder.journal
        made = journal.checkpoints / f"step-{round:03d}-{step:06d}"
        if not made.exists():
            checkpoint.save(policy, made)
        journal.manifest.ensure(made)
        if best is not None:
            self.best.take(made, cast(str, self.watching.best), best)
        if not kept:
            _forget(self.folder, made)
        saved = sorted(journal.checkpoints.glob("step-*"))
        for old in saved[: -self.watching.keep] if self.watching.keep else []:
            _forget(self.folder, old)

    def _stale(self, round: int) -> int:
        """Evaluations of this round since its best one."""
        best = cast(str, self.watching.best)
        lines = [line for line in self._lines() if line["round"] == round and line[best] is not None]
        at = [i for i, line in enumerate(lines) if self.best.is_best(best, lines, line)]
        return len(lines) - 1 - at[0] if at else 0


def _forget(folder: RunFolder, made: Path) -> None:
    folder.journal.manifest.forget(made)
    shutil.rmtree(made)


def measured(fit: Fit, held: Held) -> dict[str, Any]:
    """Figures of the policy in memory on held-out rows, without a gradient and without a draw.

    loss    the objective's weighted mean; None where held-out rows have not what it reads.
    others  see `figures_of`.

    Out of memory, it is repeated with half the tokens in a forward pass; training keeps its own number. Of a divided
    policy all processes score all rows, and none repeats it.
    """
    policy, training = fit.policy, fit.policy.model.training
    budget = policy.token_budget
    policy.model.eval()
    try:
        while True:
            try:
                with torch.no_grad():
                    loss, logp = _scored(fit, held)
                break
            except RuntimeError as error:
                if not out_of_memory(error) or policy.token_budget < 2 or policy.shards:
                    raise
                policy.token_budget //= 2
    finally:
        policy.token_budget = budget
        policy.model.train(training)
    return {"loss": loss, **figures_of((logp - held.reference).double().numpy(), held.rows)}


def _lack(fit: Fit, held: Held) -> str | None:
    """Why held-out rows have no loss of this fit's objective; None if they have."""
    if held.anchors is None:
        return "they cannot be scored under the objective's anchors"
    scoring = fit.scoring
    return unmet(scoring.objective, held.rows, live=scoring.live, learned=scoring.learned)


def _scored(fit: Fit, held: Held) -> tuple[float | None, Tensor]:
    """(the objective's mean, log-probs [N, K]) of held-out rows under the policy in memory."""
    rows = held.rows
    if _lack(fit, held) or held.anchors is None:
        return None, anchor_store.score(fit.policy, pairs_of(rows), fit.training.micro_batch)[0]
    view = copy(fit)  # the same policy and objective at the same step, on other rows
    view.rows, view.anchors = rows, held.anchors
    view.accelerator = cast(Accelerator, OneProcess())
    every, columns = np.arange(len(rows)), list(range(rows.responses.shape[1]))
    context = batch_context.context(view, every, every, training=False)
    logp, values = torch.empty(len(rows), len(columns)), torch.empty(len(rows), dtype=torch.float64)
    for places in view.microbatches(every, columns):
        scores = view.scores(every[places], columns, None if context is None else context[places])
        logp[places] = scores.logp.float().cpu()
        values[places] = reduce.expected(view.objective, scores).value.double().cpu()
    loss = float(reduce.mean(values, torch.from_numpy(rows.weight).double()))
    if not np.isfinite(loss):
        raise TrainingError(
            f"the loss on held-out pairs became {loss} at step {fit.position} of {fit.steps}; lower train.lr"
        )
    return loss, logp


def figures_of(ratio: Floats, rows: Rows) -> dict[str, float | None]:
    """Accuracy and margin of log-ratios [N, K] to the reference, on pairs or on unpaired feedback.

    chosen_log_ratio, rejected_log_ratio   means, in nats; of unpaired feedback: the desirable and the undesirable.
    margin     their difference.
    accuracy   share of pairs with chosen above rejected, ties half; of unpaired feedback: of all pairs of a desirable
               and an undesirable response (the area under the ROC curve). None where one side is missing, as in
               demonstrations.
    """
    if ratio.shape[1] == 1:
        up = np.ones(len(rows), bool) if rows.reward is None else rows.reward[:, 0] >= 0.5
        good, bad = ratio[up, 0], ratio[~up, 0]
        if not len(good) or not len(bad):
            return dict.fromkeys(("accuracy", "margin", "chosen_log_ratio", "rejected_log_ratio"))
        rank = np.sort(bad)
        wins = (np.searchsorted(rank, good, "left") + np.searchsorted(rank, good, "right")) / (2 * len(bad))
    else:
        good, bad = ratio[:, 0], ratio[:, 1]
        wins = (good > bad) + 0.5 * (good == bad)
    chosen, rejected = float(good.mean()), float(bad.mean())
    return {
        "accuracy": float(wins.mean()),
        "margin": chosen - rejected,
        "chosen_log_ratio": chosen,
        "rejected_log_ratio": rejected,
    }
