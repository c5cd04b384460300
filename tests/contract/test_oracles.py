"""The contract of oracles: probabilities that depend on the question alone, whoever asks it with which others."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from contract.axes import classes
from equipoise import oracles
from equipoise.oracles.asking import Asking, Questioner
from equipoise.oracles.checked import Checked
from equipoise.oracles.code_tests import CodeTests
from equipoise.oracles.dry_run import DryRun
from equipoise.oracles.judge import JudgeOracle
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.oracles.reward import RewardOracle
from equipoise.oracles.rules import RuleOracle
from equipoise.oracles.sandbox import guarantees
from equipoise.oracles.table import RecordedOracle, TableOracle
from equipoise.playground import LanguageGame, model_path

GAME = LanguageGame()
HOST = LanguageGame("transitive")
PROMPTS = list(GAME.prompts[:5])
FIRST, SECOND = list(GAME.responses[:5]), [*GAME.responses[5:9], GAME.responses[4]]
QUESTIONS = list(zip(PROMPTS, FIRST, SECOND, strict=True))


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One oracle.

    build    from an empty folder.
    unknown  a prompt with two responses that it must refuse, and the word by which the error names it; None where
             it answers every text.
    scores   whether it has a scalar score.
    within   how far a verdict may move with the batch that it is asked in, and with the order of the two responses.
    exempt   "antisymmetry" -> why it is not promised.
    """

    build: Callable[[Path], Oracle]
    unknown: tuple[str, str, str] | None = None
    called: str = ""
    scores: bool = False
    within: float = 0.0
    exempt: dict[str, str] = field(default_factory=dict)


def reward_model(folder: Path) -> RewardOracle:
    """A random model of two layers; a context of 40 tokens."""
    config = LlamaConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        vocab_size=64,
        max_position_embeddings=40,
        num_labels=1,
        pad_token_id=0,
    )
    torch.manual_seed(3)
    model = LlamaForSequenceClassification(config)
    return RewardOracle(model, AutoTokenizer.from_pretrained(model_path()), "tiny reward", batch=3)


def table(folder: Path) -> TableOracle:
    prompts = {prompt: x for x, prompt in enumerate(PROMPTS)}
    responses = [{text: a for a, text in enumerate(GAME.responses)}] * len(PROMPTS)
    return TableOracle(prompts, responses, GAME.preference[: len(PROMPTS)])


def dry_run(questioner: Questioner) -> DryRun:
    asking = Asking(questioner)
    return DryRun(Checked(asking), asking)


def code_tests(folder: Path) -> Asking:
    rows = [{"prompt": prompt, "tests": [{"input": "", "output": "tea"}]} for prompt in PROMPTS]
    (folder / "problems.json").write_text(json.dumps(rows))
    settings = {"tests": "problems.json", "isolation": guarantees().isolation}
    return Asking(CodeTests.of(settings, folder / "tests.yaml"))


def shares(prompt: str, a: str, b: str) -> float:
    return len(a) / (len(a) + len(b))


