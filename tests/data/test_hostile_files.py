"""Hostile files by kind: each is refused in one sentence that names it, or read with a ledger that adds up."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from equipoise.data.errors import DataError
from equipoise.data.reading.read import read

Fate = Literal["used", "file", "row", "any"]
SECONDS = 60  # for all files of a kind, on a busy machine

GOOD = [
    {"prompt": f"Question {i}?", "chosen": f"good answer {i}", "rejected": f"bad answer {i}"}
    for i in range(6)
]
CHAT = [
    {
        "prompt": [{"role": "user", "content": f"Question {i}?"}],
        "chosen": [{"role": "assistant", "content": f"good {i}"}],
        "rejected": [{"role": "assistant", "content": f"bad {i}"}],
    }
    for i in range(6)
]
LISTS = [
    {"prompt": f"Question {i}?", "responses": ["a", "b", "c"], "rewards": [1.0, 2.0, 0.0]} for i in range(6)
]
UNPAIRED = [{"prompt": f"Question {i}?", "completion": "a", "label": i % 2 == 0} for i in range(6)]


@dataclass(frozen=True)
class Case:
    """A file's bytes and what becomes of it: used whole, refused, or one row (the fourth line) of it refused."""

    name: str
    content: bytes
    fate: Fate = "file"


def lines(rows: list[Any]) -> bytes:
    return b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)


def with_row(good: list[Any], bad: Any) -> bytes:
    """Six good rows with a bad one as the fourth."""
    return lines([*good[:3], bad, *good[3:]])


ODD: dict[str, Any] = {
    "null": None,
    "zero": 0,
    "integer": 7,
    "float": 0.5,
    "negative": -1,
    "true": True,
    "false": False,
    "empty list": [],
    "list of null": [None],
    "list of numbers": [1, 2],
    "list of lists": [[]],
    "empty object": {},
    "object": {"a": 1},
    "empty text": "",
    "blank text": " \n\t",
    "zero width": "\u200b\u200d\ufeff",
    "soft hyphens": "\u00ad\u00ad",
    "braille blank": "\u2800\u3164",
    "NUL": "a\x00b",
    "lone surrogate": "a\ud800",
}


def text_columns() -> Iterator[Case]:
    for column in ("prompt", "chosen", "rejected"):
        for what, value in ODD.items():
            yield Case(f"{column} {what}", with_row(GOOD, GOOD[0] | {column: value}), "row")
        yield Case(
            f"{column} missing", with_row(GOOD, {k: v for k, v in GOOD[0].items() if k != column}), "row"
        )


def label_columns() -> Iterator[Case]:
    numbers = {
        k: v
        for k, v in ODD.items()
        if k not in ("null", "zero", "integer", "float", "empty text", "blank text")
    }
    numbers |= {
        "1e999": 1e999,
        "nan": float("nan"),
        "-inf": float("-inf"),
        "text": "much",
        "1_0": "1_0",
        "hex": "0x1",
    }
    numbers |= {"arabic digits": "\u0661", "infinity": "Infinity", "400 digits": 10**400, "comma": "0,5"}
    for column in ("prob", "weight", "margin"):
        for what, value in numbers.items():
            fate: Fate = "any" if what == "negative" and column == "margin" else "row"
            yield Case(f"{column} {what}", with_row(GOOD, GOOD[0] | {"prompt": "new", column: value}), fate)
    for value in (2, 1.0001, -0.1, 10**300):
        yield Case(f"prob {value}", with_row(GOOD, GOOD[0] | {"prob": value}), "row")
    for value in (1e308, 2e6, 10**30):
        yield Case(f"weight {value}", with_row(GOOD, GOOD[0] | {"weight": value}), "row")
    for what, value in {**ODD, "2": 2, "yes": "yes", "perhaps": "perhaps"}.items():
        known = what in ("zero", "true", "false")
        bad = {"prompt": "another", "completion": "b", "label": value}
        yield Case(f"label {what}", with_row(UNPAIRED, bad), "any" if known else "row")


