"""The start policy is the one that was given: full models, adapters, adapters on adapters, sharded, half precision.

The second way is always plain transformers and PEFT, which read the same folders.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import ModelError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft")
IDS = torch.tensor([[1, 5, 6, 7, 8, 9, 3]])


@pytest.fixture
def full(tiny, tmp_path):
    """A full model's folder."""
    tiny().model.save_pretrained(tmp_path / "full")
    return tmp_path / "full"


def make_adapter(base, folder, *, seed=7, name_of_base=None, **settings):
    """Write an adapter with weights that matter on a plain model; returns the logits of the two together."""
    torch.manual_seed(seed)
    settings = {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "v_proj", "down_proj"]} | settings
    wrapped = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                p.copy_(0.3 * torch.randn_like(p))
        logits = wrapped(input_ids=IDS).logits
    wrapped.save_pretrained(folder)
    if name_of_base is not None:
        settings = json.loads((folder / "adapter_config.json").read_text())
        settings["base_model_name_or_path"] = str(name_of_base)
        (folder / "adapter_config.json").write_text(json.dumps(settings))
    return logits


@pytest.fixture
def adapter(full, tmp_path):
    """(folder of an adapter on the full model, logits of the two together)."""
    logits = make_adapter(AutoModelForCausalLM.from_pretrained(full), tmp_path / "adapter", name_of_base=full)
    return tmp_path / "adapter", logits


def load(path, tokenizer, **settings):
    return CausalPolicy.load(path, tokenizer, device="cpu", **settings)


def logits_of(policy):
    with torch.no_grad():
        return policy.model(input_ids=IDS).logits


def plain(folder):
    """A folder read as its user would, without this package."""
    folder = Path(folder)
    if (folder / "adapter_config.json").exists():
        base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def same(a, b):
    return torch.allclose(a, b, rtol=0, atol=1e-5)


WAYS = {
    "auto": {},
    "continue": {"adapter": "continue"},
    "its own rank": {"lora_rank": 3},
    "another rank": {"lora_rank": 2},
    "merge": {"adapter": "merge"},
    "merge, new": {"adapter": "merge", "lora_rank": 3},
}


@pytest.mark.parametrize("way", WAYS)
def test_an_adapter_is_part_of_the_policy_and_of_its_first_checkpoint(
    adapter, full, tmp_path, tokenizer, way
):
    folder, logits = adapter
    assert not same(logits, logits_of(load(full, tokenizer)))
    policy = load(folder, tokenizer, base_folder=tmp_path / "run" / "base", **WAYS[way])
    assert same(logits_of(policy), logits)
    checkpoint.save(policy, tmp_path / "run" / "initial")
    with torch.no_grad():
        assert same(plain(tmp_path / "run" / "initial")(input_ids=IDS).logits, logits)
    continued = way in ("auto", "continue", "its own rank")
    assert policy.start.continued == continued
    # a base is written only where adapters stand on merged weights
    assert (tmp_path / "run" / "base").exists() == (way in ("another rank", "merge, new"))
    trained = {name for name, _ in policy.parameters()}
    assert all("lora_" in name for name in trained) == (way != "merge")
    # and another run can start from that checkpoint, also when the run's folder has moved
    shutil.move(tmp_path / "run", tmp_path / "moved")
    again = load(tmp_path / "moved" / "initial", tokenizer)
    assert same(logits_of(again), logits)


def test_a_continued_adapter_keeps_its_own_settings(adapter, tokenizer, tmp_path):
    folder, _ = adapter
    policy = load(folder, tokenizer)
    checkpoint.save(policy, tmp_path / "saved")
    before, after = (
        json.loads((f / "adapter_config.json").read_text()) for f in (folder, tmp_path / "saved")
    )
    for name in ("r", "lora_alpha", "base_model_name_or_path"):
        assert before[name] == after[name]
    assert set(before["target_modules"]) == set(after["target_modules"])
    assert "rank 3, alpha 5" in policy.start.describe()


