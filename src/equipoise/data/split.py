"""Train and held-out split by prompt or by annotator: the two parts never share one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, TypeAlias, TypeVar

from equipoise.data.errors import DataError
from equipoise.data.records import Record
from equipoise.data.rendering.render import Rendered

By: TypeAlias = Literal["prompt", "user"]
_TOO_FEW = {
    "prompt": "distinct prompt(s): too few for a training and a held-out part",
    "user": "annotator(s): too few for a training and a held-out part",
}
Item = TypeVar("Item", Record, Rendered)


def _record(item: Record | Rendered) -> Record:
    return item if isinstance(item, Record) else item.record


def _group(item: Record | Rendered) -> str:
    return _record(item).group


def _user(item: Record | Rendered) -> str:
    record = _record(item)
    if not record.user:
        raise DataError.at(
            record.place,
            "this row names no annotator, and the split is by annotator",
            hint="give every row a column `user_id`, or split by prompt",
        )
    return record.user


def split(
    items: Sequence[Item], fraction: float, seed: int = 0, by: By = "prompt"
) -> tuple[list[Item], list[Item]]:
    """(train, held out): about `fraction` of the groups are held out, whole groups only.

    by    "prompt": the parts share no prompt; "user": they share no annotator, but perhaps prompts.

    Groups are ranked by a hash of seed and group, so the part a group falls into depends neither on the order
    of the rows nor on the number of rows a group has. Raises DataError unless both parts get a group, and for a row
    without annotator where the split is by annotator.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the held-out fraction must lie between 0 and 1, got {fraction}")
    name = _group if by == "prompt" else _user
    ranked = sorted(
        {name(item) for item in items},
        key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest(),
    )
    if len(ranked) < 2:
        raise DataError(
            f"{len(ranked)} {_TOO_FEW[by]}",
            hint=f"give separate files with `data.evaluation`, or more {by}s",
        )
    count = min(max(round(fraction * len(ranked)), 1), len(ranked) - 1)
    held_groups = frozenset(ranked[:count])
    train = [item for item in items if name(item) not in held_groups]
    held_out = [item for item in items if name(item) in held_groups]
    return train, held_out


def overlap(train: Sequence[Record | Rendered], held_out: Sequence[Record | Rendered]) -> frozenset[str]:
    """Groups (prompts) in both parts: empty for parts made by `split`; check it for separate evaluation files."""
    return frozenset(map(_group, train)) & frozenset(map(_group, held_out))
