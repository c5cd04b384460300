"""Log-probs of a policy: padded = one by one = log-softmax of the full logits, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from equipoise.data.collate import collate

PROMPTS = [(1, 5, 6), (1, 7), (1, 9, 10, 11, 12)]
RESPONSES = [[(8, 2), (9, 10, 11, 2)], [(3, 4, 5, 6, 7, 8, 2), (2,)], [(20, 2), (21, 22, 23)]]


def by_hand(model, prompts, responses):
    """sum_t log softmax(logits)[y_t], one row at a time, without padding or masks."""
    rows = []
    for prompt, group in zip(prompts, responses, strict=True):
        for response in group:
            logits = model(input_ids=torch.tensor([prompt + response])).logits[0]
            logps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            rows.append(logps[torch.arange(len(response)), torch.tensor(response)].sum())
    return torch.stack(rows).view(len(prompts), -1)


def test_padded_batch_equals_plain_log_softmax_with_gradients(tiny, family):
    # transformers computes Gemma 2's softmax in float32 whatever the model's type, so float64 gains nothing there
    wide = family != "gemma2"
    policy = tiny(family, dtype=torch.float64 if wide else torch.float32)
    logp, length = policy.logprobs(collate(PROMPTS, RESPONSES, policy.pad))
    plain = by_hand(policy.model, PROMPTS, RESPONSES).double()
    assert_close(logp, plain, rtol=1e-10 if wide else 1e-5, atol=1e-10 if wide else 1e-4)
    assert length.tolist() == [[2, 4], [7, 1], [2, 3]]

    weight = torch.linspace(-1, 1, 6, dtype=torch.float64).view(3, 2)
    parameters = [p for _, p in policy.parameters()]
    ours = torch.autograd.grad((weight * logp).sum(), parameters)
    theirs = torch.autograd.grad((weight * plain).sum(), parameters)
    for (name, _), a, b in zip(policy.parameters(), ours, theirs, strict=True):
        assert_close(
            a,
            b,
            rtol=1e-8 if wide else 1e-3,
            atol=1e-9 if wide else 1e-3,
            msg=lambda m, name=name: f"{name}: {m}",
        )
    assert all(
        float(g.abs().max()) > 0
        for (name, _), g in zip(policy.parameters(), ours, strict=True)
        if "k_proj.bias" not in name
    )  # a key's bias shifts all scores of a query alike


def test_capped_head_takes_the_full_logits(tiny, family):
    assert tiny(family).scorer.linear_head is (family != "gemma2")


def test_the_probe_is_what_makes_the_difference(tiny):
    """Scored through the bare head, the capped model would be off by far more than rounding."""
    policy = tiny("gemma2")
    batch = collate(PROMPTS, RESPONSES, policy.pad)
    honest = policy.logprobs(batch)[0]
    policy.scorer.linear_head = True
    assert float((policy.logprobs(batch)[0] - honest).detach().abs().max()) > 0.1


def test_batch_composition_does_not_matter(tiny, family):
    policy = tiny(family)
    together = policy.logprobs(collate(PROMPTS, RESPONSES, policy.pad))[0]
    apart = torch.cat(
        [policy.logprobs(collate([p], [g], policy.pad))[0] for p, g in zip(PROMPTS, RESPONSES, strict=True)]
    )
    turned = policy.logprobs(collate(PROMPTS[::-1], RESPONSES[::-1], policy.pad))[0].flip(0)
    assert_close(together, apart, rtol=2e-5, atol=2e-4)
    assert_close(together, turned, rtol=2e-5, atol=2e-4)


def test_padding_token_changes_nothing(tiny):
    policy = tiny("llama", dtype=torch.float64)
    a, b = (policy.logprobs(collate(PROMPTS, RESPONSES, pad))[0] for pad in (0, 17))
    assert_close(a, b, rtol=0, atol=1e-10)


def test_dropout_is_off(tiny):
    """GPT-2 is configured with dropout 0.1: a log-prob must be a number, not a draw."""
    policy = tiny("gpt2")
    batch = collate(PROMPTS, RESPONSES, policy.pad)
    assert torch.equal(policy.logprobs(batch)[0], policy.logprobs(batch)[0])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"], indirect=True)
def test_bf16_runs_and_is_near_fp32(tiny, family):
    """bf16 keeps 8 bits: at logits of this size a token is off by less than a quarter of a nat, but not by 0."""
    batch = collate(PROMPTS, RESPONSES, 0)
    fine, length = tiny(family).logprobs(batch)
    rough = tiny(family, precision="bf16").logprobs(batch)[0]
    off = ((fine - rough).abs() / length).max()
    assert 0 < float(off.detach()) < 0.25
    policy = tiny(family, precision="bf16")
    policy.logprobs(batch)[0].sum().backward()
    assert all(p.dtype == torch.float32 and bool(p.grad.isfinite().all()) for _, p in policy.parameters())


def test_lora_starts_exactly_at_its_base(tiny, lora):
    batch = collate(PROMPTS, RESPONSES, 0)
    assert torch.equal(lora.logprobs(batch)[0], tiny().logprobs(batch)[0])
    names = [name for name, _ in lora.parameters()]
    assert names and all(".lora_" in name for name in names)


def test_lora_gradients_reach_adapters_only(lora):
    lora.logprobs(collate(PROMPTS, RESPONSES, 0))[0].sum().backward()
    touched = {name for name, p in lora.model.named_parameters() if p.grad is not None}
    assert touched == {name for name, _ in lora.parameters()}
    assert any(float(p.grad.abs().max()) > 0 for _, p in lora.parameters())


@pytest.mark.parametrize(
    ("prompts", "responses", "says"),
    [
        ([(1,)], [[(), (2,)]], "one response token"),
        ([()], [[(3,), (2,)]], "one prompt token"),
        ([(1,), (1,)], [[(3,), (2,)], [(3,)]], "same number of responses"),
    ],
)
def test_collate_refuses_what_cannot_be_scored(prompts, responses, says):
    with pytest.raises(ValueError, match=says):
        collate(prompts, responses, 0)


def test_collate_marks_the_response_and_nothing_else():
    batch = collate([(1, 5), (1,)], [[(8, 2)], [(9,)]], pad=0)
    assert batch.ids.tolist() == [[1, 5, 8, 2], [1, 9, 0, 0]]
    assert batch.attention.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.scored.tolist() == [[False, False, True, True], [False, True, False, False]]
    assert (batch.shape, batch.tokens) == ((2, 1), 6)
