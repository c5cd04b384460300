"""Rows dealt among processes and put back, and the same run by one process and by two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from equipoise.worlds.text.folder.row_files import load_rows
from equipoise.worlds.text.ranks import Ranks, dealt_back
from several_processes import killed, lines, run


@dataclass
class Place:
    """An accelerator as seen by one process of several, without the others."""

    process_index: int
    num_processes: int

    @property
    def is_main_process(self) -> bool:
        return self.process_index == 0


@given(count=st.integers(0, 23), size=st.integers(1, 7))
def test_shares_are_disjoint_cover_all_places_and_are_even(count, size):
    shares = [Ranks(Place(rank, size)).mine(count).tolist() for rank in range(size)]
    assert sorted(place for share in shares for place in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(count=st.integers(1, 23), size=st.integers(1, 7), seed=st.integers(0, 99))
def test_rows_come_back_in_their_places_filled_up_with_zeros(count, size, seed):
    longest = np.random.default_rng(seed).integers(1, 6, count)
    row = torch.arange(1.0, count * 6 + 1).view(count, 6)
    shares, width = [], 0
    for rank in range(size):
        places = Ranks(Place(rank, size)).mine(count)
        if len(places):
            columns = int(longest[places].max())
            width = max(width, columns)
            shares.append(row[places, :columns])
    whole = dealt_back(shares, count)
    assert whole.shape == (count, width)
    for place in range(count):
        own = int(longest[place % size :: size].max())
        assert whole[place].tolist() == row[place, :own].tolist() + [0.0] * (width - own)


def test_one_process_makes_everything_itself():
    ranks = Ranks(Place(0, 1))
    made = ranks.rows(3, lambda places: {"x": torch.from_numpy(places * 2)})
    assert made["x"].tolist() == [0, 2, 4] and ranks.gathered(b"own") == [b"own"]
    assert ranks.items(2, lambda places: [f"{p}" for p in places], repr, repr) == ["0", "1"]  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["inpo", pytest.param("kto", marks=pytest.mark.nightly)])
def test_two_processes_write_the_texts_and_figures_of_one(tmp_path, method):
    """Sampled texts are equal; log-probs, weights and exact figures to the rounding of float32."""
    one, two = tmp_path / "one", tmp_path / "two"
    run(one, 1, method)
    printed = run(two, 2, method)
    assert printed.stdout.count("report   ") == 1
    stages = sorted(str(path.relative_to(one)) for path in one.rglob("rounds/**/*.parquet"))
    assert len(stages) >= 5
    for name in stages:
        here, there = load_rows(one / name).responses, load_rows(two / name).responses
        for a, b in zip(here.reshape(-1), there.reshape(-1), strict=True):
            assert (a.text, a.ids, a.finished) == (b.text, b.ids, b.finished)
            assert a.logp == pytest.approx(b.logp, abs=1e-4)
    last = "checkpoints/round-002/model.safetensors"
    a, b, before = (
        load_file(f) for f in (one / last, two / last, one / "checkpoints/initial/model.safetensors")
    )
    moved = max(float((a[name] - before[name]).abs().max()) for name in a)
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-2 * moved
    for here, there in zip(*(lines(f / "evaluation.jsonl") for f in (one, two)), strict=True):
        assert here["win_rate"]["value"] == pytest.approx(there["win_rate"]["value"], abs=1e-6)
        assert here["exact_win_rate"] == pytest.approx(there["exact_win_rate"], abs=1e-5)


@pytest.mark.nightly
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    "file", ["rounds/001/sampling.parquet", "progress.safetensors", "rounds/001/policies.json"]
)
def test_a_process_that_is_killed_leaves_a_run_that_ends_with_the_same_bytes(tmp_path, rank, file):
    whole, broken = tmp_path / "whole", tmp_path / "run"
    run(whole, 2)
    killed(broken, rank, file)
    run(broken, 2)
    for name in ("metrics.jsonl", "evaluation.jsonl", "checkpoints/round-002/model.safetensors"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
