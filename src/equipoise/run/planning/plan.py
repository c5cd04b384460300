"""Cost of a run before it begins: memory, time, optimizer steps, disk, and what to change where it does not fit."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

from equipoise.oracles.checked import unwrapped
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.verdicts import VerdictStore
from equipoise.policy.protocol import Measured
from equipoise.run.assembly import launch
from equipoise.run.gate_checks import before_a_model, steps
from equipoise.run.gathering.oracle import VERDICTS
from equipoise.run.materials import Materials, gather
from equipoise.run.planning.costs import (
    Memory,
    advice,
    checkpoint_bytes,
    checkpoints_kept,
    clock,
    gib,
    held_tokens,
    machine_bytes,
    memory_of,
    micro_batch_tokens,
    recorded_steps,
    resident,
    shape_of,
)
from equipoise.run.planning.defaults import decide
from equipoise.run.planning.probe import Questions, probe
from equipoise.run.settings import RunConfig, settled


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a run. Bytes, seconds.

    memory, machine    at the peak, by what it holds; of the device that trains.
    per_round, total   optimizer steps; None where they depend on what is sampled and nothing was probed.
    chosen             the settings that were decided by data and model, as one sentence; "" if all were given.
    seconds            by phase, of the whole run; empty without a probe.
    disk, free         what the run folder will hold, what the disk has.
    asked              questions to an oracle of single questions by stage; empty for other oracles, None: not counted.
    stored             (verdicts, cost) of this oracle in the store that the run would use.
    """

    method: str
    rounds: int
    parameters: int
    memory: Memory
    machine: float
    comparisons: int | None
    per_round: int | None
    batch: int
    chosen: str
    seconds: dict[str, float]
    checkpoints: int
    disk: float
    free: float
    asked: dict[str, Questions] | None
    stored: tuple[int, float]
    advice: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def total(self) -> int | None:
        return None if self.per_round is None else self.per_round * self.rounds

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.machine and self.disk <= self.free

    def as_json(self) -> dict[str, Any]:
        totals = {
            "steps": self.total,
            "fits": self.fits,
            "memory_bytes": self.memory.total,
            "total_seconds": sum(self.seconds.values()) if self.seconds else None,
        }
        return asdict(self) | totals

    def lines(self) -> list[str]:
        """The plan for people, one sentence a line."""
        m = self.memory
        said = [
            f"memory    about {gib(m.total)} of {gib(self.machine)} at the peak: weights {gib(m.weights)}, gradients "
            f"{gib(m.gradients)}, optimizer {gib(m.optimizer)}, activations of a micro-batch {gib(m.activations)}, "
            f"while sampling {gib(m.sampling)} of keys, values and packed weights, libraries and reward model "
            f"{gib(m.base)}"
            + (
                f"; this is each of {m.shares} processes, whose fits hold {gib(m.weights / m.shares)} of weights and "
                f"{gib(m.gathered)} of what is gathered"
                if m.shares > 1
                else ""
            )
            + (f"; at load {gib(m.second)} for a second model, to compare with" if m.second else ""),
            "time      "
            + (
                f"about {clock(sum(self.seconds.values()))} for the whole run: "
                + ", ".join(
                    f"{phase} {clock(s)}" for phase, s in sorted(self.seconds.items(), key=lambda i: -i[1])
                )
                if self.seconds
                else "not measured: the model does not fit here"
            ),
            f"steps     {_steps(self)}",
            *([f"chosen    {self.chosen}, by the data and the model"] if self.chosen else []),
            f"disk      about {gib(self.disk)} for {self.checkpoints:,} checkpoints, of {gib(self.free)} free"
            + (
                ""
                if self.disk <= self.free
                else "; it does not fit: set play.keep=1 to keep the last round's only"
            ),
        ]
        said += oracle_lines(self.asked, self.stored)
        said += [f"warning   {sentence}" for sentence in self.warnings]
        said += [f"to fit    {sentence}" for sentence in self.advice]
        return said


