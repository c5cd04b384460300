"""Verdicts from a file, people, tests of code, tool calls, and runs that are only counted."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path

from contract.oracle_folders import changed, row
from contract.oracle_rows import FIRST, PROMPTS, QUESTIONS, SECOND, Listed, replaced
from equipoise.label.pairs import Pair
from equipoise.label.people import PeopleOracle, WaitingDesk
from equipoise.label.votes import Vote, Votes
from equipoise.oracles.checked import Checked
from equipoise.oracles.code.sandbox import guarantees
from equipoise.oracles.judges.judge import JudgeOracle
from equipoise.oracles.protocol import Oracle, parts_that
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.dry_run import DryRun
from equipoise.oracles.questions.questioner import Questioner
from equipoise.oracles.rules.rule_oracle import RuleOracle

__all__ = ["ORACLES"]


class AnsweredAtOnce(WaitingDesk):
    """A desk where somebody prefers the text that comes first in the alphabet."""

    def ask(self, pair: Pair) -> Future[Vote]:
        answer = super().ask(pair)
        if not answer.done():
            shown = self.show(self.rater)
            assert shown.item is not None
            first = shown.item.sides == tuple(sorted(shown.item.sides))
            self.choose(self.rater, shown.number, "a" if first else "b")
        return answer


def somebody(oracle: Oracle, folder: Path) -> None:
    """Somebody sits at the desk, in the place of a page."""
    for people in parts_that(oracle, PeopleOracle):
        votes = Votes.begin(folder / f"votes of {people.fingerprint}.jsonl", None, seed=0)
        people._desk = AnsweredAtOnce(votes, people.file.rater, people.file.question, 0)


def dry_run(questioner: Questioner) -> DryRun:
    asking = Asking(questioner)
    return DryRun(Checked(asking), asking)


def lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(each) + "\n" for each in rows)


# the first place gets 0.1 more in each order, and a question with the same answer twice 1/2
VERDICTS = lines(
    *(
        {"prompt": p, "response_a": x, "response_b": y, "prob": 0.5 if x == y else prob}
        for p, a, b in QUESTIONS
        for x, y, prob in ((a, b, 0.8), (b, a, 0.4))
    )
)
TESTS = lines(*({"prompt": prompt, "tests": [{"input": "", "output": "tea"}]} for prompt in PROMPTS))
CALLS = lines(
    *({"prompt": prompt, "calls": [{"name": "pour", "arguments": {"cups": 2}}]} for prompt in PROMPTS)
)
TOOLS = json.dumps(
    [{"name": "pour", "parameters": {"type": "object", "properties": {"hot": {"default": True}}}}]
)
MADE = {"fingerprint": "counts questions and answers none; what it counts has a fingerprint of its own"}

ORACLES = {
    "recorded verdicts in their order": row(
        "recorded",
        {"verdicts": "verdicts.jsonl"},
        {},
        {"verdicts.jsonl": VERDICTS},
        unknown=(PROMPTS[0], "an answer without votes", SECOND[0]),
        called="no recorded verdict",
        depends={
            "a verdict": replaced("verdicts.jsonl", "0.8", "0.7"),
            "the orders": changed(both_orders=False),
        },
    ),
    "people": row(
        "people",
        {},
        {},
        ready=somebody,
        chat=True,
        depends={"the question": changed(question="Which is worse?"), "the rater": changed(rater="Ann")},
    ),
    "tests of code": row(
        "tests",
        {"tests": "tests.jsonl", "isolation": guarantees().isolation},
        {},
        {"tests.jsonl": TESTS},
        chat=True,
        scores=True,
        first=('print("tea")', *FIRST[1:]),
        unknown=("where?", FIRST[0], SECOND[0]),
        called="has no tests",
        depends={
            "a test": replaced("tests.jsonl", '"tea"', '"coffee"'),
            "what is run": changed(code="whole"),
            "the score": changed(score="all"),
            "a limit": changed(limits={"seconds": 3}),
        },
    ),
    "tool calls": row(
        "tool_calls",
        {"calls": "calls.jsonl", "tools": "tools.json", "score": "graded"},
        {},
        {"calls.jsonl": CALLS, "tools.json": TOOLS},
        chat=True,
        scores=True,
        first=("pour(cups=2)", "pour(cups=3, hot=False)", *FIRST[2:]),
        unknown=("where?", FIRST[0], SECOND[0]),
        called="has no calls",
        depends={
            "a right call": replaced("calls.jsonl", "2", "3"),
            "a tool's default": replaced("tools.json", "true", "false"),
            "the score": changed(score="exact"),
            "the order": changed(order="as given"),
        },
    ),
    "dry run of a rule": Listed(
        build=lambda folder: dry_run(RuleOracle(lambda prompt, response: len(response) / 9, "length")),
        chat=True,
        scores=True,
        exempt=MADE,
    ),
    "dry run of a judge": Listed(
        build=lambda folder: dry_run(JudgeOracle.of({"model": "m"}, folder / "judge.yaml")),
        chat=True,
        exempt=MADE,
    ),
}
