"""A text world of a handful of comparisons, played with the model that ships with the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator

from equipoise.data.collate import Prompt, Response
from equipoise.data.rendering.render import Renderer, load_tokenizer
from equipoise.oracles.checked import Checked
from equipoise.play.rows import Rows, objects
from equipoise.play.seeds import Seeds
from equipoise.playground import LanguageGame, model_path
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import Decoding
from equipoise.policy.scoring.anchor_store import AnchorStore
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.fit import Training
from equipoise.worlds.text.progress import Progress
from equipoise.worlds.text.world import TextWorld

GAME = LanguageGame()


@pytest.fixture(scope="session")
def renderer() -> Renderer:
    return Renderer(load_tokenizer(str(model_path())), max_length=64)


@pytest.fixture
def policy(renderer: Renderer) -> CausalPolicy:
    return CausalPolicy.load(model_path(), renderer.codec.tokenizer, device="cpu")


@pytest.fixture(scope="session")
def prompts(renderer: Renderer) -> list[Prompt]:
    return [Prompt(renderer.prompt(text), text, text) for text in GAME.prompts[:12]]


@pytest.fixture(scope="session")
def pairs(renderer: Renderer, prompts: list[Prompt]) -> Rows:
    """Eight comparisons with soft labels and uneven weights; one response is cut, so that lengths differ."""
    codec = renderer.codec
    answers = [
        Response((*codec.continuation(text), codec.eos), text)
        for text in GAME.responses  # type: ignore[misc]
    ]
    cut = Response(answers[9].ids[:3], "Gladly", finished=False)
    return Rows(
        prompts=objects(prompts[:8]),
        responses=objects(
            [[answers[i], cut if i == 3 else answers[(5 * i + 7) % 24]] for i in range(8)], width=2
        ),
        weight=np.array([1, 2, 0.5, 1, 1, 3, 1, 0.25]),
        writers=("recorded", "recorded"),
        prob=np.array([1, 0.8, 0.5, 1, 0.3, 1, 0.9, 1]),
    )


@pytest.fixture
def make_world(
    policy: CausalPolicy, prompts: list[Prompt], pairs: Rows, tmp_path: Any
) -> Callable[..., TextWorld]:
    def make(**changes: Any) -> TextWorld:
        settings: dict[str, Any] = {
            "policy": policy,
            "journal": Journal(tmp_path),
            "seeds": Seeds(0),
            "training": Training(lr=1e-3, batch=4, micro_batch=2, epochs=2),
            "decoding": Decoding(max_new_tokens=10),
            "store": AnchorStore(tmp_path / "anchors"),
            "pool": prompts,
            "pairs": pairs,
            "oracle": Checked(GAME.oracle()),
            "progress": Progress(quiet=True),
            "accelerator": Accelerator(cpu=True),
        }
        return TextWorld(**(settings | changes))

    return make
