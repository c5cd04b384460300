"""Every random number of a claim moves with one offset, and nothing else does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import equipoise.claims
from equipoise.claims import draws
from equipoise.claims.claim import Claim, Evidence, Fresh, verdict
from equipoise.claims.index import CLAIMS
from equipoise.report.claims.evidence import run_claim
from equipoise.report.claims.text import print_run


def test_no_program_makes_random_numbers_past_the_offset():
    makers = re.compile(
        r"default_rng\(|manual_seed\((?!moved_seed)|RandomState\(|np\.random\.[a-z]|torch\.seed\("
    )
    for path in Path(equipoise.claims.__file__).parent.rglob("*.py"):
        if path.name != "draws.py":
            assert not makers.search(path.read_text(encoding="utf-8")), path


def test_the_offset_moves_every_kind_of_draw():
    def drawn():
        return (
            draws.numpy_draws(3).random(),
            draws.numpy_draws([3, 7]).random(),
            float(torch.rand(1, generator=draws.torch_draws(3))),
            draws.moved_seed(3),
        )

    plain = drawn()
    assert (
        plain[0] == np.random.default_rng(3).random() and plain[1] == np.random.default_rng([3, 7]).random()
    )
    with draws.offset(0) as record:
        assert drawn() == plain and record.asked == 4
    with draws.offset(2):
        moved = drawn()
        assert moved == drawn() and all(one != other for one, other in zip(moved, plain, strict=True))
    assert moved[3] == 3 + 2 * draws.STRIDE
    assert drawn() == plain  # the offset has ended with its block


def test_a_negative_offset_is_refused():
    with pytest.raises(ValueError, match="-1 is negative"):
        CLAIMS["spac_saddle"].run("quick", -1)


@pytest.mark.parametrize("name", ["gpm_cycles", "dstc_minimax"])
def test_two_offsets_are_two_draws_and_one_offset_is_one(name):
    found = {k: CLAIMS[name].run("quick", k) for k in (0, 1)}
    assert found[0].tables != found[1].tables
    assert CLAIMS[name].run("quick", 1) == found[1]
    assert CLAIMS[name].program("quick") == found[0]


def turning(scale) -> Evidence:
    """Its verdict is one drawn bit."""
    return Evidence(verdict(draws.numpy_draws(0).random() < 0.5), "a bit", ())


def claim(program) -> Claim:
    return Claim(name="spac_saddle", sentence="s", paper="p", rule="Heart: r", program=program)


def test_a_verdict_that_turns_with_the_seeds_is_undecided():
    found = claim(turning).fresh("quick", 8)
    assert {e.verdict for e in found.runs.values()} == {"holds", "fails"}
    assert found.verdict == "undecided" and list(found.runs) == list(range(9)) and not found.exact
    sure = Fresh({k: Evidence("mixed", "", ()) for k in range(3)}, exact=False)
    assert sure.verdict == "mixed"
    console = Console(record=True, width=100)
    print_run(found, "quick", "B", console)
    text = console.export_text()
    assert "over all offsets  undecided" in text and "(quick scale, seed offset 0, grade B)" in text
    assert "--scale full" in text


def test_a_program_that_draws_nothing_is_run_once():
    calls = []
    found = claim(lambda scale: calls.append(scale) or Evidence("holds", "", ())).fresh("full", 3)
    assert calls == ["full"] and found.exact and found.verdict == "holds"
    console = Console(record=True, width=120)
    print_run(found, "full", "C", console)
    assert "nothing is drawn" in console.export_text()


def test_the_numbers_of_runs_are_checked(tmp_path):
    with pytest.raises(ValueError, match="leave --seed-offset out"):
        run_claim("spac_saddle", "quick", seed_offset=1, fresh=3)
    with pytest.raises(ValueError, match="at least 0"):
        run_claim("spac_saddle", "quick", fresh=-1)
    with pytest.raises(ValueError, match="at least one"):
        claim(turning).fresh("quick", 0)
