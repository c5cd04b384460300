"""Settings of a run in a world beyond language; typed, frozen, hashed. A world's own ones are its dataclass."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from equipoise.play.method import Method
from equipoise.run.config import ConfigError, full_name, like
from equipoise.run.config_errors import illegal
from equipoise.run.sections.section import Section
from equipoise.run.settings import flat
from equipoise.worlds.index import Choice

SECTIONS = ("objective", "task", "play", "train", "evaluate")
MAY_CHANGE = ("train.save_every",)


class WorldPlay(Section):
    rounds: int = Field(1, ge=1, description="rounds of the run")
    prompts: int = Field(64, ge=1, description="prompts (starting states) of a round that samples its policy")
    samples: int | None = Field(None, ge=1, description="examples for each prompt; none: the method's")


class WorldTrain(Section):
    steps: int = Field(
        500, ge=1, description="optimizer steps of a fit; a descent is one pass over its comparisons"
    )
    batch: int = Field(64, ge=1, description="comparisons per optimizer step")
    lr: float = Field(1e-3, gt=0, description="peak learning rate of AdamW")
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="of the learning rate")
    warmup: float = Field(0.0, ge=0, le=1, description="share of a fit's steps that rise to the peak")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    beta1: float = Field(0.9, ge=0, lt=1, description="of AdamW")
    beta2: float = Field(0.999, ge=0, lt=1, description="of AdamW")
    eps: float = Field(1e-8, gt=0, description="of AdamW")
    clip: float = Field(math.inf, gt=0, description="maximal global gradient norm")
    save_every: int = Field(500, ge=1, description="steps between saved positions inside a fit")


class WorldEvaluate(Section):
    every: int = Field(1, ge=1, description="rounds between evaluations; the last one is always evaluated")


class WorldConfig(Section):
    """A run's settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    world: str
    seed: int = 0
    objective: dict[str, Any] = Field(default_factory=dict)
    task: dict[str, Any] = Field(default_factory=dict)
    play: WorldPlay = WorldPlay()
    train: WorldTrain = WorldTrain()
    evaluate: WorldEvaluate = WorldEvaluate()

    def plain(self) -> dict[str, Any]:
        return self.model_dump()

    def lasting(self) -> dict[str, Any]:
        """The settings by dotted names, but those that may change when the run goes on."""
        named = flat(self.plain(), sections=SECTIONS)
        return {name: value for name, value in named.items() if name not in MAY_CHANGE}

    def hash(self) -> str:
        """Hash of the lasting settings."""
        return hashlib.sha256(json.dumps(self.lasting(), sort_keys=True).encode()).hexdigest()[:16]


def resolve(method: Method, choice: Choice, *layers: Mapping[str, Any]) -> WorldConfig:
    """Defaults of the package, the world and the method, then the layers, by dotted or short names.

    Raises ConfigError for an unknown or illegal setting.
    """
    own = {f.name: f.type for f in fields(choice.settings())}
    known = ["seed", "method", "world"]
    known += [f"objective.{name}" for name in method.parameters()]
    for section, model in (("play", WorldPlay), ("train", WorldTrain), ("evaluate", WorldEvaluate)):
        known += [f"{section}.{name}" for name in model.model_fields]
    known += [f"task.{name}" for name in own]
    given: dict[str, Any] = {}
    for layer in layers:
        named = {n: v for n, v in flat(layer, sections=SECTIONS).items() if v is not None}
        given |= {full_name(name, known): value for name, value in named.items()}
    for name, stated in (("method", method.name), ("world", choice.name)):
        if given.setdefault(name, stated) != stated:
            raise ConfigError(f"the configuration is for {name} {given[name]!r}, not for {stated!r}")
    defaults = asdict(choice.training())
    chosen: dict[str, Any] = {"play.rounds": method.rounds}
    chosen |= {f"train.{name}": value for name, value in defaults.items()}
    chosen |= {f"objective.{name}": value for name, value in method.settings().items()}
    ours = choice.defaults.get("", {}).items()
    chosen |= {name: value for name, value in ours if name in chosen} | dict(
        choice.defaults.get(method.name, {})
    )
    for name, default in method.parameters().items():
        if f"objective.{name}" in given:
            given[f"objective.{name}"] = like(default, given[f"objective.{name}"])
    nested: dict[str, Any] = {}
    for name, value in (chosen | given).items():
        section, _, leaf = name.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[leaf] = value
    nested["task"] = task_settings(choice, nested.get("task", {}))
    try:
        config = WorldConfig.model_validate(nested)
    except ValidationError as error:
        raise ConfigError(illegal(error, WorldConfig)) from error
    try:
        method.with_parameters(config.objective)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"objective: {error}") from error
    return config


def task_settings(choice: Choice, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a world as plain values. Raises ConfigError for an illegal one."""
    kind = choice.settings()
    try:
        return asdict(TypeAdapter(kind).validate_python(dict(given)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(["task", *map(str, first["loc"])])
        raise ConfigError(f"{place}: {first['msg']}, got {first.get('input')!r}") from error
