"""Settings of the rounds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from equipoise.run.sections.section import Section


class PlaySettings(Section):
    rounds: int = Field(1, gt=0, description="rounds of the game")
    samples: int | None = Field(None, gt=0, description="responses per prompt; none: the method's default")
    prompts: int | None = Field(None, gt=0, description="prompts per online round; none: all")
    pairing: Literal[
        "method",
        "tournament",
        "disjoint",
        "all",
        "disjoint_bernoulli",
        "all_bernoulli",
        "matches",
        "scored",
        "best_worst",
        "reward",
        "reward_normalised",
    ] = Field(
        "method",
        description="how responses become comparisons; method: the method's default; reward: the oracle's scalar score "
        "of each response; reward_normalised: in standard deviations of the first round's, clamped to 10",
    )
    phases: dict[str, dict[str, Any]] | None = Field(
        None,
        description="methods played before the rounds, with their settings, such as [sft] or {sft: {epochs: 2}}; "
        "none: the method's own",
    )
    keep: int | None = Field(
        None,
        gt=0,
        description="rounds whose checkpoint is kept, the last ones; none: all; the initial policy stays, and so do "
        "the policy before the last round and that of the last evaluation before it",
    )
    teacher: str | None = Field(
        None,
        description="YAML file of a model behind an OpenAI-compatible server (model, base_url, key, temperature, ...) "
        "that writes a response to each prompt, in the place of the data's: for dno_prct and spin, which then need "
        "prompts alone",
    )
    panel: Literal[
        "intransitive",
        "transitive",
        "groups",
        "skewed",
        "bradley_terry",
        "length",
        "noisy",
        "gold_proxy",
        "users",
        "rare",
    ] = Field(
        "intransitive",
        description="playground only: who judges; groups: two groups of users of unequal size; from skewed on: the "
        "panels of the large tea house",
    )
    votes: int = Field(
        0,
        ge=0,
        description="large tea house only: a verdict is the share of so many votes of its judges; 0: the exact "
        "probability, and of panel noisy three votes",
    )
    checkpoint: Literal["weak", "mid", "strong"] = Field(
        "mid", description="large tea house only: which of its three models plays"
    )

    @model_validator(mode="after")
    def _of_the_large_house(self) -> PlaySettings:
        large = self.panel not in ("intransitive", "transitive", "groups")
        for name, default in (("votes", 0), ("checkpoint", "mid")):
            if not large and getattr(self, name) != default:
                raise ValueError(
                    f"{name} is of the large tea house: choose one of its panels, such as panel=skewed"
                )
        return self

    @field_validator("phases", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        """A list of names means phases without settings."""
        names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return {name: {} for name in value} if names else value
