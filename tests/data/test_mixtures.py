"""Files with settings of their own: formats, mappings, weights, limits; chat wrapping; system prompts; evaluation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.errors import DataError
from equipoise.data.evaluation_files import check_evaluation
from equipoise.data.plain_strings import note_plain_strings
from equipoise.data.ranked_lists import without_ties
from equipoise.data.reading.mixture import counts
from equipoise.data.reading.read import read, scan
from equipoise.data.records import plain

Rows = Callable[..., Path]


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def bot(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def text_pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"prompt": f"q{n}", "chosen": f" a{n}", "rejected": f" b{n}"} for n in range(start, start + count)
    ]


TRANSCRIPT = {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
CHAT = {"prompt": [user("r")], "chosen": [bot("a")], "rejected": [bot("b")]}
LIST = {"prompt": "q", "responses": ["a", "b"], "rewards": [1, 0]}
UNPAIRED = {"prompt": "q", "completion": "a", "label": True}


# -- several files ---------------------------------------------------------------------------------------------------


def test_the_format_is_decided_file_by_file(rows: Rows) -> None:
    files = [rows(TRANSCRIPT, name="a.jsonl"), rows(CHAT, name="b.jsonl")]
    data = read(files)
    assert [plain(record.context) for record in data.records] == [[user("q")], [user("r")]]
    assert data.format == "pair-transcript, pair-chat" and (data.kind, data.space) == ("pair", "chat")
    assert f"{files[0]}: format pair-transcript: columns chosen, rejected in 1 of 1 rows" in data.notes


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (UNPAIRED, r"preference pairs \(.*a.jsonl\) and unpaired answers \(.*b.jsonl\)"),
        (CHAT, r"plain text \(.*a.jsonl\) and chat turns \(.*b.jsonl\)\n.*`data.wrap: chat`"),
    ],
)
def test_files_that_do_not_mix_are_refused_with_both_named(
    other: dict[str, Any], says: str, rows: Rows
) -> None:
    files = [rows(*text_pairs(1), name="a.jsonl"), rows(other, name="b.jsonl")]
    with pytest.raises(DataError, match=says):
        read(files)


def test_text_and_chat_join_when_strings_are_wrapped(rows: Rows) -> None:
    data = read([rows(*text_pairs(1), name="a.jsonl"), rows(CHAT, name="b.jsonl")], wrap="chat")
    assert [plain(r.context) for r in data.records] == [[user("q0")], [user("r")]]
    assert plain(data.records[0].candidates[0].content) == [bot("a0")]


def test_ranked_and_scored_lists_join(rows: Rows) -> None:
    nectar = {
        "prompt": "\n\nHuman: x\n\nAssistant: ",
        "answers": [{"answer": t, "rank": i} for i, t in enumerate("ab")],
    }
    data = read([rows(nectar, name="a.jsonl"), rows(LIST | {"prompt": [user("q")]}, name="b.jsonl")])
    assert data.kind == "scores" and len(data) == 2


def test_a_file_has_a_format_a_mapping_and_a_limit_of_its_own(rows: Rows) -> None:
    mine = rows(*({"q": f"q{n}", "yes": "a", "no": "b"} for n in range(5)), name="mine.jsonl")
    other = rows(*text_pairs(3, 10), name="other.jsonl")
    listed = [
        {"path": mine, "mapping": {"prompt": "q", "chosen": "yes", "rejected": "no"}, "limit": 2},
        other,
    ]
    data = read(listed)
    assert [record.context for record in data.records] == ["q0", "q1", "q10", "q11", "q12"]
    assert read({"path": str(other), "format": "pair-text"}).notes[0] == "format pair-text: as configured"


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (
            {"path": "x", "formt": "pair-text"},
            "unknown setting `formt` of a data file\n.*did you mean `format`",
        ),
        ({"format": "pair-text"}, "a data file without `path`"),
        ({"path": "x", "weight": 0}, "`weight` must be above 0, got 0"),
        ({"path": "x", "weight": "half"}, "`weight` must be a number above 0, got 'half'"),
        ({"path": "x", "limit": -3}, "`limit` must be above 0, got -3"),
        ({"path": "x", "mapping": "prompt"}, "`mapping` must be"),
        (7, "a path or a mapping with `path`, got 7"),
    ],
)
def test_a_wrong_setting_of_a_file_says_what_is_right(item: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read([item])


def test_a_weight_below_one_keeps_that_share_whatever_else_is_read(rows: Rows) -> None:
    path, other = rows(*text_pairs(40), name="a.jsonl"), rows(*text_pairs(3, 50), name="b.jsonl")
    half = {"path": path, "weight": 0.5}
    kept = [record.context for record in read([half], seed=3).records]
    assert len(kept) == 20 and kept == sorted(kept, key=lambda q: int(str(q)[1:]))
    assert [record.context for record in read([half, other], seed=3).records][:20] == kept
    assert [record.context for record in read([half], seed=4).records] != kept
    assert any("weight 0.5 keeps 20 of 40 rows" in note for note in read([half]).notes)


def test_a_weight_above_one_repeats_rows_under_ids_of_their_own(rows: Rows) -> None:
    data = read({"path": rows(*text_pairs(4)), "weight": 2.5})
    counts = Counter(record.context for record in data.records)
    assert sorted(counts.values()) == [2, 2, 3, 3]
    assert len({record.id for record in data.records}) == len(data) == 10
    assert (data.ledger.read, data.ledger.used, data.ledger.duplicate) == (4, 4, 0)


def test_equal_rows_of_two_files_count_once(rows: Rows) -> None:
    data = read([rows(*text_pairs(2), name="a.jsonl"), rows(*text_pairs(2), name="b.jsonl")])
    assert (len(data), data.ledger.duplicate) == (2, 2)


# -- mappings --------------------------------------------------------------------------------------------------------


def test_a_mapping_reaches_into_objects_and_lists(rows: Rows) -> None:
    row = {"task": {"turns": [user("q"), user("r")]}, "sides": [{"say": " a"}, {"say": " b"}]}
    mapping = {"prompt": "task.turns.0", "chosen": "sides.0.say", "rejected": "sides.1.say"}
    (record,) = read(rows(row), mapping=mapping).records
    assert plain(record.context) == [user("q")]
    assert [candidate.text for candidate in record.candidates] == [" a", " b"]
    with pytest.raises(DataError, match=r"no row has the column `sides.2.say`"):
        read(rows(row), mapping=mapping | {"rejected": "sides.2.say"})


def test_messages_written_as_json_in_a_string_are_messages(rows: Rows) -> None:
    row = {name: json.dumps(value) for name, value in CHAT.items()}
    (record,) = read(rows(row)).records
    assert plain(record.context) == [user("r")]


# -- system prompts and wrapping -------------------------------------------------------------------------------------


def test_a_system_column_becomes_a_system_turn_also_where_only_some_rows_have_it(rows: Rows) -> None:
    first, second = text_pairs(2)
    data = read(rows(first | {"system": "Be brief."}, second))
    assert [plain(record.context) for record in data.records] == [
        [{"role": "system", "content": "Be brief."}, user("q0")],
        [user("q1")],
    ]
    assert any("strings became chat turns in 2 records" in note for note in data.notes)


def test_a_system_setting_is_for_conversations_that_have_none(rows: Rows) -> None:
    own = CHAT | {"prompt": [{"role": "system", "content": "own"}, user("q")]}
    data = read(rows(CHAT, own, CHAT | {"system": "column", "prompt": [user("s")]}), system="set")
    assert [plain(record.context)[0]["content"] for record in data.records] == ["set", "own", "column"]


def test_two_system_prompts_are_refused(rows: Rows) -> None:
    own = CHAT | {"prompt": [{"role": "system", "content": "own"}, user("q")]}
    data = read(rows(own | {"system": "own"}, own | {"system": "other"}))
    assert data.ledger.refused == {"two system prompts": 1}


@pytest.mark.parametrize(
    ("row", "answers"),
    [
        (UNPAIRED, ["a"]),
        (LIST, ["a", "b"]),
        ({"prompt": "q", "completion": " a"}, ["a"]),
        ({"prompt": "q"}, []),
        ({"prompt": "q", "completions": ["a"], "labels": [True]}, ["a"]),
    ],
)
def test_every_kind_of_text_is_wrapped_as_turns(row: dict[str, Any], answers: list[str], rows: Rows) -> None:
    assert read(rows(row)).space == "text"
    data = read(rows(row), wrap="chat")
    (record,) = data.records
    assert data.space == record.space == "chat"
    assert plain(record.context) == [user("q")]
    assert [plain(candidate.content) for candidate in record.candidates] == [[bot(text)] for text in answers]


def test_a_chat_model_with_plain_strings_is_noted_with_the_count(rows: Rows) -> None:
    data = read(rows(*text_pairs(3)))
    note_plain_strings(data, template=False)
    assert not any("plain strings" in note for note in data.notes)
    note_plain_strings(data, template=True)
    assert any(
        note.startswith("3 rows are plain strings") and "data.wrap: chat" in note for note in data.notes
    )


# -- what is not read ------------------------------------------------------------------------------------------------


def test_columns_with_text_that_are_not_read_are_named_once(rows: Rows) -> None:
    more = {
        "critique": "It is far too long.",
        "id": "x-1",
        "source": "web",
        "number": 3,
        "again": "q and more words",
    }
    data = read(rows(*(row | more for row in text_pairs(3))))
    assert "columns with text that are not used: `critique`, `again`" in data.notes


def test_text_that_repeats_what_was_read_is_not_reported(rows: Rows) -> None:
    pair = {"prompt": "what is it", "chosen": "it is a b", "rejected": "it is a c"}
    repeated = {"instruction": "what is it", "generations": ["it is a b", "it is a c"]}
    assert not any("not used" in note for note in read(rows(pair | repeated)).notes)


# -- evaluation files ------------------------------------------------------------------------------------------------


def test_evaluation_files_share_no_prompt_unless_allowed(rows: Rows) -> None:
    train = read(rows(*text_pairs(4), name="train.jsonl"))
    held = read(rows(*text_pairs(3, 3), name="held.jsonl"))
    with pytest.raises(DataError, match=r"held.jsonl:1: 1 prompts are in .*\n.*data.allow_overlap"):
        check_evaluation(train, held)
    check_evaluation(train, held, allow_overlap=True)
    assert any(
        "evaluation files: 3 rows read, 3 used" in note and "1 prompts shared" in note for note in train.notes
    )


def test_evaluation_files_of_another_kind_or_space_are_refused(rows: Rows) -> None:
    train = read(rows(*text_pairs(4), name="train.jsonl"))
    with pytest.raises(DataError, match="hold preference pairs, the evaluation files unpaired answers"):
        check_evaluation(train, read(rows(UNPAIRED, name="held.jsonl")))
    with pytest.raises(DataError, match=r"hold text, the evaluation files chat\n.*wrap"):
        check_evaluation(train, read(rows(CHAT, name="held.jsonl")))


def test_ties_are_left_out_for_a_method_that_imitates_the_better_answer(rows: Rows) -> None:
    tie, win = text_pairs(2)
    data = without_ties(read(rows(tie | {"prob": 0.5}, win)), "sft")
    assert [record.context for record in data.records] == ["q1"]
    assert any(note.startswith("1 ties are left out: sft") for note in data.notes)
    with pytest.raises(DataError, match="every pair ties"):
        without_ties(read(rows(tie | {"prob": 0.5})), "sft")


# -- dataset_info.json -----------------------------------------------------------------------------------------------

SHAREGPT = {
    "dialog": [{"who": "h", "text": "q"}],
    "good": {"who": "g", "text": "a"},
    "bad": {"who": "g", "text": "b"},
}


def described(rows: Rows, entry: dict[str, Any], *written: dict[str, Any]) -> Path:
    rows(*written, name="rows.jsonl")
    return rows(
        json.dumps({"mine": {"file_name": "rows.jsonl", **entry}}, indent=1), name="dataset_info.json"
    )


def test_a_dataset_info_is_read_with_its_columns_and_tags(rows: Rows) -> None:
    columns = {"messages": "dialog", "chosen": "good", "rejected": "bad"}
    tags = {"role_tag": "who", "content_tag": "text", "user_tag": "h", "assistant_tag": "g"}
    entry = {"formatting": "sharegpt", "ranking": True, "columns": columns, "tags": tags}
    (record,) = read(described(rows, entry, SHAREGPT)).records
    assert plain(record.context) == [user("q")]
    assert [candidate.text for candidate in record.candidates] == ["a", "b"]


def test_columns_that_a_dataset_info_does_not_list_are_switched_off(rows: Rows) -> None:
    row = {"instruction": "q", "input": "more", "system": "s", "chosen": "a", "rejected": "b"}
    listed = {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}
    (all_of_it,) = read(described(rows, {"ranking": True}, row)).records
    assert plain(all_of_it.context) == [{"role": "system", "content": "s"}, user("q\nmore")]
    (some,) = read(described(rows, {"ranking": True, "columns": listed}, row)).records
    assert plain(some.context) == [user("q")]


def test_a_dataset_info_names_a_file_that_is_there(rows: Rows) -> None:
    missing = rows(json.dumps({"mine": {"file_name": "none.json"}}), name="dataset_info.json")
    with pytest.raises(DataError, match=r"data set 'mine': no file 'none.json' in its folder"):
        read(missing)
    remote = rows(json.dumps({"mine": {"hf_hub_url": "a/b"}}), name="dataset_info.json")
    with pytest.raises(DataError, match=r"'mine' is not a file: hf_hub_url 'a/b'\n.*download it"):
        read(remote)


def test_one_data_set_of_several_is_chosen_by_name(rows: Rows) -> None:
    rows(*text_pairs(1), name="rows.jsonl")
    info = {name: {"file_name": "rows.jsonl", "num_samples": 1} for name in ("one", "two")}
    path = rows(json.dumps(info), name="dataset_info.json")
    assert len(read({"path": path, "split": "two"})) == 1
    with pytest.raises(DataError, match=r"no data set 'three'\n.*one, two"):
        read({"path": path, "split": "three"})


# -- shares of a mixture ---------------------------------------------------------------------------------------------


def mixture_of(rows: Rows, *sizes: int) -> list[Path]:
    return [
        rows(*text_pairs(size, 1000 * number), name=f"{number}.jsonl") for number, size in enumerate(sizes)
    ]


def drawn_from(data: Any) -> dict[str, int]:
    return dict(Counter(record.place.source.label for record in data.records))


def test_shares_without_repetition_use_the_scarcest_file_whole(rows: Rows) -> None:
    large, small = mixture_of(rows, 90, 20)
    data = read([{"path": large, "share": 3}, {"path": small, "share": 1}])
    assert drawn_from(data) == {"0.jsonl": 60, "1.jsonl": 20}
    assert len({record.identity() for record in data.records}) == 80
    assert (data.ledger.read, data.ledger.used, data.ledger.refused) == (
        110,
        80,
        {"not drawn for the mixture": 30},
    )
    assert (
        f"mixture (first_exhausted) of 80 records: 75.0% {large} (60 of its 90 records), "
        f"25.0% {small} (20 of its 20 records)" in data.notes
    )


def test_shares_with_repetition_use_every_row_of_every_file(rows: Rows) -> None:
    large, small = mixture_of(rows, 90, 20)
    shares = [{"path": large, "share": 0.5}, {"path": small, "share": 0.5}]
    data = read(shares, mixture="all_exhausted")
    assert drawn_from(data) == {"0.jsonl": 90, "1.jsonl": 90}
    assert sorted(set(Counter(record.context for record in data.records).values())) == [1, 4, 5]
    assert len({record.id for record in data.records}) == len(data) == 180
    assert (data.ledger.used, data.ledger.refused) == (110, {})


def test_which_rows_of_a_mixture_are_drawn_is_the_seed_s(rows: Rows) -> None:
    large, small = mixture_of(rows, 90, 20)
    shares = [{"path": large, "share": 0.5}, {"path": small, "share": 0.5}]
    one, again, other = (
        [record.id for record in read(shares, seed=seed, strict=True).records] for seed in (1, 1, 2)
    )
    assert one == again != other
    assert [record.id for record in scan(shares, seed=1)] == one


@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=5),
    shares=st.lists(st.floats(0.01, 100), min_size=5, max_size=5),
)
def test_counts_of_a_mixture_are_in_proportion_to_its_shares(sizes: list[int], shares: list[float]) -> None:
    shares = shares[: len(sizes)]
    fewest, most = (counts(sizes, shares, stop) for stop in ("first_exhausted", "all_exhausted"))
    assert all(count <= size for count, size in zip(fewest, sizes, strict=True))
    assert all(count >= size for count, size in zip(most, sizes, strict=True))
    for found in (fewest, most):
        whole = [n for n, (count, size) in enumerate(zip(found, sizes, strict=True)) if count == size]
        assert any(
            all(
                abs(count - found[n] * share / shares[n]) <= 0.5 + 1e-6
                for count, share in zip(found, shares, strict=True)
            )
            for n in whole
        )


def test_rows_that_no_list_was_drawn_of_are_left_out_together(rows: Rows) -> None:
    lists = [
        {"prompt": f"q{n}", "response": answer, "helpfulness": score}
        for n in range(6)
        for answer, score in (("a", 1), ("b", 2), ("c", 3))
    ]
    few = [{"prompt": f"r{n}", "responses": ["a", "b"], "rewards": [1, 0]} for n in range(2)]
    files = [
        {"path": rows(*lists, name="a.jsonl"), "share": 1},
        {"path": rows(*few, name="b.jsonl"), "share": 1},
    ]
    data = read(files, wrap="chat")
    assert len(data) == 4
    assert (data.ledger.used, data.ledger.refused) == (8, {"not drawn for the mixture": 12})


def test_labels_are_counted_of_the_rows_that_were_drawn(rows: Rows) -> None:
    up = [{"prompt": f"q{n}", "completion": "a", "label": True} for n in range(9)]
    down = [{"prompt": f"r{n}", "completion": "a", "label": False} for n in range(3)]
    files = [
        {"path": rows(*up, name="a.jsonl"), "share": 1},
        {"path": rows(*down, name="b.jsonl"), "share": 1},
    ]
    assert "labels: 3 desirable, 3 undesirable" in read(files).notes


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({"share": 1}, {}, r"1.jsonl: the other files have a `share`.*\n.*every file a share"),
        ({"share": 1, "weight": 2}, {"share": 1}, "`share` and `weight` both say"),
        ({"share": 0}, {"share": 1}, "`share` must be above 0, got 0"),
        ({"share": "most"}, {"share": 1}, "`share` must be a number above 0, got 'most'"),
        ({"share": float("nan")}, {"share": 1}, "`share` must be above 0, got nan"),
        ({"share": 5e-324}, {"share": 1}, "`share` must lie between 1e-09 and 1e\\+09"),
        ({"share": 10**400}, {"share": 0.5}, "`share` must lie between 1e-09 and 1e\\+09"),
        ({"share": 1e-9}, {"share": 1}, "0.jsonl: its share of 1e-09 is less than one record"),
        ({"weight": 1e12}, {}, "`weight` repeats a row at most 1,000 times"),
    ],
)
def test_a_wrong_share_says_what_is_right(
    first: dict[str, Any], second: dict[str, Any], says: str, rows: Rows
) -> None:
    large, small = mixture_of(rows, 9, 2)
    with pytest.raises(DataError, match=says):
        read([{"path": large, **first}, {"path": small, **second}])


def test_a_share_that_repeats_rows_without_end_is_refused(rows: Rows) -> None:
    large, small = mixture_of(rows, 9, 2)
    shares = [{"path": large, "share": 1}, {"path": small, "share": 1e9}]
    with pytest.raises(
        DataError, match=r"1.jsonl: its share of 1 would repeat 2 records 4,500,000,000 times"
    ):
        read(shares, mixture="all_exhausted")


@pytest.mark.parametrize("text", ["", "[]"])
def test_a_file_without_rows_has_no_share_to_give(text: str, rows: Rows) -> None:
    empty = rows(name="empty.jsonl")
    empty.write_text(text)
    shares = [{"path": rows(*text_pairs(2)), "share": 1}, {"path": empty, "share": 1}]
    with pytest.raises(DataError, match=r"empty.jsonl: it has no record to use"):
        read(shares)


def test_an_unknown_mixture_says_which_there_are(rows: Rows) -> None:
    large, small = mixture_of(rows, 9, 2)
    shares = [{"path": large, "share": 1}, {"path": small, "share": 1}]
    with pytest.raises(DataError, match="mixture must be one of first_exhausted, all_exhausted, got 'both'"):
        read(shares, mixture="both")


@pytest.mark.parametrize("limit", [2**63, 10**400])
def test_a_limit_beyond_every_file_is_no_limit(limit: int, rows: Rows) -> None:
    path = rows(*text_pairs(3))
    for data in (read(path, limit=limit), read({"path": path, "limit": limit})):
        assert len(data.records) == 3 and not any("limit" in note for note in data.notes)
