"""A frozen base in bfloat16: half the bytes, and the bits of the same base held in float32.

The second way is the float32 base, which existed before, and plain transformers with PEFT.
"""

from __future__ import annotations

import pytest
import torch
from tests.policy.test_start import make_adapter, plain

from equipoise.policy import checkpoint, load_gate
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.backends import why_not_cpu_decoder, why_not_shared
from equipoise.policy.generation.cpu_decoder import CpuDecoder
from equipoise.policy.protocol import ModelError
from equipoise.policy.scoring.live_reference import FrozenReference
from equipoise.policy.scoring.microbatch import bytes_per_token

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft")
PROMPTS = [(5, 6, 7, 8), (9, 10)]
ANSWERS = [[(11, 12, 13), (14, 15)], [(16,), (17, 18, 19, 20)]]
FAMILIES = ["llama", "llama-tied", "qwen2", "qwen3", "gemma", "gpt2", "phi", "gemma2", "gemma3"]


@pytest.fixture
def stored(tiny, tmp_path):
    """make(family) -> folder of a checkpoint in bfloat16."""

    def make(family="llama", dtype=torch.bfloat16):
        folder = tmp_path / f"{family}-{dtype}".replace("torch.", "")
        tiny(family).model.to(dtype).save_pretrained(folder)
        return folder

    return make


def load(folder, tokenizer, base_dtype="checkpoint", rank=3, **settings):
    policy = CausalPolicy.load(
        folder, tokenizer, lora_rank=rank, base_dtype=base_dtype, device="cpu", **settings
    )
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():  # B is 0 at the start, and A would have no gradient
        for name, p in policy.parameters():
            if "lora_B" in name or "lora_embedding_B" in name:
                p.copy_(0.1 * torch.randn(p.shape, generator=draw))
    return policy


