"""Sampling by vLLM servers: the policy's own weights answer, prompts are dealt, every failure is one sentence.

The stand-in answers with the weights that were handed to it over HTTP, read by transformers and PEFT; the last test
asks a real one.
"""

from __future__ import annotations

import copy
import os
import socket
from contextlib import ExitStack
from typing import Any

import pytest
import torch

from equipoise.data.collate import Prompt, collate
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.sampling import sample
from equipoise.policy.generation.vllm import remote
from equipoise.policy.generation.vllm.engine_check import LIMIT, check_engine
from equipoise.policy.generation.vllm.serve_process import EXECUTABLE
from equipoise.policy.protocol import Decoding, ModelError
from policy.vllm_standin import Standin, serving

PROMPTS = [Prompt((1, *range(3, 3 + n)), "", "") for n in (4, 0, 2)]
STOPS = [2, *range(40, 50)]


@pytest.fixture(autouse=True)
def _no_server_is_left(monkeypatch):
    monkeypatch.setattr(remote, "WAIT", 0.0)
    yield
    remote.close()


@pytest.fixture
def served(request):
    """serve(model, spoil) -> (stand-in, address)."""
    with ExitStack() as stack:

        def serve(model: Any, spoil: Any = None) -> tuple[Standin, str]:
            standin = Standin(copy.deepcopy(model), spoil)
            return standin, stack.enter_context(serving(standin))

        yield serve


def decoding(*addresses, **more):
    return Decoding(**({"max_new_tokens": 6, "engine": "vllm_server", "servers": addresses} | more))


