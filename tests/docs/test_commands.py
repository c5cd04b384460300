"""The commands of the pages are those of the program: their names, their options, and the settings of `--set`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from equipoise.cli.app import app, spread
from equipoise.methods import index as methods
from equipoise.run.config import ConfigError, resolve
from equipoise.run.worlds import fits
from equipoise.run.worlds import settings as worlds
from equipoise.safe_yaml import word
from equipoise.worlds.index import WORLDS
from equipoise.worlds.labels.tasks import TITLES

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
GROUP: Any = typer.main.get_command(app)
BLOCK = re.compile(r"^ {0,3}```[^\n]*\n(.*?)^ {0,3}```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(equipoise [a-z][^`\n]*)`")
BEFORE = (
    r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:torchrun .*? (?:--no_python|-m) |accelerate launch .*? -m |timeout .*? )?"
)
LINE = re.compile(rf"^\s*{BEFORE}(equipoise .*)$")
EVERYWHERE = {"--help", "--traceback"}
BY_DEFAULT = {"label": "page"}  # a group that is a command too
ENDS = ("|", ">", "<", "&&", ";", "...")  # what follows is the shell's, or left out


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each `equipoise` command in a page's blocks and code spans, as the shell divides them."""
    lines = [line for block in BLOCK.findall(text) for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    found = [match[1] for match in map(LINE.match, lines) if match] + SPAN.findall(BLOCK.sub("", text))
    for line in found:
        try:
            words = shlex.split(line, comments=True)[1:]
        except ValueError:  # a quotation goes on in the next line
            continue
        if words and re.fullmatch(r"[a-z-]+", words[0]):
            yield words[: next((i for i, part in enumerate(words) if part.startswith(ENDS)), len(words))]


def faults(words: list[str]) -> Iterator[str]:
    """What the program would not know of a command: the command, an option, a setting's name or value."""
    command, path = GROUP, []
    while getattr(command, "commands", None):
        while words and words[0].startswith("-"):
            if words[0] not in EVERYWHERE and not any(words[0] in p.opts for p in command.params):
                yield f"no option {words[0]}"
            words = words[1:]
        if not words:
            return
        if words[0] not in command.commands and path and path[-1] in BY_DEFAULT:
            words = [BY_DEFAULT[path[-1]], *words]
        if words[0] not in command.commands:
            yield f"no command {' '.join([*path, words[0]])}"
            return
        path, command, words = [*path, words[0]], command.commands[words[0]], words[1:]
    inner = next((i for i, word in enumerate(words) if word in GROUP.commands), None)
    if (
        command.context_settings.get("allow_extra_args") and inner is not None
    ):  # a command that starts another
        yield from faults(words[inner:])
        words = words[:inner]
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | EVERYWHERE
    words = spread([*path, *words])[len(path) :]
    for given in words:
        if given.startswith("-") and not re.match(r"-$|-\.?\d", given) and given.split("=")[0] not in known:
            yield f"{' '.join(path)}: no option {given}"
    if path[0] in ("align", "plan") and words and re.fullmatch(r"[a-z0-9_+]+", words[0]):
        world = next((after for option, after in pairwise(words) if option == "--world"), None)
        yield from unknown_settings(words) if world is None else unknown_in_world(world, words)


def unknown_settings(words: list[str]) -> Iterator[str]:
    try:
        resolve(words[0], {"model.path": "m", "data.path": ["d"], **set_by(words)})
    except ConfigError as error:
        yield str(error)


def unknown_in_world(world: str, words: list[str]) -> Iterator[str]:
    try:
        if world in TITLES:
            fits.resolved(fits.entry_of(words[0]), set_by(words))
        else:
            worlds.resolve(methods.get(words[0]), WORLDS[world], set_by(words))
    except (ConfigError, KeyError) as error:
        yield str(error)


def set_by(words: list[str]) -> dict[str, Any]:
    """The settings that a command names; a value in capitals stands for any."""
    given = [after for option, after in pairwise(words) if option == "--set"]
    known = [setting for setting in given if not re.search(r"[A-Z]{3}|\.\.\.", setting)]
    return {name: word(value) for name, _, value in (setting.partition("=") for setting in known)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_those_of_the_program(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [fault for words in commands(text) for fault in faults(words)] == []


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("```\nequipoise align dpo --data x \\\n    --set lr=1e-4 beta=0.2 --out r    # why\n```", []),
        ("`equipoise data check FILE --rows 3` `equipoise COMMAND --help` `equipoise --version`", []),
        ("```sh\nequipoise alin dpo\n```", ["no command alin"]),
        ("`equipoise data chek FILE`", ["no command data chek"]),
        ("```\n$ equipoise align dpo --dta x | tail --lines 3\n```", ["align: no option --dta"]),
        ("```\ntorchrun --nproc_per_node 2 --no_python equipoise runs --jsn\n```", ["runs: no option --jsn"]),
        ("```\nA_B=1 torchrun --nproc_per_node 2 -m equipoise runs --jsn\n```", ["runs: no option --jsn"]),
        ("```\ntimeout --signal INT 9 equipoise runs --jsn || true\n```", ["runs: no option --jsn"]),
        ("`equipoise compare a b --out=c.html`", []),
        ("`equipoise launch -n 2 align dpo --out r`", []),
        (
            "`equipoise launch --process 2 align dpo --dta r`",
            ["align: no option --dta", "launch: no option --process"],
        ),
    ],
)
def test_a_command_that_the_program_lacks_is_found(text: str, complaints: list[str]) -> None:
    assert [fault for words in commands(text) for fault in faults(words)] == complaints


def test_a_setting_that_a_method_lacks_is_found() -> None:
    (fault,) = faults(next(commands("`equipoise align dpo --set lr=1e-4 learning_speed=3`")))
    assert "unknown setting 'learning_speed'" in fault


def options(command: Any, path: str = "") -> Iterator[tuple[str, str]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from options(inner, f"{path} {name}".strip())
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.secondary_opts:
            yield path, max(parameter.opts, key=len)


def test_the_page_of_commands_names_every_command_and_option() -> None:
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    missing = [
        (command, option)
        for command, option in options(GROUP)
        if not re.search(rf"{option}\b", page) or command.rpartition(" ")[2] not in page
    ]
    assert missing == []
