"""Typed configuration, merged from defaults, a method's values, a file and the command line; hashed and compared.

Settings have dotted names (`train.lr`); the last part suffices if it is unambiguous (`lr`). An unknown name is an
error that suggests the nearest known one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from equipoise.run.config_errors import illegal, unknown
from equipoise.run.sections.section import Section
from equipoise.run.settings import AUTOMATIC, BATCH, RunConfig, flat
from equipoise.safe_yaml import load, word

if TYPE_CHECKING:
    from equipoise.play.method import Method


# settings that may name a file of a small world
FILES = ("model.path", "data.path", "data.evaluation", "oracle")
PATHS = {"model": "model.path", "data": "data.path"}  # what a section means that is no mapping
# of the built-in game, whose methods' settings are measured on its one model and its data
LARGE = {"sampling.max_new_tokens": 40}  # of its large house, whose answers are longer
GAME = {"train.batch": BATCH, "train.epochs": 1, "sampling.max_new_tokens": 128}


class ConfigError(ValueError):
    """An unknown or illegal setting; the message names it, its location and the known ones."""


def resolve(method_name: str, *layers: Mapping[str, Any]) -> RunConfig:
    """Package defaults, then the method's, then (with neither model nor data) its playground's, then the layers.

    Layers hold dotted, short or nested names; later ones win. Raises ConfigError.
    """
    from equipoise.playground.choice import is_large  # loads PyTorch, see `_method`

    method = _method(method_name)
    known = _known(method)
    given: dict[str, Any] = {}
    for layer in layers:
        given |= {full_name(name, known): value for name, value in flat(layer).items() if value is not None}
    stated = _method(str(given.pop("method", method_name)))
    if stated is not method:
        raise ConfigError(f"the configuration is for method {stated.name!r}, not for {method.name!r}")
    for name, default in method.parameters().items():
        full = f"objective.{name}"
        if full in given:
            given[full] = like(default, given[full])
    chosen: dict[str, Any] = {"play.rounds": method.rounds}
    chosen |= {f"objective.{k}": v for k, v in method.defaults().items()}
    chosen |= {f"data.{k}": v for k, v in method.data.items()}
    chosen |= {f"train.{k}": v for k, v in method.train.items()}
    chosen |= {f"sampling.{k}": v for k, v in method.sampling.items()}
    if not given.get("model.path") and not given.get("data.path"):
        chosen = GAME | chosen | dict(method.playground)
        if is_large(str(given.get("play.panel"))):
            chosen |= LARGE
    else:  # a paper's settings are for its model and its data, and are scaled to these
        chosen = {name: value for name, value in chosen.items() if name not in AUTOMATIC}
        if method.oracle:
            chosen["oracle"] = method.oracle
    config = _build(method.name, _located(chosen | given))
    try:
        method.with_parameters(config.objective)
    except ValueError as error:
        raise ConfigError(f"objective: {error}") from error
    return config


def method_name(given: str | None, file: Path | None) -> str:
    """The method that a call names, or else its configuration file. Raises ConfigError if neither does."""
    stated = given or (read_file(file).get("method") if file else None)
    if stated is None:
        raise ConfigError(
            "which method? name one (`equipoise methods` lists them), or a --config file with `method:`"
        )
    return str(stated)


def of_another(method_name: str, stored: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """(a file's settings that another method can use, those of its own method, which are left out).

    A configuration of one method is reused with another one: data, model and training are taken over; parameters of the
    objective have another meaning in another method, even under the same name. With its own method, all are kept.
    """
    own = _method(str(stored.get("method", method_name)))
    if own is _method(method_name):
        return dict(stored), []
    known, kept, left_out = _known(own), {}, []
    for name, value in flat(stored).items():
        if name == "method":
            continue
        if full_name(name, known).startswith("objective."):
            left_out.append(f"{full_name(name, known)}={value}")
        else:
            kept[name] = value
    return kept, left_out


def read_file(path: Path) -> dict[str, Any]:
    """A YAML configuration. Raises ConfigError with the file, line and reason."""
    try:
        content = load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read configuration {path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: a configuration must be a mapping of settings, got {type(content).__name__}"
        )
    for about in ("hash", "chosen"):  # of a run's own record
        content.pop(about, None)
    return content


def parse_settings(items: Iterable[str]) -> dict[str, Any]:
    """`["lr=1e-4", "play.rounds=3"]` as a layer; values are read as YAML, with 1e-4 a number."""
    settings: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise ConfigError(f"a setting must have the form name=value, got {item!r}")
        settings[name] = word(text)
    return settings


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The settings in which two plain configurations differ, one line each."""
    before, after = flat(old), flat(new)
    return [
        f"{name}: {before.get(name, '(unset)')} -> {after.get(name, '(unset)')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _located(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the files of small worlds by their paths."""
    from equipoise.playground.worlds import located  # loads PyTorch, see `_method`

    try:
        return {name: located(value) if name in FILES else value for name, value in settings.items()}
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _method(name: str) -> Method:
    from equipoise.methods.index import get  # loads PyTorch, which the settings alone do not need

    try:
        return get(name)
    except KeyError as error:
        raise ConfigError(error.args[0]) from error


def _known(method: Method) -> list[str]:
    names = [
        "seed",
        "oracle",
        "method",
        "allow",
        "track",
        *(f"objective.{name}" for name in method.parameters()),
    ]
    for section, field in RunConfig.model_fields.items():
        if isinstance(field.default, Section):
            names += [f"{section}.{name}" for name in type(field.default).model_fields]
    return names


def full_name(name: str, known: list[str]) -> str:
    if name in known:
        return name
    if name in PATHS:
        return PATHS[name]
    matches = [full for full in known if full.rpartition(".")[2] == name]
    if len(matches) == 1:
        return matches[0]
    # a bare name is looked up in the method's parameters first, then in play, then in train
    for section in ("objective.", "play.", "train."):
        own = [full for full in matches if full.startswith(section)]
        if own:
            return own[0]
    if matches:
        raise ConfigError(f"setting {name!r} is ambiguous; give one of {', '.join(matches)}")
    raise ConfigError(unknown(name, known))


def like(default: Any, value: Any) -> Any:
    """A parameter's value from YAML (where 1e-4 is a string), converted to a number if the default is one."""
    value = word(value) if isinstance(value, str) else value
    number = isinstance(value, int) and not isinstance(value, bool) and isinstance(default, float)
    return float(value) if number else value


def _build(method: str, flat: Mapping[str, Any]) -> RunConfig:
    nested: dict[str, Any] = {"method": method}
    for name, value in flat.items():
        section, _, leaf = name.rpartition(".")
        if section:
            nested.setdefault(section, {})[leaf] = value
        else:
            nested[leaf] = value
    try:
        return RunConfig.model_validate(nested)
    except ValidationError as error:
        raise ConfigError(illegal(error, RunConfig)) from error
