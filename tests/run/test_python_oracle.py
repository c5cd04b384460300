"""Oracles given to `align` as Python objects: asked, recorded, resumed with the same, refused with another."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from functools import partial

import pytest
import torch
import yaml

from equipoise.cli.app import main
from equipoise.oracles import Asking, Checked, OracleError, Policy, RuleOracle
from equipoise.oracles.questions.verdicts import Verdict
from equipoise.oracles.rules.given import given
from equipoise.playground import LanguageGame, model_path
from equipoise.run import session
from equipoise.run.config import ConfigError
from equipoise.run.inputs import Hasher, of_materials
from equipoise.run.materials import gather
from equipoise.run.session import align, configured

SETTINGS = {
    "evaluate.prompts": 2,
    "evaluate.samples": 1,
    "train.batch": 4,
    "play.samples": 2,
    "sampling.max_new_tokens": 8,
    "sampling.temperature": 2.0,
}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in LanguageGame().prompts[:8]))
    return path


def play(out, prompts, oracle, rounds=1, **more):
    settings = SETTINGS | more.pop("settings", {})
    return align(
        "online_ipo",
        model=model_path(),
        data=prompts,
        oracle=oracle,
        out=out,
        rounds=rounds,
        quiet=True,
        settings=settings,
        allow=["few_steps"],
        **more,
    )


def length(prompt, response):
    return len(response) / 10


async def longer(prompt, a, b):
    await asyncio.sleep(0)
    return 0.5 if len(a) == len(b) else float(len(a) > len(b))


def weighted(weight, prompt, response):
    return weight * len(response)


class Counter:
    """A rule with a state that its verdicts depend on, and one that they do not."""

    def __init__(self, weight):
        self.weight, self.calls = weight, 0

    def __call__(self, prompt, response):
        self.calls += 1
        return self.weight * len(response)


class Whole:
    """An oracle in batches."""

    name, fingerprint = "whole", "whole 1"

    def compare(self, prompts, a, b):
        return torch.sigmoid(self.score(prompts, a) - self.score(prompts, b))

    def score(self, prompts, responses):
        return torch.tensor([len(text) / 10 for text in responses], dtype=torch.float64)


class Single:
    """An oracle of single questions."""

    name, fingerprint, scores, both_orders = "single", "single 1", True, False

    @asynccontextmanager
    async def open(self, policy):
        async def ask(prompt, response):
            return Verdict(len(response) / 10)

        yield ask


class Many:
    """An oracle of single questions that are answered together."""

    name, fingerprint, scores, both_orders = "many", "many 1", True, False

    def batches(self, questions):
        return [range(len(questions))]

    def answer(self, questions):
        return [Verdict(len(response) / 10) for _, response in questions]


KINDS = {
    "score": (lambda: length, "test_python_oracle.length"),
    "async comparison": (lambda: longer, "test_python_oracle.longer"),
    "lambda": (lambda: lambda p, r: float(len(r)), "<lambda>"),
    "partial": (lambda: partial(weighted, 2.0), "test_python_oracle.weighted"),
    "method": (lambda: Counter(1.0).__call__, "Counter.__call__"),
    "callable object": (lambda: Counter(1.0), "test_python_oracle.Counter"),
    "oracle": (Whole, "test_python_oracle.Whole"),
    "checked": (lambda: Checked(Whole()), "test_python_oracle.Whole"),
    "questioner": (Single, "test_python_oracle.Single"),
    "rule": (lambda: RuleOracle(length, "rule"), "RuleOracle"),
    "batched": (Many, "test_python_oracle.Many"),
    "asking": (lambda: Asking(Single()), "equipoise.oracles.questions.asking.Asking"),
}


def weights(run):
    return run.checkpoint.joinpath("model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def by_length(prompts, tmp_path_factory):
    return play(tmp_path_factory.mktemp("run") / "run", prompts, length)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_named_asked_and_recorded(kind, prompts, tmp_path):
    make, name = KINDS[kind]
    held = given(make())
    assert held.spec.startswith("python:") and held.spec.endswith(name)
    config = configured("online_ipo", model=model_path(), data=prompts, oracle=held.spec)
    materials = gather(config, tmp_path, held)
    assert materials.oracle.compare(["p"] * 2, ["long", "a"], ["a", "long"]).tolist() == pytest.approx(
        [better := float(materials.oracle.compare(["p"], ["long"], ["a"])), 1 - better]
    )
    assert better > 0.5
    assert list(of_materials(materials, tmp_path, Hasher())["oracle"]) == ["fingerprint"]
    with pytest.raises(OracleError, match="give the object again"):
        gather(config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("make", [Whole, Single, Many, lambda: Asking(Single())])
def test_every_protocol_trains_the_same_policy(make, by_length, prompts, tmp_path):
    assert weights(play(tmp_path / "run", prompts, make())) == weights(by_length)


@pytest.mark.slow
def test_a_function_judges_as_the_same_rule_from_a_file(by_length, prompts, tmp_path):
    (tmp_path / "rule.py").write_text("def length(prompt, response):\n    return len(response) / 10\n")
    assert weights(play(tmp_path / "run", prompts, f"{tmp_path / 'rule.py'}:length")) == weights(by_length)


def test_a_finished_run_is_there_again_for_the_same_function_alone(by_length, prompts, capsys):
    assert weights(play(by_length.folder, prompts, length)) == weights(by_length)
    length.fingerprint = "another"
    try:
        with pytest.raises(ConfigError, match="oracle fingerprint: has changed since the run began"):
            play(by_length.folder, prompts, length)
    finally:
        del length.fingerprint
    again = "is a Python object.*give the object again, with equipoise.align"
    with pytest.raises(ConfigError, match=again):
        play(by_length.folder, prompts, None)
    with pytest.raises(OracleError, match=again):
        align("online_ipo", config=by_length.folder / "config.yaml", out=by_length.folder, quiet=True)
    with pytest.raises(SystemExit) as end:
        main(["align", "--config", str(by_length.folder / "config.yaml"), "--out", str(by_length.folder)])
    assert end.value.code == 2 and "give the object again" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: Counter(0.1), lambda: longer], ids=["counter", "async"])
def test_killed_and_resumed_with_the_same_object_it_ends_with_the_same_bytes(
    make, prompts, tmp_path, monkeypatch
):
    whole = play(tmp_path / "whole", prompts, make(), rounds=2)
    oracle, measure, boundaries = make(), session.measure, []

    def killed(*args):
        boundaries.append(1)
        if len(boundaries) == 2:
            raise KeyboardInterrupt
        measure(*args)

    monkeypatch.setattr(session, "measure", killed)
    with pytest.raises(KeyboardInterrupt):
        play(tmp_path / "run", prompts, oracle, rounds=2)
    monkeypatch.undo()
    assert weights(play(tmp_path / "run", prompts, oracle, rounds=2)) == weights(whole)


@pytest.mark.slow
def test_what_the_user_changes_in_a_rule_makes_it_another(prompts, tmp_path):
    rule = Counter(0.1)
    play(tmp_path / "run", prompts, rule)
    assert rule.calls
    play(tmp_path / "run", prompts, rule)  # what it counted itself does not matter
    rule.weight = 0.2
    with pytest.raises(ConfigError, match="oracle fingerprint: has changed"):
        play(tmp_path / "run", prompts, rule)


@pytest.mark.slow
def test_inside_a_running_event_loop(by_length, prompts, tmp_path):
    async def notebook():
        return play(tmp_path / "run", prompts, length)

    assert weights(asyncio.run(notebook())) == weights(by_length)


@pytest.mark.slow
def test_phases_ask_the_object_too(prompts, tmp_path):
    run = play(tmp_path / "run", prompts, length, settings={"play.phases": {"online_dpo": {"rounds": 1}}})
    asked = yaml.safe_load((run.folder / "phases/online_dpo/config.yaml").read_text())["oracle"]
    assert asked == run.summary["oracle"] == "python:tests.run.test_python_oracle.length"


def refusals():
    model = torch.nn.Linear(2, 2)

    class Unnamed:
        def compare(self, prompts, a, b): ...

    class Empty(Whole):
        fingerprint = ""

    def empty(prompt, response):
        return 0.0

    empty.fingerprint = 3
    return {
        "captured model": (
            lambda p, r: float(model.weight.sum()),
            r"it reads model, .*Linear.*`fingerprint`",
        ),
        "rule on an object": (RuleOracle(Counter(1.0), "c"), "what its Counter holds is not hashed"),
        "inside": (Asking(RuleOracle(lambda p, r: float(model.weight.sum()), "m")), "it reads model"),
        "no protocol": (Unnamed(), "lacks name, score, fingerprint, a text that changes.*add it to Unnamed"),
        "empty": (Empty(), "has the fingerprint ''"),
        "not a text": (empty, "attribute fingerprint of .*empty is 3"),
        "a class": (Whole, "is a class; give an object"),
        "a number": (3, "an object of type int is no oracle: give a function"),
        "arguments": (lambda r: 0.0, r"takes \(prompt, response\) or \(prompt, a, b\)"),
    }


@pytest.mark.parametrize("what", refusals())
def test_what_is_no_oracle_or_has_no_fingerprint_is_refused(what, prompts, tmp_path):
    oracle, says = refusals()[what]
    with pytest.raises(OracleError, match=says):
        play(tmp_path / "run", prompts, oracle)
    assert not (tmp_path / "run").exists()


def test_a_cap_that_would_not_reach_the_oracle_is_refused(prompts, tmp_path):
    oracle = Asking(Single(), None, Policy(retries=0))
    with pytest.raises(ConfigError, match=r"judging\.most_calls does not reach the oracle python:.*Asking"):
        play(tmp_path / "run", prompts, oracle, settings={"judging.most_calls": 5})
