"""Training of new policies (resumable), and policies made without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from equipoise.core.auxiliary_heads import build_head
from equipoise.core.objectives import Objective
from equipoise.data.collate import row_length
from equipoise.play.capabilities import AuxiliaryModels
from equipoise.play.rows import Rows
from equipoise.play.state import POLICY, START, State
from equipoise.policy import checkpoint
from equipoise.policy.scorer import causal_lm
from equipoise.policy.scoring.critic import ValueHead, value_head, values_of
from equipoise.policy.scoring.live_reference import FrozenReference
from equipoise.worlds.folder.manifest import WITHIN
from equipoise.worlds.text.fit import Fit, PolicyScoring, Scoring, Training
from equipoise.worlds.text.folder.run_folder import RunFolder
from equipoise.worlds.text.held_model import HeldModel
from equipoise.worlds.text.held_out import Watch
from equipoise.worlds.text.scoring.live_scoring import LiveScoring


@dataclass(kw_only=True)
class Trainer:
    """Trains the model in memory; every resulting policy is a checkpoint of the run folder.

    watch   evaluates and saves inside the fits of a round's policy.
    rounds  of the run, over which the learning rate's schedule extends where the optimizer's moments are carried on.
    """

    folder: RunFolder
    model: HeldModel
    training: Training
    watch: Watch
    rounds: int = 1

    def train(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        *,
        start: str = START,
        name: str = POLICY,
        speed: float = 1.0,
        carry: bool = False,
        models: AuxiliaryModels | None = None,
        critic: bool = False,
    ) -> Path:
        """Gradient steps on the objective from the named policy; an interrupted fit resumes where it stopped.

        speed    factor on the learning rate.        models   further models in memory.
        critic   train values of prefixes by a critic, not log-probs; its head goes on as saved with `start`.
        carry    load the optimizer's moments saved with the starting policy, and save them with the new one.
        """
        folder, model, policy, journal = self.folder, self.model, self.model.policy, self.folder.journal
        made = journal.checkpoint(state.round, name)
        if made.exists():  # a resumed round had finished this fit

            def tidy() -> None:
                journal.manifest.ensure(made)
                if self._is_saved(name):
                    journal.progress.unlink()

            folder.once(tidy)
            return made
        model.hold(state.policies[start])
        watch = self.watch if name == POLICY else None
        held = watch.prepare(state, anchors, tokens=objective.reads.tokens) if watch else None
        with folder.progress.preparing("preparing the optimizer"):
            if critic:
                policy.network = value_head(policy, state.policies[start]).to(policy.device)
            if self.training.sharding == "full" and folder.ranks.size > 1:
                policy.divide(folder.ranks.size)
            scoring: Scoring
            if critic:
                assert isinstance(policy.network, ValueHead)
                scoring = PolicyScoring(policy, objective, partial(values_of, policy, policy.network))
            elif models is None:
                scoring = PolicyScoring(policy, objective)
            else:
                scoring = self._live(state, start, models, objective)
            fit = Fit(
                scoring,
                rows,
                anchors,
                replace(self.training, lr=speed * self.training.lr),
                folder.accelerator,
                lambda epoch: folder.seeds.generator("order", state.round, epoch).permutation(len(rows)),
                part=(min(state.round, self.rounds) - 1, self.rounds) if carry else (0, 1),
            )
            self.watch.check(fit, held)
            if carry:
                checkpoint.load_moments(state.policies[start], policy, fit.optimizer)
            before = sum(
                line["round"] == state.round and line.get("fit", POLICY) != name
                for line in journal.lines("metrics.jsonl")
            )  # steps of this round's other fits
            self._resume(fit, state, name, before)
        with folder.progress.phase(state.round, "training", fit.steps, "steps") as phase:
            phase.resume(fit.position)
            phase.all_tokens = _tokens(rows) * self.training.epochs
            ended = False
            while fit.position < fit.steps and not ended:
                figures = fit.step()
                self._record(state.round, before + fit.position, name, figures)
                phase.tick()
                ended = watch is not None and watch.after_step(fit, held, state.round, before + fit.position)
                if self._due(fit) and not ended:
                    self._save_position(fit, state, name)
            phase.tokens = phase.all_tokens
        moments = fit.optimizer if carry else None
        del fit, scoring
        folder.accelerator.free_memory()  # else it keeps every round's optimizer state
        with folder.progress.phase(state.round, "writing", 1, "checkpoint") as phase:
            policy.join()
            if moments is not None and not folder.ranks.first:
                checkpoint.give_moments(policy, moments)
            folder.once(lambda: self._save(made, moments))
            phase.tick()
        folder.once(lambda: journal.progress.unlink(missing_ok=True))
        policy.network = None
        model.held = made
        return made

    def _live(self, state: State, start: str, models: AuxiliaryModels, objective: Objective) -> LiveScoring:
        """Live references, and an auxiliary head, loaded as saved with the starting policy."""
        policy, head = self.model.policy, models.head
        frozen = {}
        for anchor, name in models.references.items():
            with self.model.playing(state.policies[name]) as reference:
                frozen[anchor] = FrozenReference(
                    reference, layers=head is not None and head.input == "layers"
                )
        if head is not None:
            config = causal_lm(policy.model).config
            seed = self.folder.seeds("network", type(head).__name__)
            network = build_head(head, config.hidden_size, config.num_hidden_layers, seed).to(policy.device)
            checkpoint.load_network(network, state.policies[start])
            policy.network = network
        return LiveScoring(policy, objective, frozen=frozen, head=head, rate=models.rate)

    def made(self, state: State, name: str, change: Callable[[], None]) -> Path:
        """Checkpoint of a policy made by changing the weights in memory.

        Only the process that writes it checks whether it exists: a later process would see the folder just written and
        skip the barrier at which the first one waits.
        """
        folder = self.folder.journal.checkpoint(state.round, name)

        def make() -> None:
            if not folder.exists():
                change()
                self._save(folder)
                self.model.held = folder
            self.folder.journal.manifest.ensure(folder)

        self.folder.once(make)
        return folder

    def _due(self, fit: Fit) -> bool:
        """Whether the position after this step is to be saved: as set, and wherever a policy is saved."""
        every = (self.training.save_every, self.watch.watching.save)
        return fit.position < fit.steps and any(n and fit.position % n == 0 for n in every)

    def _save_position(self, fit: Fit, state: State, name: str) -> None:
        about: dict[str, Any] = {"round": state.round, "step": fit.position, "fit": name}
        if fit.memory:
            about["memory"] = fit.memory
        journal = self.folder.journal

        path = journal.next_progress if self.folder.ranks.first else None
        checkpoint.save_progress(path, self.model.policy, fit.optimizer, about)

        def save() -> None:
            # entered before it is renamed, so that whichever of the two a crash leaves is known
            journal.manifest.record(journal.next_progress, name=journal.progress)
            journal.next_progress.replace(journal.progress)
            journal.seal()

        self.folder.once(save)

    def _save(self, folder: Path, optimizer: Optimizer | None = None) -> None:
        checkpoint.save(self.model.policy, folder, optimizer)
        self.folder.journal.manifest.record(folder)

    def _record(self, round: int, step: int, name: str, figures: Mapping[str, float]) -> None:
        if self.folder.accelerator.is_main_process:
            which = {} if name == POLICY else {"fit": name}
            line = {"round": round, "step": step, **which, **figures}
            self.folder.journal.append("metrics.jsonl", line)
            self.folder.progress.step(line)

    def _is_saved(self, name: str) -> bool:
        """Whether the saved training position belongs to the named fit."""
        saved = self.folder.journal.progress
        return saved.exists() and checkpoint.progress_of(saved)["fit"] == name

    def _resume(self, fit: Fit, state: State, name: str, before: int) -> None:
        """Resume from a saved position of this fit, and drop metrics logged after it."""
        journal = self.folder.journal
        if self._is_saved(name):
            journal.manifest.verify(journal.progress)
            about = checkpoint.load_progress(journal.progress, self.model.policy, fit.optimizer)
            fit.position, fit.memory = about["step"], tuple(about.get("memory", ()))

        def rewind() -> None:
            for log in ("metrics.jsonl", WITHIN):
                journal.rewind(log, state.round, before + fit.position)

        self.folder.once(rewind)


def _tokens(rows: Rows) -> int:
    return sum(
        row_length(prompt.ids, response)
        for prompt, group in zip(rows.prompts, rows.responses, strict=True)
        for response in group
    )
