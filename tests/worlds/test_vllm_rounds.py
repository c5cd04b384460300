"""Rounds of a run whose responses come from a vLLM server: checked by log-probs, resumed, dealt among processes."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import transformers

import equipoise as eq
from equipoise.playground import LanguageGame, model_path
from equipoise.policy.checkpoint import stored_fingerprint
from equipoise.policy.generation.vllm import remote
from equipoise.policy.protocol import ModelError
from equipoise.run.assembly import decoding_of
from equipoise.run.config import ConfigError, resolve
from equipoise.run.materials import gather
from equipoise.worlds.text.folder.gates import GateClosed
from policy.vllm_standin import Standin, serving

SETTINGS = {
    "model.lora_rank": 4,
    "play.rounds": 2,
    "play.prompts": 4,
    "play.samples": 2,
    "train.batch": 4,
    "train.epochs": 1,
    "train.lr": 1e-2,
    "sampling.max_new_tokens": 4,
    "sampling.engine": "vllm_server",
    "evaluate.prompts": 1,
    "evaluate.samples": 1,
    "evaluate.every": 2,
}


@pytest.fixture
def play(tmp_path, monkeypatch):
    """play(address, folder): two rounds of online DPO."""
    monkeypatch.setattr(remote, "WAIT", 0.0)
    data, rule = tmp_path / "prompts.jsonl", tmp_path / "rule.py"
    data.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in LanguageGame().prompts[:6]))
    rule.write_text("def score(prompt, response):\n    return float(len(set(response)))\n")

    def run(address, folder="run", **settings):
        given = SETTINGS | {"sampling.servers": [address]} | settings
        return eq.align(
            "online_dpo",
            model=model_path(),
            data=data,
            oracle=f"{rule}:score",
            out=tmp_path / folder,
            settings=given,
            quiet=True,
        )

    return run


def standin(spoil=None):
    return Standin(transformers.AutoModelForCausalLM.from_pretrained(model_path()), spoil)


@pytest.mark.slow
def test_a_server_that_died_leaves_a_run_that_goes_on_elsewhere(play):
    with serving(standin()) as address:
        whole = play(address, "whole").folder
    dead = [False]

    def spoil(path, fields, reply):
        # the second round's adapter is loaded, then nothing is answered
        handed = sum(path == "/v1/load_lora_adapter" for path, *_ in first.asked)
        dead[0] = dead[0] or (handed == 3 and path == "/v1/completions")
        return 500 if dead[0] else reply

    first = standin(spoil)
    with serving(first) as address, pytest.raises(ModelError, match="repeat the command"):
        play(address)
    with serving(standin()) as address:  # another address: a run goes on with other servers
        resumed = play(address).folder
    ends = [folder / "checkpoints" / "round-002" for folder in (whole, resumed)]
    assert stored_fingerprint(ends[0]) == stored_fingerprint(ends[1])
    lines = [json.loads(line) for line in (whole / "engine.jsonl").read_text().splitlines()]
    assert {line["policy"] for line in lines} >= {"start"} and {line["round"] for line in lines} == {0, 1, 2}
    assert all(line["mean"] <= line["largest"] < 1e-5 for line in lines)
    assert all(line["same_again"] == line["responses"] > 0 for line in lines)
    gates = {g["name"]: g for g in json.loads((whole / "gates.json").read_text())}
    assert gates["engine_logprobs"]["passed"] and gates["engine_logprobs"]["limit"] == 1e-3


@pytest.mark.slow
def test_a_server_with_other_weights_ends_the_run_before_it_has_sampled(play, tmp_path):
    other = standin()
    for parameter in other.base.parameters():
        parameter.data *= 0.9
    with serving(other) as address:
        with pytest.raises(GateClosed, match=r"log-probs of .* by vLLM differ .*--allow engine_logprobs"):
            play(address)
        assert not list((tmp_path / "run").glob("rounds/*/sampling.parquet"))


@pytest.mark.parametrize(
    ("method", "says"),
    [("nash_md_pg", "a mixture of two"), ("ipo_md", "a mixture of two"), ("mcts_dpo", "step by step")],
)
def test_what_an_engine_of_whole_responses_cannot_write_is_refused_before_a_model_is_loaded(
    tmp_path, method, says
):
    config = resolve(method, {"sampling.engine": "vllm_server", "sampling.servers": ["http://h:1"]})
    with pytest.raises(ConfigError, match=f"{says}.* leave sampling.engine out"):
        gather(config, tmp_path)


def test_each_process_has_servers_of_its_own():
    addresses = [f"http://h:{n}" for n in range(5)]
    settings = resolve(
        "online_dpo", {"sampling.engine": "vllm_server", "sampling.servers": addresses}
    ).sampling
    settings = settings.model_copy(update={"max_new_tokens": 8})
    dealt = [
        decoding_of(settings, SimpleNamespace(num_processes=2, process_index=rank)).servers for rank in (0, 1)
    ]
    assert dealt == [("http://h:0", "http://h:2", "http://h:4"), ("http://h:1", "http://h:3")]
    with pytest.raises(ConfigError, match=r"sampling.servers has 5 for 6 processes"):
        decoding_of(settings, SimpleNamespace(num_processes=6, process_index=0))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"servers": ["http://h:1"]}, "servers and key are for engine vllm_server"),
        ({"engine": "vllm_server", "servers": ["h:1"]}, "begins with http"),
        ({"engine": "vllm_server", "servers": ["http://me:secret@h:1"]}, "may hold a secret"),
        ({"engine": "vllm_server", "servers": ["http://h:1/v1"]}, "leave out /v1"),
        ({"engine": "vllm_server", "servers": ["http://h:1", "http://h:1"]}, "given twice"),
    ],
)
def test_addresses_are_checked_when_the_settings_are_read(given, says):
    with pytest.raises(ConfigError, match=says):
        resolve("online_dpo", {f"sampling.{name}": value for name, value in given.items()})
