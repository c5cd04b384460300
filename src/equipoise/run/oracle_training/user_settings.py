"""Settings of rewards for several users: `equipoise oracle train groups` and `equipoise oracle train pal`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from equipoise.data.reading.read import Dataset
from equipoise.reward_models.fit import Fitting
from equipoise.reward_models.train import Result
from equipoise.reward_models.users.group_training import Grouping, train_groups
from equipoise.reward_models.users.ideal_points import PalSettings
from equipoise.reward_models.users.pairs import begin_users
from equipoise.reward_models.users.pal_training import train_pal
from equipoise.run.config import ConfigError
from equipoise.run.sections.section import Section


class GroupSettings(Section):
    counts: list[int] = Field(
        [2],
        min_length=1,
        description="groups: candidates for the number of groups; the one with the lowest held-out log-loss is taken",
    )
    starts: int = Field(5, gt=0, description="groups: starts of EM; the likeliest result is taken")
    iterations: int = Field(10, gt=0, description="groups: iterations of EM")
    assignment: Literal["hard", "soft"] = Field(
        "hard", description="groups: each user in one group, or in all of them in shares"
    )
    ridge: float = Field(1.0, ge=0, description="groups: penalty of the linear rewards on the model's states")
    rounds: int = Field(
        0, ge=0, description="groups: rounds in which the model is trained too and users are assigned again"
    )


class PalPart(Section):
    form: Literal["a", "b"] = Field(
        "a",
        description="pal: a: ideal points, mixtures of prototypes; b: mixtures of functions of the prompt",
    )
    distance: Literal["l2", "angle"] = Field("l2", description="pal, form a: the reward's distance")
    loss: Literal["logistic", "hinge"] = Field("logistic", description="pal: loss of a pair's logit")
    prototypes: int = Field(2, gt=0, description="pal: number of prototypes K")
    latent: int = Field(16, gt=0, description="pal: width of the space of ideal points; the authors' is 512")
    steps: int = Field(600, gt=0, description="pal: optimizer steps")
    pairs: int = Field(256, gt=0, description="pal: pairs of a step")
    rate: float = Field(3e-3, gt=0, description="pal: learning rate of the projection")
    user_rate: float = Field(2e-2, gt=0, description="pal: learning rate of prototypes and users' weights")
    penalty: float = Field(1.0, ge=0, description="pal: of prototypes longer than 4")
    prior: float = Field(0.1, ge=0, description="pal: ridge penalty on a new user's weights")


TRAIN = ("head", "labels", "noise")  # sections of a reward model's settings that mean nothing here


def train_for_users(
    kind: str,
    model: str,
    config: Any,
    out: Path,
    *,
    dataset: Dataset,
    evaluation: Dataset | None,
    fitting: Fitting,
    report: Callable[[dict[str, Any]], None],
) -> Result:
    """Train rewards of groups of users, or PAL, as the settings say.

    Raises ConfigError for settings that do not apply.
    """
    wrong = [name for name in TRAIN if getattr(config, name).model_fields_set]
    if wrong:
        raise ConfigError(f"these settings do not apply to {kind}: {', '.join(wrong)}")
    if config.model.lora_rank:
        raise ConfigError(f"model.lora_rank does not apply to {kind}: it trains no adapter")
    pal = kind == "pal"
    if pal and config.train.model_fields_set - {"tokens"}:
        raise ConfigError("train.* does not apply to pal but for train.tokens; its settings are pal.*")
    grouping = None if pal else _grouping(config.groups)
    pairs = begin_users(
        model,
        dataset,
        out,
        held_out_share=config.data.held_out,
        evaluation=evaluation,
        allow_overlap=config.data.allow_overlap,
        max_length=config.data.max_length,
        seed=config.seed,
    )
    about = {"settings": config.model_dump()}
    if grouping is None:
        settings = PalSettings(**config.pal.model_dump())
        return train_pal(pairs, settings=settings, tokens=fitting.tokens, about=about)
    return train_groups(pairs, grouping=grouping, fitting=fitting, about=about, report=report)


def _grouping(given: GroupSettings) -> Grouping:
    if not all(count >= 1 for count in given.counts):
        raise ConfigError(f"groups.counts must be at least 1, got {given.counts}")
    return Grouping(
        counts=tuple(given.counts),
        starts=given.starts,
        iterations=given.iterations,
        hard=given.assignment == "hard",
        ridge=given.ridge,
        rounds=given.rounds,
    )
