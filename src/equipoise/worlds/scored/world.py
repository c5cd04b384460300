"""World of scored examples: the verbs of a round where a response is a stored example, a policy a small module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from equipoise.core.objectives import Objective
from equipoise.play.decoding import AS_SET, PLAIN, Decode
from equipoise.play.rows import Rows
from equipoise.play.seeds import Seeds
from equipoise.play.state import POLICY, START, Floats, Past, Perturbation, State, Who
from equipoise.worlds.derangement import derangement
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.random_direction import shift
from equipoise.worlds.scored.anchors import FrozenScores, frozen
from equipoise.worlds.scored.examples import Examples
from equipoise.worlds.scored.fit import Fit, Training, mean_loss
from equipoise.worlds.scored.keeping import InMemory, Keeper
from equipoise.worlds.scored.policies import Policy
from equipoise.worlds.scored.task import Draw, Parameters, Recorded, Rewarding, RewardingSets, Task


@dataclass(frozen=True, kw_only=True)
class ScoredWorld:
    """A task as a world.

    per_round   prompts of a round that asks its policy for examples.
    listed      whether the recorded comparisons are ranked lists, and not pairs.
    keeper      where policies, stages and logs are kept.
    examples    the recorded examples, and what is sampled after them.
    """

    task: Task
    training: Training = field(default_factory=Training)
    seed: int = 0
    per_round: int = 64
    listed: bool = False
    examples: Examples
    keeper: Keeper = field(default_factory=InMemory)
    kind: ClassVar[str] = "a world of scored examples (control, images)"

    @classmethod
    def in_memory(
        cls, task: Task, training: Training | None = None, *, seed: int = 0, per_round: int = 64
    ) -> ScoredWorld:
        """A world that writes nothing."""
        examples = Examples(task.recorded.examples)
        return cls(
            task=task, training=training or Training(), seed=seed, per_round=per_round, examples=examples
        )

    @property
    def seeds(self) -> Seeds:
        return Seeds(self.seed)

    def begin(self, memory: tuple[str, ...] = (), *, keep_past: bool = False) -> State:
        """The state after the last finished round; at first the task's own policy."""
        return self.keeper.begin(
            memory, keep_past, lambda: Policy(self.task.start(self.seeds("initial policy")))
        )

    def parameters(self, state: State, who: Who) -> Parameters:
        """The parameters of a named or perturbed policy."""
        if isinstance(who, Perturbation):
            return self._shifted(state, who.start, who.scale, who.direction, who.block)
        if not isinstance(who, str) or who not in state.policies:
            raise ValueError(f"{who} is no policy of a world of scored examples")
        return self.keeper.policy(state.policies[who]).parameters

    # write

    def prompts(self, state: State) -> Rows:
        drawn = self.task.prompts(self.seeds.generator("prompts", *state.address), self.per_round)
        return Rows(
            prompts=drawn.astype(np.int64),
            responses=np.empty((len(drawn), 0), dtype=np.int64),
            weight=np.ones(len(drawn)),
            writers=(),
        )

    def recorded(self, state: State) -> Rows:
        recorded = self.task.recorded
        if self.listed:
            return _lists(recorded)
        count = len(recorded.prob)
        prompts = np.zeros(count, dtype=np.int64) if recorded.prompts is None else recorded.prompts
        return Rows(
            prompts=prompts.astype(np.int64),
            responses=recorded.pairs.astype(np.int64),
            weight=np.ones(count),
            writers=("recorded", "recorded"),
            prob=recorded.prob.astype(np.float64),
        )

    def past(self, state: State, back: int, stage: str = "judging") -> Rows | None:
        return self.keeper.stored(state.round - back, stage) if state.round > back else None

    def sample(self, state: State, rows: Rows, by: Who, count: int, decode: Decode = AS_SET) -> Rows:
        if decode not in (AS_SET, PLAIN):
            raise ValueError(
                f"{decode} is a decoding of tokens; a world of scored examples samples its policy as it is"
            )
        return self._sampled(state, rows, by, count, "sampling")

    # judge

    def compare(self, rows: Rows, first: np.ndarray, second: np.ndarray) -> Floats:
        every = np.arange(len(rows))
        return self._prefer(rows.prompts, rows.responses[every, first], rows.responses[every, second])

    def win_rates(
        self,
        state: State,
        rows: Rows,
        against: Who,
        opponents: int,
        of: Callable[[Floats], Floats],
        decode: Decode = AS_SET,
    ) -> Floats:
        width = rows.responses.shape[1]
        met = self._sampled(state, rows, against, opponents, "opponents") if opponents else rows
        others = range(width, width + opponents) if opponents else range(width)
        total = np.zeros(rows.responses.shape)
        for column in range(width):
            faced = [other for other in others if opponents or other != column]
            for other in faced:
                wins = self._prefer(rows.prompts, rows.responses[:, column], met.responses[:, other])
                total[:, column] += of(wins) / len(faced)
        return total

    def rewards(self, rows: Rows) -> Floats:
        if not isinstance(self.task.judge, Rewarding):
            raise ValueError(f"{self.task.judge.fingerprint} compares examples and gives none a reward")
        columns = [
            self.task.judge.rewards(rows.prompts, self.examples.numpy(column)) for column in rows.responses.T
        ]
        return np.stack(columns, axis=1)

    def set_reward(self, rows: Rows) -> Callable[[np.ndarray], float] | None:
        judge, every = self.task.judge, np.arange(len(rows))
        if not isinstance(judge, RewardingSets):
            return None
        return lambda columns: judge.set_reward(self.examples.numpy(rows.responses[every, columns]))

    # freeze

    def anchors(
        self, state: State, rows: Rows, names: Mapping[str, str], *, tokens: bool = False
    ) -> Mapping[str, Tensor]:
        score, draw = self.task.score, self._draw(state)
        parameters = {name: self.parameters(state, policy) for name, policy in names.items()}
        return FrozenScores(
            score=score,
            examples=self.examples,
            rows=rows,
            kept={name: frozen(score, p, self.examples, rows, draw) for name, p in parameters.items()},
            policies={name: state.policies[policy] for name, policy in names.items()},
            parameters=parameters,
        )

    def scores(self, state: State, rows: Rows, policy: str) -> tuple[Floats, Floats]:
        logps = frozen(
            self.task.score, self.parameters(state, policy), self.examples, rows, self._draw(state)
        )
        lengths = self.task.score.lengths(self.examples.tensors(rows.responses))
        return logps.double().numpy(), lengths.double().numpy()

    # move

    def fit(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        *,
        start: str = START,
        name: str = POLICY,
    ) -> Any:
        if objective.reads.surrogate:
            raise TrainingError(
                f"{type(objective).__name__} is a surrogate: only its gradient is meaningful, not its minimum; "
                "use the update Descend"
            )
        return self._trained(state, rows, anchors, objective, start, name, carry=False, speed=1.0)

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
    ) -> Any:
        return self._trained(state, rows, anchors, objective, start, name, carry=True, speed=speed)

    def loss(
        self, state: State, rows: Rows, anchors: Mapping[str, Tensor], objective: Objective, *, of: str
    ) -> float:
        return mean_loss(self._fit(state, rows, anchors, objective, of, POLICY, carry=False, speed=1.0))

    def combine(
        self, state: State, weights: Mapping[str, float], *, name: str, products: bool = False
    ) -> Any:
        parts = [(weight, self.parameters(state, policy)) for policy, weight in weights.items()]
        summed = {key: sum(w * p[key] for w, p in parts) for key in parts[0][1]}
        return self._made(state, name, {key: torch.as_tensor(value) for key, value in summed.items()})

    def perturb(
        self,
        state: State,
        start: str,
        *,
        scale: float | Floats,
        direction: str,
        block: int = 0,
        name: str,
    ) -> Any:
        return self._made(state, name, self._shifted(state, start, float(scale), direction, block))

    def dimension(self) -> int:
        start = self.task.start(self.seeds("initial policy"))
        return sum(parameter.numel() for parameter in start.values())

    def average(self, rows: Rows, values: Floats) -> float | Floats:
        return float(np.average(values, weights=rows.weight))

    # keep

    def stage(self, state: State, name: str, make: Callable[[], Rows]) -> Rows:
        return self.keeper.stage(state.round, name, self.examples, make)

    def settle(self, state: State) -> State:
        self.keeper.settle(state)
        return state

    def cached(
        self, state: State, name: str, make: Callable[[int], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        return self.keeper.cached(name, lambda: make(self.seeds("kept", name)))

    def uniforms(self, state: State, name: str, count: int) -> Floats:
        return self.seeds.generator(name, *state.address).random(count)

    def unrelated(self, state: State, rows: Rows) -> Rows:
        met = derangement(rows.prompts, self.uniforms(state, "unrelated", len(rows)))
        reward = np.concatenate([rows.rewards, np.zeros((len(rows), 1))], axis=1)
        return replace(rows.append(rows.responses[met, :1], "unrelated"), reward=reward)

    def _draw(self, state: State) -> Draw:
        """Address of the random numbers of a round's frozen scores: those of every fit's step 0."""
        return Draw(self._seed(state.round)("score", 0))

    def _seed(self, round: int) -> Callable[[str, int], int]:
        return lambda what, place: self.seeds(what, round, place)

    def _prefer(self, prompts: np.ndarray, first: np.ndarray, second: np.ndarray) -> Floats:
        """P(first beats second); an example against itself is a tie, and nobody is asked."""
        found = np.full(len(prompts), 0.5)
        asked = first != second
        if asked.any():
            a, b = self.examples.numpy(first[asked]), self.examples.numpy(second[asked])
            found[asked] = self.task.judge.prefer(prompts[asked], a, b)
        return found

    def _sampled(self, state: State, rows: Rows, by: Who, count: int, purpose: str) -> Rows:
        if not count or not len(rows):
            return rows.append(np.empty((len(rows), count), dtype=np.int64), str(by))
        asked = np.repeat(rows.prompts, count)
        if isinstance(by, Past):
            starts = [*state.past, state.policies[START]]
            drawn = self.seeds.generator(purpose, "whose", *state.address).integers(
                len(starts), size=len(asked)
            )
            writers = [self.keeper.policy(handle).parameters for handle in starts]
        else:
            drawn, writers = np.zeros(len(asked), dtype=np.int64), [self.parameters(state, by)]
        at = np.empty(len(asked), dtype=np.int64)
        for number, parameters in enumerate(writers):
            mine = drawn == number
            if mine.any():
                seed = self.seeds(purpose, str(by), number, *state.address)
                at[mine] = self.examples.append(self.task.sampler.sample(parameters, asked[mine], seed))
        return rows.append(at.reshape(len(rows), count), str(by))

    def _trained(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        start: str,
        name: str,
        *,
        carry: bool,
        speed: float,
    ) -> Any:
        """Train from the named policy, from wherever an interrupted fit stopped.

        carry    gradient steps: Adam's moments go on from the starting policy and are kept with the new one.
        """
        keeper, round = self.keeper, state.round
        done = keeper.finished(round, name)
        if done is not None:
            return done
        fit = self._fit(state, rows, anchors, objective, start, name, carry=carry, speed=speed)
        saved = keeper.resumed(round, name)
        if saved is not None:
            fit.resume(*saved)
        while fit.position < fit.steps:
            figures = fit.step()
            if fit.position == 1 and fit.step_zero is not None:
                keeper.check({"round": round, "fit": name, "step_zero_log_ratio": fit.step_zero})
            keeper.log(round, name, {"step": fit.position, **figures})
            if fit.position % self.training.save_every == 0 and fit.position < fit.steps:
                keeper.save(round, name, (fit.policy, fit.position, fit.memory))
        return keeper.keep(round, name, fit.policy if carry else Policy(fit.policy.parameters))

    def _fit(
        self,
        state: State,
        rows: Rows,
        anchors: Mapping[str, Tensor],
        objective: Objective,
        start: str,
        name: str,
        *,
        carry: bool,
        speed: float,
    ) -> Fit:
        if not isinstance(anchors, FrozenScores):
            if self.task.score.fresh and anchors:
                raise ValueError(
                    "anchors of a score with random numbers must come from the world's own `anchors`"
                )
            anchors = FrozenScores(self.task.score, self.examples, rows, anchors, {}, {})
        own = self.keeper.policy(state.policies[start])
        training = replace(self.training, lr=speed * self.training.lr)
        return Fit(
            self.task.score,
            self.examples,
            rows,
            anchors,
            objective,
            training,
            begin=own if carry else Policy(own.parameters),
            steps=-(-len(rows) // training.batch) if carry else training.steps,
            seed=self._seed(state.round),
            same=frozenset(n for n, policy in anchors.policies.items() if policy == state.policies[start]),
        )

    def _made(self, state: State, name: str, parameters: Parameters) -> Any:
        done = self.keeper.finished(state.round, name)
        return self.keeper.keep(state.round, name, Policy(parameters)) if done is None else done

    def _shifted(self, state: State, start: str, scale: float, direction: str, block: int) -> Parameters:
        own = {n: p.clone() for n, p in self.parameters(state, start).items()}
        shift(list(own.values()), scale, self.seeds("nudge", state.round, direction), block)
        return own


def _lists(recorded: Recorded) -> Rows:
    """Ranked lists as rows with rewards. Raises ValueError if none are recorded."""
    if recorded.lists is None or recorded.list_rewards is None:
        raise ValueError("this world has recorded pairs and no ranked lists")
    count, width = recorded.lists.shape
    return Rows(
        prompts=np.zeros(count, dtype=np.int64),
        responses=recorded.lists.astype(np.int64),
        weight=np.ones(count),
        writers=("recorded",) * width,
        reward=recorded.list_rewards.astype(np.float64),
    )
