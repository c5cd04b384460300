"""Plays one method uninterrupted, then killed at several points and resumed; `test_resume.py` compares.

    python resume_driver.py METHOD FOLDER

Every run is a forked child, so that torch is imported once. A point names a function and how far in the
uninterrupted run's count of its calls the process is killed (SIGKILL, nothing is cleaned up).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from equipoise.data.rendering.render import load_tokenizer
from equipoise.evaluate.text import Evaluator
from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring import anchor_store as anchors
from equipoise.run import session
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.folder.manifest import Manifest
from equipoise.worlds.text import sampling
from equipoise.worlds.text.fit import Fit
from equipoise.worlds.text.folder.run_folder import RunFolder
from equipoise.worlds.text.training import Trainer
from equipoise.worlds.text.world import TextWorld

RULE = """
from equipoise.playground import LanguageGame
ORACLE = LanguageGame().oracle()
def judge(prompt, a, b):
    return float(ORACLE.compare([prompt], [a], [b])[0])
"""
SETTINGS: dict[str, Any] = {
    "evaluate.prompts": 4,
    "evaluate.samples": 2,
    "evaluate.pairs": 8,
    "train.batch": 4,
    "train.lr": 3e-4,
    "train.micro_batch": 2,
    "train.epochs": 2,
    "train.save_every": 2,
    "sampling.max_new_tokens": 10,
}
OWN = {"spac": {}, "inpo": {"play.samples": 4, "play.prompts": 16}}


def half_a_line(journal: Journal, name: str, line: dict[str, Any]) -> None:
    with (journal.folder / name).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line)[:9])


def half_a_folder(policy: CausalPolicy) -> str:
    return ""  # inside `save`: the weights are in the draft, its rename has not happened


def nothing(*args: Any, **kwargs: Any) -> None:
    """The call's work is not done: what it would have entered is missing."""


# name -> (where, function, when, what happens instead of the last call; None: after it). When is a share of all its
# calls, or for steps, which are alike in both rounds, a step of round 2 (5: a position was saved at 4).
POINTS: dict[str, tuple[Any, str, float | int, Callable[..., Any] | None]] = {
    "sampling": (sampling, "sample", 0.7, None),
    "judging": (TextWorld, "compare", 0.45, None),
    "anchors": (anchors, "score", 0.6, None),
    "mid_epoch": (Trainer, "_record", 5, None),
    "inside_a_step": (Fit, "scores", 0.3, None),
    "progress": (safetensors.torch, "save_file", 0.5, None),
    "checkpoint": (checkpoint, "fingerprint", 0.66, half_a_folder),
    "half_a_line": (Journal, "append", 0.9, half_a_line),
    "manifest": (Manifest, "record", 0.5, nothing),
    "between_rounds": (RunFolder, "settle", 0.5, None),
    "evaluation": (Evaluator, "_drift", 0.66, None),
    "report": (session, "summary_of", 1.0, None),
}


def play(method: str, folder: Path, out: str) -> None:
    session.write_report = lambda folder: folder  # reads only
    session.align(
        method,
        model=model_path(),
        data=folder / "pairs.jsonl",
        oracle=f"{folder / 'rule.py'}:judge",
        out=folder / out,
        rounds=2,
        settings=SETTINGS | OWN[method],
        quiet=True,
    )


def watch(
    where: Any, name: str, at: int | None, instead: Callable[..., Any] | None, count: list[int]
) -> None:
    real = getattr(where, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        if count[0] != at:
            return real(*args, **kwargs)
        (instead or real)(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")

    setattr(where, name, watched)


def child(act: Callable[[], None]) -> int:
    """Run in a forked process; its wait status as `os.waitstatus_to_exitcode` gives it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(method: str, folder: Path) -> None:
    torch.set_num_threads(1)
    CausalPolicy.load(
        model_path(), load_tokenizer(str(model_path()))
    )  # the children find everything imported
    write_pairs(folder / "pairs.jsonl", LanguageGame(), 44, seed=3, reference=reference_policy())
    (folder / "rule.py").write_text(RULE)

    def whole() -> None:
        counts = {name: [0] for name in POINTS}
        for name, (where, function, _, _) in POINTS.items():
            watch(where, function, None, None, counts[name])
        play(method, folder, "whole")
        (folder / "counts.json").write_text(json.dumps({name: count[0] for name, count in counts.items()}))

    codes: dict[str, list[int]] = {"whole": [child(whole)]}
    counts = json.loads((folder / "counts.json").read_text())
    for name, (where, function, when, instead) in POINTS.items():
        total = counts[name]
        at = total // 2 + when if isinstance(when, int) else max(1, round(when * total))

        def killed(name=name, where=where, function=function, at=at, instead=instead) -> None:
            watch(where, function, at, instead, [0])
            play(method, folder, name)

        codes[name] = [child(killed), child(lambda name=name: play(method, folder, name))]
    codes["again"] = [child(lambda: play(method, folder, "whole"))]
    (folder / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
