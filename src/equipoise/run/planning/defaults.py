"""Defaults that depend on the data and the model: batch, epochs, learning rate, length of sampled responses.

A setting whose value is `auto` is decided here, once a run's rows are known and before a model is loaded; a setting
that is given is never changed. A run keeps what was decided in its config.yaml, and goes on with it (`continued`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.play.component import parts
from equipoise.play.method import Method
from equipoise.play.pairings.protocol import Pairing
from equipoise.policy.learning_rate import automatic
from equipoise.run.gathering.size import WITHOUT_DATA, lengths
from equipoise.run.materials import Materials
from equipoise.run.planning.costs import shape_of
from equipoise.run.settings import AUTOMATIC, BATCH, RunConfig, flat
from equipoise.safe_yaml import load

ENOUGH_STEPS = 100  # optimizer steps that a fit gets where the data allow it
LEAST_BATCH = 8  # comparisons; fewer give a gradient that is mostly noise
MOST_EPOCHS = 5  # passes over the same comparisons; more is memorising

SHARE = 0.99  # of the recorded responses that a sampled one may be as long as
SHORTEST, LONGEST, STEP = 16, 512, 16  # tokens

CHOSEN = "chosen"  # entry of config.yaml: the names of the settings that were decided here


@dataclass(frozen=True)
class Decided:
    """A configuration without `auto` among `AUTOMATIC`, and the names of the settings that were decided."""

    config: RunConfig
    chosen: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What was decided, by setting."""
        values = flat(self.config.plain())
        return ", ".join(f"{name}={values[name]:g}" for name in self.chosen)


def decide(config: RunConfig, materials: Materials) -> Decided:
    """The configuration with every `auto` of `AUTOMATIC` replaced by a value: a function of settings, rows and the
    model's size alone, so that every process and every repetition decides the same."""
    settings = flat(config.plain())
    open_ = [name for name in AUTOMATIC if settings[name] == "auto"]
    values: dict[str, Any] = {}
    method, train = materials.method, config.train
    least = int(method.train.get("epochs", 1))
    if train.batch == "auto":
        values["train.batch"], values["train.epochs"] = batch_and_epochs(
            comparisons(config, materials),
            needed=steps_needed(method),
            most=int(method.train.get("batch", BATCH)),
            least=least if train.epochs == "auto" else train.epochs,
            more=train.epochs == "auto",
        )
    elif (
        train.epochs == "auto"
    ):  # with a batch that is set, passes are the method's: the user counts the steps
        values["train.epochs"] = least
    if "train.lr" in open_:
        shape = shape_of(config)
        lora = bool(config.model.lora_rank or shape.continued)
        values["train.lr"] = automatic(shape.parameters, lora=lora, papers=method.train.get("lr"))
    if "sampling.max_new_tokens" in open_:
        values["sampling.max_new_tokens"] = response_tokens(lengths(materials.pairs, materials.held_out))
    return Decided(_with(config, {name: values[name] for name in open_}), tuple(open_))


def continued(config: RunConfig, folder: Path) -> tuple[RunConfig, tuple[str, ...]]:
    """The configuration with what a run folder says was decided when its run began, in place of `auto`.

    A folder without a readable config.yaml changes nothing: what to make of it is for others to say.
    """
    stored = folder / "config.yaml"
    try:
        found = load(stored.read_text(encoding="utf-8")) if stored.is_file() else None
    except (OSError, ValueError):
        return config, ()
    if not isinstance(found, Mapping) or not isinstance(found.get(CHOSEN), list):
        return config, ()
    asked, before = flat(config.plain()), flat(found)
    kept = [n for n in AUTOMATIC if n in found[CHOSEN] and asked[n] == "auto" and n in before]
    return _with(config, {name: before[name] for name in kept}), tuple(kept)


def batch_and_epochs(
    comparisons: int, *, needed: int = ENOUGH_STEPS, most: int = BATCH, least: int = 1, more: bool = True
) -> tuple[int, int]:
    """(comparisons a step, passes) that give a fit `needed` optimizer steps, if its data allow that.

    First the batch is halved, from the paper's `most` down to LEAST_BATCH, until `least` passes have the steps; then
    passes are added, up to MOST_EPOCHS. With n comparisons, batch b and E passes there are E ceil(n / b) steps.

    most, least   the method's own batch and passes: the largest batch and the fewest passes that are taken.
    more          whether passes may be added; not if the user has set them.

    More comparisons never give a smaller batch, nor more passes at the same batch. Raises ValueError without
    comparisons.
    """
    if comparisons < 1:
        raise ValueError(f"a fit needs comparisons, got {comparisons}")
    batch = most
    while batch // 2 >= LEAST_BATCH and least * math.ceil(comparisons / batch) < needed:
        batch //= 2
    wanted = math.ceil(needed / math.ceil(comparisons / batch))
    return batch, max(least, min(wanted, MOST_EPOCHS)) if more else least


def steps_needed(method: Method) -> int:
    """Optimizer steps that a round should have: a fit all of them, a round of gradient steps its part of the run's."""
    return ENOUGH_STEPS if method.update.fits else math.ceil(ENOUGH_STEPS / method.rounds)


def comparisons(config: RunConfig, materials: Materials) -> int:
    """Comparisons that a round trains on: recorded ones, or those of its prompts' samples, at most."""
    method, recorded = materials.method, materials.pairs
    if method.players.needs.records and recorded is not None:
        return max(1, math.ceil(len(recorded) / method.players.parts))
    prompts = min(config.play.prompts or len(materials.pool), len(materials.pool))
    return max(1, prompts * per_prompt(method.pairing, method.players.width or 2))


def per_prompt(pairing: Pairing, width: int) -> int:
    """Comparisons that a pairing makes of one prompt's responses: those of the innermost pairing that it wraps."""
    *_, innermost = parts(pairing)
    return int(innermost.comparisons(width))


def response_tokens(recorded: Iterable[int]) -> int:
    """Most tokens of a sampled response, from the lengths of recorded ones: their 99 % quantile, in steps of 16 tokens
    between 16 and 512; 128 where no response is recorded. A response's closing token counts."""
    known = np.sort(np.fromiter(recorded, dtype=np.int64))
    if not len(known):
        return WITHOUT_DATA
    quantile = int(known[math.ceil(SHARE * len(known)) - 1])
    return min(LONGEST, max(SHORTEST, STEP * math.ceil(quantile / STEP)))


def _with(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """A configuration with some settings, by dotted name, changed."""
    plain = config.plain()
    for name, value in values.items():
        section, _, leaf = name.rpartition(".")
        plain[section][leaf] = value
    return RunConfig.model_validate(plain) if values else config
