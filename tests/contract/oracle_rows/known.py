"""Rules, tables, recorded votes, a one-logit reward model, LLM judges and the playground's panel and host."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from contract.oracle_rows import FIRST, GAME, PROMPTS, QUESTIONS, SECOND, Listed, replaced
from equipoise import oracles
from equipoise.oracles.checked import Checked, unwrapped
from equipoise.oracles.protocol import Oracle
from equipoise.oracles.reward import RewardOracle
from equipoise.oracles.table import RecordedOracle, TableOracle
from equipoise.playground import LanguageGame, model_path
from oracles.chat_server import between, said, serving

HOST = LanguageGame("transitive")
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


def bare(checked: Checked) -> Oracle:
    """What `load` wraps, so that the suite and not `Checked` judges its answers."""
    oracle = unwrapped(checked)
    assert oracle is not None
    return oracle


def reward_model(folder: Path) -> Oracle:
    """A random model of two layers; a context of 40 tokens."""
    if not (folder / "config.json").is_file():
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
        LlamaForSequenceClassification(config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(model_path()).save_pretrained(folder)
    return RewardOracle.load(folder, batch=3)


def table(folder: Path) -> Oracle:
    prompts = {prompt: x for x, prompt in enumerate(PROMPTS)}
    responses = [{text: a for a, text in enumerate(GAME.responses)}] * len(PROMPTS)
    return TableOracle(prompts, responses, GAME.preference[: len(PROMPTS)])


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
    """Address of a server that lives as long as the tests."""
    running = serving(answers)
    _kept.append(running)
    return running.__enter__()[0]


_kept: list[Any] = []  # a context manager that is collected would close its server


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
    return (Path(oracles.__file__).with_name("prompts") / f"{kind}.jinja").read_text(encoding="utf-8")


def weights_moved(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name: t + 0.5 for name, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})


RULE_DEPENDS = {
    "its code": replaced("length.py", "len(response)", "2 * len(response)"),
    "what it imports": replaced("length_scale.py", "9", "8"),
}
JUDGE_DEPENDS = {
    "the model": replaced("judge.yaml", '"model": "m"', '"model": "n"'),
    "the prompt": replaced("question.jinja", "====", "Be strict.\n===="),
    "the temperature": replaced("judge.yaml", '"model"', '"temperature": 0.5, "model"'),
}
IN_MEMORY = {"fingerprint": "made in memory: no file or command names it"}
BY_FOLDER = {"fingerprint": "a run records the hashes of its folder's files"}
UNKNOWN = ("where?", FIRST[0], SECOND[0])

ORACLES = {
    "table": Listed(build=table, unknown=UNKNOWN, called="table", exempt=IN_MEMORY),
    "recorded": Listed(
        build=lambda folder: RecordedOracle(
            [*((p, a, b, 0.75) for p, a, b in QUESTIONS[:-1]), (*QUESTIONS[-1], 0.5)]
        ),
        unknown=(PROMPTS[0], "an answer without votes", SECOND[0]),
        called="recorded",
        exempt=IN_MEMORY,
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
    "reward model": Listed(
        build=reward_model,
        unknown=(PROMPTS[0], "tea " * 40, SECOND[0]),
        called="accepts 40 tokens",
        scores=True,
        within=1e-6,
        exempt=BY_FOLDER,
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
    "checked": Listed(
        build=lambda folder: Checked(GAME.oracle()),
        chat=True,
        unknown=UNKNOWN,
        called="tea house",
        exempt=IN_MEMORY,
    ),
}
