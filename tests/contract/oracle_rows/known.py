"""Rules, tables, recorded votes, LLM judges and the playground's panel, host and groups of users."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from contract.oracle_folders import bare
from contract.oracle_rows import FIRST, GAME, PROMPTS, QUESTIONS, SECOND, Listed, replaced
from equipoise import oracles
from equipoise.oracles.checked import Checked
from equipoise.oracles.judges.judge_prompt import PROMPTS as TEMPLATES
from equipoise.oracles.protocol import Oracle
from equipoise.oracles.recorded.table import RecordedOracle, TableOracle
from equipoise.playground import LanguageGame
from oracles.chat_server import between, said, serving
from oracles.json_server import lasting

HOST = LanguageGame("transitive")
GROUPS = LanguageGame("groups")
LENGTH = """
import length_scale
def score(prompt, response): return len(response) / length_scale.SCALE
async def later(prompt, response): return len(response) / length_scale.SCALE
def share(prompt, a, b): return (1 + len(a)) / (2 + len(a) + len(b))
def first(prompt, a, b): return 0.6
"""


def rule(function: str) -> Callable[[Path], Oracle]:
    """A rule of a file, which imports a number from another."""

    def build(folder: Path) -> Oracle:
        file, length_scale = folder / "length.py", folder / "length_scale.py"
        if not file.is_file():
            file.write_text(LENGTH, encoding="utf-8")
            length_scale.write_text("SCALE = 9\n", encoding="utf-8")
        return bare(oracles.load(f"{file}:{function}"))

    return build


def table(folder: Path) -> Oracle:
    """The panel's preferences, the one of the first two responses as a file of the folder says."""
    prompts = {prompt: x for x, prompt in enumerate(PROMPTS)}
    responses = [{text: a for a, text in enumerate(GAME.responses)}] * len(PROMPTS)
    preference = GAME.preference[: len(PROMPTS)].clone()
    preference[0, 0, 1] = kept(folder, "0.75")
    preference[0, 1, 0] = 1 - preference[0, 0, 1]
    return TableOracle(prompts, responses, preference)


def votes(folder: Path) -> Oracle:
    """Recorded votes with the share of a file of the folder."""
    share = kept(folder, "0.75")
    return RecordedOracle([*((p, a, b, share) for p, a, b in QUESTIONS[:-1]), (*QUESTIONS[-1], 0.5)])


def kept(folder: Path, number: str) -> float:
    """The number in a row's folder, which is written first."""
    file = folder / "prob.txt"
    if not file.is_file():
        file.write_text(number, encoding="utf-8")
    return float(file.read_text(encoding="utf-8"))


def answers(request: dict[str, Any], number: int) -> dict[str, Any]:
    """A judge's server: the shorter response wins; its score falls with its length."""
    text = request["messages"][1]["content"]
    if "Response A:" not in text:
        length = len(between(text, "The response:"))
        return said(json.dumps({"score": max(1.0, 10 - length / 20)}))
    a, b = len(between(text, "Response A:")), len(between(text, "Response B:"))
    if not request.get("logprobs"):
        return said(json.dumps({"winner": "tie" if a == b else "A" if a < b else "B"}))
    top = [{"token": "A", "logprob": -0.01 * a}, {"token": "B", "logprob": -0.01 * b}]
    return said("A") | {"logprobs": {"content": [{"token": "A", "logprob": 0.0, "top_logprobs": top}]}}


@cache
def server() -> str:
    return lasting(serving(answers))


def judge(**settings: Any) -> Callable[[Path], Oracle]:
    def build(folder: Path) -> Oracle:
        file = folder / "judge.yaml"
        if not file.is_file():
            os.environ.setdefault("EQUIPOISE_TEST_KEY", "sk-test")
            (folder / "question.jinja").write_text(_question(settings.get("question", "pairwise")))
            settings_of = {"model": "m", "base_url": server(), "key": "EQUIPOISE_TEST_KEY", **settings}
            file.write_text(json.dumps(settings_of | {"prompt": "question.jinja"}))
        return bare(oracles.load(str(file), policy=oracles.Policy(wait=0.0)))

    return build


def _question(kind: str) -> str:
    return (TEMPLATES / f"{kind}.jinja").read_text(encoding="utf-8")


RULE_DEPENDS = {
    "its code": replaced("length.py", "len(response)", "2 * len(response)"),
    "what it imports": replaced("length_scale.py", "9", "8"),
}
JUDGE_DEPENDS = {
    "the model": replaced("judge.yaml", '"model": "m"', '"model": "n"'),
    "the prompt": replaced("question.jinja", "====", "Be strict.\n===="),
    "the temperature": replaced("judge.yaml", '"model"', '"temperature": 0.5, "model"'),
}
PROB = {"a preference": replaced("prob.txt", "0.75", "0.5")}
IN_MEMORY = {"fingerprint": "made in memory: no file or command names it"}
UNKNOWN = ("where?", FIRST[0], SECOND[0])

ORACLES = {
    "table": Listed(build=table, unknown=UNKNOWN, called="table", depends=PROB),
    "recorded": Listed(
        build=votes,
        unknown=(PROMPTS[0], "an answer without votes", SECOND[0]),
        called="recorded",
        depends=PROB,
    ),
    "rule of scores": Listed(build=rule("score"), chat=True, scores=True, depends=RULE_DEPENDS),
    "rule that waits": Listed(build=rule("later"), chat=True, scores=True, depends=RULE_DEPENDS),
    "rule of pairs": Listed(
        build=rule("share"), chat=True, depends={"its code": replaced("length.py", "(1 +", "(2 +")}
    ),
    "rule that looks at the order": Listed(
        build=rule("first"),
        chat=True,
        depends={"its code": replaced("length.py", "0.6", "0.7")},
        exempt={"antisymmetry": "the user's function prefers whoever stands first"},
    ),
    "judge of pairs": Listed(build=judge(), kind="judge", chat=True, depends=JUDGE_DEPENDS),
    "judge by first token": Listed(
        build=judge(answer="token"), kind="judge", chat=True, within=1e-12, depends=JUDGE_DEPENDS
    ),
    "judge of one": Listed(
        build=judge(question="pointwise"), kind="judge", chat=True, scores=True, depends=JUDGE_DEPENDS
    ),
    "panel": Listed(
        build=lambda folder: GAME.oracle(), chat=True, unknown=UNKNOWN, called="tea house", exempt=IN_MEMORY
    ),
    "host": Listed(
        build=lambda folder: HOST.oracle(),
        chat=True,
        unknown=UNKNOWN,
        called="tea house",
        scores=True,
        exempt=IN_MEMORY,
    ),
    "groups of users": Listed(
        build=lambda folder: GROUPS.oracle(), chat=True, unknown=UNKNOWN, called="tea house", exempt=IN_MEMORY
    ),
    "checked": Listed(
        build=lambda folder: Checked(GAME.oracle()),
        chat=True,
        unknown=UNKNOWN,
        called="tea house",
        exempt=IN_MEMORY,
    ),
}
