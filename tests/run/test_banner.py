"""What a run says before its first step: what it learns from, how much of it, how long a round takes."""

from __future__ import annotations

import pytest

from equipoise.run import banner
from equipoise.run.assembly import build, launch
from equipoise.run.config import resolve
from equipoise.run.materials import gather
from equipoise.run.planning.defaults import Decided
from equipoise.worlds.text.progress import Progress

FEW = {"data.pairs": 60, "evaluate.prompts": 4}


@pytest.mark.parametrize(
    "method, says",
    [
        ("dpo", "recorded pairs, "),
        ("odpo", "recorded pairs, "),
        ("rdpo_rationale", "recorded pairs, "),
        ("tpo", "recorded lists, "),
        ("kto", "recorded pairs, "),
        ("sft", "recorded demonstrations, "),
        ("inpo", None),
        ("rto", None),
    ],
)
def test_recorded_feedback_is_counted_and_timed_whatever_its_kind(method, says, tmp_path, capsys):
    """Methods that sample first train on what they will write: nothing is known of it yet."""
    config = resolve(method, FEW)
    materials = gather(config, tmp_path)
    world, _ = build(config, materials, tmp_path, Progress(quiet=True), launch())
    banner.announce(Decided(config, ()), materials, world, tmp_path)
    told = capsys.readouterr().err
    assert says in told if says else "recorded " not in told.split("  data  ")[1].split("\n")[0], told
    assert ("s of training a round" in told) == bool(says)
