"""What a setting of another trainer is here, and the translation of a whole configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from equipoise.safe_text import printable

OFF = (None, False, 0, "", "no", "none", "None", "false", "False", "0")  # values that switch a setting off


class ImportFailed(ValueError):
    """A foreign configuration that cannot be translated; the message says why, and what to do."""


def same(value: Any) -> Any:
    """A value that is the same here."""
    return value


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one setting of another trainer is here.

    ours     our setting's dotted name; "" if there is none
    convert  their value -> ours; raises ValueError for one that has no equivalent
    why      what differs, or, without an equivalent, what to do
    ignored  it changes nothing that is learned: logs, workers, kernels
    unless   values that need no equivalent, of a setting that has none
    """

    ours: str = ""
    convert: Callable[[Any], Any] = same
    why: str = ""
    ignored: bool = False
    unless: Callable[[Any], bool] = lambda value: value in OFF


def ours(name: str, convert: Callable[[Any], Any] = same, why: str = "") -> Meaning:
    """A setting that exists here under this name."""
    return Meaning(ours=name, convert=convert, why=why)


def absent(why: str, unless: Callable[[Any], bool] = lambda value: value in OFF) -> Meaning:
    """A setting that changes what is learned and does not exist here; by default it is not missed where it is off."""
    return Meaning(why=why, unless=unless)


def ignored(why: str = "") -> Meaning:
    """A setting that changes nothing that is learned."""
    return Meaning(why=why, ignored=True)


@dataclass(kw_only=True)
class Translation:
    """A foreign configuration as ours.

    source      the trainer's name
    given       its settings as read; a setting is taken out when something is said of it
    method      our method's name          settings  dotted name -> value
    translated  (theirs, ours)             missing   (theirs, why, what to do)
    ignored     settings without influence on what is learned
    notes       what else a reader should know
    """

    source: str
    given: dict[str, Any]
    method: str = "dpo"
    settings: dict[str, Any] = field(default_factory=dict)
    translated: list[tuple[str, str]] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, *names: str, default: Any = None) -> Any:
        """The value of the first of these settings that is given; all are taken out."""
        found = [self.given.pop(name) for name in names if name in self.given]
        return next((value for value in found if value is not None), default)

    def put(self, name: str, value: Any, of: str) -> None:
        """Set one of ours, from what is said in `of`."""
        self.settings[name] = value
        self.translated.append((of, f"{name}: {value}"))

    def lack(self, theirs: str, why: str) -> None:
        """Note a setting that has no equivalent."""
        self.missing.append((theirs, why))

    def choose(self, method: str, of: str, **parameters: Any) -> None:
        """Set the method and its parameters; a parameter of None keeps the method's own value."""
        self.method = method
        given = {name: value for name, value in parameters.items() if value is not None}
        self.settings |= {f"objective.{name}": value for name, value in given.items()}
        said = ", ".join(f"{name} {value:g}" for name, value in given.items())
        self.translated.append((of, f"method {method}" + (f" with {said}" if said else "")))

    def apply(self, meanings: Mapping[str, Meaning]) -> None:
        """Translate every setting that the table knows; the others stay in `given`."""
        for name in [name for name in self.given if name in meanings]:
            self._apply(name, self.given.pop(name), meanings[name])

    def _apply(self, name: str, value: Any, meaning: Meaning) -> None:
        theirs = f"{name}: {short(value)}"
        if meaning.ignored or (not meaning.ours and meaning.unless(value)):
            self.ignored.append(theirs)
        elif not meaning.ours:
            self.lack(theirs, meaning.why)
        elif value is not None:
            try:
                converted = meaning.convert(value)
            except (ValueError, TypeError) as error:
                self.lack(theirs, str(error))
                return
            if converted is not None:
                self.put(meaning.ours, converted, theirs)
                self.notes += [f"{name}: {meaning.why}"] if meaning.why else []

    def default(self, name: str, value: Any) -> None:
        """Write out the other trainer's default where its configuration said nothing and ours may differ."""
        if name not in self.settings:
            self.put(name, value, f"default of {self.source}")

    def finish(self) -> None:
        """Note every setting of which nothing was said."""
        for name, value in self.given.items():
            self.lack(f"{name}: {short(value)}", "not a setting that this import knows: check what it does")
        self.given = {}


def short(value: Any, most: int = 80) -> str:
    """A value in a comment: one line, cut."""
    return printable(" ".join(str(value).split()), most=most)


def number(value: Any) -> float:
    """A number, also where YAML reads 1e-6 as text. Raises ValueError in words."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{short(value)} is not a number")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{short(value)} is not a number") from None


def whole(value: Any) -> int:
    """A whole number. Raises ValueError in words."""
    found = number(value)
    if not found.is_integer():
        raise ValueError(f"{short(value)} is not a whole number")
    return int(found)


def flag(value: Any) -> bool:
    """A switch, given as such, as text, or as an option without a value."""
    return value if isinstance(value, bool) else str(value).lower() in ("true", "1", "yes", "on", "auto")


def names(value: Any) -> list[str]:
    """A list of names, given as such or as text with commas or spaces."""
    return (
        [str(v) for v in value] if isinstance(value, list | tuple) else str(value).replace(",", " ").split()
    )
