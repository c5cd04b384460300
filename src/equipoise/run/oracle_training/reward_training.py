"""Settings of `equipoise oracle train`, under the names of a run's: which files, which head, which optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from pydantic import Field, ValidationError, create_model
from transformers.utils.logging import disable_progress_bar

from equipoise.data.reading.read import Dataset, read
from equipoise.policy.loading import Lora
from equipoise.reward_models.fit import Fitting, Remedies
from equipoise.reward_models.head import Head, Kind
from equipoise.reward_models.model import RewardModel
from equipoise.reward_models.pairs import Labels
from equipoise.reward_models.start import begin
from equipoise.reward_models.train import Result, train
from equipoise.run.config import ConfigError
from equipoise.run.config_errors import illegal, unknown
from equipoise.run.determinism import make_reproducible
from equipoise.run.oracle_training.noise_settings import NoiseSettings, treatment
from equipoise.run.oracle_training.user_settings import GroupSettings, PalPart, train_for_users
from equipoise.run.sections.data import DataSettings
from equipoise.run.sections.model import ModelSettings
from equipoise.run.sections.section import Section
from equipoise.run.sections.training import TrainSettings
from equipoise.run.settings import BATCH

UserKind: TypeAlias = Literal["groups", "pal"]
USER_KINDS: tuple[str, ...] = get_args(UserKind)  # rewards for several users
TOKENS = 8192  # padded tokens of one forward pass, if the setting is "auto"


def _some(section: type[Section], *names: str, **own: Any) -> Any:
    """A section with some of another's settings: their types, defaults and descriptions; and with its own."""
    fields: dict[str, Any] = {
        name: (section.model_fields[name].annotation, section.model_fields[name]) for name in names
    } | own
    return create_model(section.__name__, __base__=Section, **fields)


READ = ("format", "mapping", "strict", "limit", "prompt_words", "wrap", "system", "equal_scores", "mixture")
FIT = (
    "tokens",
    "lr",
    "schedule",
    "warmup",
    "weight_decay",
    "beta1",
    "beta2",
    "eps",
    "clip",
)
ModelPart = _some(ModelSettings, "precision", "lora_rank", "lora_alpha", "lora_targets")
DataPart = _some(DataSettings, "path", "evaluation", "allow_overlap", "max_length", "held_out", *READ)
TrainPart = _some(
    TrainSettings,
    *FIT,
    epochs=(int, Field(1, gt=0, description="passes over the comparisons")),
    batch=(int, Field(BATCH, gt=0, description="comparisons per optimizer step")),
)


class HeadSettings(Section):
    attributes: list[str] = Field(
        ["reward"],
        min_length=1,
        description="bt: what is scored; `reward` is the row's label, any other name NAME has a column NAME (the "
        "probability that the first answer is better) or NAME_chosen and NAME_rejected",
    )
    weights: list[float] = Field(
        default_factory=list, description="bt: weights of the attributes in the reward; none: equal"
    )
    dimension: int = Field(6, gt=1, description="gpm: coordinates of an embedding, an even number")
    temperature: float | None = Field(
        None, gt=0, description="gpm: tau of P = sigma(score / tau); none: 1 for two coordinates, else 0.1"
    )
    scales: bool = Field(True, description="gpm: whether the prompt scales the planes of two coordinates")
    normalise: bool = Field(False, description="gpm: whether embeddings have length 1")


class LabelSettings(Section):
    margins: Literal["none", "data"] = Field(
        "none", description="data: the better answer must win by the row's margin"
    )
    scale: float = Field(1.0, gt=0, description="nats for one unit of the data's margin")
    smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="label smoothing: share of the label's complement"
    )
    centring: float = Field(
        0.0, ge=0, description="bt: coefficient of (r_1 + r_2)^2, which keeps rewards near 0; 0.01 is usual"
    )


class RewardConfig(Section):
    seed: int = Field(0, ge=0, description="seed of the head, the split and the order")
    model: Any = ModelPart()
    data: Any = DataPart()
    train: Any = TrainPart()
    head: HeadSettings = HeadSettings()
    labels: LabelSettings = LabelSettings()
    noise: NoiseSettings = NoiseSettings()
    groups: GroupSettings = GroupSettings()
    pal: PalPart = PalPart()


SECTIONS: Mapping[str, type[Section]] = {
    "model": ModelPart,
    "data": DataPart,
    "train": TrainPart,
    "head": HeadSettings,
    "labels": LabelSettings,
    "noise": NoiseSettings,
    "groups": GroupSettings,
    "pal": PalPart,
}


