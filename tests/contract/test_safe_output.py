"""Hostile text through every command that prints data: no control character, escape sequence or change of direction.

Each case puts the text where it may come from (prompt, answer, role, column, value, file name, setting, method)
and runs the command as a person would; the exit code says whether the command was expected to refuse.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from equipoise.cli.app import main
from equipoise.cli.safe_stream import SafeStream

# a title, the clipboard, a cleared screen, C1's CSI, a bidirectional override, zero width, a link, tags, a return
HOSTILE = "a\x1b]0;t\x07b\x1b]52;c;eA==\x07c\x1b[2Jd\x9b31me\u202ef\u200bg\x1b]8;;http://x\x1b\\h\U000e0041i\rj[bold]k[/bold]"
RAW = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)


def run(capsys, *arguments: str) -> tuple[int, str]:
    """(exit code, everything that was printed) of a command."""
    code = 0
    try:
        main(list(arguments))
    except SystemExit as end:
        code = int(end.code or 0)
    out = capsys.readouterr()
    return code, out.out + out.err


def rows(path: Path, *content: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return str(path)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


PAIR = {"prompt": HOSTILE, "chosen": f"yes {HOSTILE}", "rejected": "no"}
DATA: dict[str, list[object]] = {
    "pairs": [PAIR],
    "chat": [
        {
            "prompt": [turn("system", HOSTILE), turn("user", HOSTILE)],
            "chosen": [turn("assistant", HOSTILE)],
            "rejected": [turn("assistant", "no")],
        },
        {
            "prompt": [turn(HOSTILE, HOSTILE)],
            "chosen": [turn("assistant", "a")],
            "rejected": [turn("assistant", "b")],
        },
    ],
    "lists": [{"prompt": HOSTILE, "responses": [HOSTILE, "b"], "rewards": [2, 1]}],
    "unpaired": [{"prompt": HOSTILE, "completion": HOSTILE, "label": True}],
    "prompts": [{"prompt": HOSTILE}],
    "another column": [PAIR | {HOSTILE: HOSTILE}],
    "an identity": [PAIR | {"id": HOSTILE}, PAIR | {"id": HOSTILE}],
    "refused values": [PAIR, PAIR | {"prob": HOSTILE}, PAIR | {"chosen": ""}],
}
UNREADABLE: dict[str, list[object]] = {
    "columns": [{HOSTILE: "x", "b": HOSTILE}],
    "a label": [{"prompt": "p", "completion": "c", "label": HOSTILE}],
    "a weight": [PAIR | {"weight": HOSTILE}],
    "tools": [PAIR | {"tools": HOSTILE}],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize(
    "command", ["check", "check --json", "convert --to trl --out -", "sample -n 1 --out -", "convert --out -"]
)
def test_data_commands_print_nothing_raw(capsys, tmp_path: Path, name: str, command: str) -> None:
    file = rows(tmp_path / f"data {HOSTILE.replace('/', '')[:40]}.jsonl", *DATA[name])
    action, *options = command.split()
    code, printed = run(capsys, "data", action, file, *options)
    refused = name == "lists" and "trl" in command
    assert code == (2 if refused else 0), printed
    assert RAW.findall(printed) == []


@pytest.mark.parametrize("name", UNREADABLE)
def test_refusals_print_nothing_raw(capsys, tmp_path: Path, name: str) -> None:
    code, printed = run(capsys, "data", "check", rows(tmp_path / "d.jsonl", *UNREADABLE[name]))
    assert code == 2 and "error:" in printed
    assert RAW.findall(printed) == []


def split_data(path: Path) -> list[str]:
    source = rows(path / "d.jsonl", *({**PAIR, "prompt": f"{HOSTILE} {i}"} for i in range(4)))
    return ["data", "split", source, "--out-train", str(path / "t"), "--out-held-out", str(path / "h")]


def foreign(path: Path) -> list[str]:
    (path / "c.yaml").write_text(
        json.dumps({"beta": 0.1, "loss_type": "ipo", HOSTILE: HOSTILE, "report_to": HOSTILE})
    )
    return ["config", "import", str(path / "c.yaml")]


def judged(path: Path) -> list[str]:
    one = {"instruction": HOSTILE, "output_1": HOSTILE, "output_2": "x", "generator_1": HOSTILE}
    named = one | {"generator_2": HOSTILE, "annotator": HOSTILE}
    return ["evaluate", rows(path / "a", *(named | {"preference": 1 + k % 2} for k in range(6)))]


COMMANDS: dict[str, tuple[int, Callable[[Path], list[str]]]] = {
    "split": (0, split_data),
    "import": (0, foreign),
    "no file": (2, lambda path: ["data", "check", str(path / HOSTILE.replace("/", ""))]),
    "no row": (2, lambda path: ["data", "check", rows(path / "d", PAIR), "--row", f"{HOSTILE}:1"]),
    "a mapping": (
        2,
        lambda path: ["data", "check", rows(path / "d", PAIR), "--mapping", f"prompt={HOSTILE}"],
    ),
    "a format": (2, lambda path: ["data", "check", rows(path / "d", PAIR), "--format", HOSTILE]),
    "a setting": (2, lambda path: ["align", "dpo", "--set", f"{HOSTILE.replace('=', '')}=1"]),
    "a value": (2, lambda path: ["align", "dpo", "--set", f"epochs={HOSTILE}"]),
    "a method": (2, lambda path: ["align", HOSTILE]),
    "an oracle": (2, lambda path: ["align", "inpo", "--oracle", HOSTILE, "--out", str(path / "run")]),
    "data of align": (
        2,
        lambda path: ["align", "dpo", "--data", str(path / "a\x1b[2J"), "--out", str(path / "run")],
    ),
    "columns of align": (
        2,
        lambda path: ["align", "dpo", "--data", rows(path / "d", {HOSTILE: "x"}), "--out", str(path / "run")],
    ),
    "a run folder": (2, lambda path: ["report", str(path / "x\x1b[2J")]),
    "a loss": (2, lambda path: ["explain", HOSTILE]),
    "a formula": (2, lambda path: ["explain", f"M(l) -> {HOSTILE}"]),
    "a game": (2, lambda path: ["play", "--game", HOSTILE, "--method", "inpo"]),
    "a game's file": (2, lambda path: ["game", str(path / "x\x1b[2J.json")]),
    "a claim": (2, lambda path: ["claims", HOSTILE]),
    "a command": (2, lambda path: [HOSTILE]),
    "a judged file": (0, judged),
    "answers of two models": (
        2,
        lambda path: [
            "evaluate",
            rows(path / "a", *({"instruction": "t", "output": "x", "generator": n} for n in (HOSTILE, "b"))),
            "--oracle",
            "playground",
        ],
    ),
    "no model": (2, lambda path: ["sample", f"a/b/{HOSTILE}", "--data", "d", "--out", "o"]),
    "a round": (2, lambda path: ["chat", f"a/b/{HOSTILE}", "--round", HOSTILE]),
    "an option": (2, lambda path: ["methods", f"--{HOSTILE}"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_print_nothing_raw(capsys, tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    expected, arguments = COMMANDS[name]
    code, printed = run(capsys, *arguments(tmp_path))
    assert code == expected, printed
    assert printed.strip() and RAW.findall(printed) == []


def test_markup_in_data_is_printed_as_it_is(capsys, tmp_path: Path) -> None:
    _, printed = run(capsys, "data", "check", rows(tmp_path / "d.jsonl", PAIR))
    assert "[bold]k[/bold]" in printed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colours_and_movements_of_the_line_and_nothing_else() -> None:
    terminal = Terminal()
    SafeStream(terminal).write("\r\x1b[1;32mgood\x1b[0m \x1b[2K\x1b[2J\x1b]0;t\x07\x1b[?25l\n")
    assert terminal.getvalue() == "\r\x1b[1;32mgood\x1b[0m \x1b[2K\\x1b[2J\\x1b]0;t\\x07\x1b[?25l\n"


def test_a_stream_of_ascii_gets_replaced_characters_and_the_command_ends_well(
    monkeypatch, tmp_path: Path
) -> None:
    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out, encoding="ascii", errors="strict"))
    with pytest.raises(SystemExit) as end:
        main(
            [
                "data",
                "check",
                rows(tmp_path / "d.jsonl", {"prompt": "你好", "chosen": "世界 é", "rejected": "–"}),
            ]
        )
    sys.stdout.flush()
    assert not end.value.code and b"chosen: [?? ?]" in bytes_out.getvalue()
