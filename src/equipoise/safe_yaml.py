"""YAML from outside: configurations and judges' files, loaded as plain values within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

LONGEST = 1 << 22  # characters
MOST_BITS = 1023  # of an integer: a larger one is no float
MOST_VALUES = 100_000  # of a file with its aliases written out: nested ones expand without bound


def load(text: str, *, aliases: bool = True) -> Any:
    """The plain value of a YAML text; without `aliases`, one that uses them is refused.

    Raises ValueError with the reason, and the line where there is one.
    """
    if len(text) > LONGEST:
        raise ValueError(f"{len(text):,} characters are more than the {LONGEST:,} that are read")
    try:
        if not aliases and any(
            isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)
        ):
            raise ValueError("aliases are not read")
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _count(value)
    return value


def word(text: str) -> Any:
    """A single value as it is typed: a number where it is one, also as 1e-4; else YAML; else the text itself."""
    try:
        return float(text) if not text.lstrip("+-").isdigit() else int(text)
    except ValueError:
        pass
    try:
        return load(text)
    except ValueError:  # such as a Jinja template
        return text


def _count(value: Any) -> None:
    seen, left = 0, [iter((value,))]
    while left:
        for item in left[-1]:
            seen += 1
            if seen > MOST_VALUES:
                raise ValueError(f"it has more than {MOST_VALUES:,} values, with its aliases written out")
            if isinstance(item, int) and item.bit_length() > MOST_BITS:
                raise ValueError(f"it has an integer of more than {MOST_BITS:,} bits")
            inside: Iterable[Any] = ()
            if isinstance(item, Mapping):
                inside = (part for pair in item.items() for part in pair)
            elif isinstance(item, list):
                inside = item
            left.append(iter(inside))
            break
        else:
            left.pop()
