"""What of several runs can be compared: same model, prompts, held-out pairs, oracle, decoding; settings that differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equipoise.report.run.records import Run
from equipoise.worlds.folder.manifest import DamagedRun, Manifest

UNSEEN = ("hash", "allow", "track", "inputs", "chosen")  # entries of a configuration that are no settings
# Two evaluations of one model on one game agree to float32 rounding of its log-probabilities.
SAME_REFERENCE = 1e-4

# hashes of the contents, where the run recorded them; names, as its configuration or its samples give them
Evidence = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Basis:
    """What figures rest on: what runs that differ in it do, how it is found, and whether what it is can be shown."""

    differ: str
    of: Callable[[Run], Evidence]
    shown: bool = True


@dataclass(frozen=True)
class Family:
    """Figures that rest on the same things, by the names of `BASES`."""

    figures: tuple[str, ...]
    bases: tuple[str, ...]
    title: str


def differences(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """A sentence on each thing that the runs do not share, and on what that does to their figures."""
    found = []
    for name, basis in BASES.items():
        kinds: list[tuple[Evidence, list[str]]] = []
        for own, run in zip(names, runs, strict=True):
            value = basis.of(run)
            if not any(value):
                continue
            for known, members in kinds:
                if same(known, value):
                    members.append(own)
                    break
            else:
                kinds.append((value, [own]))
        if len(kinds) > 1:
            told = "; ".join(_kind(members, value, basis) for value, members in kinds)
            found.append(f"The runs {basis.differ}: {told}. {_consequence(name)}")
    return found


def partition(runs: Sequence[Run], family: Family) -> tuple[tuple[int, ...], ...]:
    """Indices of the runs in groups whose figures of a family are of the same evaluation."""
    groups: list[list[int]] = []
    for index, run in enumerate(runs):
        for group in groups:
            if _same_evaluation(runs[group[0]], run, family):
                group.append(index)
                break
        else:
            groups.append([index])
    return tuple(map(tuple, groups))


def settings(runs: Sequence[Run]) -> list[tuple[str, tuple[str, ...]]]:
    """Settings in which the runs differ: dotted name, and its value in each run."""
    flat = [dict(_flat(run.config)) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    rows = [(name, tuple(_text(one.get(name)) for one in flat)) for name in names]
    sections = list(dict.fromkeys(name.split(".")[0] for name in names))
    rows.sort(key=lambda row: sections.index(row[0].split(".")[0]))
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def same(one: Evidence, other: Evidence) -> bool:
    """Whether two runs agree: by their hashes where both have them, else by names; what neither says agrees."""
    for mine, theirs in zip(one, other, strict=True):
        if mine and theirs:
            return mine == theirs
    return True


def _same_evaluation(first: Run, other: Run, family: Family) -> bool:
    if not all(same(BASES[name].of(first), BASES[name].of(other)) for name in family.bases):
        return False
    gaps = [run.reference.exploitability for run in (first, other) if run.reference]
    known = [gap for gap in gaps if gap is not None]
    return len(known) < 2 or abs(known[0] - known[1]) <= SAME_REFERENCE


def _consequence(name: str) -> str:
    figures = [family.title for family in FAMILIES if name in family.bases]
    if not figures:
        return "A difference of their figures may come from it as well as from the method."
    listed = " and ".join([", ".join(figures[:-1]), figures[-1]] if len(figures) > 1 else figures)
    return f"Their {listed} are of different evaluations and stand in separate tables."


def _hashes(run: Run, *kinds: str) -> tuple[str, ...]:
    named = {f"{kind} {name}": value for kind in kinds for name, value in run.inputs.get(kind, {}).items()}
    return tuple(sorted(value for name, value in named.items() if not name.startswith("data playground_")))


def _named(value: Any) -> tuple[str, ...]:
    return () if value is None else tuple(map(str, value if isinstance(value, list) else [value]))


def _model(run: Run) -> Evidence:
    return _hashes(run, "model", "tokenizer", "adapter"), _named(run.setting("model", "path"))


def _data(run: Run) -> Evidence:
    return _hashes(run, "data"), _named(run.setting("data", "path"))


def _oracle(run: Run) -> Evidence:
    return _hashes(run, "oracle"), _named(run.config.get("oracle"))


def _prompts(run: Run) -> Evidence:
    seen = tuple(dict.fromkeys(sample.prompt for sample in run.samples))
    return _recorded(run, "prompts"), seen


def _pairs(run: Run) -> Evidence:
    return _recorded(run, "pairs"), ()


def _recorded(run: Run, name: str) -> tuple[str, ...]:
    try:
        return tuple(Manifest(run.folder).hashes(f"evaluation/{name}.parquet"))
    except (DamagedRun, OSError):
        return ()


def _decoding(run: Run) -> Evidence:
    values = {name: run.setting("sampling", name) for name in DECODING}
    return (), tuple(f"{name} {value}" for name, value in values.items() if value is not None)


DECODING = ("temperature", "top_k", "top_p", "max_new_tokens")
BASES: Mapping[str, Basis] = {
    "model": Basis("start from different models", _model),
    "data": Basis("read different data", _data),
    "prompts": Basis("were evaluated on different prompts", _prompts, shown=False),
    "pairs": Basis("were evaluated on different held-out pairs", _pairs, shown=False),
    "oracle": Basis("were judged by different oracles", _oracle),
    "decoding": Basis("sampled with different settings", _decoding),
}
FAMILIES = (
    Family(
        ("exact_win_rate", "exploitability", "gap_tau", "outside"),
        ("model", "prompts", "oracle"),
        "exact figures",
    ),
    Family(("win_rate",), ("model", "prompts", "oracle", "decoding"), "win rates"),
    Family(
        ("accuracy", "ranking", "chosen_log_ratio", "rejected_log_ratio"),
        ("model", "pairs"),
        "held-out figures",
    ),
    Family(("kl", "length", "entropy", "finished"), ("model", "prompts", "decoding"), "KL and lengths"),
)


def _kind(members: Sequence[str], evidence: Evidence, basis: Basis) -> str:
    shown = f" ({_shown(evidence)})" if basis.shown else ""
    return f"{', '.join(members)}{shown}"


def _shown(evidence: Evidence) -> str:
    hashes, names = evidence
    content = f"contents {', '.join(value[:8] for value in hashes[:3])}" if hashes else ""
    return ", ".join([*names, *([content] if content else [])])


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and not prefix:
            yield from _flat(value, f"{name}.")
        elif prefix or name not in UNSEEN:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "–" if value is None else str(value)
