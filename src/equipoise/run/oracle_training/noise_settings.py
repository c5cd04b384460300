"""Settings of `equipoise oracle train` for noisy labels, and what the training does about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from equipoise.data.reading.read import Dataset
from equipoise.data.records import oracle_context
from equipoise.models.errors import ModelError
from equipoise.reward_models.batches import padded
from equipoise.reward_models.ensemble import Ensemble, read_strengths, write_strengths
from equipoise.reward_models.fit import Fitting, Remedies
from equipoise.reward_models.head import Head
from equipoise.reward_models.model import RewardModel
from equipoise.reward_models.noise import Recipe, Strength
from equipoise.reward_models.pairs import LabelledPair
from equipoise.reward_models.remedies import (
    Contrast,
    ContrastiveLoss,
    MetaStep,
    check_applies,
    remedies_of,
)
from equipoise.reward_models.start import Beginning
from equipoise.reward_models.train import Treat
from equipoise.run.config import ConfigError
from equipoise.run.sections.section import Section

STRENGTHS = "strengths.jsonl"  # in the folder of the reward model


class NoiseSettings(Section):
    flip: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of labels to turn round, those that an ensemble denies most; 0.2 in the paper",
    )
    margin: bool = Field(False, description="whether every pair must win by the ensemble's mean margin")
    smooth_on: Literal["all", "negative"] = Field(
        "all",
        description="pairs that labels.smoothing applies to; negative: those whose label the ensemble denies",
    )
    strength: str | None = Field(
        None,
        description=f"file of strengths ({STRENGTHS} of an earlier training); none: an ensemble is trained",
    )
    models: int = Field(10, ge=1, description="reward models of the ensemble")
    folds: int = Field(
        1, ge=1, description="1: models judge the pairs they learnt from; more: each pair is judged by models that did "
        "not see its prompt"
    )  # fmt: skip
    contrastive: Literal["none", "simcse", "swav"] = Field(
        "none", description="contrastive loss on two dropout views of the pairs"
    )
    contrastive_on: Literal["difference", "responses"] = Field(
        "difference", description="what is contrasted: chosen less rejected, or each response"
    )
    contrastive_weight: float = Field(0.1, gt=0, description="weight of the contrastive loss")
    contrastive_dropout: float = Field(
        0.1, gt=0, lt=1, description="dropout of the views, for a model that has none of its own"
    )
    clusters: int = Field(16, ge=2, description="swav: clusters")
    meta: float = Field(
        0.0,
        ge=0,
        description="MetaRM: step up the spread of rewards of meta_responses at which gradients are taken",
    )
    meta_responses: list[str] = Field(
        default_factory=list,
        description="MetaRM: files with several responses of the current policy to a prompt",
    )
    meta_prompts: int = Field(8, ge=1, description="MetaRM: prompts of one step")


def treatment(
    noise: NoiseSettings,
    smoothing: float,
    head: Head,
    make: Callable[[int], RewardModel],
    *,
    seed: int,
    read: Callable[[Sequence[str]], Dataset],
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Treat:
    """What `train` does about noise, decided when its training pairs are known.

    make   seed -> a reward model before its training, for the ensemble
    read   files of responses -> their records

    Raises ConfigError or ModelError, before anything is trained, for settings that do not go together.
    """
    recipe = Recipe(flip=noise.flip, smooth=smoothing, smooth_on=noise.smooth_on, margin=noise.margin)
    if noise.smooth_on == "negative" and not smoothing:
        raise ConfigError("noise.smooth_on says where labels.smoothing applies, which is 0; set both")
    if noise.strength and not recipe.reads_strength:
        raise ConfigError(
            "noise.strength is read for flip, margin or smooth_on=negative, and none of them is set"
        )
    if bool(noise.meta) != bool(noise.meta_responses):
        raise ConfigError("MetaRM needs noise.meta, the size of its step, and noise.meta_responses; set both")
    if noise.strength and not Path(noise.strength).is_file():
        raise ConfigError(f"noise.strength: there is no file {noise.strength}")
    check_applies(
        head, strength=recipe.reads_strength, contrast=noise.contrastive != "none", meta=bool(noise.meta)
    )
    sampled = read(noise.meta_responses) if noise.meta_responses else None

    def decide(
        beginning: Beginning, pairs: Sequence[LabelledPair], fitting: Fitting, folder: Path
    ) -> Remedies:
        strength: Strength | None = None
        contrast = _contrast(noise, beginning.model, pairs, seed)
        meta = None
        if sampled is not None:
            written = _written(sampled, beginning)
            meta = MetaStep(written, rate=noise.meta, prompts=noise.meta_prompts, seed=seed)
        if recipe.reads_strength and noise.strength:
            strength = read_strengths(noise.strength, pairs)
        elif recipe.reads_strength:
            ensemble = Ensemble(models=noise.models, folds=noise.folds)
            strength = ensemble.strength(make, pairs, fitting=fitting, seed=seed, report=report)
        if strength is not None:
            write_strengths(folder / STRENGTHS, pairs, strength)
        return remedies_of(pairs, recipe, strength, contrast=contrast, meta=meta)

    return decide


def _contrast(
    noise: NoiseSettings, model: RewardModel, pairs: Sequence[LabelledPair], seed: int
) -> ContrastiveLoss | None:
    if noise.contrastive == "none":
        return None
    with torch.no_grad():
        states = model.read(*padded([pairs[0].tokens[0]], model.pad), states=True).states
    assert states is not None
    settings = Contrast(
        term=noise.contrastive,
        on=noise.contrastive_on,
        weight=noise.contrastive_weight,
        dropout=noise.contrastive_dropout,
        clusters=noise.clusters,
    )
    return ContrastiveLoss(settings, states.shape[1], seed)


def _written(sampled: Dataset, beginning: Beginning) -> list[list[tuple[int, ...]]]:
    """The tokens of all different responses to each prompt, where there are two or more."""
    found: dict[str, dict[tuple[int, ...], None]] = {}
    for record in sampled.records:
        prompt = oracle_context(record.context, record.tools, record.template_kwargs)
        own = found.setdefault(record.group, {})
        for candidate in record.candidates:
            own[tuple(beginning.texts.answer(prompt, candidate.text))] = None
    several = [list(own) for own in found.values() if len(own) > 1]
    if not several:
        raise ModelError("noise.meta_responses: no prompt has two different responses")
    return several
