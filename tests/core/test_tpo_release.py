"""TPO beside its authors' code, on stored numbers: the ranking of a list without lambda, and the step weights."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.core import Scores
from equipoise.core.objectives import Tpo
from equipoise.core.step_weights import weights_of

RELEASE = json.loads(Path(__file__).with_name("tpo_release.json").read_text())


@pytest.mark.parametrize("case", RELEASE["lists"], ids=lambda case: f"{len(case['scores'])}-paths")
def test_the_ranking_is_the_releases_up_to_its_constants(case: dict[str, Any]):
    """The release adds log 2 for each path against itself and for each tie, counts each pair twice and divides."""
    count, rewards = len(case["scores"]), case["rewards"]
    logp = torch.tensor([case["scores"]], dtype=torch.float64, requires_grad=True)
    scores = Scores(
        logp=logp,
        anchors={"reference": torch.zeros_like(logp).detach()},
        reward=torch.tensor([rewards], dtype=torch.float64),
    )
    value = Tpo(beta=1.0, lambdas="ones")(scores).value.sum()
    equal = sum(a == b for a in rewards for b in rewards)  # each path with itself among them
    theirs = case["value"] * count * (count - 1)
    assert (2 * value + equal * log(2)).item() == pytest.approx(theirs, abs=1e-12)
    (gradient,) = torch.autograd.grad(2 * value / (count * (count - 1)), logp)
    assert gradient[0].tolist() == pytest.approx(case["gradient"], abs=1e-12)


def test_the_form_release_is_the_releases_step_weight_up_to_the_scale_of_a_path():
    hidden, steps = torch.tensor(RELEASE["hidden"]), torch.tensor(RELEASE["steps"])
    member = (steps[..., None] == torch.arange(1, 4)).float()  # [K, T, S]
    size = member.sum(dim=1)
    means = torch.einsum("kts,ktd->ksd", member, hidden) / size.clamp(min=1)[..., None]
    ours = weights_of(means[None], (size > 0)[None], "release")[0]
    theirs = torch.tensor(RELEASE["weights"])
    scaled = theirs * (size > 0).sum(dim=1, keepdim=True) / theirs.sum(dim=1, keepdim=True)
    assert torch.allclose(ours, scaled, atol=1e-6)  # theirs in float32
