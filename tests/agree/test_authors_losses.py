"""Losses beside their authors' code: stored values and gradients of it, in float64, on inputs that a formula gives.

`authors_losses.json` says which file of which revision gave them, and with which parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from equipoise.core import reduce
from equipoise.core.objectives import (
    Bco,
    Dpo,
    HingeNorm,
    Npo,
    NpoKl,
    NpoRt,
    Objective,
    Orpo,
    Rpo,
    SparsePo,
    Srpo,
    Tdpo1,
    Tdpo2,
)
from equipoise.core.scores import Scores, TokenScores
from stored_losses import STORED, same, waves

PAIRS = 5


def agree(objective: Objective, scores: Scores, inputs: Sequence[Tensor], name: str) -> None:
    losses = objective(scores).value
    same(losses, STORED[name]["value"])
    for found, stored in zip(
        torch.autograd.grad(losses.sum(), inputs), STORED[name]["gradient"], strict=True
    ):
        same(found, stored)


@pytest.mark.parametrize(
    ("objective", "name"),
    [
        (Dpo(beta=0.1), "spin_sigmoid"),
        (HingeNorm(gamma=0.1), "spin_hinge"),
        (Dpo(beta=0.1), "sapo_sigmoid"),
        (HingeNorm(gamma=0.1), "sapo_hinge"),
        (Rpo(beta=0.01, eta=0.005), "rpo"),
        (Orpo(lam=0.05), "sapo_orpo"),
    ],
)
def test_pair_losses(objective, name):
    logp = [waves(PAIRS, 1.3, 4, -20).requires_grad_(), waves(PAIRS, 2.1, 4, -19).requires_grad_()]
    reference = torch.stack([waves(PAIRS, 0.7, 3, -20), waves(PAIRS, 1.9, 3, -19)], dim=1)
    length = torch.tensor([[7, 6], [9, 10], [11, 4], [5, 12], [8, 9]], dtype=torch.float64)
    scores = Scores(logp=torch.stack(logp, dim=1), anchors={"reference": reference}, length=length)
    agree(objective, scores, logp, name)


def test_srpo():
    """Columns: w, l, w given l, l given w, w given w, l given l."""
    logp = [waves(PAIRS, 0.5 + 0.3 * k, 4, -20).requires_grad_() for k in range(6)]
    reference = torch.stack([waves(PAIRS, 0.4 + 0.35 * k, 3, -20) for k in range(6)], dim=1)
    scores = Scores(logp=torch.stack(logp, dim=1), anchors={"reference": reference})
    agree(Srpo(beta=0.1, alpha=0.8), scores, logp, "srpo")


@pytest.mark.parametrize(
    ("objective", "name"), [(Tdpo1(beta=0.1), "tdpo1"), (Tdpo2(beta=0.1, alpha=0.5), "tdpo2")]
)
def test_token_level_dpo(objective, name):
    """One token a response: its log-ratio, and its divergence."""
    gain = [waves(PAIRS, 1.3, 4).requires_grad_(), waves(PAIRS, 2.1, 4).requires_grad_()]
    drift = [waves(PAIRS, 0.9, 1, 2).requires_grad_(), waves(PAIRS, 1.7, 1, 2).requires_grad_()]
    logp, divergence = (torch.stack(pair, dim=1)[..., None] for pair in (gain, drift))
    tokens = TokenScores(
        logp=logp,
        mask=torch.ones_like(logp, dtype=torch.bool),
        anchors={"reference": torch.zeros_like(logp)},
        divergences={"reference": divergence},
    )
    losses = objective(Scores.of_tokens(tokens)).value
    same(losses, STORED[name]["value"])
    found = torch.autograd.grad(losses.sum(), [*gain, *drift], materialize_grads=True)
    for here, stored in zip(found, STORED[name]["gradient"], strict=True):
        same(here, stored)


def test_bco_and_its_running_shift_over_three_steps():
    objective, memory = Bco(beta=0.1), ()
    for step, stored in enumerate(STORED["bco"]["steps"]):
        down = 2 + step
        logp = [
            waves(3, 1.1 + step, 5, -20).requires_grad_(),
            waves(down, 2.3 + step, 5, -18).requires_grad_(),
        ]
        reference = torch.cat([waves(3, 0.6 + step, 3, -20), waves(down, 1.6 + step, 3, -19)])
        label = torch.tensor([1.0] * 3 + [0.0] * down, dtype=torch.float64)
        scores = Scores(
            logp=torch.cat(logp)[:, None], anchors={"reference": reference[:, None]}, reward=label[:, None]
        )
        memory, shift = reduce.step_statistic(objective, scores, torch.ones_like(label), memory)
        same(shift[:1], [stored["shift"]])
        losses = objective(Scores(**(vars(scores) | {"batch_statistic": shift}))).value
        same(losses, stored["value"])
        for found, there in zip(torch.autograd.grad(losses.sum(), logp), stored["gradient"], strict=True):
            same(found, there)


# Unlearning: logits [B, T, V] of responses to forget and of responses to retain, under the policy and the reference

SHAPE = (3, 6, 5)


def table(pace: float) -> Tensor:
    return waves(90, pace, 2).view(SHAPE)


def written(logits: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(token log-probs, mask) [B, T - 1] of the label at each place, which the logits one place before it predict."""
    label = (torch.arange(18).view(3, 6) * 3 % 5)[:, 1:]
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    logp = logits.log_softmax(dim=2)[:, :-1].gather(2, label[..., None]).squeeze(2)
    return torch.where(mask, logp, 0.0), mask


