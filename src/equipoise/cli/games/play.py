"""Several methods on one exact game, at one KL weight: what `equipoise play --json` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from equipoise.games import zoo
from equipoise.games.fit import NotConverged
from equipoise.games.load import load_game
from equipoise.games.preference import PreferenceGame
from equipoise.methods.index import METHODS, get
from equipoise.play.method import Method
from equipoise.run.config import ConfigError
from equipoise.worlds.table.play_game import equilibrium, play_game

EVERY = "all"


def game_of(spec: str) -> PreferenceGame:
    """A game file if it looks like one, else a game of the zoo."""
    return load_game(spec) if Path(spec).suffix in (".json", ".npz") else zoo.parse(spec)


def play(
    game_spec: str, names: Sequence[str], rounds: int, settings: Mapping[str, Any], exact: bool | None
) -> dict[str, Any]:
    """Play methods on one game; the object that `equipoise play --json` prints. The name "all" means every method.

    A setting goes to every method that has a parameter of that name; one that no method has is an error. The methods
    are compared on one game: a KL weight that is set, as `tau` or under any method's name for it, applies to every
    method whose own name for it is not set, and to the reported gap (`tau` before another name). If none is set, the
    gap is reported at the weight of the first method that has one.

    A method that cannot be played (parameters out of its range, an objective that needs lengths) is listed under
    "errors" with the reason, and the others are played. Where nothing is left to play this is the error raised.
    """
    game = game_of(game_spec)
    methods = list(METHODS.values()) if EVERY in names else [get(name) for name in dict.fromkeys(names)]
    for name in settings:
        if name != "tau" and not any(name in m.parameters() for m in methods):
            known = ", ".join(sorted({p for m in methods for p in m.parameters()}))
            raise ConfigError(f"none of {', '.join(names)} has a parameter {name!r} (known: {known})")
    tau = _common_weight(methods, settings)

    errors: dict[str, Exception] = {}
    configured: list[Method] = []
    for method in methods:
        try:
            configured.append(_configured(method, settings, tau))
        except ValueError as error:
            errors[method.name] = error
    tau = next((m.tau for m in configured if m.tau), None) if tau is None else tau
    played = {}
    with one_thread():
        target = equilibrium(game, tau)
        for method in configured:
            try:
                trace = play_game(game, method, rounds=rounds, exact=exact, tau=tau, target=target)
                played[method.name] = {"tau": method.tau, **trace}
            except (ValueError, NotConverged) as error:
                errors[method.name] = error
    if not played:
        raise next(iter(errors.values()))
    return {
        "game": game_spec,
        "tau": tau,
        "names": list(game.names[0]),
        "nash": target.probs().tolist(),
        "methods": played,
        "errors": {name: str(error) for name, error in errors.items()},
    }


def _common_weight(methods: Sequence[Method], settings: Mapping[str, Any]) -> float | None:
    """The KL weight of the game, as set by any of its names; None if it is not set."""
    for name in ("tau", *(m.kl_weight for m in methods if m.kl_weight)):
        if name in settings:
            value = settings[name]
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ConfigError(f"{name} must be a number, got {value!r}")
            return float(value)
    return None


def _configured(method: Method, settings: Mapping[str, Any], tau: float | None) -> Method:
    given = {name: value for name, value in settings.items() if name in method.parameters()}
    if method.kl_weight and tau is not None:
        given = {method.kl_weight: tau} | given
    return method.with_parameters({**method.exact, **given})


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for small tensors, where several would mostly wait for each other; the old number is restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
