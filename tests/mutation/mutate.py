"""Would the tests notice? Every sign, additive term and constant of every objective, changed one at a time.

    python tests/mutation/mutate.py [OBJECTIVE ...] [--tests FILE ...] [-k EXPRESSION] [--write docs/mutation.md]

Of every function in the files of the objectives that an objective of the catalogue runs, `__call__` and helpers alike:

    sign        a + b becomes a - b, a - b becomes a + b, -a becomes a
    dropped     a + b and a - b become a, and b or -b
    doubled     a number becomes twice itself (indices and dimensions are left alone)

The tests are collected once. A first run notes which test runs which function; a mutant meets only those, the quickest
and the most successful first, until one fails. A mutant lives in this process alone: the function's code object is
exchanged and put back, so every reference sees it and no file is touched.

The exit code is 1 if a flipped sign or a dropped term survives without a reason in `EQUIVALENT`, or if a reason there
is out of date. Takes minutes.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import inspect
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from changes import Mutant, functions, mutants_of  # beside this file

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ROOT / "src" / "equipoise" / "core" / "objectives"
PACKAGE = "equipoise.core.objectives"
# the interface, what is declared through it, and the truth that surrogates are compared with
NOT_FAMILIES = ("__init__", "base", "reads", "estimates")

# (function, change) -> why no test can tell: the mutant computes the same numbers
EQUIVALENT: dict[tuple[str, str], str] = {
    (
        "lists.lambda_weights",
        "(high - low).where(high > low, 1)  →  (high - low).where(high > low, 2)",
    ): "taken only where all rewards are equal: 0 divided by it",
}


@dataclass
class Target:
    """A function that objectives run."""

    name: str  # file.Class.function
    function: FunctionType
    mutants: list[Mutant]
    original: CodeType = field(init=False)

    def __post_init__(self) -> None:
        self.original = self.function.__code__


def targets() -> list[Target]:
    """Every function of the families' files, with its mutants."""
    found = []
    for file in sorted(FAMILIES.glob("*.py")):
        if file.stem in NOT_FAMILIES:
            continue
        module = importlib.import_module(f"{PACKAGE}.{file.stem}")
        tree = ast.parse(file.read_text())
        for path, node in functions(tree):
            held: Any = module
            for name in path:
                held = inspect.getattr_static(held, name)
            held = inspect.unwrap(
                held.fget if isinstance(held, property) else getattr(held, "__func__", held)
            )
            name = ".".join((file.stem, *path))
            found.append(Target(name, held, mutants_of(tree, path, node, str(file))))
    return found


# running tests against them ----------------------------------------------------------------------


class Watch:
    """Which of the targets' functions run while it is on."""

    def __init__(self, watched: Iterable[Target]) -> None:
        self.of = {target.original: target.name for target in watched}
        self.seen: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in self.of:
            self.seen.add(self.of[frame.f_code])

    def during(self, run: Callable[[], Any]) -> tuple[Any, set[str]]:
        self.seen = set()
        sys.setprofile(self)
        try:
            return run(), self.seen
        finally:
            sys.setprofile(None)


def passes(item: pytest.Item) -> bool | None:
    """Whether a test passes; None if it is skipped."""
    outcomes = [report.outcome for report in runtestprotocol(item, log=False, nextitem=None)]
    return False if "failed" in outcomes else None if "skipped" in outcomes else True


@dataclass
class Verdict:
    target: str
    mutant: Mutant
    killer: str | None  # the test that failed


class Mutation:
    """A pytest plugin that runs the collected tests against every mutant in place of once."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self.wanted = wanted
        self.found: list[Verdict] = []
        self.uses: dict[str, set[str]] = {}  # objective -> functions it runs
        self.broken: list[str] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        all_targets = targets()
        self.uses = uses(all_targets, self.wanted)
        mine = [t for t in all_targets if any(t.name in used for used in self.uses.values())]
        tests = self.learn(session.items, mine)
        for number, target in enumerate(mine, 1):
            self.against(target, tests[target.name])
            lived = sum(v.killer is None for v in self.found if v.target == target.name)
            print(
                f"[{number}/{len(mine)}] {target.name}: {len(target.mutants)} mutants, {lived} alive",
                flush=True,
            )
        return True

    def learn(self, items: Sequence[pytest.Item], mine: Sequence[Target]) -> dict[str, list[pytest.Item]]:
        """The tests that run each function, the quickest first."""
        watch, tests, took = Watch(mine), defaultdict(list), {}
        for item in items:
            started = time.perf_counter()
            passed, seen = watch.during(lambda item=item: passes(item))
            took[item] = time.perf_counter() - started
            if passed is False:
                self.broken.append(item.nodeid)
            if passed:
                for name in seen:
                    tests[name].append(item)
        print(f"{len(items)} tests in {sum(took.values()):.0f} s", flush=True)
        return {target.name: sorted(tests[target.name], key=took.__getitem__) for target in mine}

    def against(self, target: Target, tests: list[pytest.Item]) -> None:
        """Each mutant of a function meets its tests; one that has killed goes first from then on."""
        for mutant in target.mutants:
            target.function.__code__ = mutant.code
            try:
                killer = next((item for item in tests if passes(item) is False), None)
            finally:
                target.function.__code__ = target.original
            if killer is not None:
                tests.remove(killer)
                tests.insert(0, killer)
            self.found.append(Verdict(target.name, mutant, killer.nodeid if killer else None))


def uses(all_targets: Sequence[Target], wanted: Sequence[str]) -> dict[str, set[str]]:
    """The functions that each objective of the catalogue runs when it is built and called, its variants too."""
    contract = load_contract()
    watch, found = Watch(all_targets), {}
    for name, row in contract.CATALOG.items():
        if wanted and name not in wanted:
            continue

        def run(row: Any = row) -> None:
            for variant in ({}, *row.variants):
                objective = row.build(**variant)
                scores = contract.draw(objective)
                objective(scores)

        found[name] = watch.during(run)[1]
    unknown = set(wanted) - set(contract.CATALOG)
    if unknown:
        raise SystemExit(f"no such objective: {', '.join(sorted(unknown))}")
    return found


def load_contract() -> Any:
    """The contract suite as a module: it knows how to draw scores for any objective."""
    spec = importlib.util.spec_from_file_location(
        "contract", ROOT / "tests" / "contract" / "test_objectives.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# telling -----------------------------------------------------------------------------------------


def alive(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Survivors that are not known to be equivalent."""
    return [v for v in verdicts if v.killer is None and (v.target, v.mutant.change) not in EQUIVALENT]


