"""Look-up of a name that a person typed: case and hyphens do not matter; an unknown one gets the nearest."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from equipoise.safe_text import printable

MOST = 100  # characters of an unknown name in a message


def known_name(name: str, known: Iterable[str], what: str, command: str) -> str:
    """The known name that is meant. Raises KeyError with the three nearest and the command that lists all.

    what      "method", ...      command   such as "equipoise methods"
    """
    names = list(known)
    if name in names:
        return name
    plain = {_plain(own): own for own in names}
    if _plain(name) in plain:
        return plain[_plain(name)]
    near = [repr(plain[own]) for own in get_close_matches(_plain(name), plain, n=3)]
    hint = f"; did you mean {' or '.join(', '.join(near).rsplit(', ', 1))}?" if near else ""
    raise KeyError(f"no {what} {printable(name, most=MOST)!r}{hint} (`{command}` lists all)")


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")
