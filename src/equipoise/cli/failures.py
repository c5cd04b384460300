"""How a command fails: its exit code, errors in one line, and where the traceback of a fault is kept."""

from __future__ import annotations

import dis
import os
import tempfile
import traceback
from pathlib import Path

import equipoise
from equipoise.safe_text import printable

PACKAGE = str(Path(equipoise.__file__).parent) + os.sep
RAISE = dis.opmap["RAISE_VARARGS"]
LEFT_SUPPORT = 3  # exit code of a run that ended where the policy left its reference's support
LONGEST_LINE = 2000  # characters of one line of a message


def explains_itself(error: BaseException) -> bool:
    """Whether an error's message was written for a user: it is printed without a traceback.

    Such an error was raised by a `raise` statement of this package, or is the system's word on a file. Anything else (a
    missing key, a failed conversion, an error of another library) is a fault of the program, whatever its class.
    """
    if isinstance(error, OSError) and (error.filename is not None or error.errno is not None):
        return True
    written = ValueError | KeyError | RuntimeError | OSError | FloatingPointError
    return isinstance(error, written) and _raised_here(error)


def _raised_here(error: BaseException) -> bool:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return False
    code = place.tb_frame.f_code
    return code.co_filename.startswith(PACKAGE) and code.co_code[place.tb_lasti] == RAISE


def message_of(error: BaseException) -> str:
    """The error's message, safe to print, with long lines cut. A KeyError's is its argument, not in quotes; one of the
    system names the file first."""
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        said = f"{error.filename}: {error.strerror}"  # without the number, and the file first as in every message
    text = str(said) or type(error).__name__
    return "\n".join(printable(line, most=LONGEST_LINE) for line in text.split("\n"))


def keep_traceback(error: BaseException) -> str:
    """Write the traceback to a file of its own, and say in one sentence where it is."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    with tempfile.NamedTemporaryFile(
        "w", prefix="equipoise-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
    ) as file:
        file.write(text)
    kind = type(error).__name__
    said = message_of(error).split("\n")[0]
    what = kind if said == kind else f"{kind}: {said}"
    return (
        f"an unexpected {what}; this is a fault of equipoise or of a library that it uses: please report it with its "
        f"traceback and what `equipoise env` prints. The traceback is in {file.name}; --traceback prints it"
    )
