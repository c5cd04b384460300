"""Linear Alignment: the decoding rule beside the authors' numbers, its limits, its bound, and its sampler."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.collate import Prompt
from equipoise.policy.generation.contrast import Contrast
from equipoise.policy.generation.inverse_cdf import nucleus, uniforms
from equipoise.policy.generation.sampling import sample
from equipoise.policy.protocol import Decoding, ModelError

PRINCIPLED = torch.tensor([[1.0, 2.0, 0.5, -1.0, 1.7, 0.0], [0.3, -0.2, 0.1, 0.25, 0.2, -3.0]])
PLAIN = torch.tensor([[0.2, 2.5, 0.1, -1.5, 1.6, 0.4], [0.0, 0.0, 0.3, -0.25, 0.1, 1.0]])
# of the release's functions (model.py, utils.py of Wizardcoast/Linear_Alignment) on these logits in float64: ratio 3,
# temperature 0.5, nucleus 0.8
STORED = [
    [0.0, 0.047425873177566864, 0.0, 0.0, 0.9525741268224331, 0.0],
    [0.23341927982987007, 0.0, 0.007789964639707149, 0.7012302697989405, 0.057560485731482224, 0.0],
]
AUTHORS = Decoding(temperature=0.5, top_p=0.8)
PROMPTS = [Prompt((1, 5, 6), "", ""), Prompt((1, 7), "", ""), Prompt((1, 9, 10, 11, 12), "", "")]
WITH = [Prompt((1, 20, 21, 5, 6), "", ""), Prompt((1, 20, 21, 7), "", ""), Prompt((1, 20), "", "")]

rows = st.lists(st.floats(-8, 8), min_size=7, max_size=7)


def chances(contrast: Contrast, plain: torch.Tensor, principled: torch.Tensor, decoding: Decoding):
    """Distribution [R, V] of the sampled token, by many evenly spaced uniforms."""
    count = 20_000
    even = (torch.arange(count) + 0.5) / count
    found = []
    for i in range(len(plain)):
        logits = [plain[i : i + 1].expand(count, -1), principled[i : i + 1].expand(count, -1)]
        token, _ = contrast.sample_tokens(logits, even, decoding=decoding)
        found.append(torch.bincount(token, minlength=plain.shape[1]) / count)
    return torch.stack(found)


def test_the_distribution_is_the_authors():
    """The masked softmax, and the tokens that are sampled by it."""
    contrast, authors = Contrast(prompts=(), strength=3.0), torch.tensor(STORED, dtype=torch.float64)
    z = 4 * PRINCIPLED.double() - 3 * PLAIN.double()
    kept = nucleus(PRINCIPLED, AUTHORS)
    masked = (z / 0.5).masked_fill(~kept, -torch.inf).softmax(-1)
    assert torch.allclose(masked, authors, atol=1e-7)
    assert torch.allclose(contrast.logits(PLAIN, PRINCIPLED).double(), z, atol=1e-6)
    assert torch.allclose(chances(contrast, PLAIN, PRINCIPLED, AUTHORS), authors.float(), atol=1e-4)


@pytest.mark.parametrize("strength, which", [(0.0, PRINCIPLED), (-1.0, PLAIN)])
def test_at_its_limits_it_is_one_of_the_contexts(strength, which):
    contrast = Contrast(prompts=(), strength=strength)
    assert torch.allclose(contrast.logits(PLAIN, PRINCIPLED), which)
    whole = chances(contrast, PLAIN, PRINCIPLED, Decoding())
    assert torch.allclose(whole, which.softmax(-1), atol=1e-4)


@given(rows, st.floats(-1, 10))
def test_an_empty_principle_changes_nothing(plain, strength):
    logits = torch.tensor([plain])
    assert torch.equal(Contrast(prompts=(), strength=strength).logits(logits, logits), logits)


@given(rows, rows, st.floats(0, 10), st.floats(0.01, 3))
def test_the_step_is_the_largest_within_the_bound(plain, principled, strength, bound):
    plain, principled = torch.tensor([plain]).double(), torch.tensor([principled]).double()
    within = Contrast(prompts=(), strength=strength, divergence=bound).logits(plain, principled).double()
    base = principled.log_softmax(-1)

    def divergence(z):
        moved = z.log_softmax(-1)
        return float((moved.exp() * (moved - base)).sum())

    free = principled + strength * (principled - plain)
    assert divergence(within) <= bound + 1e-4
    if divergence(free) <= bound:
        assert torch.allclose(within, free, atol=1e-4)
    else:
        assert divergence(within) > bound - max(0.05, 0.05 * bound)


@given(rows, rows, st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 1.0]))
def test_tokens_lie_in_the_nucleus_of_the_prompted_model(plain, principled, place, temperature):
    plain, principled = torch.tensor([plain]), torch.tensor([principled])
    decoding = Decoding(temperature=temperature, top_p=0.8)
    uniform = torch.from_numpy(uniforms(1, place, 0, 1))
    contrast = Contrast(prompts=(), strength=5.0)
    token, logp = contrast.sample_tokens([plain, principled], uniform, decoding=decoding)
    assert bool(nucleus(principled, decoding)[0, int(token)])
    whole = contrast.logits(plain, principled).double().log_softmax(-1)
    assert float(logp) == pytest.approx(float(whole[0, int(token)]), abs=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_answers_are_those_of_two_plain_passes_a_token(tiny, family):
    """Greedy, against whole forward passes of both contexts for every token; alone and in a batch."""
    policy = tiny(family, dtype=torch.float64)
    decoding = Decoding(temperature=0, top_p=0.9, max_new_tokens=8, batch=2)
    contrast = Contrast(prompts=WITH, strength=2.0)
    ours = sample(policy, PROMPTS, 1, seed=0, decoding=decoding, contrast=contrast)
    alone = sample(policy, PROMPTS[1:2], 1, seed=0, decoding=decoding, contrast=contrast.at([1]), places=[1])
    assert alone[0][0].ids == ours[1][0].ids
    for prompt, with_it, (response,) in zip(PROMPTS, WITH, ours, strict=True):
        written: list[int] = []
        total = 0.0
        for _ in response.ids:
            with torch.no_grad():
                plain, principled = (
                    policy.model(torch.tensor([[*ids, *written]])).logits[0, -1].double()
                    for ids in (prompt.ids, with_it.ids)
                )
            z = 3.0 * principled - 2.0 * plain
            ranked, order = principled.softmax(-1).sort(descending=True)
            kept = order[(ranked.cumsum(0) - ranked) < 0.9]
            token = int(kept[z[kept].argmax()])
            total += float(z.log_softmax(-1)[token])
            written.append(token)
        assert response.ids == tuple(written)
        assert response.logp == pytest.approx(total, abs=1e-4)


def test_what_cannot_be_contrasted_is_refused(tiny):
    policy = tiny("llama")
    with pytest.raises(ValueError, match="from -1 on"):
        Contrast(prompts=(), strength=-2.0)
    with pytest.raises(ValueError, match="> 0 nats"):
        Contrast(prompts=(), divergence=0.0)
    long = Contrast(prompts=[Prompt(tuple(range(3, 67)), "", "")])
    with pytest.raises(ModelError, match="a prompt has 64 tokens"):
        sample(policy, PROMPTS[:1], 1, seed=0, decoding=Decoding(), contrast=long)
