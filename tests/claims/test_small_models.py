"""Small policies: the reference at zero, Adam's end against the exact minimiser, copies that do not see each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.claims.small_models import LinearSoftmax, always, choose, descend, difference, kl_rows
from equipoise.core.objectives import Dpo, Ipo
from equipoise.games import enumerate_pairs, minimise, zoo
from equipoise.games.expectation import Comparisons


def random_model(copies: int = 3, contexts: int = 1) -> LinearSoftmax:
    rng = np.random.default_rng(0)
    return LinearSoftmax(
        reference=torch.as_tensor(rng.normal(size=(copies, 2, 4))),
        features=torch.as_tensor(rng.normal(size=(copies, 2, 4, 5))),
        contexts=contexts,
    )


def test_zero_is_the_reference_and_every_context_sums_to_one():
    model = random_model(contexts=2)
    table = model.log_probs(model.start())
    expected = model.reference.view(6, 2, 2).log_softmax(dim=2).view(6, 4)
    assert torch.allclose(table, expected)
    moved = model.log_probs(torch.ones(3, 5, dtype=torch.float64))
    assert torch.allclose(moved.exp().view(6, 2, 2).sum(dim=2), torch.ones(6, 2, dtype=torch.float64))
    row = model.reference[1, 0] + model.features[1, 0] @ torch.ones(5, dtype=torch.float64)
    assert torch.allclose(moved[2], row.view(2, 2).log_softmax(dim=1).flatten())


@pytest.mark.usefixtures("no_shape_types")  # hundreds of small steps
@pytest.mark.parametrize("objective", [Dpo(beta=0.5), Ipo(tau=0.5)])
def test_adam_ends_at_the_exact_minimiser(objective):
    game = zoo.brps()
    rows = enumerate_pairs(game, torch.full((1, 3), 1 / 3, dtype=torch.float64))
    reference = game.initial().log_probs()
    exact = minimise(objective, *rows, start=reference, anchors={"reference": reference})
    model = LinearSoftmax.tabular(reference.unsqueeze(1))
    theta = descend(objective, model, model.start(), always(rows, reference=reference), steps=400, rate=0.05)
    assert float((model.log_probs(theta).exp() - exact.exp()).abs().max()) < 1e-6


def test_copies_do_not_see_each_other():
    model = random_model()
    reference = model.log_probs(model.start())
    every = torch.arange(6)
    responses = torch.tensor([[0, 1], [2, 3], [1, 0], [3, 1], [0, 2], [2, 1]])
    rows = Comparisons(every, responses, torch.ones(6, dtype=torch.float64))
    feed = always(rows, reference=reference)
    together = descend(Dpo(), model, model.start(), feed, steps=20, rate=0.1)
    alone = LinearSoftmax(reference=model.reference[1:2], features=model.features[1:2])
    mine = Comparisons(torch.arange(2), responses[2:4], torch.ones(2, dtype=torch.float64))
    feed = always(mine, reference=reference[2:4])
    assert torch.allclose(descend(Dpo(), alone, alone.start(), feed, steps=20, rate=0.1)[0], together[1])


def test_the_bound_holds():
    model = random_model()
    rows = Comparisons(torch.arange(6), torch.tensor([[0, 1]] * 6), torch.ones(6, dtype=torch.float64))
    feed = always(rows, reference=model.log_probs(model.start()))
    theta = descend(Dpo(), model, model.start(), feed, steps=30, rate=0.1, bound=0.25)
    assert float(theta.abs().max()) == 0.25


def test_responses_are_drawn_as_often_as_their_law_says():
    probs = torch.tensor([[0.2, 0.0, 0.8], [0.0, 1.0, 0.0]], dtype=torch.float64)
    drawn = choose(probs, np.tile((np.arange(1000) + 0.5) / 1000, (2, 1)))
    assert np.bincount(drawn[0], minlength=3).tolist() == [200, 0, 800]
    assert set(drawn[1].tolist()) == {1}
    assert (
        choose(probs, np.ones((2, 1)))[0, 0] == 2
    )  # rounding of the sum never points beyond the last response


def test_kl_and_difference():
    first = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64).log()
    second = torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64).log()
    assert float(kl_rows(first, second)) == pytest.approx(0.5 * np.log(2))
    mean, low, high = difference(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0]))
    # equal variances 1 and sizes 3: four degrees of freedom, t = 2.776445, error sqrt(2/3)
    assert (mean, high - low) == pytest.approx((1.0, 2 * 2.776445 * (2 / 3) ** 0.5))
