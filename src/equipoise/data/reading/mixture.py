"""Mixture of data files by shares: records resampled so that each file gives its part of the data set.

Of files with n_i records and shares s_i, the mixture holds m_i records of file i, in proportion to the shares:

    first_exhausted   m_i = s_i min_j n_j / s_j: no record is repeated, and the scarcest file is used whole
    all_exhausted     m_i = s_i max_j n_j / s_j: every record is used, those of scarcer files several times
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from equipoise.data.errors import DataError
from equipoise.data.ledger import Ledger
from equipoise.data.place import Place
from equipoise.data.reading.data_files import REPEATS, DataFile, drawn
from equipoise.data.records import Record

Stop: TypeAlias = Literal["first_exhausted", "all_exhausted"]
LEFT_OUT = "not drawn for the mixture"


@dataclass(frozen=True)
class Drawn:
    """One file of a mixture: its share, the records it has, and how many of them are drawn."""

    file: str
    share: float
    available: int
    count: int


def check_shares(files: Sequence[DataFile], stop: Stop) -> None:
    """Raises DataError where some files have a share and others have none, and for an unknown mixture."""
    if stop not in get_args(Stop):
        raise DataError(f"mixture must be one of {', '.join(get_args(Stop))}, got {stop!r}")
    without = [file for file in files if file.share is None]
    if without and len(without) < len(files):
        raise DataError(
            "the other files have a `share` of the mixture, and this one has none",
            file=without[0].path,
            hint="give every file a share, or none",
        )


def counts(available: Sequence[int], shares: Sequence[float], stop: Stop) -> list[int]:
    """[number of files] records of each file; the one that decides the size is used exactly once."""
    sizes = [number / share for number, share in zip(available, shares, strict=True)]
    first = stop == "first_exhausted"
    decides = sizes.index(min(sizes) if first else max(sizes))
    bound = min if first else max
    return [
        bound(number, round(available[decides] * (share / shares[decides])))
        for number, share in zip(available, shares, strict=True)
    ]


def mixed(
    files: Sequence[DataFile], records: Sequence[Sequence[Record]], stop: Stop, seed: int
) -> tuple[list[Record], list[Drawn]]:
    """(records of the mixture, file after file; how many each gives).

    Which records are drawn, or repeated once more than others, is decided by a hash of the seed and their ids; copies
    have ids of their own. Raises DataError for a file without a record, and for a share that is too small for one or
    asks for more than `REPEATS` copies.
    """
    shares = [file.share or 0.0 for file in files]
    empty = next((file for file, own in zip(files, records, strict=True) if not own), None)
    if empty is not None:
        raise no_records(empty)
    made: list[Record] = []
    parts: list[Drawn] = []
    wanted = counts([len(own) for own in records], shares, stop)
    for file, share, own, count in zip(files, shares, records, wanted, strict=True):
        if not count:
            raise DataError(f"its share of {share / sum(shares):.2g} is less than one record", file=file.path)
        if count > REPEATS * len(own):
            raise DataError(
                f"its share of {share / sum(shares):.2g} would repeat {len(own):,} records {count // len(own):,} times",
                file=file.path,
                hint=f"a record is repeated at most {REPEATS:,} times; take another share, or mixture first_exhausted",
            )
        made += repeated(own, count, seed)
        parts.append(Drawn(file.path, share / sum(shares), len(own), count))
    return made, parts


def no_records(file: DataFile) -> DataError:
    """The error of a file with a share from which nothing can be drawn."""
    return DataError(
        "it has no record to use, so its share of the mixture cannot be drawn",
        file=file.path,
        hint="take the file out of the mixture",
    )


def repeated(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """`count` records: each as often as the others or once more; copies have ids of their own."""
    whole, rest = divmod(count, len(records)) if records else (0, 0)
    more = drawn(records, [record.id for record in records], rest, seed)
    return [
        replace(record, id=f"{record.id}~{number}") if number else record
        for number, copy in enumerate([*[records] * whole, more])
        for record in copy
    ]


def account(parts: Sequence[Drawn], stop: Stop) -> str:
    """The mixture in one sentence, for the ledger's notes."""
    total = sum(part.count for part in parts)
    said = ", ".join(
        f"{part.share:.1%} {part.file} ({part.count:,} of its {part.available:,} records"
        + (", some of them repeated)" if part.count > part.available else ")")
        for part in parts
    )
    return f"mixture ({stop}) of {total:,} records: {said}"


def leave_out(
    ledger: Ledger, records: Sequence[Record], kept: Sequence[Record], joined: Mapping[Place, Sequence[Place]]
) -> None:
    """Enters in the ledger the rows of which no record was drawn.

    joined    place of a list made of several rows -> the places of all of them
    """
    used = {record.place for record in kept}
    for place in dict.fromkeys(record.place for record in records):
        if place not in used:
            for row in joined.get(place, (place,)):
                ledger.leave_out(row, LEFT_OUT)


def composition(records: Iterable[Record]) -> str:
    """How many of the records come from each file, in one sentence."""
    found = Counter(record.place.source.listed for record in records)
    return ", ".join(f"{name} {count:,} ({count / found.total():.1%})" for name, count in found.items())
