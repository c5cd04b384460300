"""Few-shot episodes: which pairs are shown, how they are written, and that nothing leaks."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from equipoise.data.episodes import as_episodes, with_shots
from equipoise.data.errors import DataError
from equipoise.data.reading.read import Dataset, read
from equipoise.data.split import split
from equipoise.methods.index import get

Row = dict[str, Any]


def made(folder: Path, rows: list[Row]) -> Dataset:
    file = folder / "d.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read(file)


def users(count: int = 3, pairs: int = 6) -> list[Row]:
    """Prompts p0, p1, ...; the answers name their user and prompt."""
    return [
        {
            "id": f"{u}-{k}",
            "prompt": f"p{k}.",
            "chosen": f"good {u}-{k}",
            "rejected": f"bad {u}-{k}",
            "user_id": f"u{u}",
        }
        for u in range(count)
        for k in range(pairs)
    ]


def test_an_episode_by_hand(tmp_path: Path) -> None:
    records = made(tmp_path, users(1, 2)).records
    assert with_shots("q.", [records[0]]) == (
        "Some of my earlier choices between two answers:\n\n"
        "Question: p0.\nPreferred answer: good 0-0\nOther answer: bad 0-0\n\n"
        "Answer the following as I would prefer.\n\nq."
    )
    assert with_shots("q.", [records[0]], words=False) == "p0. good 0-0 bad 0-0 q."
    assert with_shots("q.", []) == "q."


def test_a_label_below_one_half_turns_the_shot_round(tmp_path: Path) -> None:
    row = users(1, 1)[0] | {"prob": 0.2}
    assert with_shots("q.", made(tmp_path, [row]).records, words=False) == "p0. bad 0-0 good 0-0 q."


def test_shots_are_the_same_users_and_never_the_querys_prompt(tmp_path: Path) -> None:
    rows = users() + [row | {"id": f"{row['id']}b", "chosen": f"{row['chosen']} too"} for row in users()]
    episodes = as_episodes(made(tmp_path, rows), 3, words=False).records
    assert len(episodes) == len(rows)
    for episode in episodes:
        user, number = episode.id.removesuffix("b").split("-")
        *_, query = episode.context.split(" ") if isinstance(episode.context, str) else ()
        shown = str(episode.context).removesuffix(query)
        assert query == f"p{number}." and query not in shown
        assert shown.count("good") == 3 == len({w for w in shown.split() if w.startswith("p")})
        assert all(word.startswith(f"{user}-") for word in shown.split() if "-" in word)


def test_the_order_of_the_rows_changes_nothing(tmp_path: Path) -> None:
    rows = users()
    first = {e.id: e.context for e in as_episodes(made(tmp_path, rows), 2, 5).records}
    random.Random(1).shuffle(rows)
    assert {e.id: e.context for e in as_episodes(made(tmp_path, rows), 2, 5).records} == first
    assert {e.id: e.context for e in as_episodes(made(tmp_path, rows), 2, 6).records} != first


def test_a_split_by_user_leaves_no_pair_of_a_held_out_user_in_training(tmp_path: Path) -> None:
    train, held = split(as_episodes(made(tmp_path, users(5)), 2).records, 0.4, 0, "user")
    names = {record.user[1:] for record in held}
    assert len(names) == 2
    assert not any(f"good {name}-" in str(record.context) for record in train for name in names)


def test_a_chats_shots_open_its_last_user_turn(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    say = [[{"role": "assistant", "content": text}] for text in ("yes", "no")]
    rows = [
        {
            "prompt": [turns[0], {"role": "user", "content": f"q{k}"}],
            "chosen": say[0],
            "rejected": say[1],
            "user_id": 1,
        }
        for k in range(2)
    ]
    episode = as_episodes(made(tmp_path, rows), 1).records[0]
    assert not isinstance(episode.context, str)
    system, user = episode.context
    assert system.content == "s" and user.content.endswith("\n\nq0")
    assert "Question: q1\nPreferred answer: yes\nOther answer: no" in user.content


def test_what_is_left_out_and_refused(tmp_path: Path) -> None:
    rows = [*users(2, 4), {"prompt": "alone", "chosen": "a", "rejected": "b", "user_id": "w"}]
    dataset = as_episodes(made(tmp_path, rows), 3)
    assert "8 episodes of 3 shots, by 3 annotators; 1 rows of annotators" in dataset.notes[-1]
    with pytest.raises(DataError, match="no annotator has 9 pairs"):
        as_episodes(made(tmp_path, rows), 8)
    nameless = {name: value for name, value in rows[0].items() if name != "user_id"}
    with pytest.raises(DataError, match=r"d.jsonl:1: this row names no annotator"):
        as_episodes(made(tmp_path, [nameless, *rows[1:]]), 1)
    with pytest.raises(DataError, match="made of pairs"):
        as_episodes(made(tmp_path, [{"prompt": "p", "completion": "c"}]), 1)


def test_the_method_shows_four_pairs_and_holds_out_users() -> None:
    fspo = get("fspo")
    assert fspo.data == {"shots": 4, "split_by": "user"} and [p.method for p in fspo.phases] == ["sft"]
    assert fspo.parameters()["tau"] == 0.01  # so that the margin is regressed on 1/(2 beta) = 50
