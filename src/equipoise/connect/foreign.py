"""Foreign configurations as names and values: YAML, the flags of a shell script, the arguments of a Python call.

Nothing in them is run: YAML is loaded safely, a shell script is split into words, of Python only literals are read.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from equipoise.connect.meanings import ImportFailed, short
from equipoise.safe_yaml import load, word

PROGRAM = re.compile(
    r"[\w./-]*(?:trl|openrlhf|axolotl|llamafactory|dpo|kto|orpo|cpo|simpo)[\w./-]*", re.IGNORECASE
)
CALLS = re.compile(r"(Config|Arguments|Trainer|dict)$")
LONGEST = 1 << 20  # characters of a configuration


@dataclass(frozen=True)
class Foreign:
    """Settings by name, the program or class they were given to, and what could not be read."""

    settings: dict[str, Any]
    program: str = ""
    unread: list[str] = field(default_factory=list)


def parse(text: str, name: str) -> Foreign:
    """A configuration file's settings; the name's ending decides how it is read, else its content.

    Raises ImportFailed, with the reason, for a text that holds none.
    """
    if len(text) > LONGEST:
        raise ImportFailed(
            f"{name}: a configuration has at most {LONGEST:,} characters, this has {len(text):,}"
        )
    ending = name.rpartition(".")[2].lower()
    if ending == "py":
        return python_call(text, name)
    if ending in ("sh", "bash") or (ending not in ("yaml", "yml", "json") and re.search(r"(^|\s)--\w", text)):
        return command(text, name)
    try:
        content = load(text)
    except ValueError as error:
        raise ImportFailed(f"{name}: not YAML: {short(error, 300)}") from None
    if not isinstance(content, dict):
        raise ImportFailed(
            f"{name}: a configuration is a mapping of settings, this is {type(content).__name__}"
        )
    if not all(isinstance(key, str) for key in content):
        raise ImportFailed(f"{name}: the names of settings are texts")
    return Foreign(content)


def command(text: str, name: str) -> Foreign:
    """The flags of the first command with flags in a shell script."""
    joined = re.sub(r"\\\s*\n", " ", text)
    for line in joined.split("\n"):
        if not line.lstrip().startswith("#") and re.search(r"\s--[\w.]", line):
            try:
                words = shlex.split(line, comments=True)
            except ValueError as error:
                raise ImportFailed(f"{name}: the command cannot be split into words: {error}") from None
            return _flags(words)
    raise ImportFailed(f"{name}: no command with --flags was found")


def _flags(words: list[str]) -> Foreign:
    settings: dict[str, Any] = {}
    program, unread, at = "", [], 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("--"):
            found = PROGRAM.fullmatch(word)
            program = program + " " + word if found and "=" not in word else program
            continue
        option, equals, value = word.removeprefix("--").partition("=")
        values = [value] if equals else []
        while not equals and at < len(words) and not words[at].startswith("--"):
            values.append(words[at])
            at += 1
        if option == "module" and values:  # a launcher's own option; what it starts is a program with flags
            program += " " + values[0]
            continue
        if any("$" in v for v in values):
            unread.append(f"--{option} {' '.join(values)}")
            continue
        kept, begins = _until_program(values)
        program += begins
        settings[option.replace("-", "_") if "." not in option else option] = _value(kept)
    return Foreign(
        settings, program.strip(), [f"{short(u)}: a shell variable, whose value is not known" for u in unread]
    )


def _until_program(values: list[str]) -> tuple[list[str], str]:
    """The values of a launcher's option, and the program that follows them: `--num_processes 4 train_dpo.py`."""
    for place, value in enumerate(values):
        if value.endswith(".py") and (place or len(values) == 1):
            return values[:place], " " + value
    return values, ""


def _value(values: list[str]) -> Any:
    if not values:
        return True
    read = [word(value) for value in values]
    return read[0] if len(read) == 1 else read


def python_call(text: str, name: str) -> Foreign:
    """The literal keyword arguments of every ...Config(...), ...Arguments(...) and ...Trainer(...) call of a script."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or "nested too deeply"  # the parser's MemoryError says nothing
        raise ImportFailed(f"{name}: not Python: {reason}") from None
    settings: dict[str, Any] = {}
    programs, unread = [], []
    for called, arguments in _calls(tree):
        programs.append(called)
        for argument in arguments:
            if argument.arg is None or (called.endswith("Trainer") and argument.arg == "args"):
                continue
            try:
                settings[argument.arg] = literal(argument.value)
            except ValueError:
                if called.endswith(("Config", "Arguments")):
                    unread.append(f"{argument.arg}: an expression, not a value")
    if not settings:
        raise ImportFailed(f"{name}: no call such as DPOConfig(learning_rate=5e-7) was found")
    return Foreign(settings, " ".join(programs), unread)


def literal(value: str | ast.expr) -> Any:
    """The value of a Python literal, of which nothing is run. Raises ValueError for anything else."""
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"not a literal: {type(error).__name__}") from None


def _calls(tree: ast.AST) -> Iterator[tuple[str, list[ast.keyword]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if CALLS.search(called):
                yield called, node.keywords
