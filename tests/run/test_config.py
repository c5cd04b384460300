"""Configuration: names, values, layers, errors that name the nearest setting."""

from __future__ import annotations

import math

import pytest
import yaml

from equipoise.methods.index import METHODS
from equipoise.run.config import ConfigError, difference, parse_settings, read_file, resolve
from equipoise.run.materials import method_of
from equipoise.safe_yaml import word


def test_a_methods_own_schedule_is_its_default_and_a_number_takes_its_place():
    """XPO's alpha falls over the paper's three rounds."""
    real = {"model.path": "m", "data.path": "d", "oracle": "o"}
    config = resolve("xpo", real)
    assert config.objective["alpha"] == [1e-5, 5e-6, 0.0]
    method = method_of(config)
    assert [method.at_round(t).parameters()["alpha"] for t in (1, 2, 3, 4)] == [1e-5, 5e-6, 0.0, 0.0]
    assert method_of(resolve("xpo", {**real, "alpha": "1e-4"})).schedules == {}
    assert method_of(resolve("xpo")).parameters()["alpha"] == 0.005  # on the playground: its own


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"train.lrr": 1}, r"unknown setting 'train.lrr'; did you mean 'train.lr'"),
        ({"epoch": 1}, r"unknown setting 'epoch'; did you mean 'train.epochs'"),
        ({"betta": 1}, r"did you mean 'objective.beta'"),
        ({"xyzzy": 1}, r"unknown setting 'xyzzy'$"),
        (
            {"lora": 8},
            r"unknown setting 'lora'; did you mean 'model.lora_alpha', 'model.lora_rank' or 'model.lora_targets'\?$",
        ),
        ({"path": "x"}, r"'path' is ambiguous; give one of model.path, data.path"),
        ({"epochs": 0}, r"^train.epochs must be a whole number above 0 or \"auto\", got 0$"),
        ({"rounds": 2.5}, r"^play.rounds must be a whole number above 0, got 2.5$"),
        ({"lr": "abc"}, r'^train.lr must be a number at least 0 or "auto", got \'abc\'$'),
        ({"held_out": 2}, r"^data.held_out must be a number above 0 and below 1, got 2$"),
        ({"micro_batch": "x"}, r'^train.micro_batch must be a whole number above 0 or "auto", got \'x\'$'),
        ({"mapping": 3}, r"^data.mapping must be a mapping, got 3$"),
        ({"batc": 3}, r"did you mean 'train.batch'"),
        ({"learning_rate": 1}, r"^unknown setting 'learning_rate': it is train.lr here$"),
        ({"train.learning_rate": 1}, r"it is train.lr here$"),
        ({"data.eval": "x"}, r"^unknown setting 'data.eval': it is data.evaluation here$"),
        ({"eval.path": "x"}, r"^unknown setting 'eval.path': it is data.evaluation here$"),
        ({"lora_dropout": 0.1}, r"'lora_dropout': it does not exist here: LoRA has no dropout here$"),
        ({"precision": "fp16"}, r'^model.precision must be one of "fp32", "bf16", got \'fp16\'$'),
        ({"beta": -1}, r"objective: beta must be a positive number, got -1\.0"),
        ({"beta": "much"}, r"objective: beta must be a number, got 'much'"),
        ({"method": "inpo"}, r"the configuration is for method 'inpo', not for 'dpo'"),
    ],
)
def test_wrong_settings_say_what_is_right(settings, says):
    with pytest.raises(ConfigError, match=says):
        resolve("dpo", settings)


def test_case_and_hyphens_of_a_method_do_not_matter():
    assert resolve("DPO", {"method": "dpo"}).method == "dpo"
    assert resolve("Nash-MD").method == "nash_md"


def test_one_text_is_a_list_of_one():
    config = resolve("dpo", {"data": {"path": "x.jsonl"}, "lora_targets": "q_proj"})
    assert (config.data.path, config.model.lora_targets) == (["x.jsonl"], ["q_proj"])


