"""The world of text: prompts are token ids, policies are checkpoints, and one model is in memory.

The model holds one checkpoint's weights at a time (`held`). Another policy of the game (the reference, an earlier
iterate) is met by reading its weights into the same model, for as long as it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from equipoise.core.objectives import Objective
from equipoise.data.collate import Prompt
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.play.fit import Fit, Training, TrainingError
from equipoise.play.progress import Progress
from equipoise.play.rows import Rows
from equipoise.play.state import Journal, Seeds, load_rows, objects, save_rows
from equipoise.play.world import START, Floats, State
from equipoise.policy import anchors, checkpoint
from equipoise.policy.anchors import AnchorStore
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import Decoding

# Log-ratio to its own anchor at step 0, in nats per token: fp32 sums differ by rounding between batch shapes
# (measured below 3e-6 on tiny models, it grows with the logits' size); bf16 keeps 8 bits of mantissa.
STEP_ZERO_BOUND = {"fp32": 1e-4, "bf16": 5e-2}
JUDGE_BATCH = 256


@dataclass(kw_only=True)
class TextWorld:
    """Everything a round needs, for a transformer.

    pool      prompts for online rounds; `prompts_per_round` of them are drawn each round (None: all).
    pairs     recorded comparisons for offline rounds: rows with labels.
    oracle    who judges; None where the method only reads recorded labels.
    """

    policy: CausalPolicy
    journal: Journal
    seeds: Seeds
    training: Training
    decoding: Decoding
    store: AnchorStore
    pool: Sequence[Prompt] = ()
    prompts_per_round: int | None = None
    pairs: Rows | None = None
    oracle: Oracle | None = None
    progress: Progress = field(default_factory=Progress)
    accelerator: Accelerator = field(default_factory=Accelerator)
    held: Path | None = None

    def begin(self) -> State:
        """Where the run folder says the run stands; its policy is loaded."""
        initial = self.journal.checkpoint(0)
        self._once(lambda: initial.exists() or checkpoint.save(self.policy, initial))
        state = State.begin(initial)
        for round in range(1, self.journal.rounds_done() + 1):
            state = state.advance(self.journal.checkpoint(round))
        self._once(lambda: self._forget_finished(state.round))
        self.hold(state.policies[START])
        return state

    def hold(self, folder: Path) -> None:
        """Make the model hold a checkpoint's weights for good."""
        if self.held != folder:
            checkpoint.load_into(self.policy, folder)
            self.held = folder

    @contextmanager
    def playing(self, folder: Path) -> Iterator[CausalPolicy]:
        """The model with a checkpoint's weights, for a while."""
        assert self.held is not None
        with checkpoint.weights_of(self.policy, folder, self.held):
            yield self.policy

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

    def write(self, state: State, rows: Rows, by: str, count: int, purpose: str = "sampling") -> Rows:
        seed = self.seeds(purpose, state.round, by)
        sampled = []
        evaluating = purpose.startswith("evaluation")
        label = (state.round - 1, "evaluating") if evaluating else (state.round, purpose)
        with (
            self.playing(state.policies[by]) as policy,
            self.progress.phase(*label, len(rows), "prompts") as phase,
        ):
            for begin in range(0, len(rows), 8 * self.decoding.batch):
                part = list(rows.prompts[begin : begin + 8 * self.decoding.batch])
                groups = policy.sample(part, count, seed=seed, decoding=self.decoding, offset=begin)
                sampled += groups
                phase.tokens += sum(len(r.ids) for group in groups for r in group)
                phase.tick(len(part))
        return rows.append(objects(sampled, width=count), by)

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

    def anchors(self, state: State, rows: Rows, names: Mapping[str, str]) -> dict[str, Tensor]:
        """Log-probs [N, K] of the round's responses under each frozen policy, read from the store if there.

        Before training, the live policy must give its own anchors: see `_check_step_zero`.
        """
        if not len(rows):
            raise TrainingError(f"round {state.round} has no comparisons: nothing to train on")

        def scored() -> dict[str, Tensor]:
            return {name: self.score(state.round, rows, state.policies[p]) for name, p in names.items()}

        self._once(scored)  # one process writes the store, then all read it
        found = scored()
        own = [name for name, policy in names.items() if state.policies[policy] == state.policies[START]]
        if own:
            self._check_step_zero(state.round, rows, found[own[0]])
        return found

    def score(self, round: int, rows: Rows, folder: Path, phase: str = "anchors") -> Tensor:
        """Log-probs [N, K] under the checkpoint in `folder`."""
        pairs = _pairs(rows)
        fingerprint = (folder / checkpoint.FINGERPRINT).read_text(encoding="utf-8")

        def make() -> tuple[Tensor, Tensor]:
            with (
                self.playing(folder) as policy,
                self.progress.phase(round, phase, len(pairs), "comparisons") as shown,
            ):
                shown.tokens = sum(len(prompt) + len(r) for prompt, group in pairs for r in group)
                return anchors.score(policy, pairs, self.training.micro_batch, shown.tick)

        return self.store.get(fingerprint, pairs, make)[0]

    def fit(self, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective) -> Path:
        """Minimise the objective from the round's starting policy; the result is a checkpoint."""
        folder = self.journal.checkpoint(state.round)
        self.hold(state.policies[START])
        fit = Fit(
            self.policy,
            rows,
            anchors,
            objective,
            self.training,
            self.accelerator,
            permutation=lambda epoch: self.seeds.generator("order", state.round, epoch).permutation(
                len(rows)
            ),
        )
        self._resume(fit, state)
        with self.progress.phase(state.round, "training", fit.steps, "steps") as phase:
            phase.done = fit.position
            while fit.position < fit.steps:
                figures = fit.step()
                self._record(state.round, fit.position, figures)
                phase.tick()
                if fit.position % self.training.save_every == 0 and fit.position < fit.steps:
                    about = {"round": state.round, "step": fit.position}
                    self._once(
                        lambda about=about: checkpoint.save_progress(
                            self.journal.progress, self.policy, fit.optimizer, about
                        )
                    )
            phase.tokens = _tokens(rows) * self.training.epochs
        with self.progress.phase(state.round, "writing", 1, "checkpoint") as phase:
            self._once(lambda: checkpoint.save(self.policy, folder))
            phase.tick()
        self._once(lambda: self.journal.progress.unlink(missing_ok=True))
        self.accelerator.free_memory()  # it would keep every round's optimizer state
        self.held = folder
        return folder

    def _check_step_zero(self, round: int, rows: Rows, cached: Tensor) -> None:
        """The live policy, scored one row at a time, against its own cached anchors on some of the rows.

        The largest difference, in nats per token, is a line of checks.jsonl. Raises TrainingError above the bound
        for the precision: then the anchors are not those of the policy about to be trained.
        """
        few = rows.take(np.arange(min(len(rows), self.training.micro_batch)))
        live, length = anchors.score(self.policy, _pairs(few), 1)
        worst = float(((live - cached[: len(few)]).abs() / length).max())
        bound = STEP_ZERO_BOUND[self.policy.precision]
        if not worst <= bound:
            raise TrainingError(
                f"before the first step the policy differs from its own anchor by {worst:.2e} nats per token "
                f"(bound {bound:.0e}): the anchor log-probs are not those of this policy"
            )
        if self.accelerator.is_main_process:
            self.journal.rewind("checks.jsonl", round - 1)
            self.journal.append("checks.jsonl", {"round": round, "step_zero_log_ratio_per_token": worst})

    def stage(self, state: State, name: str, make: Callable[[], Rows]) -> Rows:
        path = self.journal.stage(state.round, name)

        def run() -> None:
            # sampling shows its own progress, prompt by prompt
            quiet = (
                nullcontext() if name == "sampling" else self.progress.phase(state.round, name, 1, "stage")
            )
            with quiet as phase:
                save_rows(path, make())
                if phase:
                    phase.tick()

        self._once(lambda: path.exists() or run())
        return load_rows(path)

    def uniforms(self, state: State, name: str, count: int) -> Floats:
        return self.seeds.generator(name, state.round).random(count)

    def _once(self, act: Callable[[], object]) -> None:
        """On the main process; the others wait until it is done."""
        if self.accelerator.is_main_process:
            act()
        self.accelerator.wait_for_everyone()

    def _record(self, round: int, step: int, figures: Mapping[str, float]) -> None:
        if self.accelerator.is_main_process:
            self.journal.append("metrics.jsonl", {"round": round, "step": step, **figures})

    def _forget_finished(self, round: int) -> None:
        """Remove a saved position whose round's checkpoint was written since."""
        saved = self.journal.progress
        if saved.exists() and checkpoint.progress_round(saved) < round:
            saved.unlink()

    def _resume(self, fit: Fit, state: State) -> None:
        """Take up a saved position of this round, and forget what was logged after it."""
        if self.journal.progress.exists():
            about = checkpoint.load_progress(self.journal.progress, self.policy, fit.optimizer)
            fit.position = about["step"]
        self._once(lambda: self.journal.rewind("metrics.jsonl", state.round, fit.position))


def _pairs(rows: Rows) -> list[anchors.Pair]:
    return [(p.ids, [r.ids for r in group]) for p, group in zip(rows.prompts, rows.responses, strict=True)]


def _tokens(rows: Rows) -> int:
    return sum(
        len(prompt.ids) * len(group) + sum(len(r.ids) for r in group)
        for prompt, group in zip(rows.prompts, rows.responses, strict=True)
    )
