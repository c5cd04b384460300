"""The protocol of `table.py`, set before its runs: methods, trials, splits, budget.

Changing anything here changes `code` of every line (see `table.py`), so results before and after are never mixed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from equipoise.playground.large import LargeTeaHouse

TRIALS_FILE = Path(__file__).parent / "results" / "table_trials.json"

BUDGET = 1024  # judge calls of a run
TRIALS = 8  # of every method, on the tune prompts
TUNE_CHECKPOINT, TUNE_SEED = "mid", 1000
CHECKPOINTS, SEEDS = ("weak", "mid", "strong"), (0, 1, 2, 3, 4)
LEAK = 0.02  # mass outside the grammar, beyond the reference's, from which a run has failed
EVERY_CALLS = 512  # judge calls between the evaluations of a run's curve

# ranges of the trials, the same for every method; the KL weight's is around each method's own setting on the playground
RATES, EPSILONS, EPOCHS = (2e-4, 2e-3), (1e-4, 1e-2), (1, 2, 3)
AROUND = 5.0  # the KL weight, or inverse step, is searched from a fifth to five times


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A row of the table.

    method     name in the library
    knob       setting whose range is searched beside rate, epsilon and epochs, and its middle
    settings   what is the same in every trial
    reward     whether a Bradley-Terry reward judges, fitted exactly to pairs of the reference
    """

    method: str
    knob: tuple[str, float]
    settings: Mapping[str, Any]
    reward: bool = False


# About 128 judge calls and four responses to a prompt in every round of every method: two disjoint pairs of 64 prompts,
# all six comparisons of 21, eight of 16 where a round writes twice, or 32 prompts whose responses are scored.
ROUND = 128
COMMON = {"play.samples": 4, "train.batch": 32, "train.micro_batch": 32}
PAIRS, ALL, TWICE, SCORES = (COMMON | {"play.prompts": prompts} for prompts in (64, 21, 16, 32))


def _of(method: str, knob: tuple[str, float], shared: Mapping[str, Any], **more: Any) -> Contender:
    return Contender(method=method, knob=knob, settings=shared | more, reward=shared is SCORES)


CONTENDERS: Mapping[str, Contender] = {
    "inpo": _of("inpo", ("objective.eta", 0.2), PAIRS, **{"objective.tau": 0.05}),
    "egpo": _of("egpo", ("objective.beta", 0.05), TWICE),
    "iterative_dpo": _of("iterative_dpo", ("objective.beta", 0.5), PAIRS),
    "rloo_bt": _of("rloo", ("objective.tau", 0.05), SCORES, **{"play.pairing": "reward"}),
    "onpo": _of("onpo", ("objective.eta", 2.5), PAIRS),
    "mpo": _of("mpo", ("objective.alpha", 0.05), ALL),
    "online_dpo": _of("online_dpo", ("objective.beta", 0.1), PAIRS),
    "nash_md": _of("nash_md", ("objective.eta", 5.0), PAIRS, **{"objective.tau": 0.05}),
    "sppo": _of("sppo", ("objective.eta", 5.0), ALL),
    "dno": _of("dno", ("objective.eta", 0.2), ALL),
    "gpo": _of("gpo", ("objective.beta", 1.0), ALL),
    "spo": _of("spo", ("objective.tau", 0.05), ALL),
    "rloo": _of("rloo", ("objective.tau", 0.05), ALL),
    "ppo": _of("ppo", ("objective.tau", 0.05), ALL),
    "xpo": _of("xpo", ("objective.beta", 0.5), PAIRS, **{"objective.alpha": 0.002}),
}


def trials() -> dict[str, list[dict[str, Any]]]:
    """Of each method its Sobol points, as settings: rate, KL weight and epsilon on log scales, and the epochs."""
    found = {}
    for name, contender in CONTENDERS.items():
        points = qmc.Sobol(d=4, seed=7).random(TRIALS)  # the same points for every method
        knob, middle = contender.knob
        found[name] = [
            {
                "train.lr": _log(rate, *RATES),
                knob: _log(weight, middle / AROUND, middle * AROUND),
                "train.eps": _log(eps, *EPSILONS),
                "train.epochs": EPOCHS[int(epochs * len(EPOCHS))],
            }
            for rate, weight, eps, epochs in points
        ]
    return found


def _log(place: float, low: float, high: float) -> float:
    return float(f"{np.exp(np.log(low) + place * (np.log(high) - np.log(low))):.3g}")


def committed_trials() -> dict[str, list[dict[str, Any]]]:
    """The trials of the committed file. Raises ValueError if they are not those that the protocol draws."""
    stored: dict[str, list[dict[str, Any]]] = json.loads(TRIALS_FILE.read_text(encoding="utf-8"))
    if stored != trials():
        raise ValueError(
            f"{TRIALS_FILE} has other trials than the protocol draws: python benchmarks/table.py plan"
        )
    return stored


def settings_of(name: str, panel: str, checkpoint: str, trial: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run but its seed."""
    contender = CONTENDERS[name]
    return {
        **contender.settings,
        **trial,
        "play.panel": panel,
        "play.checkpoint": checkpoint,
        "play.rounds": 4 * BUDGET // ROUND,  # the budget ends the run, whatever a round asks
        "judging.budget": BUDGET,
        "evaluate.every": EVERY_CALLS // ROUND,
        "evaluate.prompts": 2,
        "evaluate.samples": 1,
        "evaluate.shown": 1,
    }


def splits() -> dict[str, list[int]]:
    """Prompts that settings are chosen on, and those that are reported: new combinations, new words."""
    held = LargeTeaHouse().splits
    return {
        "tune": held["combinations"][::4],
        "combinations": [x for i, x in enumerate(held["combinations"]) if i % 4][::2],
        "words": held["words"][::3],
    }


def order(names: Sequence[str]) -> list[tuple[str, int]]:
    """Trials in the order in which they run: the first of every method, then the second, ..."""
    return [(name, trial) for trial in range(TRIALS) for name in names]