def plan(config: RunConfig, out: Path | None = None, processes: int = 1) -> Plan:
    """Plan a run without beginning it; short probes run in a temporary folder, which is removed.

    out          where the run folder would be, for the free space of its disk.
    processes    that will share the run: with train.sharding=full, memory is that of one of them.
    Raises as `align` does for what it would refuse before compute is spent.
    """
    disable_progress_bar()
    accelerator = launch()
    with tempfile.TemporaryDirectory(prefix="equipoise-plan-") as name:
        folder = Path(name)
        materials = gather(config, folder)
        decided = decide(config, materials)
        config = decided.config
        warned = [found for found in before_a_model(config, materials) if not found.passed]
        shape = shape_of(config)
        machine = machine_bytes(accelerator.device.type)
        tokens, held = micro_batch_tokens(config, materials), held_tokens(config, materials)
        memory = memory_of(config, shape, tokens, held, resident(), accelerator.device.type, processes)
        # the probe is one process, which divides nothing
        alone = memory_of(config, shape, tokens, held, memory.base, accelerator.device.type)
        measured = probe(config, materials, accelerator, folder / "run") if alone.total <= machine else None
        if measured:  # what is imported late, and what allocators keep, is only seen afterwards
            memory = replace(memory, base=max(memory.base, resident() - memory.weights))
        checkpoint = measured.checkpoint if measured else checkpoint_bytes(config, shape)
        per_round = measured.steps if measured else recorded_steps(config, materials)
        if per_round is not None:
            found = steps(per_round // (measured.fits if measured else 1), materials.method, config)
            warned += [] if found.passed else [found]
        return Plan(
            method=config.method,
            rounds=config.play.rounds,
            parameters=shape.parameters,
            memory=measured.refined(memory, tokens) if measured else memory,
            machine=machine,
            comparisons=measured.comparisons if measured else None,
            per_round=per_round,
            batch=settled(config.train.batch),
            chosen=decided.sentence,
            seconds=measured.seconds if measured else {},
            checkpoints=checkpoints_kept(config),
            disk=checkpoint * checkpoints_kept(config) + 3 * checkpoint_bytes(config, shape),
            free=float(shutil.disk_usage(_existing(out or Path.cwd())).free),
            asked=dict(measured.asked) if measured else None,
            stored=_stored(materials, out),
            advice=tuple(advice(config, materials, shape, memory, machine, processes)),
            warnings=tuple(map(_sentence, warned)),
        )


def oracle_lines(asked: dict[str, Questions] | None, stored: tuple[int, float]) -> list[str]:
    """What will be asked of an oracle of single questions, for people; nothing for any other oracle."""
    if not asked:
        return []
    total = sum(stage.questions for stage in asked.values())
    stages = ", ".join(f"{name} {stage.questions:,}" for name, stage in asked.items())
    said = [f"oracle    at most about {total:,} questions ({stages}); equal ones are asked once"]
    tokens = [
        sum(getattr(stage, name) for stage in asked.values()) for name in ("input_tokens", "output_tokens")
    ]
    if any(tokens):
        cost = sum(stage.cost for stage in asked.values())
        price = f"about {cost:,.4g} by the file's price" if cost else "no price is set in its file"
        said.append(
            f"price     {price}: an estimate from {tokens[0]:,.0f} tokens read (four characters each) and at most "
            f"{tokens[1]:,.0f} written; nothing was asked for this plan, and the judge's time is not in it"
        )
    if stored[0]:
        said.append(
            f"stored    {stored[0]:,} verdicts of this oracle ({stored[1]:,.4g} spent); which of them the run meets "
            "again is only known once it has sampled"
        )
    return said


def _stored(materials: Materials, out: Path | None) -> tuple[int, float]:
    """(verdicts, cost) of the run's oracle: in the store that the settings name, or in that of the run folder."""
    asking = unwrapped(materials.oracle)
    if not isinstance(asking, Asking):
        return 0, 0.0
    own = None if out is None else out / VERDICTS
    store = VerdictStore(own) if own is not None and own.is_file() else asking.store
    return store.spent(asking.fingerprint)


def _steps(plan: Plan) -> str:
    if plan.total is None or plan.per_round is None:
        return f"unknown: they depend on what is sampled; batches of {plan.batch:,} comparisons"
    of = f"{plan.comparisons:,} comparisons" if plan.comparisons is not None else "the comparisons of a round"
    one = "ONE optimizer step" if plan.per_round == 1 else f"{plan.per_round:,} optimizer steps"
    rounds = f"{plan.rounds:,} round{'s' * (plan.rounds != 1)}"
    return f"{plan.total:,} in {rounds}: {of} in batches of {plan.batch:,} are {one} a round"


def _sentence(found: Measured) -> str:
    return f"{found.sentence} (gate {found.name})"


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
