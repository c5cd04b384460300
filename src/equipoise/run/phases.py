"""Phases before the rounds: methods such as SFT that make the policy which the run starts from.

Each phase is a run of its own in `phases/<name>` of the run folder, resumed like any other, with the run's model, data
and seed; its last checkpoint is where the next one starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.methods.index import get
from equipoise.play.method import Phase
from equipoise.run.config import ConfigError, resolve
from equipoise.run.settings import RunConfig

SHARED = ("model", "data")  # sections that a phase takes over from the run
OF_THE_GAME = ("panel", "votes", "checkpoint")  # settings of play that it takes over on the playground


@dataclass(frozen=True)
class Part:
    """A phase as a part of its run: its name, the method of the whole run, and the rounds that follow after it."""

    name: str
    whole: str
    after: int


def part_of(config: RunConfig, phases: Mapping[str, RunConfig], name: str) -> Part:
    """The phase of this name among those of a run, in their order."""
    later = list(phases)[list(phases).index(name) + 1 :]
    after = config.play.rounds + sum(phases[other].play.rounds for other in later)
    return Part(name, config.method, after)


def phases_of(config: RunConfig) -> tuple[Phase, ...]:
    """The phases that are set, or else the method's own."""
    if config.play.phases is None:
        return get(config.method).phases
    return tuple(Phase(name=name, method=name, settings=more) for name, more in config.play.phases.items())


def configuration(config: RunConfig, phase: Phase) -> RunConfig:
    """A phase's configuration: the run's model, data, oracle, seed and `allow`, its own method's defaults and settings.

    On the playground the phase's data are of the run's panel.

    Raises ConfigError naming the phase.
    """
    plain = config.plain()
    shared: Mapping[str, Any] = {name: plain[name] for name in SHARED}
    given: dict[str, Any] = {"seed": config.seed, "oracle": config.oracle, "allow": config.allow}
    given |= {f"play.{name}": plain["play"][name] for name in OF_THE_GAME} if config.playground else {}
    try:
        made = resolve(phase.method, shared, given, phase.settings)
    except ConfigError as error:
        raise ConfigError(f"phase {phase.name}: {error}") from error
    if phases_of(made):
        raise ConfigError(f"phase {phase.name}: a phase has no phases before it")
    return made
