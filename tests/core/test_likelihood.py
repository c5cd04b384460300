"""Supervised fine-tuning is PyTorch's cross-entropy of the answer's tokens."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from equipoise.core import reduce
from equipoise.core.objectives import Sft
from equipoise.core.scores import Scores


def test_weighted_by_tokens_it_is_the_cross_entropy_of_all_tokens_together():
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 7, 1]
    logits = [torch.randn(n, 11, generator=generator, dtype=torch.float64) for n in lengths]
    targets = [torch.randint(11, (n,), generator=generator) for n in lengths]
    logp = torch.stack(
        [x.log_softmax(-1).gather(1, y[:, None]).sum() for x, y in zip(logits, targets, strict=True)]
    )
    length = torch.tensor(lengths, dtype=torch.float64)
    scores = Scores(logp=logp[:, None], anchors={}, length=length[:, None], reward=torch.ones(3, 1).double())
    loss = reduce.mean(Sft()(scores).value, length)
    assert loss == pytest.approx(float(cross_entropy(torch.cat(logits), torch.cat(targets))), rel=1e-12)


def test_an_undesirable_response_is_left_out():
    scores = Scores(
        logp=torch.tensor([[-4.0], [-6.0]]).double(),
        anchors={},
        length=torch.full((2, 1), 2.0).double(),
        reward=torch.tensor([[1.0], [0.0]]).double(),
    )
    losses = Sft()(scores)
    assert losses.value.tolist() == [2.0, 0.0] and losses.metrics["mean_token_logp"].tolist() == [-2.0, -3.0]
