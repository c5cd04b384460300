"""Oracles made of language models: density ratios, a self-judge, ensembles, dropout, relevance by embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from contract.oracle_rows import PROMPTS, SECOND, Listed, replaced
from contract.oracle_rows.known import bare, weights_moved
from equipoise import oracles
from equipoise.oracles.asking import Asking
from equipoise.oracles.language_model import frozen
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import Oracle, OraclePrompt, SeesPolicy, parts_that
from equipoise.policy import checkpoint
from oracles.tiny_models import causal, tokenizer

ROUNDS = 1e-5  # of log-probs in fp32, between batches


class Anew:
    """An asked oracle of batches without a memory: it answers every question again."""

    may_fail = True

    def __init__(self, asked: Asking) -> None:
        self.asked, self.name, self.fingerprint = asked, asked.name, asked.fingerprint

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        return self._anew().compare(prompts, a, b)

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        return self._anew().score(prompts, responses)

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        return self.asked.room(prompts)

    def _anew(self) -> Asking:
        return Asking(self.asked.questioner, None, self.asked.policy)


def models(folder: Path) -> None:
    """Two language models of two layers, and two reward models with dropout."""
    for seed, name in enumerate(("strong", "weak")):
        if not (folder / name).is_dir():
            causal(folder / name, seed, positions=256)
    for seed, name in enumerate(("first", "second")):
        if not (folder / name).is_dir():
            torch.manual_seed(seed)
            config = BertConfig(
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=24,
                vocab_size=64,
                max_position_embeddings=256,
                num_labels=1,
            )
            BertForSequenceClassification(config).save_pretrained(folder / name)
            tokenizer().save_pretrained(folder / name)


def of_file(text: str) -> Callable[[Path], Oracle]:
    def build(folder: Path) -> Oracle:
        models(folder)
        (folder / "chat.jinja").write_text(TEMPLATE, encoding="utf-8")
        file = folder / "oracle.yaml"
        if not file.is_file():
            file.write_text(text, encoding="utf-8")
        found = bare(oracles.load(str(file)))
        return Anew(found) if isinstance(found, Asking) else found

    return build


def static(folder: Path) -> Oracle:
    place = folder / "vectors"
    if not place.is_dir():
        place.mkdir()
        draw = torch.Generator().manual_seed(0)
        save_file({"embeddings": torch.randn(64, 8, generator=draw)}, place / "model.safetensors")
        tokenizer().save_pretrained(place)
    return of_file("kind: relevance\nembeddings: vectors\n")(folder)


def own(question: str) -> Callable[[Path], Oracle]:
    """A self-judge that has seen a policy, with a short prompt and words that the policy's tokenizer knows."""

    def build(folder: Path) -> Oracle:
        (folder / "pairwise.jinja").write_text("====\n{{ conversation }} {{ response_a }} {{ response_b }}")
        (folder / "pointwise.jinja").write_text("====\n{{ conversation }} {{ response }}")
        oracle = of_file(f"kind: self\nquestion: {question}\nprompt: {question}.jinja\n")(folder)
        assert isinstance(oracle, Anew)
        policy = frozen(str(folder / "strong"), Placement(device="cpu"))
        for part in parts_that(oracle.asked, SeesPolicy):
            part.options = ("tea.", "for", "a", "On", "hot", "mint")[: len(part.options)]  # type: ignore[attr-defined]
            part.see(policy, checkpoint.fingerprint(policy))
        return Anew(oracle.asked)

    return build


def moved(name: str) -> Callable[[Path], Any]:
    return lambda folder: weights_moved(folder / name)


TEMPLATE = (
    "{% if tools %}{{ tools | tojson }} {{ eos_token }} {% endif %}"
    "{% for m in messages %}{{ m.role }} {{ m.content }} {{ eos_token }} {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)
RATIO = "kind: density_ratio\nstrong: strong\nweak: weak\ntemplate: chat.jinja\ntokens: 64\nbeta: 0.5\n"
IMPLICIT = "kind: implicit_reward\npolicy: strong\nreference: weak\ntemplate: chat.jinja\nbeta: 0.5\n"
TOO_LONG = (PROMPTS[0], "tea. " * 300, SECOND[0])
BOTH = {"the strong model": moved("strong"), "the weak model": moved("weak")}

ORACLES = {
    "density ratio": Listed(
        build=of_file(RATIO),
        kind="density_ratio",
        chat=True,
        unknown=TOO_LONG,
        called="accepts 256 tokens",
        scores=True,
        within=ROUNDS,
        depends=BOTH | {"beta": replaced("oracle.yaml", "0.5", "0.25")},
    ),
    "implicit reward": Listed(
        build=of_file(IMPLICIT),
        kind="implicit_reward",
        chat=True,
        unknown=TOO_LONG,
        called="accepts 256 tokens",
        scores=True,
        within=ROUNDS,
        depends=BOTH,
    ),
    "policy as judge of pairs": Listed(
        build=own("pairwise"),
        kind="self",
        chat=True,
        unknown=TOO_LONG,
        called="accepts 256 tokens",
        within=ROUNDS,
        depends={
            "the policy": moved("strong"),
        },
    ),
    "policy as judge of one": Listed(
        build=own("pointwise"),
        kind="self",
        chat=True,
        unknown=TOO_LONG,
        called="accepts 256 tokens",
        scores=True,
        within=ROUNDS,
        depends={"the policy": moved("strong")},
    ),
    "ensemble": Listed(
        build=of_file("kind: ensemble\nmembers: [first, second]\nweights: [1, 2]\n"),
        kind="ensemble",
        scores=True,
        unknown=TOO_LONG,
        called="accepts 256 tokens",
        within=ROUNDS,
        depends={"a member": moved("second"), "a weight": replaced("oracle.yaml", "2]", "3]")},
    ),
    "dropout": Listed(
        build=of_file("kind: mc_dropout\nmodel: first\ndevice: cpu\npasses: 2\nrate: 0.01\nseed: 0\n"),
        kind="mc_dropout",
        scores=True,
        unknown=TOO_LONG,
        called="accepts 256 tokens",
        exempt={"score": "a mean of probabilities need not order responses as a mean of scores does"},
        depends={
            "the model": moved("first"),
            "the seed": replaced("oracle.yaml", "seed: 0", "seed: 1"),
            "the rate": replaced("oracle.yaml", "0.01", "0.02"),
        },
    ),
    "relevance": Listed(
        build=static,
        kind="relevance",
        chat=True,
        scores=True,
        within=1e-12,
        depends={"the vectors": moved("vectors")},
    ),
}
