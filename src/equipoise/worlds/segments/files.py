"""Files of recorded segments and their labels: npz or parquet, with one schema; refused with row and reason.

    observations  [M, T, O]        actions  [M, T, A] within the bounds, or [M, T] indices of discrete ones
    rewards       [M, T]           optional; the judge by partial return and lists need them
    pairs         [N, 2] indices   label    [N] in [0, 1], the probability that the first is preferred

An npz file has these arrays. A parquet file has one row for each segment with the columns `observations`, `actions`
(lists of steps), `rewards`; and pairs in a second file beside it, NAME.pairs.parquet, with `first`, `second`, `label`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from equipoise.policy.files import whole
from equipoise.worlds.scored.task import Recorded
from equipoise.worlds.segments.environment import Actions, Environment
from equipoise.worlds.segments.segments import ACTIONS, OBSERVATIONS, REWARDS

PAIRS, LABEL = "pairs", "label"


def read_segments(path: Path, environment: Environment) -> Recorded:
    """Recorded comparisons from a file.

    Raises ValueError, naming the file, the row and the reason: unknown endings, missing arrays, segments of unequal
    length, observations of another size, actions outside the space, numbers that are not finite, labels outside [0, 1].
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    if path.suffix == ".npz":
        arrays = _from_npz(path)
    elif path.suffix == ".parquet":
        arrays = _from_parquet(path)
    else:
        raise ValueError(f"{path}: segments are read from .npz or .parquet files")
    try:
        return checked(arrays, environment.observation_size, environment.actions)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def checked(arrays: dict[str, np.ndarray], observation_size: int, actions: Actions) -> Recorded:
    """Recorded comparisons from arrays of the schema. Raises ValueError as `read_segments` does."""
    for name in (OBSERVATIONS, ACTIONS, PAIRS, LABEL):
        if name not in arrays:
            raise ValueError(f"there is no {name!r}; it has {', '.join(sorted(arrays)) or 'nothing'}")
    seen, acted = arrays[OBSERVATIONS], arrays[ACTIONS]
    if seen.ndim != 3 or seen.shape[2] != observation_size:
        raise ValueError(
            f"observations have shape {list(seen.shape)}; this world observes [segments, steps, {observation_size}]"
        )
    wanted = seen.shape[:2] if actions.discrete else (*seen.shape[:2], actions.size)
    if acted.shape != wanted:
        raise ValueError(f"actions have shape {list(acted.shape)}, these observations need {list(wanted)}")
    _finite(seen, "observation")
    actions.check(acted)
    rewards = arrays.get(REWARDS)
    if rewards is None:
        rewards = np.full(seen.shape[:2], np.nan, dtype=np.float32)
    elif rewards.shape != seen.shape[:2]:
        raise ValueError(f"rewards have shape {list(rewards.shape)}, expected {list(seen.shape[:2])}")
    else:
        _finite(rewards, "reward")
    return Recorded(
        examples={
            OBSERVATIONS: seen.astype(np.float32),
            ACTIONS: acted.astype(np.int64 if actions.discrete else np.float32),
            REWARDS: rewards.astype(np.float32),
        },
        pairs=arrays[PAIRS].astype(np.intp),
        prob=arrays[LABEL].astype(np.float64),
    )


def write_segments(path: Path, recorded: Recorded) -> None:
    """Write recorded comparisons as npz, whole or not at all."""
    with whole(path) as draft, draft.open("wb") as file:
        np.savez_compressed(
            file,
            **{**dict(recorded.examples), PAIRS: recorded.pairs, LABEL: recorded.prob},
            allow_pickle=False,
        )


def _from_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # zipfile, numpy: each has its own
        raise ValueError(f"{path} is not an intact npz file of arrays: {error}") from error


def _from_parquet(path: Path) -> dict[str, np.ndarray]:
    import pyarrow.parquet as pq

    beside = path.with_suffix(".pairs.parquet")
    if not beside.is_file():
        raise ValueError(f"{path}: its pairs are missing; they are read from {beside.name} beside it")
    try:
        segments, pairs = pq.read_table(path).to_pydict(), pq.read_table(beside).to_pydict()
    except Exception as error:  # pyarrow's own
        raise ValueError(f"{path} or {beside.name} is not an intact parquet file: {error}") from error
    found: dict[str, np.ndarray] = {}
    for name in (OBSERVATIONS, ACTIONS, REWARDS):
        if name in segments:
            steps = [len(row) for row in segments[name]]
            for row, length in enumerate(steps):
                if length != steps[0]:
                    raise ValueError(
                        f"{path}, segment {row}: {name} of {length} steps, segment 0 has {steps[0]}; segments must be "
                        "of equal length"
                    )
            found[name] = np.array(segments[name])
    for name in ("first", "second", LABEL):
        if name not in pairs:
            raise ValueError(f"{beside}: there is no column {name!r}")
    found[PAIRS] = np.stack([np.array(pairs["first"]), np.array(pairs["second"])], axis=1)
    found[LABEL] = np.array(pairs[LABEL], dtype=np.float64)
    return found


def _finite(values: np.ndarray, what: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        row, step = np.argwhere(bad)[0][:2]
        raise ValueError(f"segment {row}, step {step}: its {what} is not a finite number")
