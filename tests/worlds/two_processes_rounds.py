"""One round of a method in float64, sampling and judging included, by however many processes run this.

    python two_processes_rounds.py FOLDER METHOD ...

Each method plays in FOLDER/METHOD and leaves its checkpoints and journal there.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from equipoise.data.collate import Prompt
from equipoise.data.rendering.render import Renderer, load_tokenizer
from equipoise.methods.index import get
from equipoise.oracles.checked import Checked
from equipoise.play.round import play_round
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

game = LanguageGame()
renderer = Renderer(load_tokenizer(str(model_path())), max_length=64)
accelerator = Accelerator(cpu=True)
prompts = [Prompt(renderer.prompt(text), text, text) for text in game.prompts[:7]]
answers = [renderer.answer(prompts[0], text) for text in game.responses]
pairs = Rows(
    prompts=objects(prompts),
    responses=objects([[answers[3 * i], answers[(5 * i + 7) % 24]] for i in range(7)], width=2),
    weight=np.linspace(0.5, 2, 7),
    writers=("recorded", "recorded"),
    prob=np.linspace(0.6, 0.95, 7),
)
for name in sys.argv[2:]:
    folder, recorded = Path(sys.argv[1]) / name, not get(name).needs.oracle
    policy = CausalPolicy.load(model_path(), renderer.codec.tokenizer, device="cpu")
    policy.model.double()
    world = TextWorld(
        policy=policy,
        journal=Journal(folder),
        seeds=Seeds(0),
        # uneven shares, and a rest; in a dozen steps on records Adam would make rounding of what is near 0 a step
        training=Training(lr=1e-3, batch=5, micro_batch=2, epochs=2, eps=1e-3 if recorded else 1e-8),
        decoding=Decoding(max_new_tokens=10),
        store=AnchorStore(folder / "anchors"),
        pool=prompts,
        pairs=pairs,
        oracle=Checked(game.oracle()),
        progress=Progress(quiet=True),
        accelerator=accelerator,
    )
    method = replace(get(name), rounds=1)
    if not recorded:
        method = replace(method, players=method.players.writing(2))
    play_round(method, world, world.begin(method.update.memory))
accelerator.end_training()
