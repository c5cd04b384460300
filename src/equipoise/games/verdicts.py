"""Recorded verdicts on pairs of responses: one table per prompt, with missing comparisons allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch

from equipoise.core.dims import Payoff, Strategy
from equipoise.games.preference import PreferenceGame

ROUNDING = 1e-6  # shares are often stored in single precision


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdicts:
    """Tables of verdicts per prompt; pairs may be missing.

    prob            [X, A, A] fraction of verdicts that row won against column, ties half; NaN = never compared
    count           [X, A, A] number (or weight) of verdicts, symmetric; 0 = never compared
    reference       [X, A] reference policy; uniform if the source has none
    names           X rows of A response names          prompt_names    X strings

    The diagonal is no comparison: prob 1/2, count 0. Built by `from_prob`, `from_votes`, `from_scores` and
    `from_game`, which check.
    """

    prob: Payoff
    count: Payoff
    reference: Strategy
    names: tuple[tuple[str, ...], ...]
    prompt_names: tuple[str, ...]

    @property
    def shared(self) -> bool:
        """Whether every prompt compares the same responses, so that prompts may be pooled."""
        return len(set(self.names)) == 1

    @property
    def cells(self) -> int:
        """Number of possible comparisons: X A (A - 1)/2."""
        prompts, actions = self.prob.shape[:2]
        return prompts * actions * (actions - 1) // 2

    @property
    def missing(self) -> int:
        """Number of missing comparisons."""
        return int(self.prob.isnan().sum()) // 2

    @property
    def complete(self) -> list[bool]:
        """For each prompt, whether every pair was compared."""
        return [not bool(table.isnan().any()) for table in self.prob]

    def only(self, prompt: str) -> Verdicts:
        """The verdicts of one prompt. Raises ValueError for an unknown one, with the nearest known name."""
        if prompt not in self.prompt_names:
            near = get_close_matches(prompt, self.prompt_names, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self.prompt_names[:20])}"
            raise ValueError(f"no part {prompt!r}; {hint}")
        x = self.prompt_names.index(prompt)
        one = slice(x, x + 1)
        return replace(
            self,
            prob=self.prob[one],
            count=self.count[one],
            reference=self.reference[one],
            names=self.names[one],
            prompt_names=self.prompt_names[one],
        )

    def game(self) -> PreferenceGame:
        """One game of X prompts, each weighted by its verdicts.

        Raises ValueError if a comparison is missing; none is imputed.
        """
        if self.missing:
            x, i, j = self.prob.isnan().nonzero()[0].tolist()
            raise ValueError(
                f"{self.missing} of {self.cells} comparisons were never made (first: {self._pair(i, j, x)}), so the "
                "prompts are not complete games; `equipoise game` pools them"
            )
        weight = self.count.sum(dim=(1, 2))
        return PreferenceGame(
            self.prob,
            self.reference,
            prompt_weight=weight / weight.sum(),
            names=self.names,
            prompt_names=self.prompt_names,
        )

    def pooled(self) -> PreferenceGame:
        """Pooled game of one prompt, in which every verdict counts once:

            P(y > y') = sum_x n_x(y, y') p_x(y, y') / sum_x n_x(y, y')

        A missing comparison has n_x = 0. Raises ValueError if prompts compare different responses, or for a pair that
        was never compared at any prompt.
        """
        if not self.shared:
            raise ValueError(
                "prompts compare different responses, which cannot be pooled; choose one with --part"
            )
        table = pool(self, torch.ones(1, len(self.prob), dtype=torch.float64))
        if bool(table.isnan().any()):
            _, i, j = table.isnan().nonzero()[0].tolist()
            raise ValueError(f"{self._pair(i, j, None)} were never compared: their probability is unknown")
        weight = self.count.sum(dim=(1, 2))
        reference = torch.einsum("x,xa->a", weight / weight.sum(), self.reference)
        return PreferenceGame(table, reference / reference.sum(), names=self.names[0])

    def _pair(self, i: int, j: int, x: int | None) -> str:
        names = self.names[x or 0]
        return f"{names[i]} and {names[j]}" + (
            "" if x is None else f" at prompt {self.prompt_names[x]!r:.60}"
        )


def pool(verdicts: Verdicts, times: Strategy) -> Payoff:
    """Win fractions [S, A, A], pooled over the prompts of each of S samples; see `Verdicts.pooled`.

    times    [S, X] multiplicity of each prompt in a sample. A pair without a verdict is NaN, the diagonal 1/2.
    """
    won = torch.einsum("sx,xab->sab", times, verdicts.count * verdicts.prob.nan_to_num(0.0))
    table = won / torch.einsum("sx,xab->sab", times, verdicts.count)  # 0/0 is NaN
    table.diagonal(dim1=1, dim2=2).fill_(0.5)
    return table


def from_prob(
    prob: Any,
    count: Any = None,
    *,
    reference: Any = None,
    names: Sequence[Any] | None = None,
    prompt_names: Sequence[Any] | None = None,
) -> Verdicts:
    """Verdicts from win fractions, [X, A, A] or [A, A], NaN for a pair that was not compared.

    count    [X, A, A] number of verdicts of each fraction; default 1 for every fraction given.

    Raises ValueError for a fraction outside [0, 1], one that does not sum to 1 with its opposite (tolerance 1e-6,
    then made exact), or a fraction without verdicts, such as a 1/2 that stands for "unknown".
    """
    table = torch.as_tensor(np.asarray(prob, dtype=np.float64))
    table = (table.unsqueeze(0) if table.ndim == 2 else table).clone()
    if table.ndim != 3 or table.shape[1] != table.shape[2] or 0 in table.shape:
        raise ValueError(f"shares must be [prompts, responses, responses], got {tuple(table.shape)}")
    prompts, actions = table.shape[:2]
    number = (~table.isnan()).double() if count is None else _counts(count, table)
    for values in (table, number):
        values.diagonal(dim1=1, dim2=2).zero_()
    bad = (table < 0) | (table > 1)
    unequal = (table + table.mT - (1 - torch.eye(actions))).abs() > ROUNDING
    unbacked = table.isnan() == (number > 0)
    unbacked.diagonal(dim1=1, dim2=2).fill_(False)
    half = (table.isnan() != table.isnan().mT) | (number != number.mT) | (number < 0)
    for wrong, reason in (
        (bad, "is not a share in [0, 1]"),
        (unequal, "and its opposite do not sum to 1"),
        (half, "and its opposite do not rest on the same verdicts"),
        (unbacked, "has a share without verdicts, or verdicts without a share"),
    ):
        if bool(wrong.any()):
            raise ValueError(f"comparison {wrong.nonzero()[0].tolist()} (prompt, row, column) {reason}")
    table = (table + 1 - table.mT) / 2
    uniform = table.new_full((prompts, actions), 1 / actions)
    # PreferenceGame checks and shapes everything else
    frame = PreferenceGame(
        table.nan_to_num(0.5),
        uniform if reference is None else reference,
        names=None if names is None else np.asarray(names).astype(str).tolist(),
        prompt_names=None if prompt_names is None else [str(name) for name in prompt_names],
    )
    return Verdicts(
        prob=table,
        count=number,
        reference=frame.reference,
        names=frame.names,
        prompt_names=frame.prompt_names,
    )


def from_votes(votes: Any, **about: Any) -> Verdicts:
    """Verdicts from counts of wins, losses and ties of row against column, [X, A, A, 3] or [A, A, 3]."""
    table = np.asarray(votes, dtype=np.float64)
    if table.ndim not in (3, 4) or table.shape[-1] != 3 or not (table >= 0).all():
        raise ValueError(f"votes must be [prompts, responses, responses, 3] counts, got {table.shape}")
    number = table.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        share = (table[..., 0] + table[..., 2] / 2) / number
    return from_prob(share, number, **about)


def from_scores(scores: Any, **about: Any) -> Verdicts:
    """Verdicts from scores: the higher score of a voter wins, equal ones tie, NaN abstains.

    scores    [X, A] one voter per prompt (a task, a question), or [X, V, A] with V voters.

    Only the order of a voter's scores matters, so voters may use any scale.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim not in (2, 3):
        raise ValueError(
            f"scores must be [prompts, responses] or [prompts, voters, responses], got {table.shape}"
        )
    table = table[:, None] if table.ndim == 2 else table
    first, second = table[..., :, None], table[..., None, :]
    return from_votes(
        np.stack([first > second, first < second, first == second], axis=-1).sum(axis=1), **about
    )


def from_game(game: PreferenceGame) -> Verdicts:
    """Every prompt of a game as verdicts, weighted by its probability (a mean weight of 1)."""
    weight = (game.prompts * game.prompt_weight)[:, None, None].expand_as(game.preference)
    table = game.preference.masked_fill(
        weight == 0, float("nan")
    )  # a prompt that never occurs has no verdicts
    return from_prob(
        table, weight, reference=game.reference, names=game.names, prompt_names=game.prompt_names
    )


def _counts(count: Any, table: Payoff) -> Payoff:
    number = torch.as_tensor(np.asarray(count, dtype=np.float64))
    number = (number.unsqueeze(0) if number.ndim == 2 else number).clone()
    if number.shape != table.shape or not bool(number.isfinite().all()):
        raise ValueError(
            f"counts must be finite numbers of shape {tuple(table.shape)}, got {tuple(number.shape)}"
        )
    return number
