"""Recorded pairs: shares, populations, samples and coverage."""

from __future__ import annotations

import pytest
import torch

from equipoise.games import PairData, TabularPolicy, offline, zoo


def test_shares_of_a_known_data_set():
    data = offline.from_pairs([(0, 0, 1, 60), (0, 1, 0, 40), (0, 2, 0, 1)], 1, 4)
    assert data.size.item() == 101
    assert (101 * data.winner[0]).tolist() == pytest.approx([60, 40, 1, 0])
    assert (101 * data.loser[0]).tolist() == pytest.approx([41, 60, 0, 0])
    assert (202 * data.mu[0]).tolist() == pytest.approx([101, 100, 1, 0])
    assert data.support[0].tolist() == [True, True, True, False]


def test_populations_follow_the_game():
    game = zoo.brps()
    mu = TabularPolicy.from_probs([0.5, 0.3, 0.2])
    data = offline.population(game, mu)
    table = data.share[0]
    assert table.sum().item() == pytest.approx(1) and table.diagonal().sum().item() == 0
    assert (table / (table + table.T))[0, 1].item() == pytest.approx(0.9)
    ties = offline.population(game, mu, distinct=False)
    assert torch.allclose(ties.mu, mu.probs())


def test_samples_are_reproducible_and_converge():
    game, mu = zoo.brps(), TabularPolicy.from_probs([0.5, 0.3, 0.2])
    data = offline.sample_pairs(game, mu, 100_000, seed=1)
    assert data.size.item() == 100_000
    assert torch.equal(data.counts, offline.sample_pairs(game, mu, 100_000, seed=1).counts)
    assert not torch.equal(data.counts, offline.sample_pairs(game, mu, 100_000, seed=2).counts)
    assert (data.share - offline.population(game, mu).share).abs().max() < 0.01


def test_coverage():
    mu = TabularPolicy.from_probs([0.495, 0.495, 0.01])
    rare, common = TabularPolicy.from_probs([0, 0, 1.0]), TabularPolicy.from_probs([1.0, 0, 0])
    assert offline.concentrability(rare, mu.probs()).item() == pytest.approx(100)
    assert offline.concentrability(common, mu.probs()).item() == pytest.approx(1 / 0.495)
    assert offline.concentrability(rare, common.probs()).item() == float("inf")


def test_stacked_sets_stay_apart():
    game, mu = zoo.lucky(), TabularPolicy.from_probs([0.45, 0.45, 0.1])
    sets = [offline.sample_pairs(game, mu, n, seed=n) for n in (5, 50)]
    both = offline.stack(sets)
    assert both.size.tolist() == [5, 50]
    assert torch.equal(both.winner[1:], sets[1].winner)


def test_bad_counts_are_refused():
    with pytest.raises(ValueError, match="at least one pair"):
        PairData(torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match="must be"):
        PairData(torch.ones(2, 2))
