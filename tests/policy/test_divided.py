"""Weights that processes divide, here by one process alone: forward passes, files, and weights that are whole again."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.files import read_tensors
from equipoise.policy.protocol import ModelError
from equipoise.policy.sharding.shard_files import read_own, write_gathered

PROMPTS, RESPONSES = [(3, 4, 5), (6, 7)], [[(8, 9), (10,)], [(11, 12, 13), (8,)]]


@pytest.fixture(autouse=True)
def alone():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def logps(policy):
    return policy.logprobs(policy.batch(PROMPTS, RESPONSES))[0]


def gradients(policy):
    (logps(policy) * torch.tensor([[1.0, -2.0], [0.5, 3.0]])).sum().backward()
    found = {name: p.grad for name, p in policy.parameters() if p.grad is not None}
    policy.model.zero_grad()
    return {name: g.full_tensor() if isinstance(g, DTensor) else g for name, g in found.items()}


@pytest.mark.parametrize("name", ["llama", "llama-tied", "qwen3", "gpt2", "phi", "gemma2"])
@pytest.mark.parametrize("recompute", [False, True])
def test_forward_and_backward_have_the_same_bits(tiny, name, recompute):
    """Packed kernels, transformers' layers, packed and padded rows; tied and untied heads, and one with a bias."""
    policy = tiny(name)
    policy.recompute(recompute)
    before, slopes = logps(policy).detach(), gradients(policy)
    policy.divide(1)
    assert all(isinstance(p, DTensor) for _, p in policy.parameters())
    assert torch.equal(logps(policy).detach(), before)
    again = gradients(policy)
    assert again.keys() == slopes.keys() and all(torch.equal(again[n], slopes[n]) for n in slopes)
    policy.join()
    assert not any(isinstance(p, DTensor) for _, p in policy.parameters())
    assert torch.equal(logps(policy), before)


def test_whole_weights_take_no_memory_while_they_are_divided(tiny):
    policy = tiny()
    whole = list(policy.model.parameters())
    policy.divide(1)
    assert sum(p.untyped_storage().nbytes() for p in whole) == 0
    with policy.joined():
        assert [id(p) for p in policy.model.parameters()] == [id(p) for p in whole]
        assert all(p.untyped_storage().nbytes() for p in whole)
    assert sum(p.untyped_storage().nbytes() for p in whole) == 0
    policy.join()
    assert [id(p) for p in policy.model.parameters()] == [id(p) for p in whole]


def test_steps_reach_the_checkpoint_and_adapters_stay_on_their_base(lora, tmp_path):
    lora.divide(1)
    optimizer = torch.optim.AdamW([p for _, p in lora.trained()], lr=0.1, fused=True)
    logps(lora).sum().backward()
    optimizer.step()
    after = logps(lora).detach()  # which leaves embeddings and head gathered
    with lora.joined():
        checkpoint.save(lora, tmp_path / "within")
    assert torch.equal(logps(lora), after)
    lora.join()
    checkpoint.save(lora, tmp_path / "end", optimizer)
    within, end = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("within", "end"))
    assert all(torch.equal(within[name], end[name]) for name in end)
    assert torch.equal(logps(lora), after)
    moments = load_file(tmp_path / "end" / checkpoint.MOMENTS)
    assert {key.split("/")[0] for key in moments} == {"step", "exp_avg", "exp_avg_sq"}
    assert len(moments) == 3 * len(list(lora.trained()))


def test_a_file_of_divided_tensors_is_one_of_whole_ones(tiny, tmp_path):
    """Read by safetensors, and read back by rows; without a path nothing is written."""
    policy = tiny("llama-tied")
    whole = {f"weight/{name}": p.detach().clone() for name, p in policy.parameters()}
    policy.divide(1)
    parts = {f"weight/{name}": p for name, p in policy.parameters()}
    extra = {"step/model.norm.weight": torch.tensor(3.0), "half/x": torch.ones(3, dtype=torch.bfloat16)}
    write_gathered(None, parts | extra)
    assert not list(tmp_path.iterdir())
    write_gathered(tmp_path / "file", parts | extra, about="said")
    read, about = read_tensors(tmp_path / "file")
    assert about == {"about": "said"} and read.keys() == (whole | extra).keys()
    assert all(torch.equal(read[name], value) for name, value in (whole | extra).items())
    own, about = read_own(tmp_path / "file", dict(policy.parameters()))
    assert about == {"about": "said"} and not isinstance(own["step/model.norm.weight"], DTensor)
    for name in parts:
        assert isinstance(own[name], DTensor) and torch.equal(own[name].full_tensor(), whole[name])
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:-1])
    with pytest.raises(ValueError, match="file is not an intact safetensors file"):
        read_own(tmp_path / "file", dict(policy.parameters()))
    policy.join()


def test_a_model_without_blocks_is_refused(tiny):
    policy: CausalPolicy = tiny()
    policy.model.config.num_hidden_layers = 5
    with pytest.raises(ModelError, match=r"no list of 5 blocks: leave train\.sharding out"):
        policy.divide(1)
