"""Oracle of a run: loaded or given, and checked against what the method asks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise import oracles
from equipoise.data.collate import Prompt
from equipoise.oracles.checked import Checked, unwrapped
from equipoise.oracles.protocol import Attributed, Oracle, OracleError, Uncertain, parts_that
from equipoise.oracles.questions.questioner import Covering
from equipoise.oracles.rules.given import Given
from equipoise.oracles.spec import KINDS, Made, Maker, asked
from equipoise.play.method import Method
from equipoise.playground.choice import Game
from equipoise.run.config import ConfigError
from equipoise.run.sections.judging import JudgingSettings
from equipoise.run.settings import ASKING, RunConfig

VERDICTS = "verdicts.sqlite"


def _people(settings: Mapping[str, Any], file: Path, placement: oracles.Placement) -> Made:
    from equipoise.label.people import PeopleOracle

    return PeopleOracle.of(settings, file, placement)


ORACLES: Mapping[str, Maker] = {**KINDS, "people": _people}


def oracle_of(
    config: RunConfig, method: Method, game: Game | None, out: Path, given: Given | None
) -> Oracle | None:
    """The oracle that the configuration names, or the language game's; None if the method needs none.

    given   the oracle, where it is a Python object.

    Raises ConfigError or OracleError for one that does not answer as the method needs.
    """
    if config.oracle:
        judging = config.judging.model_dump(exclude={"budget"})
        store = Path(judging.pop("store") or out / VERDICTS)
        dtype, device, tokens = (judging.pop(name) for name in ("dtype", "device", "tokens"))
        own = "bfloat16" if config.model.precision == "bf16" else "float32"
        placement = oracles.Placement(
            dtype={"run": own, "stored": None}.get(dtype, dtype), device=device, tokens=tokens
        )
        policy = oracles.Policy(**judging)
        if given is not None and config.oracle == given.spec:
            _check_asking(config, given)
            return _that_can(asked(given.made, store, policy), method)
        oracle = oracles.load(
            config.oracle,
            store=store,
            policy=policy,
            placement=placement,
            kinds=ORACLES,
        )
        return _that_can(oracle, method)
    if game is not None:
        return _that_can(Checked(game.oracle()), method)
    if method.needs.oracle:
        raise ConfigError(
            f"{method.name} needs an oracle that compares two responses; give --oracle (module:function, "
            "file.py:function, an oracle's YAML file or a reward model's folder)"
        )
    return None


def _check_asking(config: RunConfig, given: Given) -> None:
    """Raises ConfigError for settings of how questions are asked, where the oracle has its own policy and store."""
    changed = [
        name for name in ASKING if getattr(config.judging, name) != JudgingSettings.model_fields[name].default
    ]
    if changed and any(parts_that(given.made, oracles.Asking)):
        raise ConfigError(
            f"judging.{changed[0]} does not reach the oracle {given.spec}, which is asked by an Asking of its own; "
            "give the oracle of single questions itself, or set it there"
        )


def _that_can(oracle: Oracle, method: Method) -> Oracle:
    """The oracle. Raises ConfigError for one that does not answer as the method needs."""
    names = oracle.attributes if isinstance(oracle, Attributed) else ()
    if method.needs.named_scores and not names:
        raise ConfigError(
            f"{method.name} needs an oracle with several named scores of a response, and {oracle.name} has none; train "
            "one with `equipoise oracle train groups`, or on the playground take --set panel=groups"
        )
    if method.needs.named_scores:
        try:
            method.pairing.check_scores(names)
        except ValueError as error:
            raise ConfigError(f"{method.name} cannot read the scores of {oracle.name}: {error}") from error
    if method.needs.votes and not isinstance(unwrapped(oracle), Uncertain):
        raise ConfigError(
            f"{method.name} with these settings needs an oracle that says how uncertain it is, and {oracle.name} does "
            "not; give one of kind ensemble or mc_dropout"
        )
    if method.needs.scores:
        try:
            oracle.score([], [])
        except OracleError as error:
            raise ConfigError(
                f"{method.name} with these settings reads a scalar reward of every response, and {error}; leave "
                "play.pairing at its default, win rates, or give a reward model, a rule of one response or tests"
            ) from error
    return oracle


def check_prompts(oracle: Oracle | None, prompts: Sequence[Prompt]) -> None:
    """Raises OracleError for a prompt that the oracle knows nothing of, where it knows only some."""
    asking = unwrapped(oracle)
    questioner = asking.questioner if isinstance(asking, oracles.Asking) else None
    if isinstance(questioner, Covering):
        questioner.check_prompts([prompt.context for prompt in prompts])
