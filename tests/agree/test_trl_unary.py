"""KTO, APO-zero-unpaired and AOT against numbers that TRL's own code gave, once, on stored token log-probs.

TRL's unrelated responses are those of the batch, cycled by one; its reference point is their plain mean. Its BCO is in
`test_authors_losses.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.core import Scores
from equipoise.core.objectives import Aot, ApoZeroUnpaired, Kto

STORED: dict[str, Any] = json.loads((Path(__file__).parent / "trl_losses.json").read_text(encoding="utf-8"))
SINGLE = 1e-5  # the library reduces in float32, numbers of order 1
BETA = 0.3


def sums(name: str) -> torch.Tensor:
    """Log-probs [pair, chosen or rejected] of the stored responses."""
    values, lengths = torch.tensor(STORED[name], dtype=torch.float64), torch.tensor(STORED["lengths"])
    place = torch.arange(values.shape[2]) - STORED["prompt_tokens"]
    return (values * ((place >= 0) & (place < lengths[..., None]))).sum(dim=2)


def thumbs() -> Scores:
    """All chosen responses, then all rejected ones, each beside the one before it."""
    policy, reference = (sums(name).T.flatten() for name in ("policy", "reference"))
    beside = {name: torch.stack([x, x.roll(1)], dim=1) for name, x in (("p", policy), ("r", reference))}
    label = (torch.arange(len(policy)) < len(policy) // 2).double()
    reward = torch.stack([label, torch.zeros_like(label)], dim=1)
    return Scores(logp=beside["p"], anchors={"reference": beside["r"]}, reward=reward)


def test_kto_and_its_reference_point():
    losses = Kto(beta=BETA, desirable=1.0, undesirable=1.5)(thumbs())
    stored = STORED["values"]["kto"]["kto"]
    assert losses.metrics["baseline"].tolist() == pytest.approx([stored["kl"]] * 8, rel=SINGLE)
    assert losses.value.mean().item() == pytest.approx(stored["batch"], rel=SINGLE)


def test_apo_zero_unpaired():
    value = ApoZeroUnpaired(beta=BETA)(thumbs()).value
    assert value.mean().item() == pytest.approx(
        STORED["values"]["kto"]["apo_zero_unpaired"]["batch"], rel=SINGLE
    )


def test_aot_sorts_the_whole_batch():
    scores = Scores(logp=sums("policy"), anchors={"reference": sums("reference")})
    value = Aot(beta=BETA, smoothing=0.1)(scores).value
    assert value.mean().item() == pytest.approx(STORED["values"]["dpo"]["aot"]["batch"], rel=SINGLE)
    # its "aot_unpaired", which sorts the ratios of chosen and of rejected responses, is another loss
    unpaired = STORED["values"]["dpo"]["aot_unpaired"]["batch"]
    assert abs(value.mean().item() - unpaired) > 1e-3
