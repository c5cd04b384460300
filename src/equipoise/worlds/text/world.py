"""The world of text: prompts are token ids, policies are checkpoints, and one model is in memory.

The model holds one checkpoint's weights at a time (`held`). Another policy of the game (the reference, an earlier
iterate) is met by reading its weights into the same model, for as long as it is needed. This file scores and trains;
`text_writing` writes and judges, `text_run` keeps the folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.core import reduce
from equipoise.core.auxiliary_heads import build_head
from equipoise.core.objectives import Objective
from equipoise.core.objectives.base import is_surrogate
from equipoise.core.scores import Scores
from equipoise.data.collate import row_length
from equipoise.play.rows import Rows
from equipoise.play.state import POLICY, START, Floats, State
from equipoise.play.world import AuxiliaryModels, TokenWeighting
from equipoise.policy import checkpoint
from equipoise.policy.scorer import causal_lm
from equipoise.policy.scoring import anchor_store as anchors
from equipoise.policy.scoring import value_regression as critic
from equipoise.policy.scoring.live_reference import FrozenReference
from equipoise.worlds.text import token_weights as weighing
from equipoise.worlds.text.fit import Fit, TrainingError
from equipoise.worlds.text.fit_live import LiveFit
from equipoise.worlds.text.run_folder import pairs_of
from equipoise.worlds.text.sampling import TextWriting

# Log-ratio to its own anchor at step 0, in nats per token: fp32 sums differ by rounding between batch shapes
# (measured below 3e-6 on tiny models, it grows with the logits' size); bf16 keeps 8 bits of mantissa.
STEP_ZERO_BOUND = {"fp32": 1e-4, "bf16": 5e-2}


@dataclass(kw_only=True)
class TextWorld(TextWriting):
    """A transformer as a world: anchors, fits, and policies made from others. The fields are `TextRun`'s."""

    def anchors(
        self, state: State, rows: Rows, names: Mapping[str, str], *, tokens: bool = False
    ) -> dict[str, Tensor]:
        """Log-probs of the round's responses, [N, K] or with `tokens` [N, K, T], under each frozen policy; read from
        the store if there.

        Before training, the live policy must give its own anchors: see `_check_step_zero`.
        """
        if not len(rows):
            raise TrainingError(f"round {state.round} has no comparisons: nothing to train on")

        def scored() -> dict[str, Tensor]:
            return {
                name: self.score(state.round, rows, state.policies[p], tokens=tokens)
                for name, p in names.items()
            }

        self._once(scored)  # one process writes the store, then all read it
        found = scored()
        own = [name for name, policy in names.items() if state.policies[policy] == state.policies[START]]
        if own:
            with self.playing(state.policies[START]):
                cached = found[own[0]]
                self._check_step_zero(state.round, rows, cached.sum(dim=2) if tokens else cached)
        return found

    def token_logps(self, state: State, rows: Rows, policy: str) -> tuple[Tensor, Tensor]:
        def scored() -> Tensor:
            return self.score(state.round, rows, state.policies[policy], tokens=True)

        self._once(scored)
        found = scored()
        length = torch.tensor([[len(response.ids) for response in group] for group in rows.responses])
        return found, torch.arange(found.shape[2]) < length[..., None]

    def token_weights(
        self, state: State, rows: Rows, by: TokenWeighting, policy: str
    ) -> Mapping[str, np.ndarray]:
        """Kept in the store like an anchor."""
        folder, pairs = state.policies[policy], pairs_of(rows)
        fingerprint = f"{(folder / checkpoint.FINGERPRINT).read_text(encoding='utf-8')}|{by!r}"

        def make() -> tuple[Tensor, Tensor]:
            with (
                self.playing(folder) as held,
                self.progress.phase(state.round, "weights", len(pairs), "comparisons") as shown,
            ):
                found = weighing.token_weights(held, pairs, self.training.micro_batch or 8, by, shown.tick)
            return found, (found != 0).sum(dim=2)

        self._once(lambda: self.store.get(fingerprint, pairs, make))
        found = self.store.get(fingerprint, pairs, make)[0].numpy()
        return dict.fromkeys(by.gives, found)

    def scores(self, state: State, rows: Rows, policy: str) -> tuple[Floats, Floats]:
        found = self.score(state.round, rows, state.policies[policy], "ranking").double().numpy()
        return found, np.array([[len(response.ids) for response in group] for group in rows.responses], float)

    def token_values(self, state: State, rows: Rows, returns: Tensor) -> Tensor:
        """Kept in the store like an anchor: every process, and a resumed run, reads the same values."""
        folder, pairs = state.policies[START], pairs_of(rows)
        about = hashlib.sha256(returns.numpy().tobytes()).hexdigest()
        fingerprint = f"{self._fingerprint(folder)}|values of {about}"

        def make() -> tuple[Tensor, Tensor]:
            with (
                self.playing(folder) as policy,
                self.progress.phase(state.round, "values", 2 * len(pairs), "comparisons") as shown,
            ):
                found = critic.regress_values(policy, pairs, returns, self.training.micro_batch, shown.tick)
            return found, returns  # with what it was fitted to

        self._once(lambda: self.store.get(fingerprint, pairs, make))
        return self.store.get(fingerprint, pairs, make)[0]

    def score(
        self, round: int, rows: Rows, folder: Path, phase: str = "anchors", *, tokens: bool = False
    ) -> Tensor:
        """Log-probs [N, K], or [N, K, T] of tokens, under the checkpoint in `folder`."""
        pairs = pairs_of(rows)
        fingerprint = self._fingerprint(folder)
        fingerprint = anchors.tokenwise(fingerprint) if tokens else fingerprint

        def make() -> tuple[Tensor, Tensor]:
            with (
                self.playing(folder) as policy,
                self.progress.phase(round, phase, len(pairs), "comparisons") as shown,
            ):
                shown.tokens = sum(row_length(prompt, r) for prompt, group in pairs for r in group)
                return anchors.score(policy, pairs, self.training.micro_batch, shown.tick, tokens=tokens)

        return self.store.get(fingerprint, pairs, make)[0]

    def _fingerprint(self, folder: Path) -> str:
        """The checkpoint's own, and the kernels that score here: a run may be taken up on another machine."""
        return f"{(folder / checkpoint.FINGERPRINT).read_text(encoding='utf-8')}|{self.policy.path}"

    def loss(
        self, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective, *, of: str
    ) -> float:
        self._once(lambda: self.score(state.round, rows, state.policies[of]))
        logp = self.score(state.round, rows, state.policies[of])
        prob, reward = (None if v is None else torch.from_numpy(v) for v in (rows.prob, rows.reward))
        weight = torch.from_numpy(rows.weight)
        scores = Scores(logp=logp, anchors=anchors, prob=prob, reward=reward)
        found = reduce.expected(objective, reduce.with_context(objective, scores, weight))
        return float(reduce.mean(found.value, weight))

    def fit(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        *,
        start: str = START,
        name: str = POLICY,
        speed: float = 1.0,
        beside: AuxiliaryModels | None = None,
    ) -> Path:
        """Minimise the objective from the named policy; the result is a checkpoint."""
        if is_surrogate(objective):
            raise TrainingError(
                f"{type(objective).__name__} is known by its gradient only: it has no minimum to go to"
            )
        return self._train(state, rows, anchors, objective, start, name, speed, carry=False, beside=beside)

    def descend(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        *,
        rate: float,
        start: str = START,
        name: str = POLICY,
        speed: float = 1.0,
    ) -> Path:
        """The same steps, with the optimizer's moments of the policy they start at; `rate` is for tables."""
        return self._train(state, rows, anchors, objective, start, name, speed, carry=True)

    def _train(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        start: str,
        name: str,
        speed: float,
        *,
        carry: bool,
        beside: AuxiliaryModels | None = None,
    ) -> Path:
        folder = self.journal.checkpoint(state.round, name)
        if folder.exists():  # a resumed round had finished this fit
            self._once(lambda: self._is_saved(name) and self.journal.progress.unlink())
            return folder
        self.hold(state.policies[start])
        about = (
            self.policy,
            rows,
            anchors,
            objective,
            replace(self.training, lr=speed * self.training.lr),
            self.accelerator,
            lambda epoch: self.seeds.generator("order", state.round, epoch).permutation(len(rows)),
        )
        fit = Fit(*about) if beside is None else self._live(state, start, beside, about)
        if carry:
            checkpoint.load_moments(state.policies[start], self.policy, fit.optimizer)
        before = sum(
            line["round"] == state.round and line.get("fit", POLICY) != name
            for line in self.journal.lines("metrics.jsonl")
        )  # steps of this round's other fits
        self._resume(fit, state, name, before)
        with self.progress.phase(state.round, "training", fit.steps, "steps") as phase:
            phase.done = fit.position
            while fit.position < fit.steps:
                figures = fit.step()
                self._record(state.round, before + fit.position, name, figures)
                phase.tick()
                if fit.position % self.training.save_every == 0 and fit.position < fit.steps:
                    about = {"round": state.round, "step": fit.position, "fit": name}
                    self._once(
                        lambda about=about: checkpoint.save_progress(
                            self.journal.progress, self.policy, fit.optimizer, about
                        )
                    )
            phase.tokens = _tokens(rows) * self.training.epochs
        with self.progress.phase(state.round, "writing", 1, "checkpoint") as phase:
            self._once(lambda: checkpoint.save(self.policy, folder, fit.optimizer if carry else None))
            phase.tick()
        self._once(lambda: self.journal.progress.unlink(missing_ok=True))
        self.policy.network = None
        self.accelerator.free_memory()  # it would keep every round's optimizer state
        self.held = folder
        return folder

    def _live(self, state: State, start: str, beside: AuxiliaryModels, about: tuple[Any, ...]) -> LiveFit:
        """A fit beside live anchors and a network, which goes on from where the policy it starts at left it."""
        recipe, frozen = beside.network, {}
        for anchor, name in beside.alive.items():
            with self.playing(state.policies[name]) as policy:
                frozen[anchor] = FrozenReference(
                    policy, layers=recipe is not None and recipe.reads == "layers"
                )
        if recipe is not None:
            config = causal_lm(self.policy.model).config
            seed = self.seeds("network", type(recipe).__name__)
            network = build_head(recipe, config.hidden_size, config.num_hidden_layers, seed).to(
                self.policy.device
            )
            checkpoint.load_network(network, state.policies[start])
            self.policy.network = network
        return LiveFit(*about, frozen=frozen, recipe=recipe, rate=beside.rate)

    def combine(
        self, state: State, weights: Mapping[str, float], *, name: str, products: bool = False
    ) -> Path:
        parts = [(state.policies[policy], weight) for policy, weight in weights.items()]
        return self._made(state, name, lambda: checkpoint.combine(self.policy, parts, products=products))

    def nudge(
        self,
        state: State,
        start: str,
        *,
        scale: float | Floats,
        direction: str,
        block: int = 0,
        name: str,
    ) -> Path:
        def move() -> None:
            self.hold(state.policies[start])
            self._shift(state, float(scale), direction, block)

        return self._made(state, name, move)

    @property
    def dimension(self) -> int:
        return sum(parameter.numel() for _, parameter in self.policy.parameters())

    def _made(self, state: State, name: str, change: Callable[[], None]) -> Path:
        """A policy made by changing the weights in memory, as a checkpoint.

        Whether it is there already is asked by the process that makes it, and by no other: one that came later would
        find the folder just written, and not wait where the first one waits.
        """
        folder = self.journal.checkpoint(state.round, name)

        def make() -> None:
            if not folder.exists():
                change()
                checkpoint.save(self.policy, folder)
                self.held = folder

        self._once(make)
        return folder

    def _check_step_zero(self, round: int, rows: Rows, cached: Tensor) -> None:
        """The live policy, scored one row at a time, against its own cached anchors on some of the rows.

        The largest difference, in nats per token, is a line of checks.jsonl. Raises TrainingError above the bound
        for the precision: then the anchors are not those of the policy about to be trained.
        """
        few = rows.take(np.arange(min(len(rows), self.training.micro_batch or 8)))
        live, length = anchors.score(self.policy, pairs_of(few), 1)
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

    def _record(self, round: int, step: int, name: str, figures: Mapping[str, float]) -> None:
        if self.accelerator.is_main_process:
            which = {} if name == POLICY else {"fit": name}
            self.journal.append("metrics.jsonl", {"round": round, "step": step, **which, **figures})

    def _is_saved(self, name: str) -> bool:
        """Whether the saved position is that of the named fit."""
        saved = self.journal.progress
        return saved.exists() and checkpoint.progress_of(saved)["fit"] == name

    def _resume(self, fit: Fit, state: State, name: str, before: int) -> None:
        """Take up a saved position of this fit, and forget what was logged after it."""
        if self._is_saved(name):
            about = checkpoint.load_progress(self.journal.progress, self.policy, fit.optimizer)
            fit.position = about["step"]
        self._once(lambda: self.journal.rewind("metrics.jsonl", state.round, before + fit.position))


def _tokens(rows: Rows) -> int:
    return sum(
        row_length(prompt.ids, response)
        for prompt, group in zip(rows.prompts, rows.responses, strict=True)
        for response in group
    )
