"""Shift, mask, sums and the chunked head: hand arithmetic, two ways one answer, and the memory promise."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from equipoise.core.logprob import response_logps, scored_positions, token_logps, token_logps_from_logits


def plain(hidden: Tensor, head: Tensor, targets: Tensor, *, bias=None, softcap=None, scale=1.0) -> Tensor:
    """The definition, with all N x V logits at once."""
    z = hidden @ head.T if bias is None else hidden @ head.T + bias
    z = scale * z
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    return z.log_softmax(dim=1)[torch.arange(len(targets)), targets]


def problem(tokens: int, width: int, vocabulary: int, dtype=torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(tokens + 31 * vocabulary)
    hidden, head, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in [(tokens, width), (vocabulary, width), (vocabulary,)]
    )
    return [hidden, head, bias, torch.randint(0, vocabulary, (tokens,), generator=generator)]


# shift and mask --------------------


def test_the_shift_by_hand():
    # one row: prompt token 2, response tokens 0 and 1. Two hidden units, three words, head = rows below.
    tokens = torch.tensor([[2, 0, 1]])
    hidden = torch.tensor([[[math.log(2.0), 0.0], [0.0, math.log(3.0)], [50.0, 50.0]]], dtype=torch.float64)
    head = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    # position 0: logits (log 2, 0, 0), softmax (2, 1, 1)/4, and token 0 follows: log(1/2)
    # position 1: logits (0, log 3, 0), softmax (1, 3, 1)/5, and token 1 follows: log(3/5)
    # position 2 predicts nothing that is scored: its huge hidden state must not matter
    at = scored_positions(torch.tensor([[False, True, True]]))
    assert at.predictor.tolist() == [0, 1]
    assert at.target.tolist() == [1, 2]
    logps = token_logps(hidden[at.row, at.predictor], head, tokens[at.row, at.target])
    assert torch.allclose(logps, torch.tensor([0.5, 0.6], dtype=torch.float64).log(), atol=1e-15)
    response = response_logps(logps, at.row, 1)
    assert response.logp_sum.item() == pytest.approx(math.log(0.3), abs=1e-15)
    assert response.length.item() == 2


def test_responses_that_share_a_prompt_are_predicted_from_its_last_token():
    # one row: prompt p0 p1, responses a0 a1 and b0; both first tokens follow position 1
    scored = torch.tensor([[False, False, True, True, True]])
    at = scored_positions(scored, previous=torch.tensor([[-1, 0, 1, 2, 1]]))
    assert at.predictor.tolist() == [1, 2, 1]
    assert at.target.tolist() == [2, 3, 4]


def test_a_row_without_scored_tokens_is_refused():
    with pytest.raises(ValueError, match=r"rows \[1\] have no scored token"):
        scored_positions(torch.tensor([[False, True], [False, False]]))


def test_a_scored_first_token_is_refused():
    with pytest.raises(ValueError, match=r"rows \[0\] score the first token"):
        scored_positions(torch.tensor([[True, True]]))
    with pytest.raises(ValueError, match="no hidden state predicts"):
        scored_positions(torch.tensor([[False, True, True]]), previous=torch.tensor([[-1, 0, -1]]))


def test_packed_rows_equal_rows_one_by_one():
    hidden, head, _, _ = problem(9, 4, 13)
    tokens = torch.randint(0, 13, (9,))
    lengths, scored_from = [4, 2, 3], [2, 1, 1]
    mask = torch.cat([torch.arange(n) >= s for n, s in zip(lengths, scored_from, strict=True)])
    at = scored_positions(mask[None])
    segment = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[at.target]
    packed = response_logps(token_logps(hidden[at.predictor], head, tokens[at.target]), segment, 3)
    start = 0
    for index, (length, first) in enumerate(zip(lengths, scored_from, strict=True)):
        row = slice(start, start + length)
        alone = scored_positions((torch.arange(length) >= first)[None])
        logps = token_logps(hidden[row][alone.predictor], head, tokens[row][alone.target])
        assert packed.logp_sum[index].item() == pytest.approx(logps.sum().item(), rel=1e-14)
        assert packed.length[index].item() == length - first
        start += length


# the chunked head --------------------


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 11),
    width=st.integers(1, 5),
    vocabulary=st.integers(1, 17),
    token_chunk=st.integers(1, 13),
    vocab_chunk=st.none() | st.integers(1, 19),
    softcap=st.none() | st.floats(0.5, 5.0),
    scale=st.sampled_from([1.0, 0.25]),
    biased=st.booleans(),
    frozen_head=st.booleans(),
    keep=st.sampled_from([0, 2**26]),
)
def test_chunked_equals_plain(
    tokens, width, vocabulary, token_chunk, vocab_chunk, softcap, scale, biased, frozen_head, keep
):
    hidden, head, bias, targets = problem(tokens, width, vocabulary)
    if frozen_head:
        head, bias = head.detach(), bias.detach()
    options = {"bias": bias if biased else None, "softcap": softcap, "scale": scale}
    chunks = {"token_chunk": token_chunk, "vocab_chunk": vocab_chunk, "keep": keep}
    leaves = [x for x in (hidden, head, options["bias"]) if x is not None and x.requires_grad]
    ours = token_logps(hidden, head, targets, **options, **chunks)
    expected = plain(hidden, head, targets, **options)
    weight = torch.linspace(-1, 2, tokens, dtype=torch.float64)
    assert torch.allclose(ours, expected, rtol=0, atol=1e-12)
    got, want = (torch.autograd.grad((weight * x).sum(), leaves) for x in (ours, expected))
    for g, w in zip(got, want, strict=True):
        assert torch.allclose(g, w, rtol=0, atol=1e-12)


@pytest.mark.parametrize("trained", ["hidden", "head", "bias", "hidden head bias"])
def test_gradcheck(trained):
    inputs = dict(zip(["hidden", "head", "bias", "targets"], problem(5, 3, 7), strict=True))
    free = trained.split()

    def logps(*values: Tensor) -> Tensor:
        given = {name: x.detach() for name, x in inputs.items()} | dict(zip(free, values, strict=True))
        return token_logps(**given, softcap=4.0, scale=0.7, token_chunk=2, vocab_chunk=3)

    assert torch.autograd.gradcheck(logps, [inputs[name] for name in free])


def test_tied_embeddings_receive_both_gradients():
    table = problem(6, 4, 9)[1]
    tokens, targets = torch.tensor([0, 3, 8]), torch.tensor([3, 8, 1])
    got, want = (
        torch.autograd.grad(f(table[tokens], table, targets).sum(), table)[0] for f in (token_logps, plain)
    )
    assert torch.allclose(got, want, rtol=0, atol=1e-13)


def test_frozen_inputs_get_no_gradient_and_no_graph():
    hidden, head, _, targets = problem(4, 3, 5)
    token_logps(hidden, head.detach(), targets).sum().backward()
    assert hidden.grad is not None
    assert head.grad is None
    token_logps(hidden.detach(), head, targets).sum().backward()
    assert head.grad is not None
    with torch.no_grad():
        assert not token_logps(hidden, head, targets).requires_grad


@pytest.mark.parametrize("frozen_head", [False, True])
def test_no_tensor_of_logit_size_is_kept_for_the_backward(frozen_head):
    """Beyond `keep` of them; up to it logits are kept, in one more tensor of that size."""
    tokens, vocabulary = 64, 512
    hidden, head, _, targets = problem(tokens, 8, vocabulary, torch.float32)
    head = head.detach() if frozen_head else head
    kept: dict[str, list[int]] = {"ours": [], "few": [], "plain": []}
    ours = partial(token_logps, keep=tokens * vocabulary - 1)
    for name, f in [("ours", ours), ("few", token_logps), ("plain", plain)]:

        def keep(tensor: Tensor, sizes: list[int] = kept[name]) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            f(hidden, head, targets)
    assert max(kept["plain"]) == tokens * vocabulary  # the hook does see what a plain head keeps
    assert max(kept["ours"]) == (hidden if frozen_head else head).numel()
    assert sum(size == tokens * vocabulary for size in kept["few"]) == (not frozen_head)


def test_no_operation_forms_more_than_one_tile():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, Tensor):
                    self.size = max(self.size, tensor.numel())
            return out

    hidden, head, _, targets = problem(60, 2, 500, torch.float32)
    with Largest() as seen:
        token_logps(hidden, head, targets, token_chunk=40, vocab_chunk=100).sum().backward()
    assert seen.size == 40 * 100


def test_bfloat16_inputs_are_multiplied_and_summed_in_float32():
    hidden, head, bias, targets = problem(40, 64, 300, torch.bfloat16)
    exact = [x.detach().double().requires_grad_() for x in (hidden, head, bias)]
    ours = token_logps(hidden, head, targets, bias=bias, token_chunk=16, vocab_chunk=70)
    want = plain(exact[0], exact[1], targets, bias=exact[2])
    assert ours.dtype == torch.float32
    # float32 arithmetic on the same bfloat16 numbers: logits below 64, so a few units of 64 * 2^-24
    assert (ours - want).abs().max() < 32 * 2**-24 * 8
    ours.sum().backward()
    want.sum().backward()
    for got, exact_input in zip((hidden, head, bias), exact, strict=True):
        assert got.grad.dtype == torch.bfloat16
        # gradients are accumulated in float32 and rounded once, to 8 bits: half a unit is 2^-9
        error = (got.grad.double() - exact_input.grad).abs()
        assert bool((error <= 2**-8 * exact_input.grad.abs() + 1e-5).all())


def test_autocast_does_not_reach_the_logits():
    hidden, head, _, targets = problem(5, 8, 11, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = token_logps(hidden, head, targets)
        inside.sum().backward()
    got = hidden.grad.clone()
    hidden.grad = None
    outside = token_logps(hidden, head, targets)
    outside.sum().backward()
    assert torch.equal(inside, outside)
    assert torch.equal(got, hidden.grad)


@pytest.mark.parametrize("frozen_head", [False, True])
@pytest.mark.parametrize("size", [1e3, 1e-30])
def test_extreme_hidden_states_stay_finite(size, frozen_head):
    hidden, head, _, targets = problem(6, 4, 9, torch.float32)
    hidden = (size * hidden).detach().requires_grad_()
    head = head.detach() if frozen_head else head
    logps = token_logps(hidden, head, targets, token_chunk=4, vocab_chunk=2)
    logps.sum().backward()
    assert bool(logps.isfinite().all())
    assert bool((logps <= 0).all())
    assert bool(hidden.grad.isfinite().all())


def test_words_excluded_by_a_bias_of_minus_infinity_take_no_probability():
    hidden, head, _, _ = problem(3, 4, 6)
    targets = torch.tensor([4, 5, 4])
    bias = torch.tensor([-math.inf] * 4 + [0.0] * 2, dtype=torch.float64)  # the first two chunks are all -inf
    logps = token_logps(hidden, head.detach(), targets, bias=bias, vocab_chunk=2)
    assert torch.allclose(logps, plain(hidden, head[4:], targets - 4), atol=1e-13)
    (grad,) = torch.autograd.grad(logps.sum(), hidden)
    assert bool(grad.isfinite().all())


def test_no_scored_token_on_this_rank_gives_zero_gradients():
    hidden, head, _, _ = problem(1, 3, 5)
    token_logps(hidden[:0], head, torch.zeros(0, dtype=torch.long)).sum().backward()
    assert bool((head.grad == 0).all())


def test_from_logits_agrees_with_the_head():
    hidden, head, _, targets = problem(5, 3, 7)
    via_logits = token_logps_from_logits(hidden @ head.T, targets)
    assert torch.allclose(via_logits, token_logps(hidden, head, targets), atol=1e-13)
    assert torch.autograd.gradcheck(
        lambda z: token_logps_from_logits(z, targets), (hidden @ head.T).detach().requires_grad_()
    )
    assert token_logps_from_logits((hidden @ head.T).bfloat16(), targets).dtype == torch.float32


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"targets": torch.tensor([0, -100])}, "no ignore index"),
        ({"targets": torch.tensor([0, 5])}, r"targets must lie in \[0, 5\)"),
        ({"token_chunk": 0}, "chunks must be at least 1"),
        ({"vocab_chunk": 0}, "chunks must be at least 1"),
        ({"softcap": 0.0}, "softcap must be positive"),
    ],
)
def test_token_logps_refuses(change, reason):
    given = {"hidden": torch.zeros(2, 3), "head": torch.zeros(5, 3), "targets": torch.tensor([0, 1])}
    with pytest.raises(ValueError, match=reason):
        token_logps(**(given | change))


# sums --------------------


def test_response_sums_keep_the_digits_that_a_difference_needs():
    # 40,000 float32 numbers per response. A running float32 sum of -0.1's drifts; float64 does not.
    logps = torch.full((80_000,), -0.1)
    segment = torch.arange(80_000) % 2
    total = response_logps(logps, segment, 2).logp_sum
    exact = 40_000 * torch.tensor(-0.1).double().item()
    assert total.dtype == torch.float64
    assert torch.allclose(total, torch.full((2,), exact, dtype=torch.float64), rtol=1e-13)
    float32 = torch.zeros(2).index_add(0, segment, logps)
    assert abs(float32[0].item() - exact) > 1e-3  # what this guards against


def test_response_sums_send_the_gradient_of_their_response_to_each_token():
    logps = torch.tensor([-1.0, -2.0, -4.0], requires_grad=True)
    result = response_logps(logps, torch.tensor([1, 0, 1]), 2)
    assert result.logp_sum.tolist() == [-2.0, -5.0]
    assert result.length.tolist() == [1.0, 2.0]
    (result.logp_sum * torch.tensor([3.0, 7.0])).sum().backward()
    assert logps.grad.tolist() == [7.0, 3.0, 7.0]
    assert logps.grad.dtype == torch.float32


@pytest.mark.parametrize(
    "segment, count, reason",
    [([0, 2], 2, r"segment must lie in \[0, 2\)"), ([0, 0], 2, r"responses \[1\] have no scored token")],
)
def test_response_sums_refuse(segment, count, reason):
    with pytest.raises(ValueError, match=reason):
        response_logps(torch.zeros(2), torch.tensor(segment), count)
