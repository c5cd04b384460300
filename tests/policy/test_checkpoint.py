"""Checkpoints: bit for bit there and back, safetensors only, readable by transformers and PEFT."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import ModelError

IDS = torch.tensor([[1, 5, 6, 7, 8]])


def weights(policy):
    return {name: p.detach().clone() for name, p in policy.parameters()}


def disturb(policy):
    with torch.no_grad():
        for _, p in policy.parameters():
            p.add_(torch.randn_like(p))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "family", ["llama", "llama-tied", "qwen2", "gpt2", "phi", "gemma2", "neox"], indirect=True
)
def test_full_roundtrip_bit_for_bit(tiny, family, tmp_path, tokenizer):
    from transformers import AutoModelForCausalLM

    policy = tiny(family)
    before = weights(policy)
    checkpoint.save(policy, tmp_path / "c")
    logits = policy.model(input_ids=IDS).logits
    disturb(policy)
    checkpoint.load_into(policy, tmp_path / "c")
    assert same(weights(policy), before)
    checkpoint.combine(policy, [(tmp_path / "c", 1.0)])
    assert same(weights(policy), before)
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "c").eval()
    assert torch.equal(read(input_ids=IDS).logits, logits)
    assert same(weights(CausalPolicy.load(tmp_path / "c", tokenizer, device="cpu")), before)


def test_lora_roundtrip_is_read_by_peft(tiny, lora, tmp_path):
    from peft import PeftModel

    disturb(lora)
    before, logits = weights(lora), lora.model(input_ids=IDS).logits
    checkpoint.save(lora, tmp_path / "adapter")
    disturb(lora)
    checkpoint.load_into(lora, tmp_path / "adapter")
    assert same(weights(lora), before)
    read = PeftModel.from_pretrained(tiny().model, tmp_path / "adapter").eval()
    assert torch.equal(read(input_ids=IDS).logits, logits)
    assert sum(f.stat().st_size for f in (tmp_path / "adapter").glob("*.safetensors")) < 40_000


def test_only_safetensors_and_text(tiny, tmp_path):
    checkpoint.save(tiny(), tmp_path / "c")
    kinds = {f.suffix for f in (tmp_path / "c").iterdir()}
    assert kinds == {".safetensors", ".json", ".txt", ".md"}
    assert [f.name for f in tmp_path.iterdir()] == ["c"]


def test_missing_and_misshapen_weights_are_named(tiny, tmp_path):
    policy = tiny()
    checkpoint.save(policy, tmp_path / "c")
    file = tmp_path / "c" / "model.safetensors"
    (tmp_path / "c" / "sha256sums.txt").unlink()
    stored = load_file(file)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({k: v for k, v in stored.items() if k != name}, file)
    with pytest.raises(ModelError, match=f"{name} is missing"):
        checkpoint.load_into(policy, tmp_path / "c")
    save_file(stored | {name: torch.zeros(3, 3)}, file)
    with pytest.raises(ModelError, match=rf"{name} is of shape \(3, 3\)"):
        checkpoint.load_into(policy, tmp_path / "c")
    file.unlink()
    with pytest.raises(ModelError, match=r"no \.safetensors"):
        checkpoint.load_into(policy, tmp_path / "c")


def test_a_model_with_weights_missing_is_not_filled_at_random(tiny, tmp_path, tokenizer):
    policy = tiny()
    policy.model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    stored = load_file(file)
    save_file({k: v for k, v in stored.items() if k != "lm_head.weight"}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights of the model: lm_head\.weight"):
        CausalPolicy.load(tmp_path, tokenizer)


def test_pickled_weights_are_not_read(tiny, tmp_path, tokenizer):
    policy = tiny()
    policy.model.config.save_pretrained(tmp_path)
    torch.save(policy.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights only"):
        CausalPolicy.load(tmp_path, tokenizer)


def test_no_model_there(tmp_path, tokenizer):
    with pytest.raises(ModelError, match=r"cannot load a causal language model from .*nowhere"):
        CausalPolicy.load(tmp_path / "nowhere", tokenizer)
    with pytest.raises(ModelError, match="precision"):
        CausalPolicy(None, tokenizer, precision="fp16")


def test_weights_of_restores_even_after_an_error(tiny, tmp_path):
    policy = tiny()
    here, there = tmp_path / "here", tmp_path / "there"
    disturb(policy)
    checkpoint.save(policy, there)
    other = weights(policy)
    disturb(policy)
    checkpoint.save(policy, here)
    mine = weights(policy)
    with pytest.raises(RuntimeError, match="boom"), checkpoint.temporary_weights(policy, there, here):
        assert same(weights(policy), other)
        raise RuntimeError("boom")
    assert same(weights(policy), mine)


def test_fingerprint_sees_everything_a_logprob_depends_on(tiny, lora):
    policy = tiny()
    first = checkpoint.fingerprint(policy)
    assert checkpoint.fingerprint(tiny()) == first
    for name, p in policy.model.named_parameters():
        with torch.no_grad():
            old = p.view(-1)[-1].item()
            p.view(-1)[-1] = old + 1e-3
        assert checkpoint.fingerprint(policy) != first, name
        with torch.no_grad():
            p.view(-1)[-1] = old
    assert checkpoint.fingerprint(policy) == first
    others = {
        checkpoint.fingerprint(tiny(precision="bf16")),
        checkpoint.fingerprint(tiny(rms_norm_eps=1e-3)),
        checkpoint.fingerprint(tiny(rope_parameters={"rope_theta": 1e6, "rope_type": "default"})),
    }
    assert len(others | {first}) == 4
    before = checkpoint.fingerprint(lora)
    lora.model.peft_config["default"].lora_alpha *= 2
    assert checkpoint.fingerprint(lora) != before


def test_progress_keeps_weights_and_optimizer_bit_for_bit(tiny, tmp_path):
    def made():
        policy = tiny("llama-tied")
        return policy, torch.optim.AdamW([p for _, p in policy.parameters()], lr=1e-2)

    def step(policy, optimizer):
        policy.model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    policy, optimizer = made()
    for _ in range(3):
        step(policy, optimizer)
    checkpoint.save_progress(tmp_path / "p.safetensors", policy, optimizer, {"round": 2, "step": 3})
    for _ in range(2):
        step(policy, optimizer)

    again, fresh = made()
    assert checkpoint.load_progress(tmp_path / "p.safetensors", again, fresh) == {"round": 2, "step": 3}
    for _ in range(2):
        step(again, fresh)
    assert same(weights(policy), weights(again))
    for a, b in zip(
        optimizer.state_dict()["state"].values(), fresh.state_dict()["state"].values(), strict=True
    ):
        assert same(a, b)


def test_a_changed_bit_is_noticed_when_a_checkpoint_is_read(tiny, tmp_path):
    policy, folder = tiny(), tmp_path / "c"
    checkpoint.save(policy, folder)
    checkpoint.verify(folder)
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    for read in (checkpoint.verify, lambda f: checkpoint.load_into(policy, f)):
        with pytest.raises(ModelError, match=r"model\.safetensors has changed since it was written"):
            read(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        checkpoint.verify(folder)


def test_the_sums_are_those_of_sha256sum_and_a_dropped_optimizer_state_is_no_loss(tiny, tmp_path):
    policy, folder = tiny(), tmp_path / "c"
    optimizer = torch.optim.AdamW([p for _, p in policy.parameters()], lr=1e-2)
    policy.model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    checkpoint.save(policy, folder, optimizer)
    lines = dict(line.split("  ")[::-1] for line in (folder / "sha256sums.txt").read_text().splitlines())
    assert set(lines) == {f.name for f in folder.iterdir()} - {"sha256sums.txt"}
    for name, digest in lines.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    (folder / checkpoint.MOMENTS).unlink()
    checkpoint.load_into(policy, folder)


def test_the_card_says_what_the_checkpoint_is(lora, tmp_path):
    lora.about = {"method": "dpo", "settings": "abc123"}
    checkpoint.save(lora, tmp_path / "c")
    card = (tmp_path / "c" / "README.md").read_text()
    assert "More Information Needed" not in card
    assert "| method | dpo |" in card
    assert "| settings | abc123 |" in card
    assert f"| base | {lora.start.chain.base.path} |" in card
    assert "AutoPeftModelForCausalLM" in card