def responses(forget: Tensor, retain: Tensor, lengths: Sequence[int] = (5, 5, 5)) -> Scores:
    """One response a row: three to forget, three to retain."""
    (own, mask), (kept, _) = written(forget, lengths), written(retain, lengths)
    anchors = torch.cat([written(table(0.29), lengths)[0], written(table(0.61), lengths)[0]])
    label = torch.tensor([[0.0]] * 3 + [[1.0]] * 3, dtype=torch.float64)
    tokens = TokenScores(
        logp=torch.cat([own, kept])[:, None],
        mask=mask.repeat(2, 1)[:, None],
        anchors={"reference": anchors[:, None]},
    )
    return Scores.of_tokens(tokens, reward=label)


def both_sets(losses: Tensor, weight: Tensor | None = None) -> Tensor:
    """The authors' loss: a mean over what is to be forgotten and a mean over what is to be retained."""
    return reduce.mean(losses[:3]) + reduce.mean(losses[3:], weight)


def check(loss: Tensor, logits: Sequence[Tensor], name: str) -> None:
    stored = STORED[name]
    same(loss, stored["value"])
    found = torch.autograd.grad(loss, logits, materialize_grads=True)
    same(torch.stack([g.square().sum() for g in found]), stored["gradient_norms"])
    for here, there in zip(found, stored["gradient_first"], strict=True):
        same(here[0, 2], there)


@pytest.mark.parametrize(("objective", "name"), [(Npo(beta=0.1), "npo"), (NpoRt(beta=0.1), "npo_rt")])
def test_npo_and_its_retain_term(objective, name):
    logits = [table(0.37).requires_grad_(), table(0.53).requires_grad_()]
    check(both_sets(objective(responses(*logits)).value), logits, name)


def test_npos_retain_term_is_the_authors_for_unequal_lengths_where_tokens_weigh():
    logits = [table(0.37).requires_grad_(), table(0.53).requires_grad_()]
    lengths = (5, 3, 2)
    losses = NpoRt(beta=0.1)(responses(*logits, lengths=lengths)).value
    check(both_sets(losses, torch.tensor(lengths, dtype=torch.float64)), logits, "npo_rt_uneven")


def test_npo_kl_where_every_place_is_one_of_the_response():
    forget, retain = table(0.37).requires_grad_(), table(0.53).requires_grad_()
    own, mask = (torch.nn.functional.pad(x, (0, 1)) for x in written(forget, (5, 5, 5)))
    anchor = torch.nn.functional.pad(written(table(0.29), (5, 5, 5))[0], (0, 1))
    there, here = table(0.61).log_softmax(dim=2), retain.log_softmax(dim=2)
    drift = (there.exp() * (there - here)).sum(dim=2)
    nothing = torch.zeros_like(drift)
    tokens = TokenScores(
        logp=torch.cat([own, nothing])[:, None],
        mask=torch.cat([mask, torch.ones_like(mask)])[:, None],
        anchors={"reference": torch.cat([anchor, nothing])[:, None]},
        divergences={"reference": torch.cat([nothing, drift])[:, None]},
    )
    label = torch.tensor([[0.0]] * 3 + [[1.0]] * 3, dtype=torch.float64)
    losses = NpoKl(beta=0.1)(Scores.of_tokens(tokens, reward=label)).value
    check(both_sets(losses), [forget, retain], "npo_kl")


# SparsePO: logits [B, T, V] of the chosen and of the rejected responses, and a mask [B, T] for each, some of it 0

CHOSEN, REJECTED = (6, 4, 3), (2, 5, 6)


def sparse_pair(logits: Sequence[Tensor], masks: Sequence[Tensor]) -> Scores:
    """Pairs whose label at a place is predicted by the logits there; masks: of rewards, then of divergences."""
    label = torch.arange(18).view(3, 6) * 3 % 5
    held = torch.stack([torch.arange(6) < torch.tensor(n)[:, None] for n in (CHOSEN, REJECTED)], dim=1)
    logp = torch.stack([each.log_softmax(dim=2) for each in logits], dim=1)
    reference = torch.stack([table(pace).log_softmax(dim=2) for pace in (0.29, 0.61)], dim=1)
    at = label[:, None, :, None].expand(-1, 2, -1, 1)
    weights = (torch.stack(pair, dim=1) * held for pair in (masks[:2], masks[2:]))
    return Scores.of_tokens(
        TokenScores(
            logp=logp.gather(3, at).squeeze(3) * held,
            mask=held,
            anchors={"reference": reference.gather(3, at).squeeze(3) * held},
            divergences={"reference": (reference.exp() * (reference - logp)).sum(dim=3) * held},
            weights=dict(zip(("utility", "divergence"), weights, strict=True)),
        )
    )


@pytest.mark.parametrize(
    ("name", "norm", "masks"),
    [("sparse_po_common", 0.0005, (0.9, 1.4)), ("sparse_po_independent", 0.002, (0.9, 1.4, 2.2, 3.1))],
)
def test_sparse_po_with_one_mask_and_with_two(name, norm, masks):
    logits = [table(0.37).requires_grad_(), table(0.53).requires_grad_()]
    drawn = [waves(18, pace, 1).view(3, 6).clamp(min=0).requires_grad_() for pace in masks]
    scores = sparse_pair(logits, drawn if len(drawn) == 4 else drawn * 2)
    loss = SparsePo(beta=0.1, l1_u=norm, l1_d=norm)(scores).value.mean()
    check(loss, [*logits, *drawn], name)
