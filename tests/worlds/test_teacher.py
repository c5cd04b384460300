"""Teacher of a run: a model behind a server writes responses over text; each is paid for once, read as an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import equipoise as eq
from equipoise.data.collate import Prompt
from equipoise.data.records import Conversation
from equipoise.methods.index import get
from equipoise.oracles.protocol import OracleError
from equipoise.play.players.recorded import Targets
from equipoise.playground import LanguageGame, model_path
from equipoise.run.config import ConfigError
from equipoise.worlds.text.folder.row_files import load_rows
from equipoise.worlds.text.teacher import messages_of
from oracles.chat_server import said, serving

GAME = LanguageGame()
TEXT = GAME.responses[0]
SETTINGS = {
    "train.batch": 4,
    "train.epochs": 1,
    "sampling.max_new_tokens": 4,
    "evaluate.prompts": 1,
    "evaluate.samples": 1,
    "play.prompts": 4,
}


@pytest.fixture
def ask(tmp_path: Path):
    """ask(address, **settings): a run of SPIN whose targets a teacher writes, in one folder."""
    data, teacher = tmp_path / "prompts.jsonl", tmp_path / "teacher.yaml"
    data.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in GAME.prompts[:6]))

    def run(address: str, method: str = "spin", more: str = "", **settings):
        teacher.write_text(f"model: m\nbase_url: {address}\nwait: 0\nretries: 0\nconcurrency: 1\n{more}")
        given = SETTINGS | {"play.teacher": str(teacher), "play.rounds": 1} | settings
        out = tmp_path / "run"
        return eq.align(method, model=model_path(), data=data, out=out, settings=given, quiet=True)

    return run


@pytest.mark.slow
def test_a_round_is_written_by_teacher_and_policy(ask):
    with serving(lambda body, n: said(TEXT)) as (address, requests):
        folder = ask(address).folder
    rows = load_rows(folder / "rounds" / "001" / "sampling.parquet")
    assert rows.writers == ("taught", "start") and len(rows) == 4
    assert sorted(r["messages"][0]["content"] for r in requests) == sorted(p.context for p in rows.prompts)
    assert {len(r["messages"]) for r in requests} == {1}
    for response in rows.responses[:, 0]:
        assert response.text == TEXT and response.logp is None and response.finished
    judged = load_rows(folder / "rounds" / "001" / "judging.parquet")
    assert {response.text for response in judged.responses[:, 0]} == {TEXT}  # the target beats the own sample
    stored = json.loads((folder / "inputs.json").read_text())
    assert "teacher" in stored["inputs"]["oracle"]


@pytest.mark.slow
def test_no_reply_is_paid_for_twice(ask):
    down = True
    with serving(lambda body, n: 500 if down and n > 2 else said(TEXT)) as (address, requests):
        with pytest.raises(
            OracleError, match=r"teacher .*status 500.* its replies so far are kept: the same"
        ):
            ask(address)
        first, down = requests[:2], False
        requests.clear()
        folder = ask(address).folder
        asked, before = ([r["messages"][0]["content"] for r in part] for part in (requests, first))
        assert len(asked) == 2 and not set(asked) & set(before)
    lines = [json.loads(line) for line in (folder / "teacher.jsonl").read_text().splitlines()]
    assert len(lines) == 4 and {line["text"] for line in lines} == {TEXT}
    assert {tuple(line["tokens"]) for line in lines} == {(100, 10)}


@pytest.mark.slow
def test_a_reply_that_was_cut_teaches_no_end(ask):
    with serving(lambda body, n: said(TEXT) | {"finish_reason": "length"}) as (address, _):
        rows = load_rows(ask(address).folder / "rounds" / "001" / "sampling.parquet")
    for response in rows.responses[:, 0]:
        assert not response.finished and response.text == TEXT


def test_where_a_teacher_has_no_place_is_said_before_anything(ask):
    with pytest.raises(
        ConfigError, match=r"play\.teacher does not apply: the players are .* by the policy itself"
    ):
        ask("http://127.0.0.1:1", "online_dpo")
    with pytest.raises(OracleError, match=r"the teacher .*nonsense: Extra inputs"):
        ask("http://127.0.0.1:1", more="nonsense: 1\n")
    with pytest.raises(OracleError, match="a prompt has tools"):
        messages_of(Prompt((1,), Conversation([{"role": "user", "content": "q"}], tools=[{"name": "f"}])))


def test_the_players_keep_the_methods_decoding():
    players = get("dno_prct").players.taught()
    assert (
        players == Targets(own=5, parts=3, teacher=True, temperature=0.7, top_p=0.95) and players.width == 6
    )
    assert players.needs.records is None and get("dno_prct").players.needs.records == "pairs"
