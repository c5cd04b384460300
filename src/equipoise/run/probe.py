"""Time of a run by a probe: two small rounds of the method itself in a folder that is thrown away.

The second round is measured, since the first one also pays for caches. Every phase is scaled by what it works on:
prompts for sampling and judging, comparisons for anchors and training, prompts again for evaluation.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from equipoise.evaluate.text import Evaluator
from equipoise.oracles.asking import Asking
from equipoise.oracles.checked import unwrapped
from equipoise.oracles.questioner import Mirrored
from equipoise.play.round import play_round
from equipoise.policy.scoring.microbatch import bytes_per_token
from equipoise.run.assembly import build
from equipoise.run.config import ConfigError
from equipoise.run.costs import Memory
from equipoise.run.materials import Materials
from equipoise.run.settings import RunConfig
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
    """

    seconds: dict[str, float]
    comparisons: int
    fits: int
    steps: int
    checkpoint: float
    token_bytes: float

    def refined(self, memory: Memory, tokens: float) -> Memory:
        """The estimate with the measured bytes of a micro-batch's activations."""
        return memory.with_activations(tokens * self.token_bytes)


class _Clock:
    """Seconds by (round, phase)."""

    def __init__(self) -> None:
        self.spent: dict[tuple[int, str], float] = defaultdict(float)

    def record(self, round: int, phase: str, seconds: float, tokens: int) -> None:
        self.spent[round, phase] += seconds

    def of(self, round: int) -> dict[str, float]:
        return {phase: seconds for (at, phase), seconds in self.spent.items() if at == round}


def probe(config: RunConfig, materials: Materials, accelerator: Accelerator, folder: Path) -> Probe:
    """Play two small rounds and an evaluation in a temporary folder.

    Raises ConfigError if people would be asked.
    """
    oracle = unwrapped(materials.oracle)
    if isinstance(oracle, Asking) and isinstance(oracle.questioner, Mirrored):
        raise ConfigError(
            f"{oracle.name}: a plan plays two small rounds, and people are not asked for one; plan with a rule as the "
            "oracle"
        )
    clock, begun = _Clock(), time.perf_counter()
    few, share = _few(config, materials)
    small, evaluator = build(config, few, folder, Progress(clock.record, quiet=True), accelerator)
    clock.spent[2, "loading"] = time.perf_counter() - begun
    tokens = min(config.sampling.max_new_tokens, NEW_TOKENS)
    world = replace(
        small,
        decoding=replace(small.decoding, max_new_tokens=tokens),
        prompts_per_round=min(len(few.pool), PROMPTS),
    )
    evaluator = replace(evaluator, world=world)
    played = _played(materials, world, evaluator, clock)
    return _scaled(config, materials, clock, share, bytes_per_token(small.policy), *played)


def _few(config: RunConfig, materials: Materials) -> tuple[Materials, float]:
    """Materials of a small round, evenly spread over the whole; and how many times the whole is larger."""
    pairs, share = materials.pairs, 1.0
    if pairs is not None:
        count = min(len(pairs), max(config.train.batch, PROMPTS))
        share = len(pairs) / count
        pairs = pairs.take(np.arange(count) * len(pairs) // count)
    held = materials.held_out
    held = held if held is None else held.take(np.arange(min(len(held), PROMPTS)))
    return replace(materials, pairs=pairs, unseen=_spread(materials.unseen), held_out=held), share


def _spread(prompts: Sequence[object]) -> list:  # type: ignore[type-arg]
    count = min(len(prompts), PROMPTS)
    return [prompts[i * len(prompts) // count] for i in range(count)]


def _played(
    materials: Materials, world: TextWorld, evaluator: Evaluator, clock: _Clock
) -> tuple[int, int, float, dict[str, float]]:
    """(comparisons, fits, checkpoint bytes, seconds of evaluation by phase) of the second of two small rounds."""
    method = materials.method
    state = world.begin(method.update.memory, keep_past=method.asks_the_past)
    evaluator.measure(state)
    for _ in range(2):
        state = play_round(method, world, state)
    before = clock.of(2)
    evaluator.measure(state)
    measured = {phase: spent - before.get(phase, 0.0) for phase, spent in clock.of(2).items()}
    for phase, spent in measured.items():
        clock.spent[2, phase] -= spent
    rows = world.journal.load(world.journal.stage(2, "judging"))
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
    recorded = bool(materials.method.players.needs.records)
    prompts = min(config.play.prompts or len(materials.pool), len(materials.pool))
    times = share if recorded else prompts / min(len(materials.pool), PROMPTS)
    longer = config.sampling.max_new_tokens / min(config.sampling.max_new_tokens, NEW_TOKENS)
    rounds, total = config.play.rounds, max(1, round(comparisons * times))
    loading = clock.spent.pop((2, "loading"))
    seconds = {
        phase: spent * rounds * (1 if phase == "writing" else times) * (longer if phase == "sampling" else 1)
        for phase, spent in clock.of(2).items()
    }
    seconds["loading"] = loading
    seconds["writing"] = seconds.get("writing", 0.0) * (rounds + 1) / rounds  # and the initial policy
    boundaries = 1 + math.ceil(rounds / config.evaluate.every)
    wider = len(materials.unseen) / max(1, min(len(materials.unseen), PROMPTS))
    seconds["evaluating"] = sum(evaluation.values()) * boundaries * wider * longer
    return Probe(
        seconds={phase: spent for phase, spent in seconds.items() if spent > 0},
        comparisons=total,
        fits=fits,
        steps=fits * config.train.epochs * math.ceil(total / config.train.batch),
        checkpoint=written,
        token_bytes=token_bytes,
    )