def test_training_moves_the_adapter_that_was_given(adapter, tokenizer, tmp_path):
    folder, logits = adapter
    policy = load(folder, tokenizer)
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    optimizer = torch.optim.SGD([p for _, p in policy.parameters()], lr=1e-2)
    policy.model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    moved = {name for name, p in policy.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    checkpoint.save(policy, tmp_path / "after")
    after = logits_of(policy)
    assert not same(after, logits)
    with torch.no_grad():
        assert same(plain(tmp_path / "after")(input_ids=IDS).logits, after)
    checkpoint.load_into(policy, folder)
    assert same(logits_of(policy), logits)


def test_continuing_with_other_settings_is_refused(adapter, tokenizer):
    folder, _ = adapter
    for settings, what in (
        ({"lora_rank": 4}, "rank 3, but model.lora_rank=4"),
        ({"lora_alpha": 1.0}, "alpha 5.0, but model.lora_alpha=1.0"),
        ({"lora_targets": ["q_proj"]}, "but model.lora_targets="),
    ):
        with pytest.raises(ModelError, match=what):
            load(folder, tokenizer, adapter="continue", **settings)
    with pytest.raises(ModelError, match="must be one of auto, continue, merge"):
        load(folder, tokenizer, adapter="stack")


@pytest.mark.parametrize("way", ["auto", "merge", "merge, new"])
def test_an_adapter_on_an_adapter(adapter, full, tmp_path, tokenizer, way):
    first, _ = adapter
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(full), first).merge_and_unload()
    logits = make_adapter(model, tmp_path / "second", seed=8, r=2, name_of_base=first)
    policy = load(tmp_path / "second", tokenizer, base_folder=tmp_path / "run" / "base", **WAYS[way])
    assert same(logits_of(policy), logits)
    checkpoint.save(policy, tmp_path / "run" / "initial")
    with torch.no_grad():
        assert same(plain(tmp_path / "run" / "initial")(input_ids=IDS).logits, logits)
    with pytest.raises(ModelError, match="needs a folder for that model"):
        load(tmp_path / "second", tokenizer, lora_rank=5)


