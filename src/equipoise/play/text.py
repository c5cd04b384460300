"""The world of text: prompts are token ids, policies are checkpoints, and one model is in memory.

The model holds one checkpoint's weights at a time (`held`). Another policy of the game (the reference, an earlier
iterate) is met by reading its weights into the same model, for as long as it is needed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from equipoise.core import reduce
from equipoise.core.objectives import Objective
from equipoise.core.objectives.base import is_surrogate
from equipoise.core.scores import Scores
from equipoise.data.collate import Prompt, row_length
from equipoise.data.revise import Leads, both_roles
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.play.directions import shift
from equipoise.play.features import mean_hidden
from equipoise.play.fit import Fit, Training, TrainingError
from equipoise.play.progress import Progress
from equipoise.play.rows import Rows
from equipoise.play.state import Journal, Seeds, load_rows, objects, save_rows
from equipoise.play.world import INITIAL, POLICY, START, Floats, Geometric, Nudged, Past, State, Who
from equipoise.policy import anchors, checkpoint, critic, segments
from equipoise.policy.anchors import AnchorStore
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.files import read_tensors, write_json, write_tensors
from equipoise.policy.protocol import Decoding

log = logging.getLogger(__name__)

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
    lead      how an earlier answer stands before one that improves it; None where nothing is revised.
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
    lead: Leads | None = None
    progress: Progress = field(default_factory=Progress)
    accelerator: Accelerator = field(default_factory=Accelerator)
    held: Path | None = None

    def begin(self, memory: tuple[str, ...] = (), *, keep_past: bool = False) -> State:
        """Where the run folder says the run stands; its policy is loaded.

        memory, keep_past   what the method's update keeps between rounds, as in `State.begin`.
        """
        initial = self.journal.checkpoint(0)
        self._once(lambda: initial.exists() or checkpoint.save(self.policy, initial))
        state = State.begin(initial, memory, keep_past=keep_past)
        done = self.journal.rounds_done()
        if done:
            named = json.loads(self.journal.settled(done).read_text(encoding="utf-8"))
            policies = {name: self.journal.checkpoints / folder for name, folder in named.items()}
            past = tuple(self.journal.checkpoint(round) for round in range(done)) if keep_past else ()
            state = replace(state, round=done + 1, policies=policies, past=past)
        self._once(lambda: self._forget_finished(state.round))
        self.hold(state.policies[START])
        return state

    def settle(self, state: State) -> State:
        """Write down which checkpoint each name means now, and drop those that no name means any more.

        Every round's own policy stays.
        """

        def write() -> None:
            named = {name: path.name for name, path in state.policies.items() if isinstance(path, Path)}
            write_json(self.journal.settled(state.round - 1), named)
            self.journal.tidy(state.round - 1, set(named.values()))

        self._once(write)
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

    def past(self, state: State, back: int, stage: str = "judging") -> Rows | None:
        path = self.journal.stage(state.round - back, stage)
        return load_rows(path) if state.round > back and path.exists() else None

    def write(self, state: State, rows: Rows, by: Who, count: int, purpose: str = "sampling") -> Rows:
        # a nudged policy draws its base's uniforms: the two differ only where the nudge makes them
        seed = self.seeds(purpose, state.round, by.start if isinstance(by, Nudged) else str(by))
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
                        groups = policy.sample(
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
            name = by.base if isinstance(by, Geometric) else by.start if isinstance(by, Nudged) else by
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
        here = self.held
        assert here is not None
        with checkpoint.weights_of(self.policy, state.policies[by.other], here):
            other = copy.deepcopy(self.policy.model)
        with checkpoint.weights_of(self.policy, state.policies[by.base], here):
            yield other, by.share

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

    def token_values(self, state: State, rows: Rows, returns: Tensor) -> Tensor:
        """Kept in the store like an anchor: every process, and a resumed run, reads the same values."""
        folder, pairs = state.policies[START], _pairs(rows)
        about = hashlib.sha256(returns.numpy().tobytes()).hexdigest()
        fingerprint = f"{(folder / checkpoint.FINGERPRINT).read_text(encoding='utf-8')}|values of {about}"

        def make() -> tuple[Tensor, Tensor]:
            with (
                self.playing(folder) as policy,
                self.progress.phase(state.round, "values", 2 * len(pairs), "comparisons") as shown,
            ):
                found = critic.values(policy, pairs, returns, self.training.micro_batch, shown.tick)
            return found, returns  # with what it was fitted to

        self._once(lambda: self.store.get(fingerprint, pairs, make))
        return self.store.get(fingerprint, pairs, make)[0]

    def score(
        self, round: int, rows: Rows, folder: Path, phase: str = "anchors", *, tokens: bool = False
    ) -> Tensor:
        """Log-probs [N, K], or [N, K, T] of tokens, under the checkpoint in `folder`."""
        pairs = _pairs(rows)
        fingerprint = (folder / checkpoint.FINGERPRINT).read_text(encoding="utf-8")
        fingerprint = anchors.tokenwise(fingerprint) if tokens else fingerprint

        def make() -> tuple[Tensor, Tensor]:
            with (
                self.playing(folder) as policy,
                self.progress.phase(round, phase, len(pairs), "comparisons") as shown,
            ):
                shown.tokens = sum(row_length(prompt, r) for prompt, group in pairs for r in group)
                return anchors.score(policy, pairs, self.training.micro_batch, shown.tick, tokens=tokens)

        return self.store.get(fingerprint, pairs, make)[0]

    def loss(
        self, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective, *, of: str
    ) -> float:
        self._once(lambda: self.score(state.round, rows, state.policies[of]))
        logp = self.score(state.round, rows, state.policies[of])
        prob, reward = (None if v is None else torch.from_numpy(v) for v in (rows.prob, rows.reward))
        found = reduce.expected(objective, Scores(logp=logp, anchors=anchors, prob=prob, reward=reward))
        return float(reduce.mean(found.value, torch.from_numpy(rows.weight)))

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
    ) -> Path:
        """Minimise the objective from the named policy; the result is a checkpoint."""
        if is_surrogate(objective):
            raise TrainingError(
                f"{type(objective).__name__} is known by its gradient only: it has no minimum to go to"
            )
        return self._train(state, rows, anchors, objective, start, name, speed, carry=False)

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
    ) -> Path:
        folder = self.journal.checkpoint(state.round, name)
        if folder.exists():  # a resumed round had finished this fit
            self._once(lambda: self._is_saved(name) and self.journal.progress.unlink())
            return folder
        self.hold(state.policies[start])
        fit = Fit(
            self.policy,
            rows,
            anchors,
            objective,
            replace(self.training, lr=speed * self.training.lr),
            self.accelerator,
            permutation=lambda epoch: self.seeds.generator("order", state.round, epoch).permutation(
                len(rows)
            ),
        )
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
        self.accelerator.free_memory()  # it would keep every round's optimizer state
        self.held = folder
        return folder

    def combine(self, state: State, weights: Mapping[str, float], *, name: str) -> Path:
        parts = [(state.policies[policy], weight) for policy, weight in weights.items()]
        return self._made(state, name, lambda: checkpoint.combine(self.policy, parts))

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

    def _shift(self, state: State, scale: float, direction: str, block: int) -> None:
        trained = [parameter for _, parameter in self.policy.parameters()]
        shift(trained, scale, self.seeds("nudge", state.round, direction), block)

    @contextmanager
    def _nudging(self, state: State, by: Who) -> Iterator[None]:
        """The weights in memory with a nudge, for a while."""
        if not isinstance(by, Nudged):
            yield
            return
        self._shift(state, by.scale, by.direction, by.block)
        try:
            yield
        finally:
            checkpoint.load_into(self.policy, state.policies[by.start])

    @property
    def dimension(self) -> int:
        return sum(parameter.numel() for _, parameter in self.policy.parameters())

    def average(self, rows: Rows, values: Floats) -> float:
        return float(np.average(values, weights=rows.weight))

    def _made(self, state: State, name: str, change: Callable[[], None]) -> Path:
        """A policy made by changing the weights in memory, as a checkpoint."""
        folder = self.journal.checkpoint(state.round, name)
        if not folder.exists():
            change()
            self._once(lambda: checkpoint.save(self.policy, folder))
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

    def texts(self, rows: Rows) -> list[list[str]]:
        return [[response.text for response in group] for group in rows.responses]

    def features(self, state: State, rows: Rows) -> Tensor:
        with self.playing(state.policies[INITIAL]) as policy:
            return mean_hidden(policy, _pairs(rows), self.training.micro_batch)

    def kept(
        self, state: State, name: str, make: Callable[[int], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        path = self.journal.folder / "kept" / f"{name}.safetensors"
        if not path.exists():
            write_tensors(path, make(self.seeds("kept", name)))
        return read_tensors(path)[0]

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

    def _record(self, round: int, step: int, name: str, figures: Mapping[str, float]) -> None:
        if self.accelerator.is_main_process:
            which = {} if name == POLICY else {"fit": name}
            self.journal.append("metrics.jsonl", {"round": round, "step": step, **which, **figures})

    def _forget_finished(self, round: int) -> None:
        """Remove a saved position whose round's checkpoint was written since."""
        saved = self.journal.progress
        if saved.exists() and checkpoint.progress_of(saved)["round"] < round:
            saved.unlink()

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


def _pairs(rows: Rows) -> list[anchors.Pair]:
    return [(p.ids, list(group)) for p, group in zip(rows.prompts, rows.responses, strict=True)]


def _tokens(rows: Rows) -> int:
    return sum(
        row_length(prompt.ids, response)
        for prompt, group in zip(rows.prompts, rows.responses, strict=True)
        for response in group
    )
