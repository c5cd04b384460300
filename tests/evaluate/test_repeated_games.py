"""Language models in repeated games: prompts, answers, opponents, regret and transcripts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from equipoise.cli.app import main
from equipoise.evaluate.repeated.game import Setup, play_repeated, report
from equipoise.evaluate.repeated.players import ServerPlayer
from equipoise.evaluate.repeated.text import GameText, Played, RepeatedGameError, names_of
from equipoise.games import PreferenceGame, zoo
from equipoise.games.repeated.regret import regret_growth
from equipoise.oracles.judges.chat_writer import WriterFile
from equipoise.oracles.protocol import OracleError
from equipoise.playground import model_path
from oracles.chat_server import said, serving

RPS = PreferenceGame([[0.5, 0, 1], [1, 0.5, 0], [0, 1, 0.5]], names=["rock", "paper", "scissors"])
TEXT = GameText(("rock", "paper", "scissors"))


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    out = capsys.readouterr()
    return end.value.code, out.out, out.err


class Scripted:
    """Answers by a function of (prompt, round), and counts how often it was asked."""

    name, fingerprint = "scripted", "scripted"

    def __init__(self, answer) -> None:
        self.answer, self.asked = answer, 0

    def answers(self, prompts, round):
        self.asked += 1
        return [self.answer(prompt, round) for prompt in prompts]


def setup(adversary: str = "periodic", **changes) -> Setup:
    return Setup(**{"game": RPS, "adversary": adversary, "rounds": 12, "repeats": 2} | changes)


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("Rock", 0),
        ("I choose paper.", 1),
        ("rock, or paper", None),
        ("rocky", None),
        ("<think>rock beats</think> Scissors", 2),
        ("PAPER paper", 1),
        ("", None),
        ("\x1b[31m\ud800", None),
    ],
)
def test_an_answer_names_one_action_or_none(answer, action):
    assert TEXT.action(answer) == action


def test_of_names_within_each_other_the_longest_counts():
    assert GameText(("bet", "bet all")).action("bet all") == 1


@pytest.mark.parametrize(
    "names", [["a", "A"], ["<|im_end|>", "b"], ["x\ny", "z"], ["", "b"], ["n" * 41, "b"]]
)
def test_names_that_could_steer_a_model_or_be_confused_are_numbered(names):
    assert names_of(names) == ("action 1", "action 2")


def test_the_prompt_shows_the_last_rounds_and_all_sums():
    history = [Played(0, [0.5, 1, 0]), Played(None, [1, 0, 0.5]), Played(2, [0, 0.5, 1])]
    text = GameText(TEXT.names, memory=1).prompt(history)
    assert "Round 3: you chose scissors. Losses: rock 0.00, paper 0.50, scissors 1.00." in text
    assert "Earlier rounds that are not listed: 2." in text and "Round 2:" not in text
    assert "so far: rock 1.50, paper 1.50, scissors 1.50." in text and "Round 4: answer" in text
    assert "Losses" not in TEXT.prompt([])


@pytest.mark.parametrize("template", ["{{ ", "{{ unknown }}", "rock paper", "{{ actions[9].x }}"])
def test_a_template_that_cannot_serve_is_refused(template):
    with pytest.raises(RepeatedGameError, match="prompt"):
        GameText(TEXT.names, template=template)


def test_a_constant_player_pays_what_the_opponents_of_the_game_cost_it():
    rock = Scripted(lambda prompt, round: "rock")
    record = play_repeated(setup(), rock)
    # against rock, paper, scissors in turn: a tie, a defeat, a win
    assert record.losses[0, :3, 0].tolist() == [0.5, 1.0, 0.0] and record.unparsed == 0
    found = report(setup(), rock, record)
    assert found["regret"][-1] == pytest.approx(0.0) and found["average_play"] == [1.0, 0.0, 0.0]
    assert found["gap_of_average_play"] == pytest.approx(1.0)
    best = report(setup("best-response"), rock, play_repeated(setup("best-response"), rock))
    assert best["regret"][-1] == pytest.approx(
        11.0
    )  # beaten from round 2 on, where scissors would win; a tie in round 1
    assert best["growth"]["p_value"] > 0.05 and best["trend"]["p_value"] > 0.05


def test_a_player_that_follows_the_sums_of_the_prompt_is_the_leader_and_loses_to_alternating_losses():
    def leader(prompt: str, round: int) -> str:
        if "so far:" not in prompt:
            return "rock"
        sums = prompt.split("so far: ")[1].split(".\n")[0].split(", ")
        return min(sums, key=lambda one: float(one.rsplit(" ", 1)[1])).rsplit(" ", 1)[0]

    game = setup("alternating", rounds=40)
    found = report(game, Scripted(leader), play_repeated(game, Scripted(leader)))
    assert found["regret"][-1] == pytest.approx(found["beside"]["follow the leader"])
    assert found["growth"]["power"] > 0.9 and found["regret"][-1] > 2 * found["beside"]["hedge"]


def test_unreadable_answers_are_counted_and_play_uniformly():
    silent = Scripted(lambda prompt, round: "\x1b[2J<|im_end|>")
    record = play_repeated(setup(), silent)
    assert record.unparsed == 24 and torch.allclose(record.plays, torch.full((), 1 / 3).double())
    assert report(setup(), silent, record)["regret"][2] == pytest.approx(0.0)


def test_in_self_play_each_pays_for_the_other():
    other = Scripted(lambda prompt, round: "paper" if round % 2 else "rock")
    record = play_repeated(setup("self-play"), other)
    assert len(record.plays) == 4 and torch.equal(
        (record.plays * record.losses).sum(2), torch.full((4, 12), 0.5).double()
    )


def test_a_transcript_is_not_asked_again_and_belongs_to_one_game(tmp_path: Path):
    file = tmp_path / "t.jsonl"
    whole = play_repeated(setup("random"), Scripted(lambda p, r: "rock"), transcript=tmp_path / "whole.jsonl")

    def fails(prompt: str, round: int) -> str:
        if round == 5:
            raise OracleError("gone")
        return "rock"

    with pytest.raises(OracleError):
        play_repeated(setup("random"), Scripted(fails), transcript=file)
    player = Scripted(lambda p, r: "rock")
    resumed = play_repeated(setup("random"), player, transcript=file)
    assert player.asked == 7 and torch.equal(resumed.losses, whole.losses)
    assert file.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    with pytest.raises(RepeatedGameError, match="another player, game or settings"):
        play_repeated(setup("periodic"), player, transcript=file)


@pytest.mark.parametrize(
    "changes", [{"adversary": "nobody"}, {"rounds": 3}, {"game": zoo.parse("random:3:0x2")}]
)
def test_what_is_no_repeated_game_is_refused(changes):
    with pytest.raises(RepeatedGameError):
        setup(**changes)


def test_the_regression_test_knows_roots_from_lines():
    t = np.arange(1, 200)
    rows = torch.from_numpy(np.stack([2 * t**0.5, 3.0 * t, -t, t**1.2]))
    found = regret_growth(rows)
    assert found.power[[0, 1, 3]].tolist() == pytest.approx([0.5, 1.0, 1.2]) and bool(found.power[2].isnan())
    assert found.p_value[0] < 1e-6 and found.p_value[3] > 0.99


def test_a_server_plays_and_its_failures_end_in_a_sentence(tmp_path: Path):
    pytest.importorskip("openai", reason="a server needs the extra `judge`")
    with serving(lambda request, number: 429 if number == 1 else said("I take paper.")) as (
        address,
        requests,
    ):
        file = tmp_path / "player.yaml"
        file.write_text(json.dumps({"model": "m", "base_url": address, "wait": 0, "seed": 3}))
        record = play_repeated(setup(rounds=4), ServerPlayer.load(file))
        assert record.plays[..., 1].sum() == 8 and len(requests) == 9
        assert (
            requests[-1]["messages"][0]["role"] == "user"
            and "so far" in requests[-1]["messages"][0]["content"]
        )
    with serving(lambda request, number: 401) as (address, _), pytest.raises(OracleError, match="refuses"):
        play_repeated(setup(rounds=4), ServerPlayer(WriterFile(model="m", base_url=address), "p"))
    file.write_text("model: m\nunknown: 1\n")
    with pytest.raises(OracleError, match=r"the player .*unknown"):
        ServerPlayer.load(file)


def test_the_playground_model_plays_from_the_command_line(tmp_path: Path, capsys):
    game, prompt = tmp_path / "tea.json", tmp_path / "short.jinja"
    matrix = [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]
    game.write_text(json.dumps({"names": ["tea", "coffee", "cocoa"], "preference": matrix}))
    prompt.write_text('On a sunny morning a tired poet asks for {{ actions | join(" or ") }}.')
    arguments = [
        "play",
        "--game",
        str(game),
        "--player",
        str(model_path()),
        "--rounds",
        "5",
        "--repeats",
        "2",
    ]
    arguments += ["--prompt", str(prompt), "--seed", "1", "--transcript", str(tmp_path / "t.jsonl")]
    code, out, _ = run(capsys, *arguments, "--json")
    first = json.loads(out)
    assert code == 0 and first["answers"] == 10 and len(first["regret"]) == 5 and first["unparsed"] < 10
    (tmp_path / "t.jsonl").unlink()
    assert json.loads(run(capsys, *arguments, "--json")[1]) == first
    code, out, _ = run(capsys, *arguments, "--plot", str(tmp_path / "regret.png"))
    assert (
        code == 0 and "trend test" in out and "regression test" in out and (tmp_path / "regret.png").is_file()
    )


def test_a_prompt_that_is_no_text_is_refused(tmp_path: Path, capsys):
    file = tmp_path / "prompt.jinja"
    file.write_bytes("{{ actions }} é".encode("latin-1"))
    for path in (file, tmp_path, tmp_path / "missing"):
        given = ["--player", str(model_path()), "--prompt", str(path)]
        code, _, err = run(capsys, "play", "--game", "rps", *given)
        assert code == 2 and "cannot read the prompt" in err


def test_options_of_a_player_need_one(tmp_path: Path, capsys):
    given = ["--method", "inpo", "--transcript", str(tmp_path / "t.jsonl")]
    code, _, err = run(capsys, "play", "--game", "rps", *given)
    assert code == 2 and "are of --player" in err


def test_a_method_and_a_player_exclude_each_other(capsys):
    for given in ([], ["--method", "inpo", "--player", "x"]):
        code, _, err = run(capsys, "play", "--game", "rps", *given)
        assert code == 2 and "either --method" in err
