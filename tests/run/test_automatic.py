"""Automatic settings that the data decide: a method's parameters by comparisons and rounds, the length of samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from equipoise.methods.index import get
from equipoise.play.method import AUTO
from equipoise.run.config import ConfigError, resolve
from equipoise.run.materials import gather


def gathered(tmp_path, method, **settings):
    config = resolve(method, {"data.pairs": 100, "sampling.max_new_tokens": "auto"}, settings)
    tmp_path.mkdir(exist_ok=True)
    return config, gather(config, tmp_path)


def test_a_run_takes_what_its_data_decide_and_states_it(tmp_path):
    config, materials = gathered(tmp_path, "spac", **{"play.rounds": 12})
    assert materials.pairs is not None
    n, objective = len(materials.pairs), materials.method.objective
    assert (config.objective["b"], config.objective["w_pess"]) == (AUTO, AUTO)
    assert (objective.b, objective.w_pess) == pytest.approx((2.0, n**-0.5))
    lengths = [len(response.ids) for group in materials.pairs.responses for response in group]
    assert materials.max_new_tokens == np.ceil(1.5 * np.percentile(lengths, 99)) < 20
    stated = {"b": objective.b, "w_pess": objective.w_pess, "max_new_tokens": materials.max_new_tokens}
    assert materials.automatic(config) == pytest.approx(stated)


def test_what_is_set_stands_and_what_reads_no_records_keeps_the_old_length(tmp_path):
    config, materials = gathered(tmp_path / "a", "spac", w_pess=0.5, max_new_tokens=7)
    assert materials.method.objective.w_pess == 0.5 and materials.max_new_tokens == 7
    assert materials.automatic(config) == {"b": 1.0}
    config, materials = gathered(tmp_path / "b", "inpo")
    assert materials.automatic(config) == {"max_new_tokens": 128}


def test_only_what_the_size_can_decide_may_be_automatic():
    with pytest.raises(ConfigError, match="w_pref must be a number, got 'auto'"):
        resolve("spac", {"w_pref": AUTO})
    with pytest.raises(ValueError, match="method spac: beta cannot be auto"):
        replace(get("spac"), by_size={"beta": lambda n, rounds: 1.0})
    spac = get("spac").with_parameters({"b": AUTO})
    assert spac.automatic == {"b"} and spac.parameters()["b"] == get("spac").parameters()["b"]
    assert spac.with_parameters({"b": 3.0}).automatic == frozenset()
