"""Typed settings of a run; frozen, validated, hashed. Their sections are in `run.sections`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from equipoise.run.sections.data import DataSettings
from equipoise.run.sections.evaluation import EvaluateSettings
from equipoise.run.sections.judging import JudgingSettings, SandboxSettings
from equipoise.run.sections.model import ModelSettings
from equipoise.run.sections.play import PlaySettings
from equipoise.run.sections.sampling import SamplingSettings
from equipoise.run.sections.section import Section
from equipoise.run.sections.training import TrainSettings
from equipoise.worlds.text.folder.gate_list import ALLOWABLE

if TYPE_CHECKING:
    from equipoise.playground.choice import Game

# what may differ when a run goes on: how questions are asked and what may be let through, not what is trained
ASKING = ("concurrency", "retries", "failures", "store", "most_calls", "most_cost")
SANDBOX = ("isolation", "seconds", "wall", "memory", "concurrency")
# settings that a run decides by its data and model unless they are given (`run.defaults`)
AUTOMATIC = ("train.batch", "train.epochs", "train.lr", "sampling.max_new_tokens")
BATCH = 64  # comparisons per optimizer step where neither user nor method says
SERVERS = ("servers", "key")
MAY_CHANGE = frozenset(
    (
        *("allow", "track"),
        *(f"judging.{name}" for name in ASKING),
        *(f"sampling.{name}" for name in SERVERS),
        *(f"sandbox.{name}" for name in SANDBOX),
    )
)


T = TypeVar("T")


class RunConfig(Section):
    method: str = Field(description="a name of `equipoise methods`")
    seed: int = Field(0, description="seed of all random draws")
    oracle: str | None = Field(
        None,
        description="module:function, file.py:function, an oracle's YAML file, or a reward model's folder",
    )
    allow: list[str] = Field(
        default_factory=list,
        description="names of gates that may be closed, and of inputs that may change (docs/gates.md)",
    )
    track: list[Literal["trackio", "wandb", "tensorboard"]] = Field(
        default_factory=list,
        description="experiment trackers that are told the run's figures (pip install 'equipoise[track]'): trackio, "
        "wandb, tensorboard",
    )
    objective: dict[str, Any] = Field(default_factory=dict, description="the method's parameters")
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    play: PlaySettings = PlaySettings()
    train: TrainSettings = TrainSettings()
    sampling: SamplingSettings = SamplingSettings()
    judging: JudgingSettings = JudgingSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    sandbox: SandboxSettings = SandboxSettings()

    @property
    def playground(self) -> bool:
        """Neither model nor data: the built-in language game."""
        return self.model.path is None and self.data.path is None

    def game(self) -> Game | None:
        """The built-in language game of the panel; None for a run with a model or data of its own."""
        from equipoise.playground.choice import game_of  # loads PyTorch, which the settings alone do not need

        return game_of(self.play.panel, self.play.votes) if self.playground else None

    def start(self) -> str:
        """The model that the run starts from: a folder or a name on the hub."""
        from equipoise.playground.choice import start_of

        return self.model.path or str(start_of(self.play.panel, self.play.checkpoint))

    @property
    def divided(self) -> bool:
        """Whether several processes divide the model during a fit; none then loads it a second time to compare."""
        return self.train.sharding == "full"

    @model_validator(mode="after")
    def _one_loss(self) -> RunConfig:
        if self.evaluate.best == "loss" and self.play.rounds > 1:
            raise ValueError(
                "evaluate.best: every round has a loss of its own; with several rounds take accuracy"
            )
        return self

    @field_validator("allow")
    @classmethod
    def _known_gates(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in ALLOWABLE:
                near = get_close_matches(name, ALLOWABLE, n=1)
                hint = f"did you mean {near[0]!r}" if near else f"known: {', '.join(ALLOWABLE)}"
                raise ValueError(f"no gate {name!r}; {hint}")
        return names

    def plain(self) -> dict[str, Any]:
        return self.model_dump()  # not mode="json", which would turn an infinite clip into null

    def lasting(self) -> dict[str, Any]:
        """The settings by dotted names, but those that may change when the run goes on (`MAY_CHANGE`)."""
        return {name: value for name, value in flat(self.plain()).items() if name not in MAY_CHANGE}

    def hash(self) -> str:
        """Hash of the lasting settings; two runs with the same hash and data are the same run."""
        return hashlib.sha256(json.dumps(self.lasting(), sort_keys=True).encode()).hexdigest()[:16]


# names whose mappings hold settings; any other mapping is the value of one setting
SECTIONS = (
    "objective",
    *(n for n, field in RunConfig.model_fields.items() if isinstance(field.default, Section)),
)


def settled(value: T | Literal["auto"]) -> T:
    """A setting whose `auto` was decided (`run.defaults`). Raises ValueError if it was not."""
    if value == "auto":
        raise ValueError("a setting is still auto: it is decided once the data are read")
    return value


def flat(layer: Mapping[str, Any], prefix: str = "", sections: Sequence[str] = SECTIONS) -> dict[str, Any]:
    """Nested settings by dotted names; a mapping that is the value of one setting stays whole."""
    found: dict[str, Any] = {}
    for name, value in layer.items():
        if isinstance(value, Mapping) and prefix + str(name) in sections:
            found |= flat(value, f"{prefix}{name}.", sections)
        else:
            found[prefix + str(name)] = value
    return found
