"""Contrastive terms: SimCSE and SwAV against sums by hand, and what they are for."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from equipoise.reward_models.contrastive import Swav, balanced, dropout_views, represented, simcse_loss


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_simcse_by_hand():
    a, b = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [3.0, 3.0]])
    # cosines: first row 1 and 1/sqrt 2, second row 0 and 1/sqrt 2
    c = 1 / math.sqrt(2)
    expected = [math.log1p(math.exp(c - 1)), math.log1p(math.exp(-c))]
    assert float(simcse_loss(a, b, temperature=1.0)) == pytest.approx(sum(expected) / 2, rel=1e-6)


def test_simcse_at_its_ends():
    a = drawn(1, 8)
    assert float(simcse_loss(a, drawn(1, 8, seed=1))) == 0
    alike = drawn(1, 8).expand(5, -1)
    assert float(simcse_loss(alike, alike)) == pytest.approx(math.log(5))
    apart = torch.eye(5)
    assert float(simcse_loss(apart, apart)) < 1e-7


@pytest.mark.parametrize("rounds", [1, 3, 50])
def test_sinkhorn_gives_each_row_mass_one_and_evens_out_clusters(rounds):
    found = balanced(3 * drawn(12, 4), rounds)
    assert found.sum(dim=1).tolist() == pytest.approx([1.0] * 12)
    if rounds == 50:
        assert found.sum(dim=0).tolist() == pytest.approx([3.0] * 4, abs=1e-3)


def test_sinkhorn_against_plain_division():
    scores = drawn(6, 3)
    plain = scores.exp()
    for _ in range(3):
        plain = plain / plain.sum(dim=0)
        plain = plain / plain.sum(dim=1, keepdim=True)
    assert torch.allclose(balanced(scores, 3), plain)


def test_swav_is_the_swapped_cross_entropy():
    torch.manual_seed(0)
    swav = Swav(8, 4).double()
    a, b = drawn(6, 8), drawn(6, 8, seed=1)
    centres = normalize(swav.prototypes, dim=1)
    sa, sb = normalize(a, dim=1) @ centres.T, normalize(b, dim=1) @ centres.T
    by_rows = [
        (balanced(s.detach() / 0.05, 3) * (other / 0.1).softmax(1).log()).sum()
        for s, other in ((sa, sb), (sb, sa))
    ]
    assert float(swav(a, b).detach()) == pytest.approx(-float(sum(by_rows).detach()) / 12)
    assert float(swav(a, b).detach()) == pytest.approx(float(swav(b, a).detach()))
    swav(a, b).backward()
    assert float(swav.prototypes.grad.abs().max()) > 0


@pytest.mark.parametrize("term", ["simcse", "swav"])
def test_descending_makes_the_views_of_one_row_nearer_than_those_of_others(term):
    torch.manual_seed(0)
    rows = drawn(8, 6)
    body, swav = torch.nn.Linear(6, 6).double(), Swav(6, 4).double()
    optimizer = torch.optim.Adam([*body.parameters(), *swav.parameters()], lr=0.02)
    values = []
    for step in range(60):
        noise = 0.3 * drawn(2, 8, 6, seed=step)
        first, second = body(rows + noise[0]), body(rows + noise[1])
        loss = simcse_loss(first, second) if term == "simcse" else swav(first, second)
        values.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(values[-10:]) < 0.8 * sum(values[:10])


def test_what_is_contrasted():
    chosen, rejected = drawn(3, 4), drawn(3, 4, seed=1)
    assert torch.equal(represented(chosen, rejected, "difference"), chosen - rejected)
    both = represented(chosen, rejected, "responses")
    assert torch.equal(both[:3], chosen) and torch.equal(both[3:], rejected)


def test_dropout_views_differ_and_have_the_rows_mean():
    torch.manual_seed(0)
    rows = torch.ones(200, 50)
    a, b = dropout_views(rows, 0.25)
    assert not torch.equal(a, b)
    assert sorted(set(a.flatten().tolist())) == pytest.approx([0, 4 / 3])
    assert float(a.mean()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    "act",
    [
        lambda: simcse_loss(drawn(2, 3), drawn(3, 3)),
        lambda: simcse_loss(drawn(2, 3), drawn(2, 3), temperature=0.0),
        lambda: Swav(4, 1),
        lambda: Swav(4, temperature=-1.0),
        lambda: represented(drawn(2, 3), drawn(2, 3), "both"),
        lambda: dropout_views(drawn(2, 3), 0.0),
    ],
)
def test_what_is_refused(act):
    with pytest.raises(ValueError, match=r"must|needs|contrast"):
        act()
