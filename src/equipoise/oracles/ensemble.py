"""Ensemble of oracles: the mean of their verdicts, and how far they disagree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from equipoise.oracles.file import OracleFile, digest, relative_to, settings_of
from equipoise.oracles.protocol import (
    Fingerprinted,
    Oracle,
    OracleError,
    OraclePrompt,
    Room,
    may_fail,
    parts_that,
)


class EnsembleFile(OracleFile):
    """An ensemble, as its YAML file says.

    members   two or more oracles: their YAML files, or folders of reward models
    weights   how much each member counts in the mean, > 0; None: all the same
    """

    members: tuple[str, ...] = Field(min_length=2)
    weights: tuple[float, ...] | None = None

    @field_validator("weights")
    @classmethod
    def _positive(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not all(0 < weight < float("inf") for weight in value):
            raise ValueError("weights are positive numbers")
        return value


M = TypeVar("M")


@dataclass(frozen=True)
class Members(Generic[M]):
    """The members of an ensemble as their files make them, before it is said how they are asked."""

    made: tuple[M, ...]
    weights: tuple[float, ...]
    name: str

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path, make: Callable[[str], M]) -> Members[M]:
        """The members that a YAML file names, each made from its specification. Raises OracleError."""
        given = settings_of(EnsembleFile, settings, file)
        weights = given.weights or (1.0,) * len(given.members)
        if len(weights) != len(given.members):
            raise OracleError(f"the oracle {file}: {len(given.members)} members have {len(weights)} weights")
        code = [name for name in given.members if ":" in name]
        if code:
            raise OracleError(
                f"the oracle {file}: its member {code[0]} is code, which only --oracle may name; take YAML files and "
                "folders of reward models"
            )
        return cls(tuple(make(relative_to(file, name)) for name in given.members), weights, str(file))


@dataclass(frozen=True)
class Ensemble:
    """Mean of several oracles: P(a > b) = sum_m w_m P_m(a > b) / sum_m w_m; a verdict of all members or none.

    `votes` gives every member's probability. A scalar score, the same mean of the members' scores, is there only if all
    of them have one; it means something where they are on one scale. Raises OracleError for members of which it cannot
    be said what their verdicts depend on.
    """

    members: tuple[Oracle, ...]
    weights: tuple[float, ...]
    name: str

    def __post_init__(self) -> None:
        for member in self.members:
            if next(parts_that(member, Fingerprinted), None) is None:
                raise OracleError(
                    f"oracle {self.name}: {member.name} does not say what its verdicts depend on"
                )

    @property
    def parts(self) -> tuple[Oracle, ...]:
        return self.members

    @property
    def may_fail(self) -> bool:
        return any(map(may_fail, self.members))

    @property
    def fingerprint(self) -> str:
        each = [next(parts_that(member, Fingerprinted)).fingerprint for member in self.members]
        return f"ensemble {digest(each, self.weights)}"

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        return self._mean(self.votes(prompts, a, b))

    def votes(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """[M, N] the probability of each member."""
        return torch.stack([member.compare(prompts, a, b).double() for member in self.members])

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        return self._mean(torch.stack([member.score(prompts, responses).double() for member in self.members]))

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        """Of the member for which the prompts are longest for what it accepts; None if none is bounded."""
        limited = (next(parts_that(member, Room), None) for member in self.members)
        rooms = [room for each in limited if each is not None and (room := each.room(prompts)) is not None]
        return min(rooms, key=lambda room: room[1] - room[0], default=None)

    def _mean(self, values: Tensor) -> Tensor:
        weights = torch.tensor(self.weights, dtype=torch.float64)
        return (weights[:, None] * values).sum(dim=0) / weights.sum()
