"""Parameters of a method that the size of a run decides: recorded comparisons, their tokens, and rounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from equipoise.methods.index import get
from equipoise.play.method import AUTO, Size
from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs
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
        replace(get("spac"), by_size={"beta": lambda size, known: 1.0})
    spac = get("spac").with_parameters({"b": AUTO})
    assert spac.automatic == {"b"} and spac.parameters()["b"] == get("spac").parameters()["b"]
    assert spac.with_parameters({"b": 3.0}).automatic == frozenset()


@pytest.mark.parametrize(
    ("tokens", "eta", "tau"),
    [(4.0, 0.5, 0.5 / 3), (400.0, 0.005, 0.005 / 3), (None, 0.005, 0.005 / 3)],
)
def test_inpos_step_is_a_quarter_nat_per_token_of_a_recorded_response(tokens, eta, tau):
    """At 400 tokens that is the paper's value, which stands where nothing is recorded."""
    inpo = get("inpo")
    size = Size(comparisons=None, rounds=3, tokens=tokens)
    objective = inpo.with_parameters(inpo.defaults()).for_size(size).objective
    assert (objective.eta, objective.tau) == pytest.approx((eta, tau))
    if tokens:
        assert 1 / (2 * objective.eta) == pytest.approx(tokens / 4)


def test_tau_follows_an_eta_that_is_set_and_a_tau_that_does_not_go_with_the_decided_eta_is_refused():
    size = Size(comparisons=None, rounds=3, tokens=4.0)
    objective = get("inpo").with_parameters({"eta": 0.3, "tau": AUTO}).for_size(size).objective
    assert (objective.eta, objective.tau) == pytest.approx((0.3, 0.1))
    with pytest.raises(ValueError, match="0 <= tau <= eta"):
        get("inpo").with_parameters({"eta": AUTO, "tau": 0.9}).for_size(size)


def test_ipo_asks_for_five_nats_per_token_as_its_form_by_mean_does(tmp_path):
    """A run's own rows say how long a response is; on the playground the setting of the playground stands."""
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, LanguageGame(), 40, seed=3, reference=reference_policy())
    config = resolve("ipo", {"data.path": [str(path)], "model.path": str(model_path())})
    materials = gather(config, tmp_path)
    rows = [*materials.pairs.responses.flat, *materials.held_out.responses.flat]
    tokens = sum(len(response.ids) for response in rows) / len(rows)
    objective = materials.method.objective
    assert 1 / (2 * objective.tau) == pytest.approx(5 * tokens)
    assert materials.automatic(config) == {"tau": objective.tau}
    assert gathered(tmp_path / "game", "ipo")[1].method.objective.tau == 0.5
    config = resolve("ipo_mean", {"data.path": [str(path)], "model.path": str(model_path())})
    assert config.objective["tau"] == get("ipo_mean").objective.tau == 0.1


@pytest.mark.parametrize(("most", "tokens"), [(AUTO, 128), (50, 50)])
def test_where_no_response_is_recorded_the_most_tokens_of_a_sample_count(tmp_path, most, tokens):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "{prompt}"}}\n' for prompt in LanguageGame().prompts))
    (tmp_path / "rule.py").write_text("def score(prompt, response):\n    return -float(len(response))\n")
    given = {"data.path": [str(path)], "model.path": str(model_path()), "sampling.max_new_tokens": most}
    materials = gather(resolve("inpo", {**given, "oracle": f"{tmp_path / 'rule.py'}:score"}), tmp_path)
    assert materials.pairs is None
    assert materials.method.objective.eta == pytest.approx(2 / tokens)
