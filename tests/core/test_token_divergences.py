"""KL of two laws over a vocabulary, in chunks and plain: values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from equipoise.core.logprob import divergence_of_logits, token_collisions, token_divergences

DOUBLE = torch.float64


def laws(count: int = 7, width: int = 5, other_width: int = 3, vocabulary: int = 11, dtype=DOUBLE):
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=DOUBLE).to(dtype)

    mine = (normal(count, width), normal(vocabulary, width), normal(vocabulary))
    theirs = (normal(count, other_width), normal(vocabulary, other_width), normal(vocabulary))
    return [x.requires_grad_() for x in mine], theirs


def plain(mine, theirs):
    """sum_v q log(q/p), from probabilities that are held whole."""
    p, q = ((h @ w.T + b).softmax(dim=1) for h, w, b in (mine, theirs))
    return (q * (q.log() - p.log())).sum(dim=1)


def chunked(mine, theirs, **options):
    return token_divergences(*mine[:2], *theirs[:2], bias=mine[2], other_bias=theirs[2], **options)


@pytest.mark.parametrize("token_chunk", [1, 3, 7, 256])
def test_chunked_is_plain_in_values_and_gradients(token_chunk: int):
    mine, theirs = laws()
    ours, want = chunked(mine, theirs, token_chunk=token_chunk), plain(mine, theirs)
    assert ours.dtype == DOUBLE
    assert_close(ours, want, rtol=1e-13, atol=1e-14)
    weight = torch.linspace(-1, 1, len(want), dtype=DOUBLE)
    grads = [torch.autograd.grad((weight * x).sum(), mine) for x in (ours, want)]
    for a, b in zip(*grads, strict=True):
        assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_gradient_against_finite_differences():
    mine, theirs = laws(count=3, vocabulary=6)
    assert torch.autograd.gradcheck(lambda *at: chunked(at, theirs, token_chunk=2), mine)


def test_the_gradient_in_the_logits_is_the_difference_of_the_laws():
    mine, theirs = laws()
    z = (mine[0] @ mine[1].T).detach().requires_grad_()
    w = (theirs[0] @ theirs[1].T).requires_grad_()
    divergence_of_logits(z, w).sum().backward()
    assert_close(z.grad, z.detach().softmax(1) - w.detach().softmax(1), rtol=1e-12, atol=1e-15)
    assert w.grad is None


def test_zero_where_the_laws_agree_and_positive_elsewhere():
    mine, theirs = laws()
    same = token_divergences(mine[0], mine[1], mine[0], mine[1], bias=mine[2], other_bias=mine[2])
    assert same.abs().max() < 1e-15
    assert bool((chunked(mine, theirs) > 0).all())


def test_half_precision_is_computed_in_float32():
    mine, theirs = laws(dtype=torch.bfloat16)
    ours = chunked(mine, theirs)
    assert ours.dtype == torch.float32
    wide = [x.detach().float() for x in mine], [x.float() for x in theirs]
    assert_close(ours, plain(*wide), rtol=1e-5, atol=1e-6)


def test_no_place_gives_nothing_and_no_gradient_mode_works():
    mine, theirs = laws(count=0)
    assert chunked(mine, theirs).shape == (0,)
    with torch.no_grad():
        assert_close(chunked(*laws()), plain(*laws()), rtol=1e-12, atol=1e-14)


def test_refusals(no_shape_types):
    mine, theirs = laws()
    with pytest.raises(ValueError, match=r"must be \[N, D\] and \[V, D\]"):
        token_divergences(mine[0], mine[1], theirs[0][:3], theirs[1])
    with pytest.raises(ValueError, match="V = 11"):
        token_divergences(mine[0], mine[1], theirs[0], theirs[1][:4])


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_two_draws_of_a_law_are_one_word_as_often_as_the_sum_of_its_squares_says(chunk):
    draw = torch.Generator().manual_seed(0)
    hidden, head, bias = (
        torch.randn(*n, generator=draw, dtype=torch.float64) for n in ((7, 4), (11, 4), (11,))
    )
    head.requires_grad_()
    found = token_collisions(hidden, head, bias=bias, token_chunk=chunk)
    law = (hidden @ head.T + bias).softmax(dim=1)
    assert torch.allclose(found.exp(), law.square().sum(dim=1), rtol=1e-12) and not found.requires_grad
    # from 1/V of an even law to 1 of a certain one, however large the logits
    assert token_collisions(0 * hidden, head, token_chunk=chunk).exp().tolist() == pytest.approx([1 / 11] * 7)
    assert token_collisions(1e6 * hidden, head, token_chunk=chunk).tolist() == pytest.approx([0] * 7)
    assert token_collisions(hidden[:0], head).shape == (0,)