KINDS = {
    "rank-stabilised": {"use_rslora": True},
    "rank pattern": {"rank_pattern": {"q_proj": 1}, "alpha_pattern": {"v_proj": 9}},
    "dora": {"use_dora": True},
    "modules to save": {"modules_to_save": ["lm_head"]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "one layer": {"layers_to_transform": [1]},
    "dropout": {"lora_dropout": 0.5},
    "regular expression": {"target_modules": r".*\.1\..*(up|down)_proj"},
    "with biases": {"bias": "all"},
    "bias of the adapter": {"lora_bias": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["continue", "merge"])
def test_every_kind_of_lora_is_the_policy_that_peft_reads(full, tmp_path, tokenizer, kind, way):
    logits = make_adapter(
        AutoModelForCausalLM.from_pretrained(full), tmp_path / "a", name_of_base=full, **KINDS[kind]
    )
    if (kind, way) == ("bias of the adapter", "merge"):
        with pytest.raises(ModelError, match="cannot merge the adapter"):
            load(tmp_path / "a", tokenizer, adapter=way)
        return
    policy = load(tmp_path / "a", tokenizer, adapter=way)
    assert same(logits_of(policy), logits)
    # through the scoring path too
    sums, _ = policy.logprobs(policy.batch([tuple(IDS[0, :3].tolist())], [[tuple(IDS[0, 3:].tolist())]]))
    expected = logits[0, 2:-1].log_softmax(-1).gather(1, IDS[0, 3:, None]).sum()
    assert float(sums.detach()) == pytest.approx(float(expected), abs=1e-4)
    with torch.no_grad():
        for _, p in policy.parameters():
            p.add_(0.1 * torch.randn_like(p))
    after = logits_of(policy)
    checkpoint.save(policy, tmp_path / "after")
    with torch.no_grad():
        assert same(plain(tmp_path / "after")(input_ids=IDS).logits, after)
        for _, p in policy.parameters():
            p.zero_()
    checkpoint.load_into(policy, tmp_path / "after")
    assert same(logits_of(policy), after)


def test_other_adapters_are_refused(adapter, tokenizer):
    folder, _ = adapter
    config = folder / "adapter_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"peft_type": "IA3"}))
    with pytest.raises(ModelError, match="is a IA3 adapter; only LoRA is supported"):
        load(folder, tokenizer)
    for change in ({"r": "3"}, {"r": 0}, {"r": -1}, {"lora_alpha": None}, {"lora_alpha": "x"}):
        config.write_text(json.dumps(settings | change))
        with pytest.raises(ModelError, match="must be a positive"):
            load(folder, tokenizer)


def test_an_adapter_whose_weights_do_not_fit_is_refused(adapter, tokenizer):
    folder, _ = adapter
    file = folder / "adapter_model.safetensors"
    stored = load_file(file)
    some = min(stored)
    for tensors, what in (
        ({k.replace("model.layers", "model.blocks"): v for k, v in stored.items()}, "has no weight"),
        ({k: v for k, v in stored.items() if k != some}, f"has no weight {some}"),
        (stored | {"base_model.model.other.lora_A.weight": stored[some].clone()}, "has no place for"),
        (stored | {some: torch.zeros(2, 2)}, "cannot load the adapter"),
        (stored | {some: stored[some] * float("nan")}, "has NaN values"),
        ({}, "no tensor"),
    ):
        save_file(tensors, file)
        with pytest.raises(ModelError, match=what):
            load(folder, tokenizer)


def test_the_base_may_be_named_relative_to_the_adapter(adapter, full, tokenizer, tmp_path, monkeypatch):
    folder, logits = adapter
    config = folder / "adapter_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"base_model_name_or_path": "../full"}))
    assert same(logits_of(load(folder, tokenizer)), logits)
    monkeypatch.chdir(tmp_path)
    config.write_text(json.dumps(settings | {"base_model_name_or_path": "full"}))
    assert same(logits_of(load("adapter", tokenizer)), logits)
    for name, what in (
        ("/nowhere/model", "is an adapter of /nowhere/model, which does not exist"),
        (str(folder), "stands on itself"),
        (None, "does not say which model"),
        ([], "does not say which model"),
    ):
        config.write_text(json.dumps(settings | {"base_model_name_or_path": name}))
        with pytest.raises(ModelError, match=what):
            load(folder, tokenizer)


def test_a_folder_of_several_adapters_names_them(adapter, full, tokenizer, tmp_path):
    folder, logits = adapter
    several = tmp_path / "several"
    several.mkdir()
    for name in ("a", "b"):
        shutil.copytree(folder, several / name)
    with pytest.raises(ModelError, match="holds several adapters: give one of a, b"):
        load(several, tokenizer)
    assert same(logits_of(load(several / "b", tokenizer)), logits)
    shutil.copy(full / "config.json", folder)
    shutil.copy(full / "model.safetensors", folder)
    with pytest.raises(ModelError, match="both a full model and an adapter"):
        load(folder, tokenizer)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_sharded_folders(tiny, tokenizer, tmp_path, dtype):
    tiny().model.to(dtype).save_pretrained(tmp_path / "half", max_shard_size="9KB")
    assert len(list((tmp_path / "half").glob("*.safetensors"))) > 2
    policy = load(tmp_path / "half", tokenizer)
    assert all(p.dtype == torch.float32 for _, p in policy.parameters())
    with torch.no_grad():
        assert torch.equal(logits_of(policy), plain(tmp_path / "half")(input_ids=IDS).logits)
    assert policy.start.chain.base.dtype == {torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]


def test_a_hub_name_is_its_snapshot(full, adapter, tokenizer, tmp_path, monkeypatch):
    folder, logits = adapter
    home = tmp_path / "hub"
    for name, source in (("full", full), ("adapter", folder)):
        repository = home / f"models--someone--{name}"
        shutil.copytree(source, repository / "snapshots" / "abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")
    config = home / "models--someone--adapter" / "snapshots" / "abc" / "adapter_config.json"
    settings = json.loads(config.read_text()) | {"base_model_name_or_path": "someone/full"}
    config.write_text(json.dumps(settings))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert same(logits_of(load("someone/adapter", tokenizer)), logits)
    assert load("someone/full", tokenizer).start.chain.base.path.name == "abc"
    with pytest.raises(ModelError, match="cannot load a causal language model from someone/else"):
        load("someone/else", tokenizer)


def test_nothing_to_train_is_refused(full, tokenizer):
    with pytest.raises(ModelError, match="cannot add a LoRA adapter"):
        load(full, tokenizer, lora_rank=2, lora_targets=["nothing_like_this"])