def other_columns() -> Iterator[Case]:
    for value in (7, True, "not json", "[1", [1], ["a"], {"a": 1}, [None, 1], '{"a": 1, "a": 2}', "[" * 5000):
        yield Case(f"tools {value!r:.20}", with_row(CHAT, CHAT[0] | {"tools": value}), "row")
    for value in (7, True, "{", [1], "[]", '{"a": 1, "a": 2}', [["a", 1]]):
        yield Case(f"kwargs {value!r:.20}", with_row(CHAT, CHAT[0] | {"chat_template_kwargs": value}), "row")
    for name in (
        "messages",
        "tools",
        "add_generation_prompt",
        "eos_token",
        "bos_token",
        "chat_template",
        "pad_token",
    ):
        bad = CHAT[0] | {"chat_template_kwargs": {name: "x"}}
        yield Case(f"kwargs replace {name}", with_row(CHAT, bad), "row")
    for value in ([], {}, [1], True):
        yield Case(f"id {value!r}", with_row(GOOD, GOOD[0] | {"id": value}), "any" if value == [] else "row")
    for value in (7, [], {}, True, " "):
        yield Case(f"rationale {value!r}", with_row(GOOD, GOOD[0] | {"rationale": value}), "row")
    for name in ("images", "image", "videos", "audios"):
        yield Case(name, with_row(GOOD, GOOD[0] | {name: ["a.png"]}), "row")


def turns() -> Iterator[Case]:
    odd: list[Any] = [
        7,
        True,
        {"text": 1},
        [7],
        [None],
        [[]],
        [{"type": {}}],
        [{"type": "text", "text": None}],
    ]
    odd += [
        [{"type": "text", "text": {"a": 1}}],
        [{"type": "text"}],
        [{"type": "image"}],
        [{"type": ["text"]}],
    ]
    for content in odd:
        turn = {"role": "assistant", "content": content}
        yield Case(f"content {content!r:.40}", with_row(CHAT, CHAT[0] | {"chosen": [turn]}), "row")
    for role in (None, 7, [], {}, "", True):
        bad = CHAT[0] | {"chosen": [{"role": role, "content": "x"}]}
        yield Case(f"role {role!r}", with_row(CHAT, bad), "row")
    for name in ("prompt", "chosen", "rejected"):
        for value in ([1], [None], ["a"], [[CHAT[0]["chosen"]]], [{}], {"a": 1}):
            yield Case(f"{name} {value!r:.30}", with_row(CHAT, CHAT[0] | {name: value}), "row")
    for calls in (7, "x", [7], [None], [{"function": 1}], [{"function": {"arguments": "{"}}], "[" * 3000):
        turn = {"role": "assistant", "content": "x", "tool_calls": calls}
        yield Case(f"tool_calls {calls!r:.30}", with_row(CHAT, CHAT[0] | {"chosen": [turn]}), "any")


def lists_of_answers() -> Iterator[Case]:
    for name in ("responses", "rewards"):
        for what, value in ODD.items():
            yield Case(f"{name} {what}", with_row(LISTS, LISTS[0] | {name: value}), "row")
        for value in (
            [],
            [1, 2, None],
            ["a", 1, {}],
            [["a"], "b", "c"],
            ["", " ", "\u200b"],
            list(range(40)),
        ):
            yield Case(f"{name} {value!r:.30}", with_row(LISTS, LISTS[0] | {name: value}), "row")


def rows_of_other_shapes() -> Iterator[Case]:
    for row in (
        b"7\n",
        b'"text"\n',
        b"null\n",
        b"true\n",
        b"[1, 2]\n",
        b"[]\n",
        b"{}\n",
        b"NaN\n",
        b"-1e5\n",
    ):
        yield Case(f"row {row!r}", with_row(GOOD, row), "row")
    deep = b'{"prompt": "q", "chosen": "a", "rejected": "b", "x": ' + b"[" * 1000 + b"]" * 1000 + b"}\n"
    yield Case("nested 1,000 deep", with_row(GOOD, deep), "row")
    yield Case(
        "objects 500 deep",
        with_row(GOOD, deep.replace(b"[" * 1000 + b"]" * 1000, b'{"a":' * 500 + b"1" + b"}" * 500)),
        "row",
    )
    yield Case("100,000 open brackets", with_row(GOOD, b"[" * 100_000 + b"\n"), "row")
    yield Case(
        "an integer of 5,000 digits",
        with_row(GOOD, deep.replace(b"[" * 1000 + b"]" * 1000, b"9" * 5000)),
        "row",
    )
    yield Case(
        "a key twice",
        with_row(GOOD, b'{"prompt": "q", "chosen": "a", "chosen": "c", "rejected": "b"}\n'),
        "row",
    )
    yield Case(
        "a key twice inside",
        with_row(CHAT, json.dumps(CHAT[0]).replace('"role"', '"role": "user", "role"', 1).encode() + b"\n"),
        "row",
    )
    yield Case("20,000 columns", with_row(GOOD, GOOD[0] | {f"c{i}": i for i in range(20_000)}), "row")
    array = json.dumps(GOOD[:3])[:-1].encode() + b", %b, " + json.dumps(GOOD[3:])[1:].encode()
    for bad in (b"7", b"null", b"[]", b"[" * 900 + b"]" * 900, b'{"prompt": "q", "prompt": "q"}', b"9" * 700):
        yield Case(f"array with {bad[:12]!r}", array % bad, "row")