def table(found: Sequence[Verdict], used: dict[str, set[str]]) -> str:
    """Markdown: a line for each objective, then the survivors, then the equivalent mutants with their reasons."""
    lines = [
        "| objective | functions | signs | dropped terms | doubled constants | survivors |",
        "|---|---|---|---|---|---|",
    ]
    for name, functions_of in used.items():
        mine = [v for v in found if v.target in functions_of]
        cells = [
            counted([v for v in mine if v.mutant.kind == kind]) for kind in ("sign", "dropped", "doubled")
        ]
        lines.append(f"| `{name}` | {len(functions_of)} | {' | '.join(cells)} | {len(alive(mine)) or '-'} |")
    cells = [counted([v for v in found if v.mutant.kind == kind]) for kind in ("sign", "dropped", "doubled")]
    lines.append(
        f"| all, each once | {len({v.target for v in found})} | {' | '.join(cells)} | {len(alive(found)) or '-'} |"
    )
    if alive(found):
        lines += ["", "## Survivors", "", "| function | line | change |", "|---|---|---|"]
        lines += [f"| `{v.target}` | {v.mutant.line} | {in_code(v.mutant.change)} |" for v in alive(found)]
    same = [v for v in found if v.killer is None and (v.target, v.mutant.change) in EQUIVALENT]
    if same:
        lines += ["", "## Equivalent", "", "| function | change | why no test can tell |", "|---|---|---|"]
        lines += [
            f"| `{v.target}` | {in_code(v.mutant.change)} | {EQUIVALENT[v.target, v.mutant.change]} |"
            for v in same
        ]
    return "\n".join(lines)


def in_code(text: str) -> str:
    """Code in a cell of a table."""
    return f"`{text}`".replace("|", "\\|").replace("\n", " ")


def counted(verdicts: Sequence[Verdict]) -> str:
    """killed/made, equivalent ones left out."""
    made = [v for v in verdicts if v.killer or (v.target, v.mutant.change) not in EQUIVALENT]
    return f"{sum(v.killer is not None for v in made)}/{len(made)}" if made else "-"


PAGE = """# Mutation: would the tests notice?

Every sign, additive term and constant in the code of every objective, changed one at a time, and how many of the
changes turn a test red. Generated, in minutes, by

    python tests/mutation/mutate.py --write docs/mutation.md

Figures are killed/made. An objective's line counts the mutants of every function that it runs, its own and those it
shares; the last line counts each mutant once. The tests are the contract suite, those of the families in `tests/core`,
and the agreement with other libraries.

{table}
"""


def outdated(found: Sequence[Verdict]) -> list[tuple[str, str]]:
    """Reasons for mutants that do not exist, or that a test does kill."""
    met = {v.target for v in found}
    lived = {(v.target, v.mutant.change) for v in found if v.killer is None}
    return [key for key in EQUIVALENT if key[0] in met and key not in lived]


def default_tests() -> list[str]:
    """The contract, and what in tests/core and tests/agree speaks of objectives."""
    files = [*(ROOT / "tests" / "core").glob("test_*.py"), ROOT / "tests" / "agree" / "test_trl_losses.py"]
    speaking = sorted(str(f) for f in files if f.exists() and PACKAGE in f.read_text())
    return [str(ROOT / "tests" / "contract" / "test_objectives.py"), *speaking]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("objective", nargs="*", help="rows of the catalogue; all by default")
    parser.add_argument("--tests", nargs="+", help="test files in place of the usual ones")
    parser.add_argument("-k", default="", help="of the tests only those that pytest's -k would take")
    parser.add_argument("--write", type=Path, help="write the table as a page")
    given = parser.parse_args(arguments)
    import_unwrapped()
    plugin = Mutation(given.objective)
    quiet = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:warnings"]
    code = pytest.main(
        [*quiet, "--rootdir", str(ROOT), "-m", "not slow", "-k", given.k, *(given.tests or default_tests())],
        plugins=[plugin],
    )
    if not plugin.found or code not in (0, 5):
        print(f"the tests could not be run (pytest says {code!r})")
        return 2
    told = table(plugin.found, plugin.uses)
    print(told)
    for nodeid in plugin.broken:
        print(f"left out, fails without any mutant: {nodeid}")
    for name, change in outdated(plugin.found):
        print(f"no longer equivalent: {name}: {change}")
    if given.write:
        given.write.write_text(PAGE.format(table=told))
    serious = [v for v in alive(plugin.found) if v.mutant.kind != "doubled"]
    return 1 if serious or plugin.broken or outdated(plugin.found) else 0


def import_unwrapped() -> None:
    """Import the package before the tests ask for shape checks: a function must be its own code, not a wrapper's."""
    import hypothesis

    importlib.import_module(PACKAGE)
    hypothesis.settings.register_profile(
        "mutation", database=None, deadline=None, max_examples=20, derandomize=True
    )
    hypothesis.settings.load_profile("mutation")


if __name__ == "__main__":
    sys.exit(main())
