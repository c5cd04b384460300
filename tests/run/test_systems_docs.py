"""The table of published systems names only what is there, and says so of every system."""

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


def test_commands_name_commands_that_exist():
    from typer.main import get_command

    from equipoise.cli.app import app

    known = get_command(app).commands
    for group in read(FOLDER / "systems.yaml"):
        for system in group.systems:
            for command in system.commands:
                words = command.split()
                assert words[0] == "equipoise" and words[1] in known, command
                for name in known[words[1]].commands if hasattr(known[words[1]], "commands") else ():
                    if words[2] == name:
                        break
                else:
                    assert not hasattr(known[words[1]], "commands"), command


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