def test_unknown_method_names_the_nearest():
    with pytest.raises(
        ConfigError, match=r"'inpoo'; did you mean 'inpo', .*\? \(`equipoise methods` lists all\)$"
    ):
        resolve("inpoo")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("1e-4", 1e-4),
        ("0.5", 0.5),
        ("inf", math.inf),
        ("true", True),
        ("auto", "auto"),
        ("[a, b]", ["a", "b"]),
        ("{prompt: q}", {"prompt": "q"}),
        ("null", None),
        ("a=b", "a=b"),
        ("", None),
    ],
)
def test_values_are_parsed(text, value):
    parsed = word(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("item", ["lr", "=3", ""])
def test_a_setting_has_a_name_and_a_value(item):
    with pytest.raises(ConfigError, match="form name=value"):
        parse_settings([item])


def test_later_layers_win():
    method = METHODS["inpo"]
    own = resolve("inpo", {"model.path": "m"})
    assert own.play.rounds == method.rounds
    assert own.objective == {"eta": "auto", "tau": "auto"}  # by the length of the responses
    assert own.train.schedule == method.train["schedule"]
    assert own.train.batch == "auto" != method.train["batch"]  # scaled to the data
    assert own.train.micro_batch == "auto"
    nested = {"train": {"batch": 16, "lr": 1e-5}, "play.rounds": 7}
    config = resolve("inpo", {"model.path": "m"}, nested, {"batch": 32, "lr": None})
    assert (config.train.batch, config.train.lr, config.play.rounds) == (32, 1e-5, 7)


def test_playground_values_only_without_model_and_data():
    for name, method in METHODS.items():
        plain = resolve(name)
        small_world = "model.path" in method.playground  # of its own, with files: no language game
        assert plain.playground != small_world
        for setting, value in method.playground.items():
            section, _, leaf = setting.rpartition(".")
            if section == "objective":
                found = plain.objective[leaf]
            else:
                found = getattr(getattr(plain, section) if section else plain, leaf)
            if "playground:" in str(value):  # a file of its small world
                assert "playground:" not in str(found), setting
            else:
                assert found == value, setting
        for given in ({"model.path": "m"}, {"data.path": ["d"]}):
            other = resolve(name, given)
            assert not other.playground
            assert other.objective == method.defaults()


def test_column_mapping_is_a_value_not_a_section():
    for layer in (
        {"mapping": {"prompt": "q"}},
        {"data": {"mapping": {"prompt": "q"}}},
        parse_settings(["data.mapping={prompt: q}"]),
    ):
        assert resolve("dpo", layer).data.mapping == {"prompt": "q"}


def test_exponents_in_yaml_are_numbers(tmp_path):
    (tmp_path / "c.yaml").write_text("objective:\n  beta: 5e-2\ntrain:\n  lr: 1e-4\n")
    config = resolve("dpo", read_file(tmp_path / "c.yaml"))
    assert (config.objective["beta"], config.train.lr) == (0.05, 1e-4)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", None])
def test_unreadable_files_are_named(tmp_path, text):
    path = tmp_path / "c.yaml"
    if text:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        read_file(path)


def test_hash_and_difference_survive_the_disk(tmp_path):
    config = resolve("spac", {"clip": math.inf, "w_pess": 1 / 3})
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config.plain()))
    again = resolve("spac", read_file(tmp_path / "c.yaml"))
    assert again.hash() == config.hash()
    assert difference(read_file(tmp_path / "c.yaml"), config.plain()) == []
    other = resolve("spac", {"clip": math.inf, "w_pess": 1 / 3, "seed": 1})
    assert other.hash() != config.hash()
    assert difference(config.plain(), other.plain()) == ["seed: 0 -> 1"]


@pytest.mark.parametrize(
    ("method", "settings", "says"),
    [
        ("inpo", {"samples": 6, "pairing": "tournament"}, "needs 4, 8, 16"),
        ("inpo", {"samples": 3, "pairing": "disjoint"}, "even number"),
        ("dpo", {"samples": 4}, "play.samples does not apply"),
        ("rso", {"samples": 1}, "two responses per prompt are needed for matches, got 1"),
        ("spa", {"samples": 1}, "needed for best against worst, got 1"),
        ("d2o", {"own": 0}, "needed for a dispreferred response against own samples, got 1"),
        ("zpg", {"pairing": "disjoint"}, "play.pairing does not apply to zpg"),
        ("dpo", {"pairing": "disjoint"}, "play.pairing does not apply to dpo"),
    ],
)
def test_pairings_that_cannot_work_are_refused_before_compute(method, settings, says):
    with pytest.raises(ConfigError, match=says):
        method_of(resolve(method, settings))


def test_how_questions_are_asked_may_change_and_what_they_mean_may_not():
    base = resolve("inpo")
    same = resolve("inpo", {"judging.failures": 0.1, "judging.concurrency": 8, "allow": ["few_steps"]})
    assert same.hash() == base.hash() and same.lasting() == base.lasting()
    assert resolve("inpo", {"judging.both_orders": True}).hash() != base.hash()
