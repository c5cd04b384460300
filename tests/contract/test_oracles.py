"""The contract of oracles: probabilities that depend on the question alone, whoever asks it with which others."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
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
from equipoise.label.pairs import Pair
from equipoise.label.people import PeopleFile, PeopleOracle, WaitingDesk
from equipoise.label.votes import Vote, Votes
from equipoise.oracles.asking import Asking, Questioner
from equipoise.oracles.checked import Checked
from equipoise.oracles.code_tests import CodeTests
from equipoise.oracles.dry_run import DryRun
from equipoise.oracles.judge import JudgeOracle
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.oracles.recorded import RecordedVerdicts
from equipoise.oracles.reward import oracle_of
from equipoise.oracles.rules import RuleOracle
from equipoise.oracles.sandbox import guarantees
from equipoise.oracles.table import RecordedOracle, TableOracle
from equipoise.playground import LanguageGame, model_path
from equipoise.reward_models.folder import Loaded
from equipoise.reward_models.head import Head
from equipoise.reward_models.model import RewardModel, Scales
from equipoise.reward_models.texts import Texts

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


def model_oracle(head: Head) -> Callable[[Path], Oracle]:
    """A random model of two layers; a context of 40 tokens, or of 70 for two responses."""

    def build(folder: Path) -> Oracle:
        limit = 200 if head.kind == "pair" else 40
        config = LlamaConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            vocab_size=64,
            max_position_embeddings=limit,
            num_labels=head.outputs,
            pad_token_id=0,
        )
        torch.manual_seed(3)
        body = LlamaForSequenceClassification(config)
        scales = Scales(16, head.planes) if head.scaled else None
        model = RewardModel(body, head, prompt_head=scales).eval()
        tokenizer = AutoTokenizer.from_pretrained(model_path())
        texts = Texts(tokenizer, "tiny reward", rows=64, limit=limit)
        return oracle_of(Loaded(model, texts, "tiny reward", "content"), tokens=64)

    return build


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


class AnsweredAtOnce(WaitingDesk):
    """A desk where somebody prefers the text that comes first in the alphabet."""

    def ask(self, pair: Pair) -> Future[Vote]:
        answer = super().ask(pair)
        if not answer.done():
            item, number = self.show("people").item, self.show("people").number
            self.choose("people", number, "a" if item.sides == tuple(sorted(item.sides)) else "b")
        return answer


def somebody(folder: Path) -> Asking:
    oracle = PeopleOracle(PeopleFile(), "people", folder / "votes.jsonl")
    votes = Votes.begin(oracle.votes, None, seed=0)
    oracle._desk = AnsweredAtOnce(votes, "people", "Which is better?", 0)
    return Asking(oracle)


def recorded_verdicts(folder: Path) -> Asking:
    """The first place gets 0.1 more in each order, and a question with the same answer twice 1/2."""
    rows = [
        {"prompt": p, "response_a": x, "response_b": y, "prob": 0.5 if x == y else prob}
        for p, a, b in QUESTIONS
        for x, y, prob in ((a, b, 0.8), (b, a, 0.4))
    ]
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Asking(RecordedVerdicts.of({"verdicts": "verdicts.jsonl"}, folder / "recorded.yaml"))


ORACLES = {
    "table": Listed(build=table, unknown=("where?", FIRST[0], SECOND[0]), called="table"),
    "recorded": Listed(
        build=lambda folder: RecordedOracle(
            [*((p, a, b, 0.75) for p, a, b in QUESTIONS[:-1]), (*QUESTIONS[-1], 0.5)]
        ),
        unknown=(PROMPTS[0], "an answer without votes", SECOND[0]),
        called="recorded",
    ),
    "recorded verdicts in their order": Listed(
        build=recorded_verdicts,
        unknown=(PROMPTS[0], "an answer without votes", SECOND[0]),
        called="no recorded verdict",
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
        build=model_oracle(Head()),
        unknown=(PROMPTS[0], "tea " * 40, SECOND[0]),
        called="tiny reward",
        scores=True,
        within=1e-6,
    ),
    "reward model of two attributes": Listed(
        build=model_oracle(Head(attributes=("kind", "short"), weights=(2.0, -1.0))),
        unknown=(PROMPTS[0], "tea " * 40, SECOND[0]),
        called="tiny reward",
        scores=True,
        within=1e-6,
    ),
    "general preference model": Listed(
        build=model_oracle(Head(kind="gpm", dimension=4)),
        unknown=(PROMPTS[0], "tea " * 40, SECOND[0]),
        called="tiny reward",
        within=1e-5,
    ),
    "pairwise model": Listed(
        build=model_oracle(Head(kind="pair")),
        unknown=(PROMPTS[0], "tea " * 200, SECOND[0]),
        called="tiny reward",
        within=1e-6,
    ),
    "people": Listed(build=somebody),
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
    assert {"Checked", "RewardOracle", "PreferenceOracle", "PairwiseOracle"} <= found <= known


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
