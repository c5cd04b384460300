"""Parameters of a method that the numbers of recorded comparisons and of rounds decide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from equipoise.methods.index import get
from equipoise.play.method import AUTO
from equipoise.run.config import ConfigError, resolve
from equipoise.run.materials import gather


def gathered(tmp_path, method, **settings):
    config = resolve(method, {"data.pairs": 100}, settings)
    tmp_path.mkdir(exist_ok=True)
    return config, gather(config, tmp_path)


def test_a_run_takes_what_its_data_decide_and_states_it(tmp_path):
    config, materials = gathered(tmp_path, "spac", **{"play.rounds": 12})
    assert materials.pairs is not None
    n, objective = len(materials.pairs), materials.method.objective
    assert (config.objective["b"], config.objective["w_pess"]) == (AUTO, AUTO)
    assert (objective.b, objective.w_pess) == pytest.approx((2.0, n**-0.5))
    assert materials.automatic(config) == pytest.approx({"b": objective.b, "w_pess": objective.w_pess})


def test_what_is_set_stands_and_other_methods_have_nothing_to_decide(tmp_path):
    config, materials = gathered(tmp_path / "a", "spac", w_pess=0.5)
    assert materials.method.objective.w_pess == 0.5
    assert materials.automatic(config) == {"b": 1.0}
    config, materials = gathered(tmp_path / "b", "inpo")
    assert materials.automatic(config) == {}


def test_only_what_the_size_can_decide_may_be_automatic():
    with pytest.raises(ConfigError, match="w_pref must be a number, got 'auto'"):
        resolve("spac", {"w_pref": AUTO})
    with pytest.raises(ValueError, match="method spac: beta cannot be auto"):
        replace(get("spac"), by_size={"beta": lambda n, rounds: 1.0})
    spac = get("spac").with_parameters({"b": AUTO})
    assert spac.automatic == {"b"} and spac.parameters()["b"] == get("spac").parameters()["b"]
    assert spac.with_parameters({"b": 3.0}).automatic == frozenset()
