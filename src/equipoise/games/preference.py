"""A finite preference game: win probabilities for every prompt and every pair of responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.core.dims import Payoff, PerPrompt, Strategy
from equipoise.games.tabular import TabularPolicy

TOLERANCE = 1e-9


@dataclass(frozen=True, init=False, eq=False, repr=False)
class PreferenceGame:
    """Symmetric two-player preference game: each player writes a response, and P gives the win probability.

    preference      [X, A, A] P(y > y' | x), row against column; [A, A] is one prompt. Any array-like.
    reference       [X, A] or [A] full-support reference policy; default uniform.
    prompt_weight   [X] probability of each prompt; default uniform.
    names           response names: A strings shared by all prompts, or X rows of A; default "0", "1", ...
    prompt_names    X strings; default "0", "1", ...

    Everything is stored in float64. Raises ValueError, with the entry, unless P is finite, lies in [0, 1]
    and satisfies P(y > y') + P(y' > y) = 1 (tolerance 1e-9, hence 1/2 on the diagonal), and unless reference
    and prompt weights are distributions, the reference without a zero.
    """

    preference: Payoff
    reference: Strategy
    prompt_weight: PerPrompt
    names: tuple[tuple[str, ...], ...]
    prompt_names: tuple[str, ...]

    def __init__(
        self,
        preference: Any,
        reference: Any = None,
        *,
        prompt_weight: Any = None,
        names: Sequence[str] | Sequence[Sequence[str]] | None = None,
        prompt_names: Sequence[str] | None = None,
    ) -> None:
        table = _table("preference", preference)
        table = table.unsqueeze(0) if table.ndim == 2 else table
        if table.ndim != 3 or table.shape[1] != table.shape[2] or 0 in table.shape:
            raise ValueError(f"preference must be [prompts, actions, actions], got {tuple(table.shape)}")
        prompts, actions = table.shape[:2]
        labels = _names(names, prompts, actions)
        _check_preference(table, labels)

        base = (
            _table("reference", reference)
            if reference is not None
            else table.new_full((actions,), 1 / actions)
        )
        base = base.expand(prompts, actions).clone() if base.ndim == 1 and len(base) == actions else base
        _check_distribution("reference", base, (prompts, actions))
        if not bool((base > 0).all()):
            raise ValueError("the reference needs full support: every response needs a probability > 0")

        uniform = table.new_full((prompts,), 1 / prompts)
        weight = uniform if prompt_weight is None else _table("prompt_weight", prompt_weight)
        _check_distribution("prompt_weight", weight, (prompts,))
        titles = tuple(map(str, range(prompts) if prompt_names is None else prompt_names))
        if len(titles) != prompts:
            raise ValueError(f"{len(titles)} prompt names for {prompts} prompts")
        values = (table, base, weight, labels, titles)
        for field, value in zip(self.__dataclass_fields__, values, strict=True):
            object.__setattr__(self, field, value)

    def __repr__(self) -> str:
        return f"PreferenceGame({self.prompts} prompts, {self.actions} actions)"

    @property
    def prompts(self) -> int:
        """X, the number of prompts."""
        return self.preference.shape[0]

    @property
    def actions(self) -> int:
        """A, the number of responses per prompt."""
        return self.preference.shape[1]

    def initial(self) -> TabularPolicy:
        """The reference as a policy."""
        return TabularPolicy(self.reference.log())

    def win(self, policy: TabularPolicy) -> Strategy:
        """P(y > pi | x) = sum_y' P(y > y' | x) pi(y'|x), [X, A]."""
        self._check(policy)
        return torch.einsum("xab,xb->xa", self.preference, policy.probs())

    def value(self, first: TabularPolicy, second: TabularPolicy) -> PerPrompt:
        """P(pi1 > pi2 | x), [X]; `mean` averages it over prompts. value(p, q) + value(q, p) = 1."""
        self._check(first)
        return (first.probs() * self.win(second)).sum(dim=1)

    def mean(self, per_prompt: PerPrompt) -> float:
        """Prompt-weighted mean sum_x prompt_weight(x) v(x)."""
        return float(self.prompt_weight @ per_prompt)

    def _check(self, policy: TabularPolicy) -> None:
        if policy.shape != (self.prompts, self.actions):
            raise ValueError(f"policy has shape {policy.shape}, the game {(self.prompts, self.actions)}")


def _table(what: str, values: Any) -> Tensor:
    try:
        table = torch.as_tensor(values, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} is not a rectangular table of numbers: {error}") from None
    if not bool(table.isfinite().all()):
        entry = (~table.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"{what}{entry} is not a finite number")
    return table


def _names(names: Sequence[Any] | None, prompts: int, actions: int) -> tuple[tuple[str, ...], ...]:
    shared = names is None or all(isinstance(name, str) for name in names)
    rows = [range(actions) if names is None else names] * prompts if shared else list(names or ())
    labels = tuple(tuple(str(name) for name in row) for row in rows)
    if len(labels) != prompts or any(len(row) != actions for row in labels):
        raise ValueError(f"names must be {actions} strings, or {prompts} rows of {actions} strings")
    return labels


def _check_preference(table: Payoff, names: tuple[tuple[str, ...], ...]) -> None:
    def entry(mask: Tensor) -> tuple[int, int, int, str]:
        x, i, j = mask.nonzero()[0].tolist()
        return x, i, j, f"preference[{x}][{i}][{j}] ({names[x][i]} against {names[x][j]})"

    outside = (table < 0) | (table > 1)
    if bool(outside.any()):
        x, i, j, where = entry(outside)
        raise ValueError(f"{where} is {float(table[x, i, j])!r}; a probability must lie in [0, 1]")
    total = table + table.mT
    broken = (total - 1).abs() > TOLERANCE
    if bool(broken.any()):
        x, i, j, where = entry(broken)
        if i == j:
            raise ValueError(f"{where} is {float(table[x, i, i])!r}; the diagonal must be 1/2")
        raise ValueError(f"{where} and its opposite sum to {float(total[x, i, j]):.12g}, expected 1")


def _check_distribution(what: str, table: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(table.shape) != shape:
        raise ValueError(f"{what} has shape {tuple(table.shape)}, expected {shape}")
    if bool((table < 0).any()):
        raise ValueError(f"{what}{(table < 0).nonzero()[0].tolist()} is negative")
    total = table.sum(dim=-1)
    if bool(((total - 1).abs() > TOLERANCE).any()):
        raise ValueError(f"{what} must sum to 1 for each prompt, got {total.tolist()}")