def resolve(*layers: Mapping[str, Any]) -> RewardConfig:
    """Settings from layers of dotted, short or nested names; later ones win. Raises ConfigError."""
    known = [
        "seed",
        *(f"{name}.{field}" for name, section in SECTIONS.items() for field in section.model_fields),
    ]
    nested: dict[str, Any] = {}
    for layer in layers:
        for name, value in _flat(layer).items():
            section, _, leaf = _full_name(name, known).rpartition(".")
            if section:
                nested.setdefault(section, {})[leaf] = value
            else:
                nested[leaf] = value
    try:
        parts = {name: kind.model_validate(nested.pop(name, {})) for name, kind in SECTIONS.items()}
    except ValidationError as error:
        wrong = next(kind for kind in SECTIONS.values() if kind.__name__ == error.title)
        raise ConfigError(illegal(error, wrong)) from error
    try:
        return RewardConfig.model_validate(nested | parts)
    except ValidationError as error:
        raise ConfigError(illegal(error, RewardConfig)) from error


def _flat(layer: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in layer.items():
        if name in SECTIONS and isinstance(value, Mapping):
            found |= {f"{name}.{leaf}": own for leaf, own in value.items()}
        else:
            found[str(name)] = value
    return {name: value for name, value in found.items() if value is not None}


def _full_name(name: str, known: Sequence[str]) -> str:
    matches = [full for full in known if full == name or full.rpartition(".")[2] == name]
    if len(matches) != 1:
        raise ConfigError(unknown(name, list(known)))
    return matches[0]


def train_oracle(
    kind: Kind | UserKind,
    model: str,
    config: RewardConfig,
    out: Path,
    *,
    remedies: Remedies | None = None,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Result:
    """Train a reward model (`reward_models.train.train`) as the settings say; reproducible on a CPU.

    Raises ConfigError, DataError or ModelError before anything is trained for what cannot be used.
    """
    if not config.data.path:
        raise ConfigError("a reward model is trained on pairs or lists; give --data")
    for owner in USER_KINDS:
        if owner != kind and getattr(config, owner).model_fields_set:
            raise ConfigError(f"the settings {owner}.* do not apply to {kind}")
    if kind == "groups" or kind == "pal":
        make_reproducible()
        disable_progress_bar()
        return train_for_users(
            kind,
            model,
            config,
            out,
            dataset=_data(config, config.data.path),
            evaluation=_data(config, config.data.evaluation) if config.data.evaluation else None,
            fitting=Fitting(**_optimizer(config), precision=config.model.precision),
            report=report,
        )
    foreign = {"gpm": ("dimension", "temperature", "scales", "normalise"), "bt": ("attributes", "weights")}
    given = config.head.model_fields_set
    misplaced = sorted(n for owner, names in foreign.items() if owner != kind for n in names if n in given)
    if misplaced:
        raise ConfigError(f"these settings do not apply to a head of kind {kind}: {', '.join(misplaced)}")
    if config.labels.centring and kind != "bt":
        raise ConfigError(f"labels.centring does not apply to a head of kind {kind}: it has no rewards")
    head = Head(
        kind=kind,
        attributes=tuple(config.head.attributes),
        weights=tuple(config.head.weights),
        **config.head.model_dump(include=set(foreign["gpm"])),
    )
    dataset = _data(config, config.data.path)
    evaluation = _data(config, config.data.evaluation) if config.data.evaluation else None
    make_reproducible()
    disable_progress_bar()
    optimizer = _optimizer(config)
    rank, alpha, targets = (getattr(config.model, f"lora_{name}") for name in ("rank", "alpha", "targets"))
    adapter = Lora(rank=rank, alpha=alpha, targets=targets, seed=config.seed) if rank else None

    def member(seed: int) -> RewardModel:
        begun = begin(model, head, lora=adapter, seed=seed, max_length=config.data.max_length)
        return begun.model.to("cuda" if torch.cuda.is_available() else "cpu")

    treated = treatment(
        config.noise,
        config.labels.smoothing,
        head,
        member,
        seed=config.seed,
        read=lambda files: _data(config, files),
        report=report,
    )
    return train(
        model,
        dataset,
        out,
        head=head,
        fitting=Fitting(**optimizer, precision=config.model.precision, centring=config.labels.centring),
        labels=Labels(margins=config.labels.margins, scale=config.labels.scale),
        lora=adapter,
        held_out_share=config.data.held_out,
        evaluation=evaluation,
        allow_overlap=config.data.allow_overlap,
        max_length=config.data.max_length,
        seed=config.seed,
        remedies=remedies or treated,
        about={"settings": config.model_dump()},
        report=report,
    )


def _optimizer(config: RewardConfig) -> dict[str, Any]:
    """Settings of `Fitting`, with what "auto" stands for."""
    optimizer = config.train.model_dump()
    optimizer["tokens"] = TOKENS if optimizer["tokens"] == "auto" else optimizer["tokens"]
    optimizer["lr"] = None if optimizer["lr"] == "auto" else optimizer["lr"]
    return dict(optimizer)


def _data(config: RewardConfig, files: Any) -> Dataset:
    return read(files, seed=config.seed, **config.data.model_dump(include=set(READ)))
