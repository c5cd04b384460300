"""One small language-model world for all suites of the axes."""

from __future__ import annotations

from typing import Any

import pytest

from contract.scenes import Text
from equipoise.data.collate import Prompt
from equipoise.data.rendering.render import Renderer
from equipoise.play.rows import Rows
from equipoise.policy.causal import CausalPolicy
from text_world_fixtures import model_path


@pytest.fixture(scope="session")
def text(renderer: Renderer, prompts: list[Prompt], pairs: Rows, tmp_path_factory: Any) -> Text:
    policy = CausalPolicy.load(model_path(), renderer.codec.tokenizer, device="cpu")
    return Text(tmp_path_factory.mktemp("text"), renderer, policy, prompts, pairs)
