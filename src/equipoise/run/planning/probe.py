"""Time of a run by a probe: two small rounds of the method itself in a folder that is thrown away.

The second round is measured, since the first one also pays for caches. Every phase is scaled by what it works on:
prompts for sampling and judging, comparisons for anchors and training, prompts again for evaluation.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from equipoise.evaluate.text import Evaluator
from equipoise.oracles.checked import Checked, unwrapped
from equipoise.oracles.protocol import Oracle
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.dry_run import Asked, DryRun
from equipoise.play.round import play_round
from equipoise.policy.scoring.microbatch import bytes_per_token
from equipoise.run.assembly import build
from equipoise.run.materials import Materials
from equipoise.run.planning.costs import Memory, steps_of
from equipoise.run.settings import RunConfig, settled
from equipoise.worlds.text.folder import row_files
from equipoise.worlds.text.progress import Progress
from equipoise.worlds.text.world import TextWorld

PROMPTS = 8  # of a small round
NEW_TOKENS = 64  # of its responses, at most


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What two small rounds show of a whole run.

    seconds        of the whole run, by phase.
    comparisons    of a round.       fits    trainings in a round.       steps   optimizer steps of a round.
    checkpoint     bytes of a round's checkpoint.
    token_bytes    bytes a token that a forward pass keeps for the backward.
    asked          questions to the oracle of the whole run, by stage; empty where it is none of single questions.
    """

    seconds: dict[str, float]
    comparisons: int
    fits: int
    steps: int
    checkpoint: float
    token_bytes: float
    asked: Mapping[str, Questions]

    def refined(self, memory: Memory, tokens: float) -> Memory:
        """The estimate with the measured bytes of a micro-batch's activations."""
        return memory.with_activations(tokens * self.token_bytes)


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Questions of one stage, at most, with their tokens and cost as estimated from lengths; 0 where none is priced."""

    questions: int
    input_tokens: float
    output_tokens: float
    cost: float

    @classmethod
    def of(cls, asked: Asked, longer: float) -> Questions:
        found = asked.estimate(longer)
        return cls(
            questions=math.ceil(asked.questions),
            input_tokens=found.input,
            output_tokens=found.output,
            cost=found.cost,
        )


class _Clock:
    """Seconds by (round, phase)."""

    def __init__(self) -> None:
        self.spent: dict[tuple[int, str], float] = defaultdict(float)

    def record(self, round: int, phase: str, seconds: float, tokens: int) -> None:
        self.spent[round, phase] += seconds

    def of(self, round: int) -> dict[str, float]:
        return {phase: seconds for (at, phase), seconds in self.spent.items() if at == round}


def probe(config: RunConfig, materials: Materials, accelerator: Accelerator, folder: Path) -> Probe:
    """Play two small rounds and an evaluation in a temporary folder."""
    clock, begun = _Clock(), time.perf_counter()
    few, share = _few(config, materials)
    few = replace(few, oracle=counting(materials.oracle))
    small, evaluator = build(config, few, folder, Progress(clock.record, quiet=True), accelerator)
    clock.spent[2, "loading"] = time.perf_counter() - begun
    tokens = min(settled(config.sampling.max_new_tokens), NEW_TOKENS)
    world = replace(
        small,
        decoding=replace(small.decoding, max_new_tokens=tokens),
        prompts_per_round=min(len(few.pool), PROMPTS),
    )
    evaluator = replace(evaluator, world=world)
    asked: dict[str, Asked] = {}
    played = _played(few, world, evaluator, clock, asked)
    found = _scaled(config, materials, clock, share, bytes_per_token(small.policy), *played)
    return replace(found, asked=_all_asked(config, materials, asked, share))


def counting(oracle: Oracle | None) -> Oracle | None:
    """The same oracle, but an oracle of single questions counts them, and is not asked if that costs money."""
    asking = unwrapped(oracle)
    return DryRun(oracle, asking) if isinstance(asking, Asking) and isinstance(oracle, Checked) else oracle


def _all_asked(
    config: RunConfig, materials: Materials, asked: Mapping[str, Asked], share: float
) -> dict[str, Questions]:
    """The whole run's questions, from those of one small round and one small evaluation."""
    longer, rounds = _longer(config), config.play.rounds
    if not asked:
        return {}
    played = asked["rounds"] * (_times(config, materials, share) * rounds)
    evaluated = asked["start"] + asked["evaluation"] * _evaluated_rounds(config)
    stages = {"evaluation": evaluated * _larger(materials), "rounds": played}
    return {stage: Questions.of(whole, longer) for stage, whole in stages.items()}


