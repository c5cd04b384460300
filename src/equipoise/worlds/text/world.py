"""The text world: prompts are token ids, policies are checkpoints, and one model is in memory.

It implements `play.world` and `play.capabilities` by composition: a run folder, the held model, a sampler, a judge,
frozen scores and a trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from equipoise.core import reduce
from equipoise.core.objectives import Objective
from equipoise.core.scores import Scores
from equipoise.core.value_loss import ClippedValue
from equipoise.data.collate import Prompt, Response
from equipoise.data.revision_prompt import Leads
from equipoise.oracles.models.domains import said_by_user
from equipoise.oracles.models.meanings import Meaning, load_meaning
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import Oracle
from equipoise.play.capabilities import (
    AuxiliaryModels,
    PassTables,
    RewardData,
    Step,
    StepCut,
    TokenWeighting,
)
from equipoise.play.decoding import AS_SET, Decode
from equipoise.play.rows import Rows, objects
from equipoise.play.seeds import Seeds
from equipoise.play.state import INITIAL, POLICY, START, TAUGHT, Floats, State, Who
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.step_continuation import joined_steps
from equipoise.policy.protocol import Decoding
from equipoise.policy.scoring.anchor_store import AnchorStore
from equipoise.worlds.derangement import derangement
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text import further_answers
from equipoise.worlds.text.fit import Training
from equipoise.worlds.text.folder import row_files
from equipoise.worlds.text.folder.run_folder import RunFolder
from equipoise.worlds.text.further_answers import Degrade
from equipoise.worlds.text.held_model import HeldModel
from equipoise.worlds.text.held_out import Watch, Watching
from equipoise.worlds.text.judging import Judge
from equipoise.worlds.text.progress import Progress
from equipoise.worlds.text.run_rewards import RunRewards
from equipoise.worlds.text.sampling import Sampler
from equipoise.worlds.text.scoring.frozen_scores import FrozenScores, pairs_of
from equipoise.worlds.text.self_evaluation import SelfEvaluator
from equipoise.worlds.text.self_tests import SelfTests
from equipoise.worlds.text.teacher import Teacher
from equipoise.worlds.text.training import Trainer


@dataclass(kw_only=True)
class TextWorld:
    """A language model as a world.

    pool      prompts for online rounds; `prompts_per_round` of them are drawn each round (None: all).
    rounds    of the run, which schedules of the learning rate extend over where they do not begin again.
    base      checkpoint of the policy before the run's phases; None: the initial policy.
    pairs     recorded comparisons for offline rounds: rows with labels.
    oracle    compares two responses; None if the method only reads recorded labels.
    lead      renders an earlier answer as the context of its revision; None if nothing is revised.
    allowed   names of gates that may be closed.
    keep      rounds whose final checkpoint is kept; None: all.
    watching  what is evaluated and saved inside fits, on the held-out comparisons `held_out`.
    degrade   gives progressively degraded versions of a response, None for one with too few key phrases.
    self_tests runs code that the policy wrote against tests that it wrote.
    reword    gives a prompt in the words of a template.
    teacher   a model behind a server that writes responses.
    """

    policy: CausalPolicy
    journal: Journal
    seeds: Seeds
    training: Training
    decoding: Decoding
    store: AnchorStore
    pool: Sequence[Prompt] = ()
    prompts_per_round: int | None = None
    rounds: int = 1
    base: Path | None = None
    pairs: Rows | None = None
    oracle: Oracle | None = None
    lead: Leads | None = None
    degrade: Degrade | None = None
    self_tests: SelfTests | None = None
    reword: Callable[[Prompt, str], Prompt] | None = None
    teacher: Teacher | None = None
    progress: Progress = field(default_factory=Progress)
    accelerator: Accelerator = field(default_factory=Accelerator)
    allowed: Collection[str] = ()
    keep: int | None = None
    watching: Watching = field(default_factory=Watching)
    held_out: Rows | None = None
    _meaning: tuple[str, Meaning] | None = None
    kind: ClassVar[str] = "a language model"

    def __post_init__(self) -> None:
        self.folder = RunFolder(
            journal=self.journal,
            seeds=self.seeds,
            progress=self.progress,
            accelerator=self.accelerator,
            allowed=self.allowed,
            keep=self.keep,
            base=self.base,
        )
        self.model = HeldModel(self.policy, verify=self.journal.manifest.verify)
        self.sampler = Sampler(folder=self.folder, model=self.model, decoding=self.decoding)
        self.judge = Judge(
            oracle=self.oracle, asked=self.folder.asked, model=self.model, ranks=self.folder.ranks
        )
        self.run_rewards = RunRewards(folder=self.folder, base=self.journal.checkpoint(0))
        self.evaluator = SelfEvaluator(self.model, self.folder.ranks)
        self.frozen = FrozenScores(
            folder=self.folder,
            model=self.model,
            store=self.store,
            micro_batch=self.training.micro_batch,
        )
        self.watch = Watch(
            folder=self.folder, frozen=self.frozen, watching=self.watching, pairs=self.held_out
        )
        self.trainer = Trainer(
            folder=self.folder,
            model=self.model,
            training=self.training,
            watch=self.watch,
            rounds=self.rounds,
        )

    # The run: position, finished stages, named draws

    def begin(self, memory: tuple[str, ...] = (), *, keep_past: bool = False) -> State:
        """The state that the run folder records, with its policy loaded; see `RunFolder.begin`."""
        initial = self.journal.checkpoint(0)

        def keep() -> None:
            if not initial.exists():
                checkpoint.save(self.policy, initial)
            self.journal.manifest.ensure(initial)

        self.folder.once(keep)
        state = self.folder.begin(memory, keep_past=keep_past)
        self.model.hold(state.policies[START])
        return state

    def settle(self, state: State) -> State:
        return self.folder.settle(state)

    def stage(self, state: State, name: str, make: Callable[[], Rows]) -> Rows:
        def judged() -> Rows:
            before = self.judge.calls
            with self.judge.judged_by(state.policies[START]):
                rows = self.judge.judged(make())
            calls = self.judge.calls - before
            self.folder.once(lambda: self.journal.note_calls(state.round, name, calls))
            self.judge.note(self.journal, state.round, name)
            return rows

        return self.folder.stage(state, name, judged)

    def past(self, state: State, back: int, stage: str = "judging") -> Rows | None:
        path = self.journal.stage(state.round - back, stage)
        return row_files.load(self.journal, path) if state.round > back and path.exists() else None

    def uniforms(self, state: State, name: str, count: int) -> Floats:
        return self.folder.uniforms(state, name, count)

    def cached(
        self, state: State, name: str, make: Callable[[int], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        return self.folder.cached(name, make)

    # Rows: prompts, recorded comparisons, samples

    def prompts(self, state: State) -> Rows:
        """The round's prompts: consecutive slices of one permutation of the pool, cyclically.

        A second draw of a round takes the slice half the pool further on, which in the end visits every prompt too.
        """
        total = len(self.pool)
        if not total:
            raise TrainingError("this method samples its own responses and needs prompts; give --data")
        count = min(self.prompts_per_round or total, total)
        order = self.seeds.generator("prompts").permutation(total)
        begin = (state.round - 1) * count + state.draw * (total // 2)
        chosen = [self.pool[order[(i + begin) % total]] for i in range(count)]
        return Rows(
            prompts=objects(chosen), responses=np.empty((count, 0), object), weight=np.ones(count), writers=()
        )

    def recorded(self, state: State) -> Rows:
        if self.pairs is None:
            raise TrainingError("this method trains on recorded responses; give --data")
        return self.pairs

    def sample(
        self,
        state: State,
        rows: Rows,
        by: Who,
        count: int,
        decode: Decode = AS_SET,
        purpose: str = "sampling",
    ) -> Rows:
        return self.sampler.sample(state, rows, by, count, decode, purpose)

    def rewrite(self, state: State, rows: Rows, by: Who, longest: int) -> Rows:
        if not isinstance(by, str):
            raise ValueError(f"a segment can only be resampled from a named policy, not from {by}")
        return self.sampler.rewrite(state, rows, by, longest)

    def next_steps(
        self, state: State, rows: Rows, by: Who, count: int, *, cut: StepCut, places: Sequence[int]
    ) -> list[list[Step]]:
        if not isinstance(by, str):
            raise ValueError(f"a response can only be continued by a named policy, not by {by}")
        return self.sampler.next_steps(state, rows, by, count, cut, places)

    def confidences(self, state: State, rows: Rows, by: Who) -> Floats:
        if not isinstance(by, str):
            raise ValueError(f"only a named policy evaluates itself, not {by}")
        return self.evaluator.confidences(state, rows, by)

    def joined_steps(self, steps: Sequence[Response]) -> Response:
        return joined_steps(steps)

    def unrelated(self, state: State, rows: Rows) -> Rows:
        groups = {prompt.ids: place for place, prompt in enumerate(rows.prompts)}
        group = np.array([groups[prompt.ids] for prompt in rows.prompts], dtype=np.intp)
        met = derangement(group, self.uniforms(state, "unrelated", len(rows)))
        reward = np.concatenate([rows.rewards, np.zeros((len(rows), 1))], axis=1)
        return replace(rows.append(rows.responses[met, :1], "unrelated"), reward=reward)

    def both_roles(self, rows: Rows) -> Rows:
        assert self.lead is not None
        return further_answers.both_roles(rows, self.lead, self.policy.max_positions)

    def degraded(self, rows: Rows, degrees: int) -> Rows:
        assert self.degrade is not None
        return further_answers.degraded(rows, degrees, self.degrade)

    def asked(self, rows: Rows, template: str) -> Rows:
        assert self.self_tests is not None
        return self.self_tests.asked(rows, template)

    def conditioned(self, rows: Rows, templates: Sequence[str]) -> Rows:
        assert self.reword is not None
        pairs = zip(rows.prompts, templates, strict=True)
        prompts = [replace(self.reword(prompt, by), context=prompt.context) for prompt, by in pairs]
        return replace(rows.columns([]), prompts=objects(prompts), prob=None)

    def taught(self, state: State, rows: Rows) -> Rows:
        assert self.teacher is not None
        responses = self.sampler.taught(state.round, rows, self.teacher)
        return rows.append(objects([[response] for response in responses], width=1), TAUGHT)

    def pass_tables(self, state: State, rows: Rows, codes: int) -> PassTables:
        assert self.self_tests is not None
        return self.self_tests.pass_tables(self.folder, state.round, rows, codes)

    def concatenated(self, rows: Rows, first: np.ndarray, second: np.ndarray, form: str) -> np.ndarray:
        assert self.self_tests is not None
        return self.self_tests.concatenated(rows, first, second, form)

    def texts(self, rows: Rows) -> list[list[str]]:
        return [[response.text for response in group] for group in rows.responses]

    def average(self, rows: Rows, values: Floats) -> float:
        return float(np.average(values, weights=rows.weight))

    # Verdicts

    def compare(self, rows: Rows, first: np.ndarray, second: np.ndarray) -> Floats:
        return self.judge.compare(rows, first, second)

    def rewards(self, rows: Rows) -> Floats:
        return self.judge.rewards(rows)

    def set_reward(self, rows: Rows) -> None:
        """None: oracles of text judge single responses."""
        return

    def trained_reward(self, state: State, name: str, make: Callable[[int], RewardData]) -> Path:
        return self.run_rewards.trained(name, make)

    def reward_scores(self, rows: Rows, reward: Path) -> Floats:
        """[N, K] rewards; prompts with one that is missing are left out of the stage."""
        scores, judge = self.run_rewards.scores(rows, reward)
        self.judge.unjudged |= judge.unjudged
        judge.unjudged = set()
        return scores

    def same_meanings(self, rows: Rows, folder: str, similarity: float) -> np.ndarray:
        if self._meaning is None or self._meaning[0] != folder:
            self._meaning = (folder, load_meaning(folder, Placement()))
        questions = [said_by_user(prompt.context) for prompt in rows.prompts]
        return self._meaning[1].same(questions, self.texts(rows), similarity)

    def votes(self, rows: Rows, first: np.ndarray, second: np.ndarray) -> Floats:
        return self.judge.votes(rows, first, second)

    def named_scores(self, rows: Rows) -> Mapping[str, Floats]:
        return self.judge.named_scores(rows)

    def win_rates(
        self,
        state: State,
        rows: Rows,
        against: Who,
        opponents: int,
        of: Callable[[Floats], Floats],
        decode: Decode = AS_SET,
    ) -> Floats:
        if not opponents:
            return self.judge.among(rows, of)
        own = rows.responses.shape[1]
        met = self.sample(state, rows.columns([]), against, opponents, decode, "opponents")
        both = replace(rows, reward=None).append(met.responses, str(against))
        return self.judge.against(both, own, of)

    # Scores under frozen policies

    def anchors(
        self, state: State, rows: Rows, names: Mapping[str, str], *, tokens: bool = False
    ) -> dict[str, Tensor]:
        """Log-probs of the round's responses, [N, K] or with `tokens` [N, K, T], under each frozen policy; read from
        the store if there.

        Before training, the live policy must give its own anchors: see `FrozenScores.check_step_zero`.
        """
        if not len(rows):
            raise TrainingError(
                f"round {state.round} has no comparisons to train on: all responses are equal (raise "
                "sampling.temperature) or the pairing filters them all out"
            )

        self.watch.anchored = dict(names)

        scores = {
            name: self.score(state.round, rows, state.policies[p], tokens=tokens) for name, p in names.items()
        }
        own = [name for name, policy in names.items() if state.policies[policy] == state.policies[START]]
        if own:
            with self.model.playing(state.policies[START]):
                cached = scores[own[0]]
                self.frozen.check_step_zero(state.round, rows, cached.sum(dim=2) if tokens else cached)
        return scores

    def score(
        self, round: int, rows: Rows, folder: Path, phase: str = "anchors", *, tokens: bool = False
    ) -> Tensor:
        """Log-probs [N, K], or token log-probs [N, K, T], under the checkpoint in `folder`."""
        return self.frozen.score(round, rows, folder, phase, tokens=tokens)

    def scores(self, state: State, rows: Rows, policy: str) -> tuple[Floats, Floats]:
        logp = self.score(state.round, rows, state.policies[policy], "ranking").double().numpy()
        return logp, np.array([[len(response.ids) for response in group] for group in rows.responses], float)

    def token_logps(self, state: State, rows: Rows, policy: str) -> tuple[Tensor, Tensor]:
        logp = self.score(state.round, rows, state.policies[policy], tokens=True)
        length = torch.tensor([[len(response.ids) for response in group] for group in rows.responses])
        return logp, torch.arange(logp.shape[2]) < length[..., None]

    def token_weights(
        self, state: State, rows: Rows, by: TokenWeighting, policy: str
    ) -> Mapping[str, np.ndarray]:
        weight = self.frozen.token_weights(state.round, rows, by, state.policies[policy])
        return dict.fromkeys(by.gives, weight)

    def token_values(self, state: State, rows: Rows, returns: Tensor) -> Tensor:
        return self.frozen.token_values(state.round, rows, returns, state.policies[START])

    def critic_values(self, state: State, rows: Rows, critic: str) -> Tensor:
        return self.frozen.critic_values(state.round, rows, state.policies[critic])

    def fit_critic(
        self,
        state: State,
        rows: Rows,
        before: Tensor,
        target: Tensor,
        *,
        critic: str,
        clip: float,
        rate: float,
    ) -> Path:
        rows = replace(rows, prob=None, reward=target.numpy(), token_weights={})
        return self.trainer.train(
            state,
            rows,
            {"previous": before},
            ClippedValue(clip=clip),
            start=critic,
            name=critic,
            speed=rate,
            carry=True,
            critic=True,
        )

    def loss(
        self, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective, *, of: str
    ) -> float:
        logp = self.score(state.round, rows, state.policies[of])
        prob, reward = (None if v is None else torch.from_numpy(v) for v in (rows.prob, rows.reward))
        weight = torch.from_numpy(rows.weight)
        scores = Scores(logp=logp, anchors=anchors, prob=prob, reward=reward)
        losses = reduce.expected(objective, reduce.with_batch_statistic(objective, scores, weight))
        return float(reduce.mean(losses.value, weight))

    def prompt_features(self, state: State, rows: Rows) -> Tensor:
        # mean over the prompt's tokens except the first, which all prompts share (or is the only one)
        prompts = [(prompt.ids[:1], [prompt.ids[1:] or prompt.ids]) for prompt in rows.prompts]
        return self.frozen.features(prompts, state.policies[INITIAL])[:, 0]

    def features(self, state: State, rows: Rows) -> Tensor:
        return self.frozen.features(pairs_of(rows), state.policies[INITIAL])

    # New policies

    def fit(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        *,
        start: str = START,
        name: str = POLICY,
    ) -> Path:
        """Minimise the objective from the named policy; returns a checkpoint."""
        _has_a_minimum(objective)
        return self.trainer.train(state, rows, anchors, objective, start=start, name=name)

    def fit_with(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        models: AuxiliaryModels,
        *,
        start: str = START,
        name: str = POLICY,
    ) -> Path:
        """`fit` with further models in memory."""
        _has_a_minimum(objective)
        return self.trainer.train(state, rows, anchors, objective, start=start, name=name, models=models)

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
        """The same steps, carrying on the optimizer's moments of the starting policy; `rate` is for tables."""
        return self.trainer.train(
            state, rows, anchors, objective, start=start, name=name, speed=speed, carry=True
        )

    def combine(
        self, state: State, weights: Mapping[str, float], *, name: str, products: bool = False
    ) -> Path:
        parts = [(state.policies[policy], weight) for policy, weight in weights.items()]

        def mix() -> None:
            for folder, _ in parts:
                self.model.verify(folder)
            checkpoint.combine(self.policy, parts, products=products)

        return self.trainer.made(state, name, mix)

    def perturb(
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
            self.model.hold(state.policies[start])
            self.model.shift(float(scale), self.seeds("nudge", state.round, direction), block)

        return self.trainer.made(state, name, move)

    def dimension(self) -> int:
        return sum(parameter.numel() for _, parameter in self.policy.parameters())


def _has_a_minimum(objective: Objective) -> None:
    """Raise TrainingError for a surrogate objective."""
    if objective.reads.surrogate:
        raise TrainingError(
            f"{type(objective).__name__} is a surrogate: only its gradient is meaningful, not its minimum; "
            "use the update Descend"
        )
