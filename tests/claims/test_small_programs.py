"""Programs of claims whose quick scale takes long, made tiny: they run to their evidence, twice to the same one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from equipoise.claims.claim import Evidence
from equipoise.claims.convergence import refined_regret, simulator_free
from equipoise.claims.rewards import fspo, osp
from equipoise.claims.shared_parameters import forgetting


def regret() -> Evidence:
    return refined_regret.judge(refined_regret.curves((16, 32), range(2)), refined_regret.identities([77]))


def own_paths() -> Evidence:
    kinds = (refined_regret.PLANTED, refined_regret.BLOCKS)
    return simulator_free.judge(
        [one for kind in kinds for one in simulator_free.course(kind, (32, 64), range(2))]
    )


def domains() -> Evidence:
    runs = [forgetting.accuracies(-0.5, 2, seed) for seed in range(2)]
    return forgetting.judge({(-0.5, name): np.stack([run[name] for run in runs]) for name in runs[0]})


PROGRAMS: dict[str, Callable[[], Evidence]] = {
    "refined_regret": regret,
    "simulator_free_regret": own_paths,
    "ofs_forgetting": domains,
    "osp_strengths": lambda: osp.run("quick"),
    "fspo_unseen_users": lambda: fspo.judge(np.array([fspo.run_of(seed) for seed in range(2)])),
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(osp.PLANS, "quick", (2, 4))
    monkeypatch.setattr(fspo, "STEPS", 3)
    monkeypatch.setattr(fspo, "UNSEEN", 50)


@pytest.mark.parametrize("name", PROGRAMS)
def test_tiny_programs_end_and_repeat(name: str) -> None:
    first = PROGRAMS[name]()
    numbers = [x for table in first.tables for row in table.rows for x in row if isinstance(x, float)]
    assert numbers
    assert all(math.isfinite(x) for x in numbers)
    assert first == PROGRAMS[name]()
