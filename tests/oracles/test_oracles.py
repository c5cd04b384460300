"""Oracles: contracts refused by name, users' rules, tables, recorded labels."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from equipoise import oracles
from equipoise.oracles import RecordedOracle, TableOracle
from equipoise.oracles.checked import Checked
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.questioner import Policy
from equipoise.oracles.rules.rule_oracle import RuleOracle, load_rule

P = ["p"] * 3
A, B = ["a", "bb", "ccc"], ["ccc", "a", "bb"]


def rule(function):
    return Checked(Asking(RuleOracle(function, "mine")))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda p, a, b: 1.5, r"mine answered 1\.5 for 'a' against 'ccc'.*\[0, 1\]"),
        (lambda p, a, b: -0.1, r"mine answered -0\.1"),
        (lambda p, a, b: 0.7, r"mine is not antisymmetric: P\(a > b\) = 0\.7000 and P\(b > a\) = 0\.7000"),
        (lambda p, a, b: math.nan, "mine: returned nan for .ccc."),
        (lambda p, a: math.inf if a == "bb" else 0.0, "mine: returned inf for .bb."),
    ],
)
def test_broken_contracts_are_refused_by_name(function, says):
    oracle = rule(function)
    with pytest.raises(OracleError, match=says):
        oracle.score(P, A) if oracle.inner.questioner.scores else oracle.compare(P, A, B)


def test_wrong_shape_is_refused():
    class Short:
        name = "short"

        def compare(self, prompts, a, b):
            return torch.full((1,), 0.5)

    with pytest.raises(OracleError, match=r"short: compare of 3 questions returned shape \(1,\)"):
        Checked(Short()).compare(P, A, B)


def test_antisymmetry_is_probed_on_a_few_questions_of_the_whole_call():
    asked = []

    def function(prompt, a, b):
        asked.append((a, b))
        return 0.5

    first = [f"a{i}" for i in range(10)]
    rule(function).compare(["p"] * 10, first, ["b"] * 10)
    assert asked == [(a, "b") for a in first] + [("b", first[i]) for i in (0, 2, 5, 7)]


def test_long_texts_are_shortened_in_messages():
    with pytest.raises(OracleError) as error:
        rule(lambda p, a, b: 2.0).compare(["p"], ["x" * 500], ["y"])
    assert "x" * 57 + "..." in str(error.value)
    assert "x" * 60 not in str(error.value)


def test_rule_of_two_arguments_scores_and_compares_by_bradley_terry():
    oracle = rule(lambda prompt, response: float(len(response)))
    assert oracle.score(P, A).tolist() == [1, 2, 3]
    expected = [1 / (1 + math.exp(2)), 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-1))]
    assert oracle.compare(P, A, B).tolist() == pytest.approx(expected, abs=1e-12)
    assert oracle.compare(P, A, B).dtype == torch.float64
    assert isinstance(oracle, Oracle)


def test_rule_of_three_arguments_has_no_score():
    oracle = rule(lambda prompt, a, b: 0.25 if a < b else 0.75 if a > b else 0.5)
    assert oracle.compare(P, A, B).tolist() == [0.25, 0.75, 0.75]
    with pytest.raises(OracleError, match="no scalar score"):
        oracle.score(P, A)


def generator(prompt, response):
    yield 1.0


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda p, a: None, r"returned None \(NoneType\)"),
        (lambda p, a: "0.5", r"returned '0\.5' \(str\)"),
        (generator, r"returned <generator.*\(generator\)"),
        (lambda p, a: [1.0, 2.0], r"returned \[1\.0, 2\.0\] \(list\)"),
        (lambda p, a: torch.ones(2), r"\(Tensor\)"),
        (lambda p, a: 10**400, "returned inf for 'a'"),
        (lambda p, a: sys.exit(0), "it called sys.exit"),
        (lambda p, a: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_is_no_number_is_refused_with_rule_and_question(function, says):
    with pytest.raises(OracleError, match=rf"(rule|oracle) mine.*{says}"):
        rule(function).score(["what?"] * 2, ["a", "b"])


@pytest.mark.parametrize("answer", [1, True, torch.tensor(1.0), torch.ones(1), np.float32(1)])
def test_numbers_of_any_kind_are_read(answer):
    assert rule(lambda p, a: answer).score(P, A).tolist() == [1.0] * 3


def test_ctrl_c_in_a_rule_is_no_failure_of_the_rule():
    def function(prompt, response):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rule(function).score(P, A)


def test_a_rule_that_ends_the_program_when_it_is_imported(tmp_path):
    (tmp_path / "quits.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(OracleError, match=r"cannot import .*quits\.py.*SystemExit"):
        load_rule(f"{tmp_path / 'quits.py'}:f")


@pytest.mark.parametrize("answer", [None, "much", [0.5], [[0.5] * 3]])
def test_an_oracle_that_returns_no_numbers_is_refused(answer):
    class Odd:
        name = "odd"

        def compare(self, prompts, a, b):
            return answer

    with pytest.raises(OracleError, match="odd"):
        Checked(Odd()).compare(P, A, B)


def test_antisymmetry_is_probed_all_over_a_call():
    """A rule that is wrong for later questions only is found."""
    with pytest.raises(OracleError, match="not antisymmetric"):
        rule(lambda p, a, b: 0.5 if int(p) < 60 else 0.7).compare(
            [str(i) for i in range(100)], ["a"] * 100, ["b"] * 100
        )


@pytest.mark.parametrize("prob", [1.5, -0.1, math.nan])
def test_recorded_votes_and_tables_hold_probabilities(prob):
    with pytest.raises(OracleError, match="not a probability"):
        RecordedOracle([("p", "a", "b", prob)])
    with pytest.raises(OracleError, match="probabilities"):
        TableOracle({"p": 0}, [{"x": 0, "y": 1}], torch.tensor([[[0.5, prob], [0.2, 0.5]]]))


def test_a_rule_says_how_far_it_is():
    oracle, seen = rule(lambda p, a: 1.0), []
    oracle.inner.answered = seen.append
    oracle.score(P, A)
    assert sum(seen) == 3


RULES = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Weight:
    value: float = 2.0

def score(prompt, response, weight=Weight()):
    return weight.value * len(response)

def win(prompt, a, b):
    return 0.5

def broken(prompt, response):
    return {}["missing"]

def one(prompt):
    return 0

CONSTANT = 3
"""


