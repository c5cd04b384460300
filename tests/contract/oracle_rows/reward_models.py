"""Reward models on disk: one reward, two attributes, a general preference, and both responses in one text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from contract.oracle_folders import (
    FILE,
    SHAPE,
    STRONG,
    changed,
    changed_json,
    characters,
    copied,
    drawn,
    loaded,
    moved,
    row,
    summed,
    words,
)
from contract.oracle_rows import PROMPTS, SECOND, Listed
from equipoise.oracles.protocol import Oracle
from equipoise.policy.files import write_json, write_tensors
from equipoise.reward_models.folder import save
from equipoise.reward_models.head import SECTION, Head
from equipoise.reward_models.model import RewardModel, Scales
from equipoise.reward_models.texts import Texts
from equipoise.reward_models.users.ideal_points import Pal, PalSettings
from equipoise.reward_models.users.pal_training import SETTINGS, TENSORS

FOLDER = "model"
TOO_LONG = (PROMPTS[0], "tea " * 500, SECOND[0])


def reward_model(
    folder: Path, *, head: Head, limit: int, tokenizer: Callable[[], Any], seed: int = 3
) -> None:
    """A random decoder of two layers with a head, written as training writes it."""
    reads = tokenizer()
    config = LlamaConfig(
        **SHAPE,
        vocab_size=len(reads),
        max_position_embeddings=limit,
        num_labels=head.outputs,
        pad_token_id=reads.pad_token_id,
    )
    body = drawn(LlamaForSequenceClassification(config), seed)
    scales = drawn(Scales(16, head.planes), seed + 1) if head.scaled else None
    texts = Texts(reads, "tiny reward", rows=len(reads), limit=limit)
    save(RewardModel(body, head, prompt_head=scales, pad=texts.pad), texts, folder)


def with_dropout(folder: Path) -> None:
    """A random encoder, whose layers have dropout; a plain classifier that others have saved."""
    reads = words()
    config = BertConfig(
        **SHAPE, vocab_size=len(reads), max_position_embeddings=40, num_labels=1, pad_token_id=0
    )
    drawn(BertForSequenceClassification(config), 5).save_pretrained(folder)
    reads.save_pretrained(folder)


def listed(make: Callable[[Path], Any], **about: Any) -> Listed:
    def build(folder: Path) -> Oracle:
        copied(folder / FOLDER, make)
        return loaded(folder / FOLDER)

    said = {"unjudged": TOO_LONG, "called": "accepts", "within": 1e-6} | about
    depends = {"weights": moved(FOLDER), "its tokenizer": other_tokenizer} | said.pop("depends", {})
    return Listed(build=build, depends=depends, **said)


def other_tokenizer(folder: Path) -> None:
    """An edit: the tokenizer reads capitals as small letters."""
    from tokenizers import Tokenizer, normalizers

    file = folder / FOLDER / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save(str(file))
    summed(file.parent)


def scales_moved(folder: Path) -> None:
    """An edit: how the prompt scales the planes of a general preference."""
    from safetensors.torch import load_file, save_file

    file = folder / FOLDER / "prompt_scales.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(file).items()}, file)
    summed(file.parent)


def other_head(**settings: Any) -> Callable[[Path], None]:
    return changed_json(f"{FOLDER}/config.json", **{SECTION: settings})


REWARD = partial(reward_model, head=Head(), limit=40, tokenizer=words)
TWO = Head(attributes=("kind", "short"), weights=(2.0, -1.0))
ATTRIBUTES = partial(reward_model, head=TWO, limit=40, tokenizer=words)
GENERAL = partial(reward_model, head=Head(kind="gpm", dimension=4), limit=400, tokenizer=characters)
PAIRWISE = partial(reward_model, head=Head(kind="pair"), limit=400, tokenizer=characters)

PAL_TRAINED = Head(attributes=("pal",))


def ideal_points(folder: Path) -> None:
    """A random decoder with random ideal points of three users, written as training writes them."""
    settings = PalSettings(prototypes=2, latent=4)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(9)
    write_json(folder / SETTINGS, {"settings": asdict(settings), "users": ["u", "v", "w"]})
    write_tensors(folder / TENSORS, dict(Pal(16, 3, settings).state_dict()))
    reward_model(folder, head=PAL_TRAINED, limit=40, tokenizer=words)


def points_moved(folder: Path) -> None:
    """An edit: the prototypes are twice as far out."""
    from safetensors.torch import load_file, save_file

    file = folder / FOLDER / TENSORS
    tensors = load_file(file)
    save_file({**tensors, "prototypes": 2 * tensors["prototypes"]}, file)
    summed(file.parent)


ORACLES = {
    "ideal points of users": listed(ideal_points, scores=True, depends={"prototypes": points_moved}),
    "ideal points of one user": row(
        "pal",
        {"path": FOLDER, "weights": {"new": [0.25, 0.75]}},
        {FOLDER: ideal_points},
        scores=True,
        within=1e-6,
        unjudged=TOO_LONG,
        called="accepts",
        depends={
            "weights": moved(FOLDER),
            "the user's weights": changed_json(FILE, weights={"new": [0.9, 0.1]}),
        },
    ),
    "reward model": listed(REWARD, scores=True),
    "reward model of two attributes": listed(
        ATTRIBUTES, scores=True, depends={"weights of attributes": other_head(weights=[1.0, 1.0])}
    ),
    "reward model of an encoder": listed(with_dropout, scores=True),
    "general preference model": listed(
        GENERAL,
        chat=True,
        within=1e-5,
        depends={"the temperature": other_head(temperature=0.5), "the scales": scales_moved},
    ),
    "pairwise model": listed(PAIRWISE, chat=True),
    "Monte Carlo dropout": row(
        "mc_dropout",
        {"model": FOLDER, "passes": 2, "device": "cpu"},
        {FOLDER: with_dropout},
        scores=True,
        within=1e-6,
        unjudged=TOO_LONG,
        called="accepts 40 tokens",
        depends={
            "weights": moved(FOLDER),
            "passes": changed(passes=3),
            "rate": changed(rate=0.3),
            "seed": changed(seed=1),
        },
    ),
    "Monte Carlo dropout of a general preference": row(
        "mc_dropout",
        {"model": FOLDER, "passes": 2, "rate": 0.2},
        {FOLDER: GENERAL},
        chat=True,
        unjudged=TOO_LONG,
        called="accepts 400 tokens",
        depends={"weights": moved(FOLDER), "rate": changed(rate=0.3)},
    ),
    "ensemble": row(
        "ensemble",
        {"members": [FOLDER, "other"], "weights": [1, 2]},
        {FOLDER: REWARD, "other": partial(REWARD, seed=7)},
        scores=True,
        within=1e-6,
        unjudged=TOO_LONG,
        called="accepts 40 tokens",
        depends={
            "weights of a member": moved("other"),
            "members": changed(members=[FOLDER, FOLDER]),
            "weights of the members": changed(weights=[2, 1]),
        },
    ),
    "ensemble of a general preference and a file": row(
        "ensemble",
        {"members": [FOLDER, "yes_no.yaml"]},
        {FOLDER: GENERAL, "strong": STRONG},
        {"yes_no.yaml": '{"kind": "yes_no", "model": "strong"}'},
        chat=True,
        within=1e-5,
        unjudged=TOO_LONG,
        called="accepts 400 tokens",
        depends={"weights of the file's model": moved("strong")},
    ),
}