def broken_json() -> Iterator[Case]:
    whole = lines(GOOD)
    for end in range(len(whole) - 70, len(whole) - 1, 4):
        yield Case(f"cut at {end}", whole[:end], "any" if whole[:end].endswith(b"}") else "file")
    array = json.dumps(GOOD).encode()
    for end in range(len(array) - 60, len(array), 4):
        yield Case(f"array cut at {end}", array[:end])
    for bad in (
        b"{'a': 1}\n",
        b"// x\n",
        b"# x\n",
        b"{,}\n",
        b'{"a" 1}\n',
        b'{"a": 1,}\n',
        b'{"a": \x00}\n',
        b"\x00" * 9 + b"\n",
        b'{"a": "\x1b"}\n',
        b'{"a": "\t"}\n',
        b'{"a": "\\x"}\n',
        b'{"a": tru}\n',
        b'{"a": 1} {"b": 2}\n',
        b"}\n",
        b"oops\n",
        b'{"a": "\\ud8"}\n',
        b'{"a": 01}\n',
        b"{\n",
    ):
        yield Case(f"line {bad!r}", with_row(GOOD, bad))
    for bad in (b",]", b"", b"]]", b"] 7", b"] [1]", b",,{}]", b" oops]", b"}]"):
        yield Case(f"array ends {bad!r}", array[:-1] + bad)
    yield Case("wrapped", json.dumps({"data": GOOD}).encode())
    yield Case("wrapped, over lines", json.dumps({"data": GOOD}, indent=1).encode())
    yield Case("objects over lines", b"".join(json.dumps(row, indent=2).encode() + b"\n" for row in GOOD))
    yield Case(
        "columns of objects",
        json.dumps({k: {str(i): r[k] for i, r in enumerate(GOOD)} for k in GOOD[0]}).encode(),
    )


def not_utf8() -> Iterator[Case]:
    text = lines(GOOD).decode()
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-7"):
        yield Case(encoding, text.encode(encoding), "any" if encoding == "utf-7" else "file")
    for bad in (
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xe2\x82",
        b"\xf8\x88\x80\x80\x80",
        b"\x80",
        b"caf\xe9",
        b"\x93quote\x94",
    ):
        yield Case(f"bytes {bad!r}", with_row(GOOD, b'{"prompt": "' + bad + b'"}\n'))
        yield Case(f"array with {bad!r}", b"[" + b'{"prompt": "' + bad + b'"}]')
        yield Case(f"first {bad!r}", bad + b"\n" + lines(GOOD))


