"""Language models as oracles: density ratios, Yes or No, the policy itself, and relevance by embeddings."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from contract.oracle_folders import SAYS_WORDS, SHAPE, STRONG, WEAK, changed, drawn, moved, row, words
from contract.oracle_rows import PROMPTS, SECOND, replaced
from equipoise.oracles.models.language_model import frozen
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import Oracle, SeesPolicy, parts_that
from equipoise.policy import checkpoint

TOO_LONG = (PROMPTS[0], "tea " * 500, SECOND[0])
TEMPLATE = "strong/chat_template.jinja"
DOMAINS = [
    {"name": "tea", "words": ["tea"], "instruction": "Serve tea."},
    {"name": "other", "exemplars": [{"prompt": "Coffee?", "response": " No."}]},
]
QUESTION = "Judge.\n====\n{{ conversation }}\n{{ response_a }}\n{{ response_b }}\n{{ answer_format }}"
POINTS = "Judge.\n====\n{{ conversation }}\n{{ response }}\n{{ answer_format }}"


def static(folder: Path) -> None:
    """Static embeddings of the playground's words."""
    matrix = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    save_file({"embeddings": matrix}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec"}), encoding="utf-8")
    words().save_pretrained(folder)


def encoder(folder: Path) -> None:
    config = BertConfig(**SHAPE, vocab_size=64, max_position_embeddings=12)
    drawn(BertModel(config), 4).save_pretrained(folder)
    words().save_pretrained(folder)


def shown(oracle: Oracle, folder: Path) -> None:
    """The policy of the round, as a run shows it."""
    policy = frozen(str(folder / "policy"), Placement(device="cpu", tokens=1024))
    for part in parts_that(oracle, SeesPolicy):
        part.see(policy, checkpoint.fingerprint(policy))


def one_row_moved(folder: Path) -> None:
    """An edit: one vector of static embeddings."""
    file = folder / "embeddings" / "model.safetensors"
    tensors = load_file(file)
    tensors["embeddings"][3] += 1
    save_file(tensors, file)


RATIO = {
    "scores": True,
    "chat": True,
    "within": 1e-5,
    "unknown": TOO_LONG,
    "called": "accepts 1,024 tokens",
}
RELEVANCE = {
    "the similarity": changed(similarity="dot"),
    "the length": changed(length=50),
    "the repetition": changed(repetition=False),
    "beta": changed(beta=2.0),
}
judge_itself = partial(row, "self", models={"policy": STRONG}, ready=shown)

ORACLES = {
    "density ratio": row(
        "density_ratio",
        {"strong": "strong", "weak": "weak", "device": "cpu"},
        {"strong": STRONG, "weak": WEAK},
        depends={
            "the strong model": moved("strong"),
            "the weak model": moved("weak"),
            "beta": changed(beta=0.5),
            "the mean over tokens": changed(per_token=True),
            "the template": changed(template="plain"),
            "the chat template": replaced(TEMPLATE, "{{ m.role }}:", "{{ m.role }}>"),
        },
        **RATIO,
    ),
    "density ratio with domains": row(
        "density_ratio",
        {"strong": "strong", "weak": "weak", "device": "cpu", "per_token": True, "domains": "domains.yaml"},
        {"strong": STRONG, "weak": WEAK},
        {"domains.yaml": json.dumps(DOMAINS)},
        depends={
            "an instruction": replaced("domains.yaml", "Serve tea.", "Serve coffee."),
            "an exemplar": replaced("domains.yaml", "Coffee?", "Cocoa?"),
            "a domain's words": replaced("domains.yaml", '["tea"]', '["cup"]'),
        },
        **RATIO,
    ),
    "implicit reward": row(
        "implicit_reward",
        {"policy": "policy", "reference": "reference", "beta": 0.1, "device": "cpu"},
        {"policy": STRONG, "reference": WEAK},
        depends={
            "the policy": moved("policy"),
            "the reference": moved("reference"),
            "beta": changed(beta=0.2),
        },
        **RATIO,
    ),
    "yes or no": row(
        "yes_no",
        {"model": "model", "question": "{prompt}\n{response}\nGood?"},
        {"model": STRONG},
        scores=True,
        chat=True,
        within=1e-6,
        unjudged=TOO_LONG,
        called="accepts 1024 tokens",
        depends={
            "the model": moved("model"),
            "the question": changed(question="{prompt}\n{response}\nBad?"),
            "the word that says yes": changed(positive="Right"),
            "the word that says no": changed(negative="Wrong"),
        },
    ),
    "yes or no without a chat template": row(
        "yes_no",
        {"model": "model", "positive": "mint", "negative": "black", "question": "{prompt} {response}"},
        {"model": SAYS_WORDS},
        scores=True,
        chat=True,
        within=1e-6,
        unjudged=(PROMPTS[0], "tea " * 1100, SECOND[0]),
        called="accepts 1024 tokens",
        depends={"the model": moved("model")},
    ),
    "the policy itself": judge_itself(
        {"prompt": "question.jinja"},
        files={"question.jinja": QUESTION},
        chat=True,
        within=1e-6,
        unknown=TOO_LONG,
        called="accepts 1,024 tokens",
        depends={
            "the policy": moved("policy"),
            "the prompt": replaced("question.jinja", "Judge.", "Judge well."),
            "the template": changed(template="plain"),
        },
    ),
    "the policy's own points": judge_itself(
        {"prompt": "question.jinja", "question": "pointwise"},
        files={"question.jinja": POINTS},
        chat=True,
        scores=True,
        within=1e-6,
        unknown=TOO_LONG,
        called="accepts 1,024 tokens",
        depends={"the policy": moved("policy"), "beta": changed(beta=2.0)},
    ),
    "relevance by an encoder": row(
        "relevance",
        {"embeddings": "embeddings", "device": "cpu"},
        {"embeddings": encoder},
        scores=True,
        chat=True,
        within=1e-6,
        depends={"the encoder": moved("embeddings"), **RELEVANCE},
    ),
    "relevance by static embeddings": row(
        "relevance",
        {"embeddings": "embeddings", "similarity": "dot"},
        {"embeddings": static},
        scores=True,
        chat=True,
        within=1e-9,
        depends={"a vector": one_row_moved},
    ),
}
