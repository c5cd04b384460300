"""Summary of a finished run, in plain values."""

from __future__ import annotations

from typing import Any

from equipoise.evaluate.support import delivered, support
from equipoise.run.materials import Materials
from equipoise.run.settings import RunConfig
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.folder.best import Best


def summary_of(config: RunConfig, materials: Materials, journal: Journal) -> dict[str, Any]:
    """What summary.json holds: the method, its settings, and what was measured of the delivered round."""
    method = materials.method
    lines = {line["round"]: line for line in journal.lines("evaluation.jsonl")}
    sound, played = delivered(journal), max(lines)
    first, last = lines[0], lines[sound]
    phases: dict[str, dict[str, float]] = {"seconds": {}, "tokens": {}}
    for line in journal.lines("timings.jsonl"):
        for kind, total in phases.items():
            total[line["phase"]] = total.get(line["phase"], 0) + line[kind]
    gap, best = first["exploitability"], Best(journal).about
    return {
        "method": method.name,
        "title": method.title,
        "paper": method.paper,
        "confidence": method.confidence,
        "rounds": method.rounds,
        "delivered": sound,
        **({} if sound == played else {"left_support": support(first, lines[played]).sentence}),
        "automatic": materials.automatic(config),
        "seed": config.seed,
        "win_rate": last["win_rate"],
        "exact_win_rate": last["exact_win_rate"],
        "exploitability": None if gap is None else {"reference": gap, "final": last["exploitability"]},
        "kl": last["kl"],
        "exact_kl": last["exact_kl"],
        "accuracy": last["accuracy"],
        "ranking": None
        if last["ranking"] is None
        else {"reference": first["ranking"], "final": last["ranking"]},
        "ranking_gain": last["ranking_gain"],
        "chosen_log_ratio": last["chosen_log_ratio"],
        "length": last["length"],
        "judge_calls": lines[played]["judge_calls"],
        **({"best": best} if best else {}),
        "step_zero_log_ratio_per_token": max(
            (line["step_zero_log_ratio_per_token"] for line in journal.lines("checks.jsonl")), default=None
        ),
        **phases,
        "model": config.model.path or "playground",
        "data": config.data.path or "playground",
        "oracle": config.oracle or ("playground" if config.playground else None),
        "hash": config.hash(),
        "status": "finished",
    }
