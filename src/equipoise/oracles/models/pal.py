"""Ideal-point rewards of many users (PAL) as an oracle: of one user, of several by name, or of all on average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.core.links import bradley_terry
from equipoise.models.errors import ModelError
from equipoise.oracles.account import Account
from equipoise.oracles.models.reward import as_oracle_errors
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import OracleError, OraclePrompt
from equipoise.oracles.questions.verdicts import key_of
from equipoise.reward_models.read import last_states
from equipoise.reward_models.texts import TooLong
from equipoise.reward_models.users.pal_training import SETTINGS, LoadedPal, load_pal


class PalOracle:
    """P(a > b) = sigma( r(a) - r(b) ), with r the mean of the users' ideal-point rewards r_u.

    attributes   the users that are given, each with its reward in `scores`; of a folder alone the K prototypes, and
                 then r is the mean over the training users. A text beyond the body's context is nan, and counted.
    """

    may_fail = True

    def __init__(
        self, loaded: LoadedPal, name: str, users: Mapping[str, Tensor] | None = None, tokens: int = 8192
    ) -> None:
        self.loaded, self.name, self.tokens = loaded, name, tokens
        self.network, self.account = loaded.body.model, Account()
        count = loaded.pal.settings.prototypes
        corners = torch.eye(count, dtype=torch.float64)
        named = users or {f"prototype_{k + 1}": corners[k] for k in range(count)}
        self.attributes = tuple(named)
        self._named = torch.stack(list(named.values()))
        self._mean = self._named if users else loaded.pal.weights()
        said = key_of(repr(self._mean.tolist()), repr(self.attributes)).hex()
        self.fingerprint = f"pal {loaded.body.content} {said}"

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        if not len(prompts) == len(a) == len(b):
            raise OracleError(
                f"{len(prompts)} prompts, {len(a)} and {len(b)} responses: they must be as many"
            )
        r = self.score([*prompts, *prompts], [*a, *b])
        return bradley_terry(r[: len(a)], r[len(a) :])

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        return self._rewards(prompts, responses, self._mean).mean(dim=1)

    def scores(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        """[N, A] the reward of each user, or prototype, in the order of `attributes`."""
        return self._rewards(prompts, responses, self._named)

    def _rewards(self, prompts: Sequence[OraclePrompt], responses: Sequence[str], weights: Tensor) -> Tensor:
        """[N, W] rewards under each of the mixture weights [W, K]."""
        rewards = torch.full((len(prompts), len(weights)), torch.nan, dtype=torch.float64)
        texts, kept = [], []
        with as_oracle_errors():
            for place, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
                try:
                    write = self.loaded.body.texts
                    texts.append((tuple(write.answer(prompt, response)), tuple(write.prompt(prompt))))
                    kept.append(place)
                except TooLong:
                    limit = self.loaded.body.texts.limit
                    self.account.fail(
                        f"{self.name} accepts {limit} tokens; a prompt with its response has more"
                    )
            if not kept:
                return rewards
            whole, opening = (
                last_states(self.loaded.body.model, [pair[side] for pair in texts], self.tokens)
                for side in (0, 1)
            )
        found = [self.loaded.pal(whole, opening, own.expand(len(kept), -1)) for own in weights]
        rewards[kept] = torch.stack(found, dim=1)
        return rewards


def is_pal(folder: str | Path) -> bool:
    """Whether a folder holds ideal-point rewards."""
    return (Path(folder) / SETTINGS).is_file()


def pal_of_folder(folder: str, placement: Placement) -> PalOracle:
    """The oracle of a folder of `oracle train pal`. Raises OracleError."""
    with as_oracle_errors():
        loaded = load_pal(folder, dtype=placement.dtype, device=placement.device)
    return PalOracle(loaded, folder, tokens=placement.tokens)


def pal(settings: Mapping[str, Any], file: Path, placement: Placement) -> PalOracle:
    """The oracle of a YAML file: `path` of the folder, `weights`: user -> K numbers of new users, `users`: names.

    users    those that judge, of `weights` or of the training; none: all of `weights`

    Raises OracleError for settings that cannot be used.
    """
    unknown = sorted(settings.keys() - {"path", "weights", "users"})
    if unknown or not isinstance(settings.get("path"), str):
        raise OracleError(
            f"{file}: an oracle of kind pal has path, weights and users; got {', '.join(settings)}"
        )
    folder = Path(settings["path"])
    folder = folder if folder.is_absolute() else file.parent / folder
    with as_oracle_errors():
        loaded = load_pal(folder, dtype=placement.dtype, device=placement.device)
        users = _users(settings, loaded, file)
    return PalOracle(loaded, str(file), users, placement.tokens)


def _users(settings: Mapping[str, Any], loaded: LoadedPal, file: Path) -> dict[str, Tensor] | None:
    """User -> mixture weights. Raises ModelError for weights off the simplex, and for names that are unknown."""
    given = settings.get("weights") or {}
    count, found = loaded.pal.settings.prototypes, {}
    if not isinstance(given, Mapping):
        raise ModelError(f"{file}: weights must be USER: [{count} numbers], one line for each user")
    for name, values in given.items():
        try:
            weights = torch.tensor([float(value) for value in values], dtype=torch.float64)
        except (TypeError, ValueError, OverflowError):
            weights = torch.empty(0)
        if not (
            len(weights) == count and bool((weights >= 0).all()) and abs(float(weights.sum()) - 1) <= 1e-6
        ):
            raise ModelError(f"{file}: the weights of {name!r} must be {count} numbers >= 0 that sum to 1")
        found[str(name)] = weights
    names = settings.get("users") or list(found)
    if not isinstance(names, str | list):
        raise ModelError(f"{file}: users must be a list of names")
    trained = loaded.pal.weights()
    for name in (names := [names] if isinstance(names, str) else [str(n) for n in names]):
        if name not in found and name not in loaded.users:
            raise ModelError(f"{file}: user {name!r} has no weights here and is none of the training's")
    return {name: found.get(name, trained[loaded.users.get(name, 0)]) for name in names} or None