ORACLES = {
    "table": Listed(build=table, unknown=("where?", FIRST[0], SECOND[0]), called="table"),
    "recorded": Listed(
        build=lambda folder: RecordedOracle(
            [*((p, a, b, 0.75) for p, a, b in QUESTIONS[:-1]), (*QUESTIONS[-1], 0.5)]
        ),
        unknown=(PROMPTS[0], "an answer without votes", SECOND[0]),
        called="recorded",
    ),
    "rule of scores": Listed(
        build=lambda folder: Asking(RuleOracle(lambda prompt, response: len(response) / 9, "length")),
        scores=True,
    ),
    "rule of pairs": Listed(build=lambda folder: Asking(RuleOracle(shares, "share"))),
    "rule that looks at the order": Listed(
        build=lambda folder: Asking(RuleOracle(lambda prompt, a, b: 0.6, "first")),
        exempt={"antisymmetry": "the user's function prefers whoever stands first"},
    ),
    "reward model": Listed(
        build=reward_model,
        unknown=(PROMPTS[0], "tea " * 40, SECOND[0]),
        called="tiny reward",
        scores=True,
        within=1e-6,
    ),
    "panel": Listed(
        build=lambda folder: GAME.oracle(), unknown=("where?", FIRST[0], SECOND[0]), called="tea house"
    ),
    "host": Listed(
        build=lambda folder: HOST.oracle(),
        unknown=("where?", FIRST[0], SECOND[0]),
        called="tea house",
        scores=True,
    ),
    "dry run of a rule": Listed(
        build=lambda folder: dry_run(RuleOracle(lambda prompt, response: len(response) / 9, "length")),
        scores=True,
    ),
    "dry run of a judge": Listed(
        build=lambda folder: dry_run(JudgeOracle.of({"model": "m"}, folder / "judge.yaml"))
    ),
    "tests of code": Listed(
        build=code_tests,
        unknown=("where?", FIRST[0], SECOND[0]),
        called="tests.yaml",
        scores=True,
    ),
    "checked": Listed(
        build=lambda folder: Checked(GAME.oracle()),
        unknown=("where?", FIRST[0], SECOND[0]),
        called="tea house",
    ),
}


@pytest.fixture(params=ORACLES.values(), ids=ORACLES.keys())
def listed(request: pytest.FixtureRequest) -> Listed:
    return request.param


@pytest.fixture
def oracle(listed: Listed, tmp_path: Path) -> Oracle:
    return listed.build(tmp_path)


def is_oracle(kind: type) -> bool:
    return hasattr(kind, "compare")


def test_every_oracle_is_listed(tmp_path: Path):
    known = {type(listed.build(tmp_path)).__name__ for listed in ORACLES.values()}
    found = {kind.__name__ for kind in classes(oracles) if is_oracle(kind)}
    assert {"Checked", "RewardOracle"} <= found <= known


# the checks ---------------------------------------------------------------------------------------


def verdicts(oracle: Any, at: Sequence[int] = range(5)) -> Tensor:
    return oracle.compare([PROMPTS[i] for i in at], [FIRST[i] for i in at], [SECOND[i] for i in at])


def check_range(oracle: Any, listed: Listed) -> None:
    prob = verdicts(oracle)
    assert prob.shape == (5,) and prob.dtype == torch.float64
    assert bool(((prob >= 0) & (prob <= 1)).all())


def check_batch(oracle: Any, listed: Listed) -> None:
    """One by one, in another order or none at all: a verdict is that of its own question."""
    prob, order = verdicts(oracle), [3, 0, 4, 1, 2]
    alone = torch.cat([verdicts(oracle, [i]) for i in range(5)])
    assert torch.allclose(prob, alone, rtol=0, atol=listed.within)
    assert torch.allclose(prob[order], verdicts(oracle, order), rtol=0, atol=listed.within)
    assert verdicts(oracle, []).shape == (0,)


def check_repeated(oracle: Any, listed: Listed) -> None:
    assert torch.equal(verdicts(oracle), verdicts(oracle))


def check_antisymmetry(oracle: Any, listed: Listed) -> None:
    back = oracle.compare(list(PROMPTS), list(SECOND), list(FIRST))
    kept = torch.allclose(verdicts(oracle) + back, torch.ones(5).double(), rtol=0, atol=1e-12 + listed.within)
    assert kept == ("antisymmetry" not in listed.exempt)


def check_unchanged(oracle: Any, listed: Listed) -> None:
    """What is asked stays the caller's."""
    questions = [list(PROMPTS), list(FIRST), list(SECOND)]
    before = copy.deepcopy(questions)
    oracle.compare(*questions)
    assert questions == before