def compressed() -> Iterator[Case]:
    whole = lines(GOOD * 50)
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "xz": lzma.compress,
        "bzip2": bz2.compress,
        "zstd": lambda data: bytes(pa.compress(data, codec="zstd", asbytes=True)),
    }
    for name, pack in packers.items():
        packed = pack(whole)
        for share in (2, 3, 5):
            yield Case(f"{name} cut", packed[: len(packed) * share // 6])
        yield Case(f"{name} magic alone", packed[:6])
        yield Case(f"{name} in {name}", pack(packed))
        yield Case(f"{name} of nothing", pack(b""))
        yield Case(f"{name} of a Parquet file", pack(parquet(GOOD)))
        yield Case(f"{name} and garbage", packed + b"garbage", "any")
        for seed in range(4):
            flipped = bytearray(packed)
            flipped[random.Random(seed).randrange(12, len(packed))] ^= 0x55
            yield Case(f"{name} flipped {seed}", bytes(flipped), "any")


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def arrow(table: pa.Table, *, stream: bool = False) -> bytes:
    out = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def columnar() -> Iterator[Case]:
    table = pa.Table.from_pylist(GOOD)
    files = {"parquet": parquet(GOOD), "arrow file": arrow(table), "arrow stream": arrow(table, stream=True)}
    for name, whole in files.items():
        for share in (1, 2, 3, 4, 5):
            yield Case(f"{name} cut", whole[: len(whole) * share // 6], "any" if "stream" in name else "file")
        for seed in range(8):
            flipped = bytearray(whole)
            flipped[random.Random(seed).randrange(8, len(whole))] ^= 1 << seed
            yield Case(f"{name} flipped {seed}", bytes(flipped), "any")
    yield Case("magic twice", b"PAR1PAR1")
    yield Case("encrypted", b"PARE" + bytes(40) + b"PARE")
    twice = pa.Table.from_arrays(
        [table["prompt"], table["chosen"], table["rejected"], table["chosen"]],
        names=["prompt", "chosen", "rejected", "chosen"],
    )
    out = io.BytesIO()
    pq.write_table(twice, out)
    yield Case("a column twice", out.getvalue())
    yield Case("a column twice in arrow", arrow(twice))
    bad = pa.array([f"x{i}" for i in range(6)]).buffers()
    invalid = pa.StringArray.from_buffers(6, bad[1], pa.py_buffer(b"\xff\xfe" * 6))
    yield Case("invalid UTF-8", arrow(table.set_column(1, "chosen", invalid)))
    for name, column in {
        "far dates": pa.array([2**62] * 6, pa.timestamp("us")),
        "nanoseconds": pa.array([1] * 6, pa.timestamp("ns")),
        "an unknown zone": pa.array([1] * 6, pa.timestamp("ms", tz="Mars/Phobos")),
        "durations": pa.array([1] * 6, pa.duration("s")),
        "dates": pa.array([1] * 6, pa.date32()),
        "times": pa.array([1] * 6, pa.time64("ns")),
        "decimals": pa.array([1] * 6).cast(pa.decimal128(30, 3)),
        "nested times": pa.array([[1]] * 6, pa.list_(pa.timestamp("ns"))),
        "maps": pa.array([[("a", 1)]] * 6, pa.map_(pa.string(), pa.int32())),
        "bytes": pa.array([b"\xff"] * 6),
        "half floats": pa.array([0.5] * 6, pa.float32()).cast(pa.float16()),
        "a dictionary": pa.array(["x"] * 6).dictionary_encode(),
    }.items():
        yield Case(f"unused column of {name}", arrow(table.append_column("other", column)), "used")


def foreign() -> Iterator[Case]:
    magics = [
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"7z\xbc\xaf\x27\x1c",
        b"Rar!\x1a\x07",
        b"ORC",
        b"Obj\x01",
        b"SQLite format 3\x00",
    ]
    magics += [
        b"\x89HDF\r\n",
        b"\x93NUMPY",
        b"\x80\x04\x95",
        b"%PDF-1.7",
        b"\x7fELF",
        b"GIF89a\xff\xff",
        b"\x89PNG\r\n\x1a\n",
    ]
    for magic in magics:
        yield Case(f"magic {magic!r}", magic + bytes(range(256)) * 4)
    tar = bytearray(512)
    tar[257:262] = b"ustar"
    yield Case("tar", bytes(tar))
    texts = [
        "---\n- prompt: q\n",
        "- prompt: q\n  chosen: a\n",
        "prompt: q\nchosen: a\n",
        "%YAML 1.2\n",
        "<?xml version='1.0'?><a/>",
        "<!DOCTYPE html><html></html>",
        "<html><body>404</body></html>",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "Hello, this is prose.\nAnd more.\n",
        "one\ntwo\nthree\n",
        "prompt\nq\n",
        "1,2,3\n4,5,6\n",
        "a,b\n1,2\n",
        "prompt,chosen,chosen\nq,a,b\n",
    ]
    for text in texts:
        yield Case(f"text {text[:20]!r}", text.encode())
    for content in (
        b"",
        b"\n\n\n",
        b" \t ",
        b"\xef\xbb\xbf",
        b"\x00" * 4096,
        b"[]",
        b"{}",
        bytes(range(256)) * 16,
    ):
        yield Case(f"nothing {content[:8]!r}", content)
    for seed in range(12):
        yield Case(f"random bytes {seed}", random.Random(seed).randbytes(2000))


def separated() -> Iterator[Case]:
    header, row = b"prompt,chosen,rejected\n", b"q%d,a%d,b%d\n"
    rows = b"".join(row % (i, i, i) for i in range(3))
    rest = b"".join(row % (i, i, i) for i in range(3, 6))
    for bad in (
        b"q,a\n",
        b"q,a,b,c\n",
        b"q,,b\n",
        b",a,b\n",
        b'"","a","b"\n',
        b"q,\xe2\x80\x8b,b\n",
        b"q,a\x00,b\n",
    ):
        yield Case(f"csv row {bad!r}", header + rows + bad + rest, "row" if b"\x00" not in bad else "any")
    yield Case("csv open quote", header + rows + b'q,"a,b\n' + rest)
    yield Case("csv cut in a quote", header + rows + b'q,a,"b')
    yield Case("csv bad quote", header + rows + b'q,"a"x,b\n' + rest)
    yield Case("csv header alone", header)
    yield Case("csv not UTF-8", header + rows + b"q,a\xe9,b\n")
    good = {
        "comma": header + rows,
        "CR LF": (header + rows).replace(b"\n", b"\r\n"),
        "BOM": b"\xef\xbb\xbf" + header + rows,
    }
    good |= {"tab": (header + rows).replace(b",", b"\t"), "semicolon": (header + rows).replace(b",", b";")}
    good |= {"quoted newline": header + b'"q\n1","a, b","c ""d"""\n'}
    for name, content in good.items():
        yield Case(f"csv {name}", content, "used")


KINDS: dict[str, Callable[[], Iterator[Case]]] = {
    "text columns": text_columns,
    "label columns": label_columns,
    "other columns": other_columns,
    "turns": turns,
    "lists of answers": lists_of_answers,
    "rows of other shapes": rows_of_other_shapes,
    "broken JSON": broken_json,
    "not UTF-8": not_utf8,
    "compressed": compressed,
    "columnar": columnar,
    "foreign": foreign,
    "separated": separated,
}
COUNTS = {name: sum(1 for _ in kind()) for name, kind in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_files_are_refused_by_name_or_accounted_for(kind: str, tmp_path: Path) -> None:
    started = time.monotonic()
    wrong = []
    for number, case in enumerate(KINDS[kind]()):
        path = tmp_path / f"file-{number}"
        path.write_bytes(case.content)
        fate, said = fate_of(path)
        two_formats = case.fate == "row" and "more than one format fits" in said
        if case.fate not in ("any", fate) and not two_formats:
            wrong.append(f"{case.name} is {fate}: {said}")
        path.unlink()
    assert not wrong, "\n".join(wrong)
    assert time.monotonic() - started < SECONDS


def fate_of(path: Path) -> tuple[Fate, str]:
    """What became of a file, after checking that the message or the ledger says it rightly."""
    try:
        data = read(path)
    except DataError as error:
        said = str(error)
        assert str(path) in said and "Traceback" not in said and len(said) < 3000, said
        return "file", said
    ledger = data.ledger.as_json()
    assert ledger["read"] == ledger["used"] + sum(ledger["refused"].values()) + ledger["duplicate"]
    assert ledger["used"] == len(data.records)
    refused = sum(ledger["refused"].values())
    said = str(ledger["first_lines"])
    if not refused:
        return "used", said
    places = [line for lines in ledger["first_lines"].values() for line in lines]
    assert refused > 1 or any(
        place.startswith((f"{path.name}:", f"{path.name}: row 4")) for place in places
    ), said
    return ("row" if refused == 1 else "any"), said


def test_there_are_hundreds_of_hostile_files_of_every_kind() -> None:
    print(COUNTS)
    assert sum(COUNTS.values()) >= 400 and min(COUNTS.values()) >= 15


def test_packed_integers_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "ints"
    path.write_bytes(struct.pack("<1000i", *range(1000)))
    with pytest.raises(DataError, match="ints"):
        read(path)
