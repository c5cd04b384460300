"""Losses against numbers that TRL's own code gave, once, on stored token log-probs; no TRL is needed here.

Where the library differs on purpose or by accident, the difference is asserted as the transformation that it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.core import Scores, reduce
from equipoise.core import objectives as ours
from equipoise.core.objectives.weighted import wpo_weight

STORED: dict[str, Any] = json.loads((Path(__file__).parent / "trl_losses.json").read_text(encoding="utf-8"))
PROMPT, LENGTH = STORED["prompt_tokens"], torch.tensor(STORED["lengths"])
EXACT, SINGLE = 1e-12, 1e-5  # SINGLE: the library computes in float32, beta-scaled numbers of order 1
BETA = 0.3


def tokens(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probs [B, 2, T], True on the response's tokens)."""
    values = torch.tensor(STORED[name], dtype=torch.float64)
    place = torch.arange(values.shape[2])
    return values, (place >= PROMPT) & (place < PROMPT + LENGTH[..., None])


def scores(policy: str = "policy", prob: float | None = None) -> Scores:
    values, response = tokens(policy)
    reference = (tokens("reference")[0] * response).sum(dim=2)
    return Scores(
        logp=(values * response).sum(dim=2),
        anchors={"reference": reference, "previous": reference},
        length=LENGTH.double(),
        prob=None if prob is None else torch.full((len(values),), prob, dtype=torch.float64),
    )


def stored(trainer: str, name: str, key: str = "loss") -> Any:
    return STORED["values"][trainer][name][key]


def agrees(objective: Any, trainer: str, name: str, tolerance: float = EXACT, **how: Any) -> None:
    value = reduce.expected(objective, scores(**how)).value
    assert value.tolist() == pytest.approx(stored(trainer, name), rel=tolerance)