@pytest.fixture
def rules(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text(RULES)  # a name of the standard library
    (tmp_path / "my_equipoise_rules.py").write_text(RULES)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_rules_from_file_and_module(rules):
    import json

    for where in (str(rules / "json.py"), "my_equipoise_rules"):
        assert oracles.load(f"{where}:score").score(["p"], ["abc"]).tolist() == [6]
        assert oracles.load(f"{where}:win").compare(["p"], ["a"], ["b"]).tolist() == [0.5]
    assert json.dumps(1) == "1"


def test_an_error_in_the_users_function_is_said_to_be_theirs(rules):
    with pytest.raises(
        OracleError, match=r"rule .*json\.py:broken failed on the prompt .p.: KeyError: 'missing'"
    ):
        oracles.load(f"{rules / 'json.py'}:broken").score(["p"], ["a"])


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nonsense", "neither a rule .* nor a folder"),
        ("{}/json.py:", "a rule must be written module:function"),
        (":f", "a rule must be written module:function"),
        ("{}/none.py:f", "cannot import .*no file"),
        ("no_such_module_here:f", "cannot import 'no_such_module_here'"),
        ("{}/json.py:absent", r"no function 'absent' \(it has: .*score, win, broken, one"),
        ("{}/json.py:CONSTANT", "no function 'CONSTANT'"),
        ("{}/json.py:one", r"takes \(prompt, response\) or \(prompt, a, b\)"),
        ("builtins:max", r"takes \(prompt, response\)"),
    ],
)
def test_wrong_specs_say_what_to_write(rules, spec, says):
    with pytest.raises(OracleError, match=says):
        oracles.load(spec.format(rules))


