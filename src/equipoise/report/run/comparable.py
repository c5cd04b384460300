"""Whether runs can be compared: the same model, data, evaluation prompts and oracle; and the settings that differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from equipoise.report.run.load import Run
from equipoise.worlds.text.folder.manifest import DamagedRun, Manifest

# What must be equal, and what may be given as `--allow NAME`.
DIFFERENT = {
    "different_model": "start from different models",
    "different_data": "read different data",
    "different_evaluation": "were evaluated on different prompts",
    "different_oracle": "were judged by different oracles",
}
UNSEEN = ("hash", "allow", "track", "inputs", "chosen")  # entries of a configuration that are no settings


class NotComparable(ValueError):
    """Runs that differ in what their figures depend on; the message says in what, and how to compare them still."""


def check(runs: Sequence[Run], allow: Collection[str] = ()) -> list[str]:
    """Sentences on the differences that are allowed. Raises NotComparable naming those that are not.

    Raises ValueError for a name that nothing has.
    """
    unknown = sorted(set(allow) - DIFFERENT.keys())
    if unknown:
        raise ValueError(f"nothing is called {unknown[0]!r} here; known: {', '.join(DIFFERENT)}")
    found = list(differences(runs))
    refused = [name for name, _ in found if name not in allow]
    if refused:
        lines = "\n  ".join(sentence for name, sentence in found if name not in allow)
        flags = " ".join(f"--allow {name}" for name in dict.fromkeys(refused))
        raise NotComparable(
            f"these runs cannot be compared as they are:\n  {lines}\ncompare runs of one setting, or add {flags}"
        )
    return [sentence for _, sentence in found]


def differences(runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    """(name, sentence) of what differs between the first run that says and each later one."""
    for name, what in DIFFERENT.items():
        said = [(run, value) for run in runs if any(value := EVIDENCE[name](run))]
        for run, value in said[1:]:
            first, expected = said[0]
            if _comparable(value, expected) != _comparable(expected, value):
                yield name, f"{first.folder} and {run.folder} {what}: {_shown(expected)} and {_shown(value)}"


def settings(runs: Sequence[Run]) -> list[tuple[str, tuple[str, ...]]]:
    """Settings in which the runs differ: dotted name, and its value in each run."""
    flat = [dict(_flat(run.config)) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    rows = [(name, tuple(_text(one.get(name)) for one in flat)) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


# hashes of the contents, where the run recorded them; names, as its configuration gives them
Evidence = tuple[tuple[str, ...], tuple[str, ...]]


def _hashes(run: Run, *kinds: str) -> tuple[str, ...]:
    named = {f"{kind} {name}": value for kind in kinds for name, value in run.inputs.get(kind, {}).items()}
    return tuple(sorted(value for name, value in named.items() if not name.startswith("data playground_")))


def _configured(run: Run, section: str, leaf: str | None = None) -> tuple[str, ...]:
    value = run.config.get(section)
    value = value.get(leaf) if leaf and isinstance(value, Mapping) else None if leaf else value
    return () if value is None else tuple(map(str, value if isinstance(value, list) else [value]))


def _model(run: Run) -> Evidence:
    return _hashes(run, "model", "tokenizer"), _configured(run, "model", "path")


def _data(run: Run) -> Evidence:
    return _hashes(run, "data"), _configured(run, "data", "path")


def _oracle(run: Run) -> Evidence:
    return _hashes(run, "oracle"), _configured(run, "oracle")


def _evaluation(run: Run) -> Evidence:
    try:
        recorded = Manifest(run.folder).hashes("evaluation/prompts.parquet")
    except (DamagedRun, OSError):
        recorded = ()
    return tuple(recorded), ()


EVIDENCE: Mapping[str, Callable[[Run], Evidence]] = {
    "different_model": _model,
    "different_data": _data,
    "different_evaluation": _evaluation,
    "different_oracle": _oracle,
}


def _comparable(one: Evidence, other: Evidence) -> tuple[str, ...]:
    """Hashes where both have them, else names where both have them, else nothing."""
    for mine, theirs in zip(one, other, strict=True):
        if mine and theirs:
            return mine
    return ()


def _shown(evidence: Evidence) -> str:
    hashes, names = evidence
    text = ", ".join(names)
    content = f"contents {', '.join(value[:8] for value in hashes[:3])}" if hashes else ""
    return f"{text} ({content})" if text and content else text or content or "nothing named"


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and not prefix:
            yield from _flat(value, f"{name}.")
        elif prefix or name not in UNSEEN:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    return "–" if value is None else str(value)