def moved(policy, seed):
    """Other weights, as after a round."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in policy.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draws))


def base_of(policy):
    """The model that its adapter stands on, read from disk as a server reads it: PEFT has wrapped the one in memory."""
    return CausalPolicy.load(policy.start.chain.base.path, policy.tokenizer, device="cpu").model


def differences(policy, groups, prompts=PROMPTS):
    batch = collate([p.ids for p in prompts], [[r.ids for r in g] for g in groups], 0)
    with torch.no_grad():
        scored = policy.logprobs(batch)[0]
    return (scored - torch.tensor([[r.logp for r in g] for g in groups], dtype=torch.float64)).abs().max()


@pytest.mark.parametrize("kind", ["full", "adapter"])
def test_each_rounds_own_weights_answer(tiny, lora, served, kind):
    policy = lora if kind == "adapter" else tiny("llama-tied", eos_token_id=STOPS)
    base = (
        tiny().model if kind == "adapter" else tiny("gpt2").model
    )  # another model, whose weights are replaced
    standin, address = served(base if kind == "adapter" else tiny("llama-tied").model)
    before = None
    for round in (1, 2, 3):
        moved(policy, round)
        groups = sample(policy, PROMPTS, 3, seed=5, decoding=decoding(address))
        assert [len(group) for group in groups] == [3, 3, 3] and groups != before
        assert differences(policy, groups) < 1e-3
        before = groups
    handed = [path for path, *_ in standin.asked if path in ("/v1/load_lora_adapter", "/collective_rpc")]
    assert len(handed) == 3
    assert len(standin.adapters) == (kind == "adapter")  # the one before was unloaded
    sample(
        policy, PROMPTS, 1, seed=6, decoding=decoding(address)
    )  # the same weights are not handed over again
    again = [path for path, *_ in standin.asked if path in ("/v1/load_lora_adapter", "/collective_rpc")]
    assert again == handed


def test_a_response_has_its_own_seed_whatever_the_number_of_servers(lora, served):
    moved(lora, 1)
    two = [served(base_of(lora)) for _ in range(2)]
    addresses = [address for _, address in two]
    dealt = sample(lora, PROMPTS, 2, seed=5, decoding=decoding(*addresses))
    by_prompt = [{tuple(asked["prompt"]) for asked in standin.completions()} for standin, _ in two]
    assert by_prompt == [{PROMPTS[0].ids, PROMPTS[2].ids}, {PROMPTS[1].ids}]
    alone = sample(lora, PROMPTS, 2, seed=5, decoding=decoding(addresses[0]))
    assert alone == dealt
    seeds = [asked["seed"] for standin, _ in two for asked in standin.completions()]
    assert len(set(seeds)) == 6
    assert sample(lora, PROMPTS[1:], 2, seed=5, decoding=decoding(addresses[1]), places=[1, 2]) == alone[1:]


def test_every_sampling_setting_is_given(lora, served):
    standin, address = served(base_of(lora))
    sample(lora, PROMPTS[:1], 1, seed=5, decoding=decoding(address, top_p=0.9, temperature=0.5))
    (asked,) = standin.completions()
    about = {k: asked[k] for k in ("n", "temperature", "top_p", "top_k", "logprobs", "max_tokens")}
    assert about == {"n": 1, "temperature": 0.5, "top_p": 0.9, "top_k": 0, "logprobs": 0, "max_tokens": 6}
    # a server's defaults, from its model's generation config, would change the distribution
    assert (asked["repetition_penalty"], asked["min_p"], asked["add_special_tokens"]) == (1.0, 0.0, False)
    assert asked["stop_token_ids"] == list(lora.stops) and asked["return_token_ids"] is True


def choice(**changes):
    """A spoiler of completions: fields of their only choice replaced."""

    def spoil(path, fields, reply):
        if path == "/v1/completions":
            reply["choices"][0] |= {
                name: value(reply["choices"][0]) if callable(value) else value
                for name, value in changes.items()
            }
        return reply

    return spoil


def at(path, answer):
    return lambda asked, fields, reply: answer if asked == path else reply


FAULTS = {
    "no token ids": (choice(token_ids=None), "no `token_ids`: the server must be vLLM"),
    "too many": (choice(token_ids=lambda c: [5] * 7), "7 tokens, and 1 to 6 were asked for"),
    "none": (choice(token_ids=lambda c: []), "0 tokens, and 1 to 6"),
    "of no vocabulary": (choice(token_ids=lambda c: [64, *c["token_ids"][1:]]), "token 64 is not of the policy's"),
    "negative": (choice(token_ids=lambda c: [-1, *c["token_ids"][1:]]), "token -1 is not of the policy's"),
    "no integer": (choice(token_ids=lambda c: ["5", *c["token_ids"][1:]]), "a token id is no integer"),
    "log-probs of others": (
        choice(logprobs=lambda c: {"token_logprobs": c["logprobs"]["token_logprobs"][1:]}),
        "not as many `token_logprobs`",
    ),
    "no log-probs": (choice(logprobs=None), "not as many `token_logprobs`"),
    "a log-prob that is none": (
        choice(logprobs=lambda c: {"token_logprobs": [None] * len(c["token_ids"])}),
        "a log-prob is no finite number",
    ),
    "another prompt": (choice(prompt_token_ids=[1]), "another prompt than the one that was sent"),
    "cut early": (
        choice(token_ids=[5], logprobs={"token_logprobs": [-1.0]}, finish_reason="length"),
        "--max-model-len is too small",
    ),
    "an end that is none": (
        choice(token_ids=[5], logprobs={"token_logprobs": [-1.0]}, finish_reason="stop"),
        "token 5, which is not a stop token",
    ),
    "on after its end": (
        choice(token_ids=[2, 5], logprobs={"token_logprobs": [-1.0, -1.0]}, finish_reason="stop"),
        "goes on after a stop token",
    ),
    "aborted": (choice(finish_reason="abort"), "`finish_reason` is 'abort'"),
    "two choices": (lambda p, f, r: {"choices": r["choices"] * 2} if p == "/v1/completions" else r, "exactly one"),
    "a list": (at("/v1/completions", []), "exactly one of `choices`"),
    "no JSON": (at("/v1/completions", (200, {}, b"<html>")), "no JSON"),
    "500": (at("/v1/completions", 500), r"does not answer, 4 times: status 500.*start it again and repeat"),
    "a bad request": (at("/v1/completions", 400), "does not take a request: status 400"),
    "no key": (at("/v1/completions", 401), "refuses every question: status 401"),
    "elsewhere": (at("/v1/completions", (307, {"Location": "http://example.org"}, b"")), "redirects to http://exam"),
    "adapter refused": (at("/v1/load_lora_adapter", 400), r"load_lora_adapter: status 400.*--max-lora-rank.*TMPDIR"),
    "no adapters": (at("/v1/load_lora_adapter", 404), "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
    "no models": (at("/v1/models", []), "is no vLLM server"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence(lora, served, fault):
    spoil, says = FAULTS[fault]
    _, address = served(base_of(lora), spoil)
    with pytest.raises(ModelError, match=says) as error:
        sample(lora, PROMPTS, 2, seed=5, decoding=decoding(address))
    assert "\n" not in str(error.value)


def test_all_weights_need_the_reload_endpoint(tiny, served):
    _, address = served(tiny().model, at("/collective_rpc", 404))
    with pytest.raises(ModelError, match="VLLM_SERVER_DEV_MODE=1 in its environment, since all weights"):
        sample(tiny(), PROMPTS, 1, seed=5, decoding=decoding(address))


def test_a_dead_server_is_named(lora):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ModelError, match=rf"{address} does not answer.*start it and repeat the command"):
        sample(lora, PROMPTS, 1, seed=5, decoding=decoding(address))


def test_passing_faults_are_asked_again(lora, served):
    failures = iter([500, (429, {"Retry-After": "0"}, b"{}"), (200, {}, b'{"choi')])

    def spoil(path, fields, reply):
        return next(failures, reply) if path == "/v1/completions" else reply

    standin, address = served(base_of(lora), spoil)
    moved(lora, 1)
    groups = sample(lora, PROMPTS[:1], 1, seed=5, decoding=decoding(address))
    assert differences(lora, groups, PROMPTS[:1]) < 1e-3 and len(standin.completions()) == 4


def test_the_key_is_sent_and_never_told(lora, served, monkeypatch):
    standin, address = served(base_of(lora), at("/v1/completions", 401))
    monkeypatch.setenv("OURS", "secret-42")
    with pytest.raises(ModelError) as error:
        sample(lora, PROMPTS, 1, seed=5, decoding=decoding(address, key="OURS"))
    assert {key for *_, key in standin.asked} == {"Bearer secret-42"} and "secret" not in str(error.value)
    monkeypatch.delenv("OURS")
    with pytest.raises(ModelError, match="set the environment variable OURS"):
        sample(lora, PROMPTS, 1, seed=5, decoding=decoding(address, key="OURS"))


def test_other_weights_are_seen_by_their_log_probs(lora, served):
    right = base_of(lora)
    standin, address = served(right)
    moved(lora, 1)

    def write(prompts):
        return sample(lora, prompts, 1, seed=5, decoding=decoding(address))

    found = check_engine(lora, PROMPTS, write)
    assert (len(found.differences), found.same) == (3, 3)
    assert found.tokens == sum(len(group[0].ids) for group in write(PROMPTS))
    assert found.mean < 1e-5 and found.measured(2, "fp32").passed
    standin.adapters = dict.fromkeys(standin.adapters, right)  # a server that has kept what it had
    found = check_engine(lora, PROMPTS, write)
    (groups, measured) = write(PROMPTS), found.measured(2, "fp32")
    lengths = [len(group[0].ids) for group in groups]
    with torch.no_grad():
        scored = lora.logprobs(collate([p.ids for p in PROMPTS], [[r.ids for r in g] for g in groups], 0))[0]
    mine = [abs(g[0].logp - float(s)) / n for g, s, n in zip(groups, scored[:, 0], lengths, strict=True)]
    assert measured.measured == pytest.approx(sum(mine) / 3) and not measured.passed
    assert measured.measured > 100 * LIMIT["fp32"] and "round 2" in measured.sentence


@pytest.mark.skipif(not os.environ.get(EXECUTABLE), reason=f"no vLLM: set {EXECUTABLE} to a `vllm` program")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adapter", "full"])
def test_the_real_engine_has_our_log_probs(tiny, tokenizer, tmp_path, kind):
    shape = {
        "hidden_size": 128,
        "intermediate_size": 128,
        "max_position_embeddings": 256,
    }  # heads that vLLM knows
    tiny("llama-tied", **shape, num_attention_heads=2, num_key_value_heads=1).model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy = CausalPolicy.load(tmp_path, tokenizer, lora_rank=8 * (kind == "adapter"), device="cpu")
    draws = torch.Generator().manual_seed(1)
    for _ in range(2):
        with torch.no_grad():
            for _, parameter in policy.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=draws))
        found = check_engine(policy, PROMPTS, lambda p: sample(policy, p, 1, seed=5, decoding=decoding()))
        assert found.mean < 1e-4 and found.same == 3, found
