"""What `table.py` found, as a page: medians over runs, paired intervals, Holm-corrected ranks, fronts, controls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import table
from table_protocol import AROUND, BUDGET, CHECKPOINTS, CONTENDERS, EPSILONS, RATES, SEEDS, TRIALS

from equipoise.core.intervals import bootstrap
from equipoise.core.paired import ranks
from equipoise.games import controls, gaps
from equipoise.games.preference import PreferenceGame
from equipoise.games.solve import regularised_nash
from equipoise.games.tabular import TabularPolicy
from equipoise.playground.large import CHECKPOINTS as SHIPPED
from equipoise.playground.large import LargeTeaHouse, enumerated_policy
from equipoise.playground.large.grammar import ANSWERS, STYLES

Line = Mapping[str, Any]
EXACT = Path(__file__).parent / "results"
BETAS = [float(f"{beta:.3g}") for beta in np.geomspace(10, 0.01, 13)]
TAUS = (0.05,)
N = 8
FRONT = (0.25, 0.5, 1.0)  # nats


def exact_page(panel: str, prompts: Sequence[int]) -> str:
    """The controls of every checkpoint, computed, stored and told."""
    found: dict[str, Any] = {"panel": panel, "prompts": list(prompts), "checkpoints": {}}
    for name in SHIPPED:
        rows: dict[str, list[list[float]]] = {}
        for x in prompts:
            for row, figures in _controls(panel, name, x).items():
                rows.setdefault(row, []).append(figures)
        found["checkpoints"][name] = {row: np.mean(each, axis=0).tolist() for row, each in rows.items()}
    (EXACT / f"table_exact_{panel}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return _told_controls(found)


def _controls(panel: str, checkpoint: str, x: int) -> dict[str, list[float]]:
    """Control -> exploitability, win rate, KL on one prompt."""
    game = LargeTeaHouse(panel).as_preference_game([x], enumerated_policy(checkpoint)[[x]])  # type: ignore[arg-type]
    start = game.initial()
    reward = controls.scalar_reward(game.preference, game.reference)
    made = {"reference": start}
    for beta, policy in zip(BETAS, controls.scalar_policies(game, reward, BETAS), strict=True):
        made[f"Bradley-Terry optimum, beta {beta:g}"] = policy
    made[f"best of {N} by that reward"] = controls.best_of_n(start, reward, N)
    made[f"best of {N} by win rate"] = controls.best_of_n(start, game.win(start), N)
    for tau in TAUS:
        made[f"regularised Nash, tau {tau:g}"] = regularised_nash(game, tau)
    made["uniform over the best answer of each style"] = controls.uniform_over(_best_of_styles(game, start))
    return {row: _figures(game, policy) for row, policy in made.items()}


def _best_of_styles(game: PreferenceGame, start: TabularPolicy) -> torch.Tensor:
    win, support = game.win(start), torch.zeros_like(game.reference, dtype=torch.bool)
    for style in STYLES:
        own = torch.tensor([answer.style == style for answer in ANSWERS])
        support[0, win[0].where(own, torch.tensor(-1.0, dtype=win.dtype)).argmax()] = True
    return support


def _figures(game: PreferenceGame, policy: TabularPolicy) -> list[float]:
    return [
        float(gaps.gap0(game, policy)[0]),
        float(gaps.win_rate(game, policy, game.initial())[0]),
        float(gaps.kl(policy, game.initial())[0]),
    ]


def _told_controls(found: Mapping[str, Any]) -> str:
    about = f"Panel `{found['panel']}`, exact, mean over {len(found['prompts'])} held-out requests"
    lines = [f"{about}; policies over the answers inside the grammar."]
    for name, rows in found["checkpoints"].items():
        scalar = {row: figures for row, figures in rows.items() if row.startswith("Bradley-Terry")}
        best = min(scalar, key=lambda row: scalar[row][0])
        kept = {row: f for row, f in rows.items() if row not in scalar} | {
            f"{best} (the best of {len(scalar)})": scalar[best]
        }
        body = [[row, f"{f[0]:.3f}", f"{f[1]:.1%}", f"{f[2]:.2f}"] for row, f in kept.items()]
        lines += [
            "",
            f"Checkpoint `{name}`:",
            "",
            *table(("policy", "exploitability", "win rate", "KL"), body),
        ]
        path = ", ".join(
            f"{beta:g}: {rows[f'Bradley-Terry optimum, beta {beta:g}'][0]:.3f}" for beta in BETAS
        )
        lines += [f"Exploitability of the Bradley-Terry optimum by beta: {path}."]
    return "\n".join(lines)


def page(panel: str, found: Sequence[Line], at: str) -> str:
    """The page. Raises ValueError for results of other code than `at`."""
    kept = [line for line in found if line["code"] == at]
    if not kept:
        others = ", ".join(sorted({line["code"] for line in found})) or "none"
        raise ValueError(f"there are no results of the code {at}; there are: {others} (--code)")
    tuned = [line for line in kept if line["role"] == "tune"]
    report = [line for line in kept if line["role"] == "report"]
    plan = len(CONTENDERS) * TRIALS, len(CONTENDERS) * len(SEEDS) * len(CHECKPOINTS)
    commits = ", ".join(sorted({line["commit"] for line in kept}))
    parts = [
        f"# Online methods on the large tea house, panel `{panel}`",
        "",
        f"`python benchmarks/table.py run`, then `draw --write`. Commit {commits}, code `{at}`. Every run asks at most "
        f"{BUDGET:,} judge calls. Done: {len(tuned)} of {plan[0]} trials, {len(report)} of {plan[1]} reported runs"
        + ("." if (len(tuned), len(report)) == plan else ": **partial**, and what is below ranks nothing."),
        "",
    ]
    if report:
        parts += ["## Reported runs", "", *_report(report), "", *_equal_flops(report), ""]
    parts += ["## Trials", "", *_trials(tuned), ""]
    stored = EXACT / f"table_exact_{panel}.json"
    if stored.exists():
        parts += ["## Controls", "", _told_controls(json.loads(stored.read_text(encoding="utf-8")))]
    return "\n".join(parts).rstrip()


def _sound(
    report: Sequence[Line], figure: str, split: str = "combinations"
) -> dict[str, dict[tuple[str, int], float]]:
    """Method -> (checkpoint, seed) -> a figure of the runs that have not failed."""
    found: dict[str, dict[tuple[str, int], float]] = {}
    for line in report:
        if not line["failed"]:
            found.setdefault(line["name"], {})[line["checkpoint"], line["seed"]] = line[split][figure]
    return found


def _report(report: Sequence[Line]) -> list[str]:
    values = _sound(report, "exploitability")
    common = set.intersection(*map(set, values.values())) if values else set()
    shared = {name: [each[key] for key in sorted(common)] for name, each in values.items()}
    placed = ranks(shared) if common and len(shared) > 1 else dict.fromkeys(values, 1)
    rows = []
    for name in sorted(values, key=lambda name: float(np.median(list(values[name].values())))):
        own = [line for line in report if line["name"] == name]
        sound = [line for line in own if not line["failed"]]
        rows.append(
            [
                name,
                str(placed[name]),
                _median([line["combinations"]["exploitability"] for line in sound]),
                _median([line["words"]["exploitability"] for line in sound]),
                f"{np.median([line['combinations']['win_rate'] for line in sound]):.1%}",
                f"{np.median([line['combinations']['kl'] for line in sound]):.2f}",
                f"{np.median([line['length'] for line in sound]):.1f}",
                f"{max(line['combinations']['outside'] for line in sound):.1%}",
                f"{len(own) - len(sound)} of {len(own)}",
                f"{np.median([line['judge_calls'] for line in sound]):.0f}",
                f"{np.median([line['cpu_seconds'] for line in sound]):.0f}",
                *[_at_kl(sound, nats) for nats in FRONT],
            ]
        )
    header = (
        "method",
        "rank",
        "exploitability",
        "new words",
        "win rate",
        "KL",
        "length",
        "outside, largest",
        "failed",
        "judge calls",
        "CPU s",
        *[f"win rate at {nats:g} nats" for nats in FRONT],
    )
    return [
        f"Medians over checkpoints and seeds with 95 % bootstrap intervals; ranks by paired sign-flip tests over "
        f"{len(common)} shared runs, Holm-corrected, ties share a rank.",
        "",
        *table(header, rows),
    ]


def _median(values: Sequence[float]) -> str:
    data = np.array(values)
    found = bootstrap(
        float(np.median(data)), lambda rows: float(np.median(data[rows])), list(range(len(data))), draws=2000
    )
    return f"{found['value']:.3f}" + (
        "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    )


def _at_kl(lines: Sequence[Line], nats: float) -> str:
    """Median win rate of the curves at a KL, between evaluated rounds; a curve that does not reach it has none."""
    found = []
    for line in lines:
        kl = np.maximum.accumulate([point["exact_kl"] for point in line["curve"]])
        if kl[-1] >= nats:
            found.append(float(np.interp(nats, kl, [point["exact_win_rate"] for point in line["curve"]])))
    return f"{np.median(found):.1%} ({len(found)})" if found else "-"


def _equal_flops(report: Sequence[Line]) -> list[str]:
    """The last evaluated round within the FLOPs that every run has spent."""
    sound = [line for line in report if not line["failed"]]
    most = min((line["flops"] for line in sound), default=0.0)
    rows: dict[str, list[list[float]]] = {}
    for line in sound:
        point = [point for point in line["curve"] if point["flops"] <= most][-1]
        rows.setdefault(line["name"], []).append(
            [point["exploitability"], point["exact_win_rate"], point["judge_calls"]]
        )
    body = []
    for name, points in sorted(rows.items(), key=lambda row: float(np.median([p[0] for p in row[1]]))):
        gap, win, calls = np.median(np.array(points), axis=0)
        body.append([name, f"{gap:.3f}", f"{win:.1%}", f"{calls:.0f}"])
    return [
        f"At equal FLOPs of sampling and training ({most:.2e}):",
        "",
        *table(("method", "exploitability", "win rate", "judge calls"), body),
    ]


def _trials(tuned: Sequence[Line]) -> list[str]:
    rows = []
    for name in CONTENDERS:
        own = [line for line in tuned if line["name"] == name]
        sound = sorted(
            (line for line in own if not line["failed"]), key=lambda line: line["tune"]["exploitability"]
        )
        if not own:
            continue
        cells = [name, f"{len(own)} of {TRIALS}", str(len(own) - len(sound))]
        if sound:
            best = sound[0]
            gaps_of = [line["tune"]["exploitability"] for line in sound]
            tune = best["tune"]
            cells += [
                f"{gaps_of[0]:.3f}",
                f"{np.median(gaps_of):.3f}",
                f"{tune['win_rate']:.1%}",
                f"{tune['kl']:.2f}",
                f"{tune['outside']:.1%}",
            ]
            cells += [
                str(best["judge_calls"]),
                f"{best['cpu_seconds']:.0f}",
                str(best["trial"]),
                edge_of(name, best["trial"]),
            ]
        else:
            cells += ["-"] * 9
        rows.append(cells)
    header = (
        "method",
        "trials",
        "failed",
        "exploitability, best",
        "median",
        "win rate",
        "KL",
        "outside",
        "judge calls",
        "CPU s",
        "trial",
        "near an edge",
    )
    return [
        "On tune prompts, one seed, checkpoint mid; the best trial's settings are those that are reported.",
        "",
        *table(header, rows),
    ]


def edge_of(name: str, trial: int) -> str:
    """Settings of a trial that lie in the outer tenth of their range (on its log scale)."""
    from table_protocol import trials

    settings = trials()[name][trial]
    knob, middle = CONTENDERS[name].knob
    ranges = {"train.lr": RATES, knob: (middle / AROUND, middle * AROUND), "train.eps": EPSILONS}
    near = []
    for setting, (low, high) in ranges.items():
        place = np.log(settings[setting] / low) / np.log(high / low)
        if not 0.1 <= place <= 0.9:
            near.append(setting.rpartition(".")[2])
    return ", ".join(near) or "no"