def check_errors(oracle: Any, listed: Listed) -> None:
    if listed.unknown is not None:
        prompt, a, b = listed.unknown
        with pytest.raises(OracleError) as error:
            oracle.compare([prompt], [a], [b])
        assert listed.called in str(error.value)
    with pytest.raises(ValueError):  # three prompts with two and four responses
        oracle.compare(PROMPTS[:3], FIRST[:2], SECOND[:4])
    if listed.scores:
        scores = oracle.score(PROMPTS, FIRST)
        assert scores.shape == (5,) and scores.dtype == torch.float64 and bool(scores.isfinite().all())
    else:
        with pytest.raises(OracleError, match=r"no scalar score|no reward|general|panel"):
            oracle.score(PROMPTS, FIRST)


CHECKS = [check_range, check_batch, check_repeated, check_antisymmetry, check_unchanged, check_errors]


@pytest.mark.parametrize("check", CHECKS)
def test_answers_as_an_oracle_must(check: Any, oracle: Oracle, listed: Listed):
    assert isinstance(oracle, Oracle) and oracle.name
    check(oracle, listed)


def test_checked_changes_no_answer_and_refuses_one_that_is_not_antisymmetric(oracle: Oracle, listed: Listed):
    checked = Checked(oracle)
    assert checked.name == oracle.name
    if "antisymmetry" in listed.exempt:
        with pytest.raises(OracleError, match=f"oracle {oracle.name} is not antisymmetric"):
            verdicts(checked)
        return
    assert torch.equal(verdicts(checked), verdicts(oracle))
    if listed.scores:
        assert torch.equal(checked.score(PROMPTS, FIRST), oracle.score(PROMPTS, FIRST))


# what is refused ----------------------------------------------------------------------------------


class Answering:
    """An oracle that gives the same tensor to every question."""

    name = "stubborn"

    def __init__(self, *answer: float) -> None:
        self.answer = torch.tensor(answer, dtype=torch.float64)

    def compare(self, prompts: Any, a: Any, b: Any) -> Tensor:
        return self.answer

    def score(self, prompts: Any, responses: Any) -> Tensor:
        return self.answer


@pytest.mark.parametrize(
    "answer, says",
    [
        ((0.5, nan, 0.5), "compare returned nan for question 1"),
        ((0.5, 0.5, inf), "compare returned inf for question 2"),
        ((0.5, 0.5), r"compare of 3 questions returned shape \(2,\)"),
        ((0.5, 1.25, 0.5), r"answered 1\.25 for .*must return a probability in \[0, 1\]"),
        ((-0.25, 0.5, 0.5), r"answered -0\.25 for"),
        ((0.75, 0.5, 0.5), "is not antisymmetric"),
    ],
)
def test_checked_refuses_what_is_no_probability(answer: tuple[float, ...], says: str):
    with pytest.raises(OracleError, match=f"oracle stubborn.*{says}"):
        Checked(Answering(*answer)).compare(PROMPTS[:3], FIRST[:3], SECOND[:3])


@pytest.mark.parametrize("answer", [(0.5, nan), (0.5, -inf), (0.5,), (0.5, 0.5, 0.5)])
def test_checked_refuses_what_is_no_score(answer: tuple[float, ...]):
    with pytest.raises(OracleError, match="oracle stubborn: score"):
        Checked(Answering(*answer)).score(PROMPTS[:2], FIRST[:2])


class Careless(Answering):
    """Answers out of range, from call to call otherwise and by place; and turns round what it is given."""

    def __init__(self) -> None:
        self.count = 0

    def compare(self, prompts: Any, a: Any, b: Any) -> Tensor:
        self.count += 1
        prompts.reverse()
        return torch.arange(len(prompts)).double() + self.count

    def score(self, prompts: Any, responses: Any) -> Tensor:
        return torch.zeros(len(prompts))


@pytest.mark.parametrize("check", CHECKS)
def test_a_careless_oracle_is_seen(check: Any):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(Careless(), Listed(build=lambda folder: Careless(), unknown=("", "", "")))
