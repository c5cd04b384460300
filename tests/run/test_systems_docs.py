"""The table of published systems names only what is there, and says so of every system."""

import shlex
from pathlib import Path

import pytest

from equipoise.run.docs.systems import Group, System, faults, page, read

FOLDER = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_file_gives():
    groups = read(FOLDER / "systems.yaml")
    assert list(faults(groups)) == []
    assert page(groups) == (FOLDER / "systems.md").read_text(encoding="utf-8"), (
        "run python -m equipoise.run.docs.systems > docs/systems.md"
    )


def test_the_table_has_every_system_of_the_mission():
    groups = read(FOLDER / "systems.yaml")
    assert sum(len(g.systems) for g in groups) == 84


def _parsed(command: str) -> None:
    """Parse a command line as the program does, without running it; of `align`, also the method and its settings."""
    from typer.main import get_command

    from equipoise.cli.app import app, spread
    from equipoise.methods.index import get
    from equipoise.run.config import parse_settings
    from equipoise.run.session import configured
    from equipoise.run.worlds import fits
    from equipoise.run.worlds import settings as worlds
    from equipoise.worlds.index import WORLDS
    from equipoise.worlds.labels.tasks import TITLES

    program, *words = shlex.split(command)
    assert program == "equipoise", command
    found = get_command(app)
    words = spread(words)
    while hasattr(found, "commands"):
        found = found.commands[words.pop(0)]
    try:
        given = found.make_context(found.name, words).params
    except Exception as error:  # of click, or of the copy of it that a version of typer brings along
        raise ValueError(f"{command}: {error}") from error
    if found.name == "align" and given["world"] is not None:
        settings = parse_settings(given["set"] or [])
        if given["world"] in TITLES:
            fits.resolved(fits.entry_of(given["method"]), settings)
        else:
            worlds.resolve(get(given["method"]), WORLDS[given["world"]], settings)
    elif found.name == "align":
        configured(
            given["method"],
            model=given["model"],
            data=given["data"],
            oracle=given["oracle"],
            settings=parse_settings(given["set"] or []),
        )


COMMANDS = [c for g in read(FOLDER / "systems.yaml") for s in g.systems for c in s.commands]


@pytest.mark.slow
@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_commands_are_whole_and_have_the_options_that_they_name(command):
    _parsed(command)


@pytest.mark.parametrize(
    "command",
    [
        "equipoise align egpo (also omd",
        "equipoise align inop",
        "equipoise align inpo --set nothing=1",
        "equipoise oracle train gpm ...",
        "equipoise play --method spac",
        "equipoise oracle nothing",
    ],
)
def test_a_command_that_would_be_refused_is_seen(command):
    with pytest.raises((ValueError, KeyError)):
        _parsed(command)


GOOD = {
    "system": "DPO: direct preference optimization",
    "paper": "2305.18290",
    "status": "works",
    "what": "a method",
    "methods": ("dpo",),
    "commands": ("equipoise align dpo",),
    "evidence": ("tests/core",),
}


@pytest.mark.parametrize(
    "change, says",
    [
        ({"methods": ("dop",)}, "no method 'dop'"),
        ({"claims": ("nothing",)}, "no claim 'nothing'"),
        ({"status": "missing"}, "missing, yet"),
        ({"evidence": ()}, "says neither"),
        ({"status": "partial"}, "nothing is said to be left"),
        ({"methods": ()}, "how sure"),
    ],
)
def test_a_row_that_contradicts_itself_is_seen(change, says):
    group = Group(group="g", systems=(System(**GOOD | change),))
    assert any(says in fault for fault in faults([group]))
    assert list(faults([Group(group="g", systems=(System(**GOOD),))])) == []


def test_a_paper_has_one_row():
    group = Group(group="g", systems=(System(**GOOD), System(**GOOD)))
    assert any("has a row already" in fault for fault in faults([group]))