SAME = {
    "sigmoid": ours.Dpo(beta=BETA),
    "robust": ours.Rdpo(beta=BETA, flip=0.2),
    "hinge": ours.HingeNorm(gamma=BETA),
    "ipo": ours.IpoMean(tau=BETA),  # the library's IPO is the one per token
    "exo_pair": ours.ExoPair(beta=BETA, smoothing=0.1),
    "nca_pair": ours.NcaPair(beta=BETA),
    "bco_pair": ours.BcoPair(beta=BETA),
    "sppo_hard": ours.SppoHard(eta=1 / BETA),  # its beta is an inverse step
    "apo_zero": ours.ApoZero(beta=BETA),
    "apo_down": ours.ApoDown(beta=BETA),
    "discopop": ours.DiscoPop(beta=BETA, temperature=0.05),
    "sigmoid_norm": ours.DpoNorm(beta=BETA),
    "forward_kl": ours.ForwardKlDpo(beta=BETA),
    "js_divergence": ours.JensenShannonDpo(beta=BETA),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_number_pair_by_pair(name):
    agrees(SAME[name], "dpo", name)


def test_its_ipo_is_not_the_one_on_sums():
    per_sum = ours.Ipo(tau=BETA)(scores()).value.tolist()
    assert per_sum != pytest.approx(stored("dpo", "ipo"), rel=0.1)


def test_its_sigmoid_loss_ignores_label_smoothing():
    assert stored("dpo", "sigmoid label_smoothing") == stored("dpo", "sigmoid")
    smoothed = ours.Cdpo(beta=BETA, smoothing=0.2)(scores()).value
    assert smoothed.tolist() != pytest.approx(stored("dpo", "sigmoid label_smoothing"), rel=0.01)
    # what label smoothing would give is the mixture with the other order
    m = BETA * (scores().gap() - scores().gap("reference"))
    assert smoothed.tolist() == pytest.approx(
        (torch.tensor(stored("dpo", "sigmoid"), dtype=torch.float64) + 0.2 * m).tolist(), rel=EXACT
    )


@pytest.mark.parametrize("coefficient", [0.3, 0.5, 0.9])
def test_its_alpha_is_one_minus_the_papers(coefficient):
    name = f"alpha_divergence {coefficient}"
    agrees(ours.AlphaDpo(beta=BETA, alpha=1 - coefficient), "dpo", name, SINGLE)
    unconverted = ours.AlphaDpo(beta=BETA, alpha=coefficient)(scores()).value.tolist()
    assert (unconverted == pytest.approx(stored("dpo", name), rel=SINGLE)) == (coefficient == 0.5)


def test_its_weighting_is_wpo():
    values, response = tokens("policy")
    collision, _ = tokens("log_sum_sq_probs")
    weight = wpo_weight(values, collision, response)
    found = scores()
    weighted = Scores(logp=found.logp, anchors=found.anchors, response_weight=weight)
    value = ours.Wpo(base=ours.Dpo(beta=BETA))(weighted).value
    assert value.tolist() == pytest.approx(stored("dpo", "sigmoid use_weighting"), rel=EXACT)


def test_sigmoid_and_sft_is_irpo_for_one_pair_and_weighs_tokens_in_a_batch():
    objective = ours.Irpo(beta=BETA, alpha=0.5)
    agrees(objective, "dpo", "sigmoid sft")
    # over a batch the library divides by all tokens of the chosen responses, so that long ones count more
    batch = scores()
    share = batch.length[:, 0] / batch.length[:, 0].sum()
    pooled = -(share * batch.per_token().logp[:, 0]).sum()
    expected = ours.Dpo(beta=BETA)(batch).value.mean() + 0.5 * pooled
    assert expected.item() == pytest.approx(stored("dpo", "sigmoid sft", "batch"), rel=EXACT)
    assert objective(batch).value.mean().item() != pytest.approx(expected.item(), rel=1e-3)


CPO = {
    "sigmoid": ours.Cpo(beta=BETA, alpha=1.0),
    "sigmoid cpo_alpha 0": ours.ReferenceFreeDpo(beta=BETA),
    "simpo": ours.Simpo(beta=2.0, gamma=0.5),  # its gamma is the paper's, not the ratio gamma/beta
    "cpo_simpo": ours.CpoSimpo(beta=2.0, gamma=0.5, alpha=1.0),
    "alpha_po": ours.AlphaPo(beta=2.0, gamma=0.5, alpha=0.25),
    "hinge": ours.Hinge(gamma=BETA),
}


@pytest.mark.parametrize("name", CPO)
def test_losses_without_a_reference(name):
    agrees(CPO[name], "cpo", name, policy="free_tokens")


def test_simpo_with_the_ratio_in_gammas_place_is_another_number():
    ratio = ours.Simpo(beta=2.0, gamma=0.5 / 2.0)(scores(policy="free_tokens")).value.tolist()
    assert ratio != pytest.approx(stored("cpo", "simpo"), rel=0.01)


def test_its_orpo_counts_the_prompt_in_the_likelihood_loss():
    values, _ = tokens("free_tokens")
    mine = ours.Orpo(lam=BETA)(scores(policy="free_tokens")).value
    nll = -scores(policy="free_tokens").per_token().logp[:, 0]
    # the prompt's tokens but the first, which nothing predicts, and the response's
    scored = (torch.arange(values.shape[2]) >= 1) & (torch.arange(values.shape[2]) < PROMPT + LENGTH[:, :1])
    both = -(values[:, 0] * scored).sum(dim=1) / scored.sum(dim=1)
    assert (mine - nll + both).tolist() == pytest.approx(stored("orpo", "orpo"), rel=SINGLE)
    assert mine.tolist() != pytest.approx(stored("orpo", "orpo"), rel=0.01)


def test_a_batch_of_cpo_weighs_tokens():
    batch = scores(policy="free_tokens")
    share = batch.length[:, 0] / batch.length[:, 0].sum()
    pooled = -(share * batch.per_token().logp[:, 0]).sum()
    expected = ours.ReferenceFreeDpo(beta=BETA)(batch).value.mean() + pooled
    assert expected.item() == pytest.approx(stored("cpo", "sigmoid", "batch"), rel=EXACT)
