"""Claims of lists, tokens and texts: known figures of small runs, and each rule on evidence made to break it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.claims import frontier, tpo
from equipoise.claims.frontier import Climb

pytestmark = pytest.mark.usefixtures("no_shape_types")  # hundreds of small steps


def test_a_level_is_crossed_between_steps_by_hand():
    found = Climb(np.array([[0.0, 1.0, 3.0], [0.0, 0.5, 0.9]]), np.array([[0.0, 2.0, 6.0], [1.0, 1.0, 1.0]]))
    assert found.value_at(2.0)[0] == pytest.approx(4.0) and np.isnan(found.value_at(2.0)[1])
    assert found.kl_at(1.0).tolist() == pytest.approx([0.5, 0.0])
    assert np.isnan(
        frontier.ahead(found.value_at(2.0), np.zeros(2))[1]
    )  # a seed that is missing decides nothing


# TPO ---------------------------------------------------------------------------------------------


def test_lists_are_judged_best_first_and_drawn_from_the_tree():
    world = tpo.draw(3)
    assert torch.allclose(world.truth.mean(dim=1), torch.zeros(3).double(), atol=1e-12)
    assert torch.allclose(world.truth.square().mean(dim=1), torch.ones(3).double())
    lists = tpo.sample(world, 500)
    assert bool((lists.judged.diff(dim=2) <= 0).all())
    noise = lists.judged - world.truth.gather(1, lists.paths.flatten(1)).view_as(lists.judged)
    assert float(noise.std()) == pytest.approx(tpo.NOISE, rel=0.04)  # 7,500 draws: four standard errors


def test_steps_that_all_paths_share_weigh_nothing():
    paths = torch.tensor([[[0, 1]]])  # a a a a and a a a b
    assert tpo.step_weights(paths)[0, 0].tolist() == [[0, 0, 0, 4], [0, 0, 0, 4]]


def test_tpo_of_ones_is_dpo_on_all_pairs_along_the_whole_path():
    world = tpo.draw(2)
    lists = tpo.sample(world, 10)
    ones, pairs = (tpo.learn(world, lists, name, steps=5) for name in (tpo.ONES, tpo.ALL))
    # ten times the mean over pairs: Adam divides the factor out, up to its epsilon
    assert ones.value == pytest.approx(pairs.value, abs=1e-6)


def test_no_loss_gains_more_than_the_tilted_reference():
    world = tpo.draw(2)
    possible = tpo.best_possible(world, 0.3)
    gained = tpo.learn(world, tpo.sample(world, 160), tpo.TPO, steps=40).value_at(0.3)
    assert (gained < possible).all() and (gained > 0.5 * possible).all()


def climbs(rise: dict[str, float], far: float = 2.0) -> dict[tuple[str, int], Climb]:
    spread = 1 + np.linspace(-0.01, 0.01, 5)[:, None]
    way = np.linspace(0, far, 21)
    return {
        (name, tpo.LISTS): Climb(np.tile(way, (5, 1)), slope * spread * way) for name, slope in rise.items()
    }


def lists_verdict(
    best: float = 1.0, pairs: float = 1.1, plain: float = 1.2, steps: float = 1.3, far: float = 2.0
):
    rise = {tpo.BEST: best, tpo.ALL: pairs, tpo.ONES: pairs, tpo.TPO: plain, tpo.STEPS: steps}
    return tpo.judge(climbs(rise, far), np.ones(5)).verdict


def test_rule_of_tpo():
    assert lists_verdict() == "holds"
    assert lists_verdict(steps=1.2) == "mixed"
    assert lists_verdict(pairs=1.2) == lists_verdict(best=1.3) == "fails"
    assert lists_verdict(far=0.9) == "fails"  # nobody gets where values are compared


def test_rank_weights_beat_the_best_and_worst_but_not_all_pairs():
    """The claim fails: what the lists add is their pairs, not the ranks' weights."""
    found = tpo.run("quick")
    at = {row[1]: row[2:5] for row in found.tables[0].rows}
    assert found.verdict == "fails"
    assert at[tpo.BEST][0] < at[tpo.TPO][0] < at[tpo.ALL][0]
