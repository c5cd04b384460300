"""Train and held-out split by prompt: the two parts never share one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from equipoise.data.errors import DataError
from equipoise.data.records import Record
from equipoise.data.rendering.render import Rendered

Item = TypeVar("Item", Record, Rendered)


def _group(item: Record | Rendered) -> str:
    return item.group if isinstance(item, Record) else item.record.group


def split(items: Sequence[Item], fraction: float, seed: int = 0) -> tuple[list[Item], list[Item]]:
    """(train, held out): about `fraction` of the groups (prompts) are held out, whole groups only.

    Groups are ranked by a hash of seed and group, so the part a group falls into depends neither on the order
    of the rows nor on the number of rows a group has. Raises DataError unless both parts get a group.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the held-out fraction must lie between 0 and 1, got {fraction}")
    ranked = sorted(
        {_group(item) for item in items},
        key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest(),
    )
    if len(ranked) < 2:
        raise DataError(
            f"{len(ranked)} distinct prompt(s): too few for a training and a held-out part",
            hint="give separate files with `data.evaluation`, or more prompts",
        )
    count = min(max(round(fraction * len(ranked)), 1), len(ranked) - 1)
    held_groups = frozenset(ranked[:count])
    train = [item for item in items if _group(item) not in held_groups]
    held_out = [item for item in items if _group(item) in held_groups]
    return train, held_out


def overlap(train: Sequence[Record | Rendered], held_out: Sequence[Record | Rendered]) -> frozenset[str]:
    """Groups (prompts) in both parts: empty for parts made by `split`; check it for separate evaluation files."""
    return frozenset(map(_group, train)) & frozenset(map(_group, held_out))
