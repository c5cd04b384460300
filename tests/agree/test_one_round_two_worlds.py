"""One `play_round`, two worlds: the function that plays a table plays a transformer."""

from __future__ import annotations

from dataclasses import replace

from accelerate import Accelerator

from equipoise.data.collate import Prompt
from equipoise.data.rendering.render import Renderer, load_tokenizer
from equipoise.games import zoo
from equipoise.methods.index import get
from equipoise.play.pairings.sampled import Pairs
from equipoise.play.players.sampled import Self
from equipoise.play.round import play_round
from equipoise.play.seeds import Seeds
from equipoise.play.state import BEFORE, INITIAL, START, State
from equipoise.playground import LanguageGame, model_path
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import Decoding
from equipoise.policy.scoring.anchor_store import AnchorStore
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.table.world import TableWorld
from equipoise.worlds.text.fit import Training
from equipoise.worlds.text.progress import Progress
from equipoise.worlds.text.world import TextWorld


def text_world(folder):
    game = LanguageGame()
    renderer = Renderer(load_tokenizer(str(model_path())), max_length=64)
    return TextWorld(
        policy=CausalPolicy.load(model_path(), renderer.codec.tokenizer, device="cpu"),
        journal=Journal(folder),
        seeds=Seeds(0),
        training=Training(lr=1e-3, batch=4),
        decoding=Decoding(max_new_tokens=10),
        store=AnchorStore(folder / "anchors"),
        pool=[Prompt(renderer.prompt(text), text, text) for text in game.prompts[:6]],
        oracle=game.oracle(),
        progress=Progress(quiet=True),
        accelerator=Accelerator(cpu=True),
    )


def test_the_same_round_plays_both_worlds(tmp_path):
    method = replace(get("inpo"), players=Self(samples=2), pairing=Pairs(), rounds=1)
    game = zoo.parse("brps")
    worlds = [(TableWorld(game), State.begin(game.initial()))]
    text = text_world(tmp_path)
    worlds.append((text, text.begin()))
    for world, state in worlds:
        after = play_round(method, world, state)
        assert after.round == 2
        assert after.policies[INITIAL] is state.policies[INITIAL]
        assert after.policies[BEFORE] is state.policies[START]
        assert after.policies[START] != state.policies[START]
