"""DSTC and iTool end to end on their small worlds, with the real sandbox."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import equipoise as eq
from equipoise.oracles.code.sandbox import guarantees
from equipoise.playground.worlds import located, world_folder
from equipoise.run.config import ConfigError, resolve

SMALL = {"play.prompts": 6, "evaluate.prompts": 2, "evaluate.samples": 1, "codes": 3, "tests": 3, "epochs": 1}


def test_files_of_small_worlds_are_named_by_their_mark():
    assert located("playground:code/tests.yaml") == str(world_folder("code") / "tests.yaml")
    assert located([{"path": "playground:tools/requests.jsonl"}, "own.jsonl"]) == [
        {"path": str(world_folder("tools") / "requests.jsonl")},
        "own.jsonl",
    ]
    assert resolve("dstc").model.path == str(world_folder("code") / "model")
    assert resolve("dpo", {"model.path": "playground:code/model"}).model.path == str(
        world_folder("code") / "model"
    )
    assert resolve("dstc", {"data.path": "own.jsonl"}).model.path is None
    for wrong in ("playground:sea/model", "playground:code/nothing", "playground:code/../model"):
        with pytest.raises(ConfigError, match=r"small world"):
            resolve("dpo", {"model.path": wrong})


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dstc", "dstc_kto"])
def test_dstc_trains_on_its_own_code_and_tests(method: str, tmp_path: Path):
    if guarantees().isolation != "namespaces":
        pytest.skip(f"no namespaces here: {guarantees().why}")
    run = eq.align(method, out=tmp_path, rounds=1, settings=SMALL, quiet=True, allow=["few_steps"])
    lines = [json.loads(line) for line in (tmp_path / "self_tests.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and all(len(line["passed"]) == 3 for line in lines)
    rows = pq.read_table(tmp_path / "rounds" / "001" / "judging.parquet").to_pydict()
    assert 0 < len(rows["responses"]) <= 12
    assert all("Code and test ." in prompt for prompt in rows["prompt"])
    assert all(" assert " in group[0]["text"] for group in rows["responses"])
    assert "Self-written code and tests" in run.report.read_text()


@pytest.mark.slow
def test_itool_warms_up_and_learns_from_fragments(tmp_path: Path):
    settings = {
        "share": 0.02,
        "iterations": 1,
        "evaluate.prompts": 2,
        "evaluate.samples": 1,
        "play.phases": {
            "sft_easy_to_hard": {"evaluate.prompts": 2, "evaluate.samples": 1, "train.batch": 128}
        },
    }
    eq.align("itool", out=tmp_path, rounds=1, settings=settings, quiet=True, allow=["few_steps"])
    stages = [
        pq.read_table(
            tmp_path / "phases" / "sft_easy_to_hard" / "rounds" / f"{r:03d}" / "sampling.parquet"
        ).to_pydict()
        for r in (1, 2, 3)
    ]
    longest = [max(len(group[0]["ids"]) for group in stage["responses"]) for stage in stages]
    assert longest == sorted(longest) and sum(len(stage["prompt"]) for stage in stages) == 384
    rows = pq.read_table(tmp_path / "rounds" / "001" / "sampling.parquet").to_pydict()
    assert 0 < len(set(rows["prompt"])) <= 8
    for better, worse in rows["responses"]:
        assert better["lead"] == worse["lead"] and better["ids"] != worse["ids"]