def gradients(policy, *, padded=False):
    batch = policy.batch(PROMPTS, ANSWERS)
    if padded:
        policy.scorer.max_packed_length = 0
        batch = policy.batch(PROMPTS, ANSWERS)
    policy.model.zero_grad()
    logp, _ = policy.logprobs(batch)
    (logp * torch.tensor([[1.0, -2.0], [0.5, 1.5]], dtype=logp.dtype)).sum().backward()
    return logp.detach(), {name: p.grad.clone() for name, p in policy.parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_and_gradients_have_the_bits_of_a_float32_base(stored, tokenizer, family, precision):
    folder = stored(family)
    ours, wide = (load(folder, tokenizer, held, precision=precision) for held in ("checkpoint", "float32"))
    assert ours.start.base.dtype == "bfloat16"
    assert not ours.start.rounded
    for padded in (False, True):
        (logp, grads), (expected, exact) = (gradients(p, padded=padded) for p in (ours, wide))
        assert torch.equal(logp, expected)
        assert grads.keys() == exact.keys()
        assert all(torch.equal(grads[name], exact[name]) for name in grads), (family, padded)
        assert all(g.dtype == torch.float32 for g in grads.values())
    assert checkpoint.fingerprint(ours) == checkpoint.fingerprint(wide)


def test_the_base_takes_two_bytes_a_weight_and_has_no_other_copy(stored, tokenizer):
    policy = load(stored(), tokenizer)
    frozen = {n: p for n, p in policy.model.named_parameters() if not p.requires_grad}
    assert {n: p.dtype for n, p in frozen.items() if p.ndim > 1 and p.dtype != torch.bfloat16} == {}
    assert {p.dtype for _, p in policy.parameters()} == {torch.float32}
    optimizer = torch.optim.AdamW([p for _, p in policy.parameters()])
    gradients(policy)
    optimizer.step()
    moments = [t for state in optimizer.state.values() for t in state.values()]
    assert {t.dtype for t in moments} == {torch.float32}


def test_the_backward_keeps_no_float32_copy_of_the_weights(stored, tokenizer):
    """Transformers' layers on padded rows: a plain linear layer would keep what it multiplied by."""
    folder = stored()
    kept = []
    for held in ("checkpoint", "float32"):
        policy = load(folder, tokenizer, held)
        policy.scorer.max_packed_length = 0
        kept.append(bytes_per_token(policy))
    assert kept[0] <= kept[1]


def test_the_head_of_a_whole_row_is_converted_tile_by_tile(stored, tokenizer, monkeypatch):
    policy = load(stored(), tokenizer)
    heads = []
    from equipoise.policy import scorer

    def read(states, head, *rest, **how):
        heads.append(head.dtype)
        return original(states, head, *rest, **how)

    original = scorer.token_logps
    monkeypatch.setattr(scorer, "token_logps", read)
    gradients(policy)
    assert heads == [torch.bfloat16]


def test_adapters_are_drawn_and_read_in_float32_whatever_they_stand_on(stored, tokenizer, tmp_path):
    folder = stored()
    ours, wide = (
        CausalPolicy.load(folder, tokenizer, lora_rank=3, seed=5, base_dtype=held, device="cpu")
        for held in ("checkpoint", "float32")
    )
    drawn = dict(wide.parameters())
    assert all(torch.equal(p, drawn[name]) for name, p in ours.parameters())
    make_adapter(plain(folder), tmp_path / "adapter", name_of_base=folder)
    ours, wide = (
        CausalPolicy.load(tmp_path / "adapter", tokenizer, base_dtype=held, device="cpu")
        for held in ("checkpoint", "float32")
    )
    assert ours.start.continued
    assert ours.start.base.dtype == "bfloat16"
    drawn = dict(wide.parameters())
    assert all(torch.equal(p, drawn[name]) for name, p in ours.parameters())
    # an adapter whose embeddings are trained with it: those are float32
    make_adapter(plain(folder), tmp_path / "more", name_of_base=folder, modules_to_save=["embed_tokens"])
    ours, wide = (
        CausalPolicy.load(tmp_path / "more", tokenizer, base_dtype=held, device="cpu")
        for held in ("checkpoint", "float32")
    )
    assert {p.dtype for _, p in ours.parameters()} == {torch.float32}
    assert checkpoint.fingerprint(ours) == checkpoint.fingerprint(wide)


def test_a_checkpoint_of_a_held_base_is_the_adapter_that_plain_peft_reads(stored, tokenizer, tmp_path):
    folder = stored()
    policy = load(folder, tokenizer)
    assert load_gate.as_given(CausalPolicy.load(folder, tokenizer, lora_rank=3, device="cpu")).passed
    checkpoint.save(policy, tmp_path / "saved")
    assert load_gate.as_saved(policy, tmp_path / "saved").passed
    with torch.no_grad():
        before = policy.logprobs(policy.batch(PROMPTS, ANSWERS))[0]
        for _, p in policy.parameters():
            p.zero_()
        assert not torch.equal(policy.logprobs(policy.batch(PROMPTS, ANSWERS))[0], before)
        checkpoint.load_into(policy, tmp_path / "saved")
        assert torch.equal(policy.logprobs(policy.batch(PROMPTS, ANSWERS))[0], before)
    again = CausalPolicy.load(tmp_path / "saved", tokenizer, base_dtype="float32", device="cpu")
    assert checkpoint.fingerprint(again) == checkpoint.fingerprint(policy)


@pytest.mark.parametrize("memory", [True, False])
def test_a_float32_checkpoint_is_rounded_where_that_is_asked_and_the_gate_knows(
    stored, tokenizer, monkeypatch, memory
):
    folder = stored(dtype=torch.float32)
    monkeypatch.setattr(load_gate, "memory_holds", lambda parameters: memory)
    policy = CausalPolicy.load(folder, tokenizer, lora_rank=3, device="cpu")
    assert policy.start.base.plain
    policy = CausalPolicy.load(folder, tokenizer, lora_rank=3, base_dtype="bfloat16", device="cpu")
    assert policy.start.rounded
    assert any("held in bfloat16, rounded" in note for note in policy.notes())
    assert load_gate.as_given(policy).passed
    exact = plain(folder)
    frozen = policy.model.get_base_model().model.layers[0].mlp.down_proj.base_layer.weight
    assert torch.equal(frozen, exact.model.layers[0].mlp.down_proj.weight.bfloat16())
    norm = policy.model.get_base_model().model.norm.weight
    assert torch.equal(norm, exact.model.norm.weight)  # small, and exact
    with torch.no_grad():
        frozen[0] += 1.0
    assert not load_gate.as_given(policy).passed


def test_what_is_merged_is_float32_unless_rounding_is_asked_for(stored, tokenizer, tmp_path):
    folder = stored()
    make_adapter(plain(folder), tmp_path / "adapter", name_of_base=folder)

    def on_merged(name, **how):
        return CausalPolicy.load(
            tmp_path / "adapter",
            tokenizer,
            adapter="merge",
            lora_rank=2,
            device="cpu",
            base_folder=tmp_path / name,
            **how,
        )

    assert on_merged("a").start.base.plain
    assert load_gate.as_given(on_merged("a")).passed
    rounded = on_merged("b", base_dtype="bfloat16")
    checkpoint.save(rounded, tmp_path / "saved")
    assert load_gate.as_saved(rounded, tmp_path / "saved").passed  # its base is what it trains on


def test_trained_weights_are_float32(stored, tokenizer):
    with pytest.raises(ModelError, match=r"set model.lora_rank, or leave model.base_dtype out"):
        CausalPolicy.load(stored(), tokenizer, base_dtype="bfloat16", device="cpu")
    with pytest.raises(ModelError, match="must be one of checkpoint, float32, bfloat16"):
        CausalPolicy.load(stored(), tokenizer, base_dtype="fp8", lora_rank=2, device="cpu")
    policy = CausalPolicy.load(stored(), tokenizer, device="cpu")
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", ["llama", "llama-tied", "qwen3", "gpt2"])
def test_sampling_takes_the_paths_of_a_float32_base(stored, tokenizer, family):
    folder = stored(family)
    ours, wide = (load(folder, tokenizer, held) for held in ("checkpoint", "float32"))
    for why in (why_not_shared, why_not_cpu_decoder):
        assert why(ours.model) == why(wide.model)
    if why_not_cpu_decoder(ours.model) is None:
        decoders = [CpuDecoder(policy.model, 4) for policy in (ours, wide)]
        x = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
        assert torch.equal(*(d.layers[0].project(x) for d in decoders))
        assert torch.equal(*(d.head(x) for d in decoders))


def test_a_live_reference_shares_the_frozen_base(stored, tokenizer):
    policy = load(stored(), tokenizer)
    reference = FrozenReference(policy)
    own = {id(p): n for n, p in policy.model.named_parameters()}
    shared = {own[id(p)] for p in reference.scorer.model.parameters() if id(p) in own}
    assert shared == {n for n, p in policy.model.named_parameters() if not p.requires_grad}
    assert not any(p.requires_grad for p in reference.scorer.parameters())
    assert all(p.requires_grad for _, p in policy.parameters())