def test_a_file_with_an_error_is_named(tmp_path):
    (tmp_path / "bad.py").write_text("def f(:")
    with pytest.raises(OracleError, match=r"cannot import .*bad\.py.*SyntaxError"):
        load_rule(f"{tmp_path / 'bad.py'}:f")


def test_table_oracle():
    table = torch.tensor([[[0.5, 0.8], [0.2, 0.5]], [[0.5, 0.1], [0.9, 0.5]]])
    oracle = Checked(TableOracle({"p": 0, "q": 1}, [{"x": 0, "y": 1}] * 2, table.double()), tolerance=1e-6)
    assert oracle.compare(["p", "q"], ["x", "x"], ["y", "y"]).tolist() == pytest.approx([0.8, 0.1])
    with pytest.raises(OracleError, match="has no prompt 'r'"):
        oracle.compare(["r"], ["x"], ["y"])
    with pytest.raises(OracleError, match="has no response 'z' to prompt 0"):
        oracle.compare(["p"], ["x"], ["z"])
    with pytest.raises(OracleError, match="no scalar score"):
        oracle.score(["p"], ["x"])


def test_recorded_oracle_averages_votes_in_both_orders():
    chat = [{"role": "user", "content": "p"}]
    oracle = Checked(
        RecordedOracle(
            [("p", "a", "b", 1.0), ("p", "b", "a", 1.0), ("p", "a", "b", 1.0), (chat, "a", "b", 0.25)]
        )
    )
    assert oracle.compare(["p", "p", chat], ["a", "b", "b"], ["b", "a", "a"]).tolist() == pytest.approx(
        [2 / 3, 1 / 3, 0.75]
    )
    with pytest.raises(OracleError, match="no recorded judgement of 'a' against 'c'"):
        oracle.compare(["p"], ["a"], ["c"])
    with pytest.raises(OracleError, match="no scalar score"):
        oracle.score(["p"], ["a"])


class Ended(BaseException):
    """An error that a rule's own library derives from BaseException."""


@pytest.mark.parametrize("error", [Ended("over"), GeneratorExit("over"), SystemExit("over")])
@pytest.mark.parametrize("concurrency", [1, 2])
def test_whatever_a_rule_raises_is_the_rules_failure(error, concurrency):
    def score(prompt, response):
        raise error

    asked = Asking(RuleOracle(score, "mine"), None, Policy(retries=0, concurrency=concurrency))
    with pytest.raises(OracleError, match="rule mine failed on the prompt 'p'"):
        asked.score(["p"], ["r"])


class Scorer:
    async def __call__(self, prompt, response):
        return len(response)


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("function", [Scorer(), lambda p, r: Scorer()(p, r)])
def test_a_rule_that_returns_an_awaitable_is_awaited(function, concurrency):
    asked = Asking(RuleOracle(function, "mine"), None, Policy(concurrency=concurrency))
    assert asked.score(["p"] * 3, ["a", "bb", "ccc"]).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("when", ["imported", "asked"])
def test_a_rule_does_not_change_the_modes_of_the_process(tmp_path, monkeypatch, when):
    """Rules that hold a model switch gradients off; without them the policy would learn nothing."""
    monkeypatch.chdir(tmp_path)
    modes = "os.chdir('/'); torch.set_grad_enabled(False); torch.set_default_dtype(torch.float64)"
    first, later = (modes, "pass") if when == "imported" else ("pass", modes)
    (tmp_path / "rule.py").write_text(
        f"import os, torch\n{first}\ndef score(prompt, response):\n    {later}\n    return 1.0\n"
    )
    Asking(load_rule("rule.py:score")).score(["p"], ["r"])
    assert Path.cwd() == tmp_path and torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
