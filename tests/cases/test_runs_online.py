"""Online runs: answers end where the template ends them, rules see what was called, one failure does not cost a run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cases.conftest import SMALL

CHAT = [{"prompt": [{"role": "user", "content": f"Which river is number {i}?"}]} for i in range(8)]
ONLINE = f"{SMALL} play.samples=4 play.prompts=4 --rounds 1"


def rule(folder: Path, body: str, name: str = "rule.py") -> str:
    (folder / name).write_text(body)
    return f"{name}:score"


LENGTH = "def score(prompt, response):\n    return -len(response)\n"


@pytest.mark.slow
def test_sampling_stops_where_the_template_ends_a_turn(models, write, equipoise, tmp_path: Path):
    """A model that writes the closing token at once, while its tokenizer and generation config name another one."""
    folder = tmp_path / "ends"
    model = AutoModelForCausalLM.from_pretrained(models("llama_base_end"))
    tokenizer = AutoTokenizer.from_pretrained(models("llama_base_end"))
    end = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    with torch.no_grad():
        ids = tokenizer.apply_chat_template(
            CHAT[0]["prompt"], add_generation_prompt=True, return_tensors="pt"
        )
        state = model.model(ids["input_ids"]).last_hidden_state[0, -1]
        model.lm_head.weight[end] = 40 * state / state.norm() ** 2
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write(CHAT)
    done = equipoise(
        f"align inpo --model {folder} --data rows.jsonl --oracle {rule(tmp_path, LENGTH)} --out run {ONLINE}"
    )
    assert done.code == 2 and "all responses are equal" in done.text  # every one ends at once
    line = json.loads((tmp_path / "run" / "evaluation.jsonl").read_text().splitlines()[0])
    assert line["finished"] == 1.0 and line["length"]["value"] < 3


@pytest.mark.slow
def test_one_failing_call_costs_one_call(models, write, equipoise, tmp_path: Path):
    body = (
        "import json\nfrom pathlib import Path\nCALLS = Path('calls.jsonl')\n"
        "def score(prompt, a, b):\n"
        "    done = CALLS.read_text().splitlines() if CALLS.exists() else []\n"
        "    with CALLS.open('a') as file:\n"
        "        ok = len(done) != 9\n"
        "        file.write(json.dumps([prompt, a, b, ok]) + '\\n')\n"
        "    if not ok:\n        raise ValueError('500')\n"
        "    return 0.5 + 0.5 * ((len(a) < len(b)) - (len(a) > len(b)))\n"
    )
    write(CHAT)
    oracle = rule(tmp_path, body)
    command = f"align inpo --model {models('qwen')} --data rows.jsonl --oracle {oracle} --out run {ONLINE}"
    stopped = equipoise(command)
    assert stopped.code == 2 and "500" in stopped.text
    assert equipoise(command).code == 0
    calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    answered = Counter(json.dumps(call[:3]) for call in calls if call[3])
    assert set(answered.values()) == {1}


@pytest.mark.slow
def test_another_oracle_does_not_join_a_run(models, write, equipoise, tmp_path: Path):
    write(CHAT)
    oracle = rule(tmp_path, LENGTH)
    command = f"align inpo --model {models('qwen')} --data rows.jsonl --oracle {oracle} --out run {SMALL}"
    command += " play.samples=4 play.prompts=2 --rounds 1"
    assert equipoise(command).code == 0
    rule(tmp_path, LENGTH.replace("-len", "len"))
    refused = equipoise(command)
    assert refused.code == 2 and "rule.py" in refused.text


@pytest.mark.slow
def test_a_reward_models_template_is_tried_before_anything_is_sampled(
    models, write, equipoise, tmp_path: Path
):
    rows = [{"prompt": [{"role": "system", "content": "Be kind."}, *row["prompt"]]} for row in CHAT]
    write(rows)
    refused = equipoise(
        f"align inpo --model {models('qwen')} --data rows.jsonl --oracle {models('reward_gemma')} --out run {ONLINE}"
    )
    assert refused.code == 2 and "no system role" in refused.text
    assert not list((tmp_path / "run").glob("rounds/*"))


@pytest.mark.slow
def test_a_reward_model_with_too_little_context_is_refused_before_sampling(
    models, write, equipoise, tmp_path: Path
):
    write(CHAT)
    refused = equipoise(
        f"align inpo --model {models('qwen')} --data rows.jsonl --oracle {models('reward_short')} --out run {ONLINE} "
        "--set max_new_tokens=64"
    )
    assert refused.code == 2 and "40" in refused.text
    assert not list((tmp_path / "run").glob("rounds/*"))


@pytest.mark.slow
def test_a_rule_sees_tools_and_what_was_called(models, write, equipoise, tmp_path: Path):
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    call = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": {"place": "town"}}}
    turns = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "four rivers"},
    ]
    write([{"prompt": [*row["prompt"], *turns], "tools": tools} for row in CHAT])
    body = (
        "import json\nfrom pathlib import Path\ndef score(prompt, response):\n"
        "    Path('seen.txt').write_text(json.dumps(prompt) + '|' + json.dumps(prompt.tools))\n"
        "    return len(response)\n"
    )
    oracle = rule(tmp_path, body)
    done = equipoise(
        f"align inpo --model {models('qwen_tools')} --data rows.jsonl --oracle {oracle} --out run {ONLINE}"
    )
    assert done.code == 0, done.text
    turns_seen, tools_seen = (tmp_path / "seen.txt").read_text().split("|")
    assert "look_up" in turns_seen and "look_up" in tools_seen


@pytest.mark.slow
def test_old_checkpoints_can_be_let_go(models, write, equipoise, tmp_path: Path):
    write(CHAT)
    command = f"align online_dpo --model {models('qwen')} --data rows.jsonl --oracle {rule(tmp_path, LENGTH)} --out run"
    done = equipoise(
        f"{command} --rounds 4 {SMALL} play.samples=2 play.prompts=4 evaluate.every=4 play.keep=1"
    )
    assert done.code == 0, done.text
    kept = sorted(folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir() if folder.is_dir())
    assert kept == ["initial", "round-003", "round-004"]  # the last is evaluated against the one before it


@pytest.mark.slow
def test_a_runs_judged_pairs_are_data_again(models, write, equipoise, tmp_path: Path):
    write(CHAT)
    done = equipoise(
        f"align inpo --model {models('qwen')} --data rows.jsonl --oracle {rule(tmp_path, LENGTH)} --out run {ONLINE}"
    )
    assert done.code == 0, done.text
    assert equipoise("data convert run --out judged.jsonl").code == 0
    checked = equipoise("data check judged.jsonl")
    assert checked.code == 0 and "pair" in checked.text
