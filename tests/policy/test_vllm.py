"""vLLM behind the same call. It cannot run here: a stand-in with its interface answers with the handed-over model."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from equipoise.data.collate import Prompt, collate
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.sampling import sample
from equipoise.policy.generation.vllm import in_process
from equipoise.policy.protocol import Decoding, ModelError

PROMPTS = [Prompt((1, *range(3, 3 + n)), "", "") for n in (4, 0, 2)]
DECODING = Decoding(max_new_tokens=6, engine="vllm", memory=0.3, top_k=9)
STOPS = [2, *range(40, 50)]


class Engine:
    """What we use of `vllm.LLM`: tokens are drawn by a generator that is seeded with the request's seed."""

    made: ClassVar[list[Engine]] = []

    def __init__(self, **settings):
        self.settings = settings
        self.policy = CausalPolicy.load(settings["model"], None, device="cpu")
        self.requests = []
        Engine.made.append(self)

    def generate(self, prompts, params, *, use_tqdm):
        self.requests += zip(prompts, params, strict=True)
        return [self.answer(p["prompt_token_ids"], s) for p, s in zip(prompts, params, strict=True)]

    @torch.no_grad()
    def answer(self, prompt, wanted):
        draws, ids, logps = torch.Generator().manual_seed(wanted.seed), [], []
        while len(ids) < wanted.max_tokens and not (ids and ids[-1] in wanted.stop_token_ids):
            logp = self.policy.model(torch.tensor([[*prompt, *ids]])).logits[0, -1].log_softmax(-1)
            ids.append(int(torch.multinomial(logp.exp(), 1, generator=draws)))
            logps.append({ids[-1]: SimpleNamespace(logprob=float(logp[ids[-1]]))})
        reason = "stop" if ids[-1] in wanted.stop_token_ids else "length"
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=tuple(ids), logprobs=logps, finish_reason=reason)]
        )


@pytest.fixture
def installed(monkeypatch):
    module = SimpleNamespace(LLM=Engine, SamplingParams=lambda **settings: SimpleNamespace(**settings))
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(Engine, "made", [])
    in_process._running.clear()
    yield Engine
    in_process._running.clear()


def sampled(policy, prompts=PROMPTS, count=3, seed=5, decoding=DECODING, **more):
    return sample(policy, prompts, count, seed=seed, decoding=decoding, **more)


def test_responses_are_the_engines_with_the_models_log_probs(tiny, installed):
    policy = tiny("llama", eos_token_id=STOPS)
    groups = sampled(policy)
    assert [len(group) for group in groups] == [3, 3, 3]
    for response in (r for group in groups for r in group):
        assert response.finished is (response.ids[-1] in STOPS)
        assert response.finished or len(response.ids) == 6
        assert response.text == policy.tokenizer.decode(list(response.ids), skip_special_tokens=True)
    batch = collate([p.ids for p in PROMPTS], [[r.ids for r in g] for g in groups], 0)
    with torch.no_grad():
        scored = policy.logprobs(batch)[0]
    told = torch.tensor([[r.logp for r in g] for g in groups], dtype=torch.float64)
    assert torch.allclose(scored, told, atol=1e-3)


def test_a_request_carries_the_sampling_settings(tiny, installed):
    policy = tiny("gpt2")
    long = Prompt((1, *[5] * 60), "", "")
    sampled(policy, [long, PROMPTS[0]], 1)
    (engine,) = installed.made
    assert engine.settings["max_model_len"] == 64 and engine.settings["gpu_memory_utilization"] == 0.3
    assert engine.settings["enable_sleep_mode"] is False  # which vLLM refuses without a GPU
    assert engine.settings["dtype"] == "float32" and engine.settings["logprobs_mode"] == "raw_logprobs"
    (first, one), (_, other) = engine.requests
    assert first == {"prompt_token_ids": list(long.ids)}
    assert (one.max_tokens, other.max_tokens) == (3, 6)  # the model has 64 positions
    assert (one.n, one.temperature, one.top_k, one.top_p, one.logprobs) == (1, 1.0, 9, 1.0, 0)
    assert one.stop_token_ids == [2]
    off = in_process.settings(in_process.Request((1,), 2, 0, 0, 0), Decoding(temperature=0), [2])
    assert off["top_k"] == -1 and off["temperature"] == 0


def test_seeds_are_addressed_by_place_and_sample(tiny, installed):
    policy = tiny()
    whole = sampled(policy)
    assert sampled(policy, PROMPTS[1:], places=[1, 2]) == whole[1:]
    assert sampled(policy, count=2) == [group[:2] for group in whole]
    assert sampled(policy, seed=6) != whole
    seeds = [
        in_process.Request((1,), 1, s, p, k).vllm_seed for s in (0, 1) for p in range(9) for k in range(9)
    ]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**60


def test_an_engine_stays_while_the_weights_do(tiny, installed):
    policy = tiny()
    sampled(policy), sampled(policy, seed=7)
    assert len(installed.made) == 1
    with torch.no_grad():
        policy.model.lm_head.weight.mul_(0.5)
    sampled(policy)
    assert len(installed.made) == 2
    for name, weight in policy.model.state_dict().items():
        assert torch.equal(weight, installed.made[1].policy.model.state_dict()[name])
    sampled(policy, [Prompt((1,) * 30, "", "")])  # longer than the engine was made for
    assert [e.settings["max_model_len"] for e in installed.made] == [16, 16, 64]


def test_on_a_gpu_the_engine_sleeps_between_two_calls(tiny, installed, monkeypatch):
    called = []
    monkeypatch.setattr(
        in_process, "_sleeps", lambda policy: True
    )  # there is none here: the calls are what is seen
    monkeypatch.setattr(Engine, "sleep", lambda self, level: called.append(("sleep", level)), raising=False)
    monkeypatch.setattr(Engine, "wake_up", lambda self: called.append("wake up"), raising=False)
    policy = tiny()
    assert sampled(policy) == sampled(policy)
    assert called == ["wake up", ("sleep", 1)] * 2 and len(installed.made) == 1
    assert installed.made[0].settings["enable_sleep_mode"] is True


def test_adapters_are_merged_before_they_are_handed_over(lora, installed):
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in lora.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draws))
        ids = torch.tensor([[1, 5, 6, 7]])
        sampled(lora)
        theirs, ours = (m(ids).logits for m in (installed.made[0].policy.model, lora.model))
    assert torch.allclose(theirs, ours, atol=1e-3) and hasattr(lora.model, "merge_and_unload")


def test_unsupported_requests_are_refused(tiny, installed, monkeypatch):
    with pytest.raises(ModelError, match=r"mixtures, contrasts and .* need sampling\.engine=torch"):
        sampled(tiny(), mixed_with=(tiny().model, 0.5))
    strange = SimpleNamespace(token_ids=(7,), logprobs=[{}], finish_reason="stop")
    with pytest.raises(ModelError, match="token 7, which is not a stop token"):
        in_process._completion(strange, [2])
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match=r"pip install 'equipoise\[vllm\]'"):
        sampled(tiny())
    with pytest.raises(ValueError, match="'torch' or 'vllm'"):
        Decoding(engine="other")
