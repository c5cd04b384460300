"""New policies: fits of an objective, from a saved position if there is one, and policies made without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from equipoise.core.auxiliary_heads import build_head
from equipoise.core.objectives import Objective
from equipoise.data.collate import row_length
from equipoise.play.capabilities import AuxiliaryModels
from equipoise.play.rows import Rows
from equipoise.play.state import POLICY, START, State
from equipoise.policy import checkpoint
from equipoise.policy.scorer import causal_lm
from equipoise.policy.scoring.live_reference import FrozenReference
from equipoise.worlds.text.fit import Fit, PolicyScoring, Scoring, Training
from equipoise.worlds.text.held_model import HeldModel
from equipoise.worlds.text.live_scoring import LiveScoring
from equipoise.worlds.text.run_folder import RunFolder


@dataclass(kw_only=True)
class Trainer:
    """Trains the model in memory; every policy that it makes is a checkpoint of the run folder."""

    folder: RunFolder
    model: HeldModel
    training: Training

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
    ) -> Path:
        """Gradient steps on the objective from the named policy; a resumed run goes on where it stood.

        speed    factor on the learning rate.        models   further models in memory.
        carry    take over the optimizer's moments of the policy it starts at, and leave them with the new one.
        """
        folder, model, policy, journal = self.folder, self.model, self.model.policy, self.folder.journal
        made = journal.checkpoint(state.round, name)
        if made.exists():  # a resumed round had finished this fit

            def tidy() -> None:
                if self._is_saved(name):
                    journal.progress.unlink()

            folder.once(tidy)
            return made
        model.hold(state.policies[start])
        scoring: Scoring = (
            PolicyScoring(policy, objective)
            if models is None
            else self._live(state, start, models, objective)
        )
        fit = Fit(
            scoring,
            rows,
            anchors,
            replace(self.training, lr=speed * self.training.lr),
            folder.accelerator,
            lambda epoch: folder.seeds.generator("order", state.round, epoch).permutation(len(rows)),
        )
        if carry:
            checkpoint.load_moments(state.policies[start], policy, fit.optimizer)
        before = sum(
            line["round"] == state.round and line.get("fit", POLICY) != name
            for line in journal.lines("metrics.jsonl")
        )  # steps of this round's other fits
        self._resume(fit, state, name, before)
        with folder.progress.phase(state.round, "training", fit.steps, "steps") as phase:
            phase.done = fit.position
            while fit.position < fit.steps:
                figures = fit.step()
                self._record(state.round, before + fit.position, name, figures)
                phase.tick()
                if fit.position % self.training.save_every == 0 and fit.position < fit.steps:
                    self._save_position(fit, state, name)
            phase.tokens = _tokens(rows) * self.training.epochs
        with folder.progress.phase(state.round, "writing", 1, "checkpoint") as phase:
            folder.once(lambda: checkpoint.save(policy, made, fit.optimizer if carry else None))
            phase.tick()
        folder.once(lambda: journal.progress.unlink(missing_ok=True))
        policy.network = None
        folder.accelerator.free_memory()  # it would keep every round's optimizer state
        model.held = made
        return made

    def _live(self, state: State, start: str, models: AuxiliaryModels, objective: Objective) -> LiveScoring:
        """Live references, and an auxiliary head that goes on from where the policy it starts at left it."""
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
        """A policy made by changing the weights in memory, as a checkpoint.

        Whether it is there already is asked by the process that makes it, and by no other: one that came later would
        find the folder just written, and not wait where the first one waits.
        """
        folder = self.folder.journal.checkpoint(state.round, name)

        def make() -> None:
            if not folder.exists():
                change()
                checkpoint.save(self.model.policy, folder)
                self.model.held = folder

        self.folder.once(make)
        return folder

    def _save_position(self, fit: Fit, state: State, name: str) -> None:
        about: dict[str, int | str] = {"round": state.round, "step": fit.position, "fit": name}
        path = self.folder.journal.progress
        self.folder.once(lambda: checkpoint.save_progress(path, self.model.policy, fit.optimizer, about))

    def _record(self, round: int, step: int, name: str, figures: Mapping[str, float]) -> None:
        if self.folder.accelerator.is_main_process:
            which = {} if name == POLICY else {"fit": name}
            self.folder.journal.append("metrics.jsonl", {"round": round, "step": step, **which, **figures})

    def _is_saved(self, name: str) -> bool:
        """Whether the saved position is that of the named fit."""
        saved = self.folder.journal.progress
        return saved.exists() and checkpoint.progress_of(saved)["fit"] == name

    def _resume(self, fit: Fit, state: State, name: str, before: int) -> None:
        """Take up a saved position of this fit, and forget what was logged after it."""
        journal = self.folder.journal
        if self._is_saved(name):
            about = checkpoint.load_progress(journal.progress, self.model.policy, fit.optimizer)
            fit.position = about["step"]
        self.folder.once(lambda: journal.rewind("metrics.jsonl", state.round, before + fit.position))


def _tokens(rows: Rows) -> int:
    return sum(
        row_length(prompt.ids, response)
        for prompt, group in zip(rows.prompts, rows.responses, strict=True)
        for response in group
    )
