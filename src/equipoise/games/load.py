"""Loading preference games and verdicts from JSON or npz files."""

from __future__ import annotations

import difflib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.games import verdicts
from equipoise.games.preference import PreferenceGame
from equipoise.games.verdicts import Verdicts

GAME_KEYS = ("preference", "payoff", "reference", "names", "prompt_weight", "prompt_names")
VERDICT_KEYS = ("votes_win_loss_tie", "prob", "verdict_count", "scores")
NAMES = ("names", "systems", "models", "teams", "agents")
PROMPT_NAMES = ("prompt_names", "prompt_ids", "question_ids", "prompts", "seasons", "games")
KEYS = tuple(dict.fromkeys((*GAME_KEYS, *VERDICT_KEYS, *NAMES, *PROMPT_NAMES)))


def load_game(path: str | Path) -> PreferenceGame:
    """Read a game from a `.json` object or an `.npz` archive (never unpickled).

    Exactly one of
        preference   [A, A] or [X, A, A] probabilities P(y > y')
        payoff       antisymmetric, |payoff| <= 1 (win +1, tie 0, loss -1): P = 1/2 + payoff/2
    and optionally reference, names, prompt_weight, prompt_names as in `PreferenceGame`; or the verdicts that
    `load_verdicts` reads, if no comparison is missing. JSON with any other key is refused, suggesting the
    nearest known one; further arrays of an archive are ignored.

    Raises ValueError with the file, the entry and the reason.
    """
    content, path = _content(path, None)
    try:
        return _game(content) if _is_game(content) else _verdicts(content).game()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_verdicts(path: str | Path, part: str | None = None) -> Verdicts:
    """Read verdicts per prompt, from a game file (see `load_game`) or from a file with

        votes_win_loss_tie   [X, A, A, 3] verdict counts, or
        prob, verdict_count  [X, A, A] fraction won, NaN if never compared, and the number of verdicts, or
        scores               [X, A] the score of each response by each voter (see `verdicts.from_scores`)

    with names (or systems, models, teams, agents) and prompt_names (or prompt_ids, question_ids, prompts,
    seasons, games). An archive of several tables names them `TABLE__scores`, `TABLE__agents`, ....

    part    read only this table or prompt; required for an archive of several tables.

    Raises ValueError with the file, the entry and the reason.
    """
    content, path = _content(path, part)
    try:
        every = verdicts.from_game(_game(content)) if _is_game(content) else _verdicts(content)
        return every if part is None or content.get("table") == part else every.only(part)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _content(path: str | Path, part: str | None) -> tuple[dict[str, Any], Path]:
    path = Path(path)
    try:
        return _read(path, part), path
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: {error}") from error


def _read(path: Path, part: str | None) -> dict[str, Any]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in KEYS if key in archive}
            tables = sorted({key.split("__")[0] for key in archive if "__" in key})
            if arrays or not tables:
                return arrays
            if part not in tables:
                raise ValueError(
                    f"the archive has several tables; choose one with --part: {', '.join(tables)}"
                )
            arrays = {key: archive[f"{part}__{key}"] for key in KEYS if f"{part}__{key}" in archive}
            return arrays | {"table": part}
    if path.suffix != ".json":
        raise ValueError(f"unknown file type {path.suffix!r}; a game file must be .json or .npz")
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


def _is_game(content: dict[str, Any]) -> bool:
    return "preference" in content or "payoff" in content or not any(key in content for key in VERDICT_KEYS)


def _game(content: dict[str, Any]) -> PreferenceGame:
    if ("preference" in content) == ("payoff" in content):
        raise ValueError(
            "a game needs exactly one of 'preference' (probabilities) and 'payoff' (antisymmetric)"
        )
    given = {key: content[key] for key in GAME_KEYS if key in content} | _labels(content)
    if "payoff" in given:
        payoff = np.asarray(given.pop("payoff"), dtype=np.float64)
        if payoff.size and not np.nanmax(np.abs(payoff)) <= 1:
            raise ValueError(
                f"|payoff| reaches {np.nanmax(np.abs(payoff)):g}; P = 1/2 + payoff/2 needs |payoff| <= 1: "
                "divide by the largest possible payoff"
            )
        given["preference"] = 0.5 + payoff / 2
    return PreferenceGame(**given)


def _verdicts(content: dict[str, Any]) -> Verdicts:
    labels = _labels(content)
    if "votes_win_loss_tie" in content:
        return verdicts.from_votes(content["votes_win_loss_tie"], **labels)
    if "prob" in content:
        return verdicts.from_prob(content["prob"], content.get("verdict_count"), **labels)
    if "scores" in content:
        return verdicts.from_scores(content["scores"], **labels)
    raise ValueError("'verdict_count' needs 'prob'")


def _labels(content: dict[str, Any]) -> dict[str, list[Any]]:
    """Names of responses and prompts, under any of their known keys."""
    labels = {}
    for label, keys in (("names", NAMES), ("prompt_names", PROMPT_NAMES)):
        for key in keys:
            if key in content:
                labels[label] = np.asarray(content[key]).astype(str).tolist()
                break
    return labels
