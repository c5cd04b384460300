"""Preference games from files: JSON for people, npz for tables."""

from __future__ import annotations

import difflib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.games.preference import PreferenceGame

KEYS = ("preference", "payoff", "reference", "names", "prompt_weight", "prompt_names")


def load_game(path: str | Path) -> PreferenceGame:
    """Read a game from a `.json` object or an `.npz` archive (never unpickled).

    Exactly one of
        preference   [A, A] or [X, A, A] probabilities P(y > y')
        payoff       antisymmetric, |payoff| <= 1 (win +1, tie 0, loss -1): P = 1/2 + payoff/2
    and optionally reference, names, prompt_weight, prompt_names as in `PreferenceGame`. JSON with any other
    key is refused, naming the nearest known one; an archive may hold further arrays, which are ignored.

    Raises ValueError naming the file, the entry and the reason.
    """
    path = Path(path)
    try:
        return _game(_read(path))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in KEYS if key in archive}
    if path.suffix != ".json":
        raise ValueError(f"unknown kind of file {path.suffix!r}; a game is .json or .npz")
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError('expected an object such as {"preference": [[0.5, ...], ...]}')
    for key in content:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            raise ValueError(
                f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else f"; known: {KEYS}")
            )
    return content


def _game(content: dict[str, Any]) -> PreferenceGame:
    if ("preference" in content) == ("payoff" in content):
        raise ValueError("a game has either 'preference' (probabilities) or 'payoff' (antisymmetric)")
    if "payoff" in content:
        payoff = np.asarray(content.pop("payoff"), dtype=np.float64)
        if payoff.size and not np.nanmax(np.abs(payoff)) <= 1:
            raise ValueError(
                f"|payoff| reaches {np.nanmax(np.abs(payoff)):g}; P = 1/2 + payoff/2 needs |payoff| <= 1: "
                "divide by the largest possible payoff"
            )
        content["preference"] = 0.5 + payoff / 2
    for key in ("names", "prompt_names"):
        if isinstance(content.get(key), np.ndarray):
            content[key] = content[key].tolist()
    return PreferenceGame(**content)