def _few(config: RunConfig, materials: Materials) -> tuple[Materials, float]:
    """Materials of a small round, evenly spread over the whole; and how many times the whole is larger."""
    pairs, share = materials.pairs, 1.0
    if pairs is not None:
        count = min(len(pairs), max(settled(config.train.batch), PROMPTS))
        share = len(pairs) / count
        pairs = pairs.take(np.arange(count) * len(pairs) // count)
    held = materials.held_out
    held = held if held is None else held.take(np.arange(min(len(held), PROMPTS)))
    return replace(materials, pairs=pairs, unseen=_spread(materials.unseen), held_out=held), share


def _spread(prompts: Sequence[object]) -> list:  # type: ignore[type-arg]
    count = min(len(prompts), PROMPTS)
    return [prompts[i * len(prompts) // count] for i in range(count)]


def _played(
    materials: Materials, world: TextWorld, evaluator: Evaluator, clock: _Clock, asked: dict[str, Asked]
) -> tuple[int, int, float, dict[str, float]]:
    """(comparisons, fits, checkpoint bytes, seconds of evaluation by phase) of the second of two small rounds."""
    method = materials.method
    state = world.begin(method.update.memory, keep_past=method.asks_the_past)
    counted = materials.oracle if isinstance(materials.oracle, DryRun) else None
    evaluator.measure(state)
    if counted is not None:
        asked["start"] = counted.taken()
    for _ in range(2):
        if counted is not None:
            counted.taken()
        state = play_round(method, world, state)
    if counted is not None:
        asked["rounds"] = counted.taken()
    before = clock.of(2)
    evaluator.measure(state)
    if counted is not None:
        asked["evaluation"] = counted.taken()
    measured = {phase: spent - before.get(phase, 0.0) for phase, spent in clock.of(2).items()}
    for phase, spent in measured.items():
        clock.spent[2, phase] -= spent
    rows = row_files.load(world.journal, world.journal.stage(2, "judging"))
    lines = [line for line in world.journal.lines("metrics.jsonl") if line["round"] == 2]
    fits = len({line.get("fit") for line in lines})
    written = sum(f.stat().st_size for f in world.journal.checkpoint(2).rglob("*") if f.is_file())
    return len(rows), fits, float(written), measured


def _scaled(
    config: RunConfig,
    materials: Materials,
    clock: _Clock,
    share: float,
    token_bytes: float,
    comparisons: int,
    fits: int,
    written: float,
    evaluation: dict[str, float],
) -> Probe:
    times, longer = _times(config, materials, share), _longer(config)
    rounds, total = config.play.rounds, max(1, round(comparisons * times))
    loading = clock.spent.pop((2, "loading"))
    seconds = {
        phase: spent * rounds * (1 if phase == "writing" else times) * (longer if phase == "sampling" else 1)
        for phase, spent in clock.of(2).items()
    }
    seconds["loading"] = loading
    seconds["writing"] = seconds.get("writing", 0.0) * (rounds + 1) / rounds  # and the initial policy
    evaluations = (1 + _evaluated_rounds(config)) * _larger(materials)
    seconds["evaluating"] = sum(evaluation.values()) * evaluations * longer
    return Probe(
        seconds={phase: spent for phase, spent in seconds.items() if spent > 0},
        comparisons=total,
        fits=fits,
        steps=fits * steps_of(config, total),
        checkpoint=written,
        token_bytes=token_bytes,
        asked={},
    )


def _times(config: RunConfig, materials: Materials, share: float) -> float:
    """How many times a round is larger than the small one."""
    prompts = min(config.play.prompts or len(materials.pool), len(materials.pool))
    recorded = bool(materials.method.players.needs.records)
    return share if recorded else prompts / min(len(materials.pool), PROMPTS)


def _evaluated_rounds(config: RunConfig) -> int:
    """Rounds after which the policy is evaluated; the start, of which no comparison is asked, is not among them."""
    return math.ceil(config.play.rounds / config.evaluate.every)


def _larger(materials: Materials) -> float:
    """How many times an evaluation is larger than a small one."""
    return len(materials.unseen) / max(1, min(len(materials.unseen), PROMPTS))


def _longer(config: RunConfig) -> float:
    """How many times responses may be longer than those of a small round."""
    tokens = settled(config.sampling.max_new_tokens)
    return tokens / min(tokens, NEW_TOKENS)
