"""Which errors are messages for a user, and what becomes of the others."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from equipoise.cli import app
from equipoise.cli.failures import LONGEST_LINE, explains_itself, message_of
from equipoise.data.errors import DataError
from equipoise.games.zoo import parse
from equipoise.run.config import ConfigError, resolve


def caught(act):
    """The error that a call ends with."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
        return error
    raise AssertionError("no error")


@pytest.mark.parametrize(
    "act",
    [
        lambda: resolve("dppo"),
        lambda: parse("no-such-game"),
        lambda: Path("/no/such/file").read_text(),
        lambda: DataError.__init__ and (_ for _ in ()).throw(OSError(28, "No space left on device")),
    ],
)
def test_errors_of_this_package_and_of_the_system_explain_themselves(act):
    assert explains_itself(caught(act))


@pytest.mark.parametrize(
    "act",
    [
        lambda: {}["a"],
        lambda: int("x"),
        lambda: json.loads("{"),
        lambda: [].pop(),
        lambda: (1, 2).index(3),
        lambda: None.x,
    ],
)
def test_errors_that_nobody_wrote_do_not(act):
    assert not explains_itself(caught(act))


def test_a_fault_ends_in_one_line_that_names_the_file_with_its_traceback(monkeypatch, capsys):
    def broken(arguments):
        return {}["key\x1b[2J"]

    monkeypatch.setattr(app, "app", broken)
    with pytest.raises(SystemExit) as end:
        app.main(["methods"])
    err = capsys.readouterr().err
    assert end.value.code == 1 and err.count("\n") == 1 and "\x1b" not in err
    kept = Path(err.split("The traceback is in ")[1].split(";")[0])
    assert "in broken" in kept.read_text()
    kept.unlink()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("align", "stopped; the same command resumes"),
        ("demo", "stopped; the same command resumes"),
        ("plan", "stopped"),
        ("data", "stopped"),
    ],
)
def test_only_a_command_with_a_run_folder_says_that_it_resumes(monkeypatch, capsys, command, said):
    def terminated(arguments):
        raise app.Terminated

    monkeypatch.setattr(app, "app", terminated)
    with pytest.raises(SystemExit) as end:
        app.main(["--traceback", command, "--out", "x"])
    assert end.value.code == 143 and capsys.readouterr().err == f"{said}\n"


def test_deprecations_inside_libraries_are_not_shown_and_others_are(monkeypatch):
    def warn(arguments):
        for module in ("transformers.modeling_utils", "rules"):
            warnings.warn_explicit(f"from {module}", FutureWarning, "x.py", 1, module=module)

    monkeypatch.setattr(app, "app", warn)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        app.main([])
    assert [str(w.message) for w in shown] == ["from rules"]


def test_a_long_line_of_a_message_is_cut_with_a_count():
    said = message_of(ConfigError("x" * 5000 + "\nand a second"))
    assert said.endswith(f"... ({5000 - LONGEST_LINE:,} more characters)\nand a second")
    assert message_of(ValueError()) == "ValueError"
    assert message_of(KeyError("no such key")) == "no such key"


def test_an_error_of_the_system_names_its_file_first_and_no_number(tmp_path):
    missing = tmp_path / "missing"
    assert message_of(caught(missing.read_text)) == f"{missing}: No such file or directory"
    assert message_of(OSError("no file is named")) == "no file is named"
