"""A synthetic run folder: plausible numbers, hostile texts, every file overridable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

HOSTILE = (
    "<script>alert(1)</script>",
    "{{7*7}} {% raw %} ${HOME} $\\frac{1}{2}$",
    "Donaudampfschifffahrtsgesellschaft" * 12,
    "مرحبا بالعالم، كيف حالك اليوم؟ 🦊🏳️‍🌈 \u202egnirts",
    '"><img src=https://evil.example/x.png onerror=alert(1)> \x00\x1b[31m',
)


def evaluation(rounds: int, **changes: Callable[[int], Any]) -> list[dict[str, Any]]:
    """One line per round of a run that goes well; a change replaces a field by a function of the round."""
    lines = []
    for r in range(rounds + 1):
        win = 0.5 + 0.24 * (1 - math.exp(-0.8 * r))
        line = {
            "round": r,
            "win_rate": {"value": win, "low": win - 0.04, "high": win + 0.04, "n": 800},
            "exact_win_rate": win - 0.008,
            "exploitability": 0.41 * math.exp(-0.9 * r) + 0.002,
            "gap_tau": 0.3 * math.exp(-1.1 * r) + 0.001,
            "kl": {"value": 1.2 * r**0.7, "low": 1.1 * r**0.7, "high": 1.3 * r**0.7},
            "accuracy": {"value": 0.68, "low": 0.63, "high": 0.73, "n": 400} if r else None,
            "chosen_log_ratio": 0.4 * r,
            "rejected_log_ratio": -0.9 * r,
            "length": {"value": 10 + 0.3 * r, "low": 9.6 + 0.3 * r, "high": 10.4 + 0.3 * r},
            "finished": 0.99,
            "outside": 0.004 + 0.0005 * r,
            "entropy": {"value": 0.9 - 0.1 * r, "low": 0.85 - 0.1 * r, "high": 0.95 - 0.1 * r, "n": 800},
        }
        lines.append(line | {name: change(r) for name, change in changes.items()})
    return lines


def training(rounds: int, per_round: int = 60, **changes: Callable[[int, int], Any]) -> list[dict[str, Any]]:
    """Optimizer steps whose loss falls within each round; changes are functions of round and step."""
    noise, lines = np.random.default_rng(0), []
    for r in range(1, rounds + 1):
        for i in range(per_round):
            done = i / per_round
            line = {
                "round": r,
                "step": i + 1,
                "epoch": done,
                "loss": 0.69 - 0.2 * done + 0.03 * noise.normal(),
                "margin": 2 * done,
                "chosen_log_ratio": 1.2 * done + 0.3 * noise.normal(),
                "rejected_log_ratio": -2.5 * done + 0.4 * noise.normal(),
                "grad_norm": 0.8 + 0.2 * abs(noise.normal()),
                "lr": 1e-5,
                "saturated": 0.3 * done,
                "accuracy": 0.5 + 0.3 * done,
            }
            lines.append(line | {name: change(r, i) for name, change in changes.items()})
    return lines


def timings(rounds: int) -> list[dict[str, Any]]:
    cost = {
        "sampling": 41.0,
        "judging": 6.5,
        "anchors": 12.0,
        "training": 96.0,
        "evaluating": 9.0,
        "writing": 0.4,
    }
    return [
        {"round": r, "phase": phase, "seconds": seconds, "tokens": int(900 * seconds)}
        for r in range(1, rounds + 1)
        for phase, seconds in cost.items()
    ]


def samples(rounds: int) -> list[dict[str, Any]]:
    prompts = ("Once upon a time there was a fox who", *HOSTILE)
    return [
        {
            "round": r,
            "prompt_index": i,
            "prompt": prompt,
            "response": f"In round {r} the fox learnt to share. {HOSTILE[(i + r) % len(HOSTILE)]}",
            "finished": (i + r) % 4 != 3,
            "against": f"The reference wrote this. {HOSTILE[i % len(HOSTILE)]}",
            "win": 0.25 * (r % 4),
        }
        for r in range(rounds + 1)
        for i, prompt in enumerate(prompts)
    ]


def verdicts(rounds: int, prompts: int = 12, per_prompt: int = 2) -> list[dict[str, Any]]:
    """Verdicts of every round: wins grow with the rounds, and with the length."""
    return [
        {
            "round": r,
            "prompt_index": i,
            "sample": k,
            "win": [0.2, 0.5, 0.9, 0.7][(i + k + r) % 4] if r else 0.5,
            "length": 8 + (i + k) % 9,
            "reference_length": 10,
        }
        for r in range(rounds + 1)
        for i in range(prompts)
        for k in range(per_prompt)
    ]


def held_out(rounds: int, pairs: int = 40) -> list[dict[str, Any]]:
    """Held-out pairs of every round; three of four have a positive margin after training."""
    return [
        {
            "round": r,
            "pair": n,
            "prompt": n // 2,
            "chosen": 0.1 * r * (n % 4),
            "rejected": 0.05 * r,
            "ranked": float(n % 3 > 0),
        }
        for r in range(rounds + 1)
        for n in range(pairs)
    ]


def win_matrix(rounds: int) -> list[dict[str, Any]]:
    return [
        {
            "round": r,
            "against": q,
            "win_rate": {"value": 0.5 + 0.08 * (r - q), "low": None, "high": None, "n": 12},
        }
        for r in range(1, rounds + 1)
        for q in range(r)
    ]


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time goes into rendering, which no test but a reader's eye judges."""
    monkeypatch.setattr("equipoise.report.style.DPI", 40)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run(rounds=3, name="run", **files): a run folder; a file by its stem replaces one, None removes it."""

    def make(rounds: int = 3, name: str = "run", **files: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        content: dict[str, Any] = {
            "config": {
                "method": "spac",
                "train": {"lr": 1e-5, "clip": 1.0},
                "note": HOSTILE[0] + HOSTILE[1],
                "hash": "3f9a1c",
            },
            "environment": {
                "torch": "2.13.0",
                "command": ["equipoise", "align", "spac", "--data", "my <data>.jsonl"],
            },
            "ledger": {
                "read": 1000,
                "used": 960,
                "refused": {"empty response": 20, HOSTILE[0]: 5},
                "truncated": 12,
                "duplicate": 15,
                "first_lines": {"empty response": ["a.jsonl:3", "a.jsonl:9"]},
                "notes": [HOSTILE[4]],
            },
            "evaluation": evaluation(rounds),
            "metrics": training(rounds),
            "timings": timings(rounds),
            "samples": samples(rounds),
            "verdicts": verdicts(rounds),
            "held_out": held_out(rounds),
            "win_matrix": win_matrix(rounds),
            "summary": {
                "method": "spac",
                "title": "SPAC: self-play with an adversarial critic",
                "paper": "2406.04274",
                "confidence": "DERIVED",
                "rounds": rounds,
                "seed": 0,
                "model": HOSTILE[0],
                "data": "playground",
                "oracle": "table",
                "status": "finished",
            },
        } | files
        for stem, value in content.items():
            if value is None:
                continue
            if stem == "config":
                (folder / "config.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")
            elif isinstance(value, list):
                text = "".join(json.dumps(line) + "\n" for line in value)
                (folder / f"{stem}.jsonl").write_text(text, encoding="utf-8")
            else:
                (folder / f"{stem}.json").write_text(json.dumps(value), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def lines() -> dict[str, Callable[..., list[dict[str, Any]]]]:
    """The makers of evaluation and metrics lines, for tests that change some of them."""
    return {"evaluation": evaluation, "metrics": training}
