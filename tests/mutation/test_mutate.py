"""The mutation script itself: it makes the changes it says, puts everything back, and can fail."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "mutation" / "mutate.py"


@pytest.fixture(scope="module")
def mutate():
    sys.path.insert(0, str(SCRIPT.parent))
    yield importlib.import_module("mutate")
    sys.path.remove(str(SCRIPT.parent))


SOURCE = '''
class Loss:
    def __call__(self, x):
        """A docstring with a - b."""
        if x > 100:
            raise ValueError(f"{x + 1} is too large, not {-1}" + "!")
        y = -x[0, -1].sum(dim=-1) + 2.0 * x[1 - 1, 0]
        y -= 3 - x[1, 0]
        return y
'''


def test_the_changes_of_a_function_are_these(mutate):
    changes = importlib.import_module("changes")
    tree = ast.parse(SOURCE)
    ((path, node),) = mutate.functions(tree)
    assert path == ("Loss", "__call__")
    found = [(kind, told) for kind, _, _, told in changes.changes(node)]
    whole, last = "-x[0, -1].sum(dim=-1) + 2.0 * x[1 - 1, 0]", "3 - x[1, 0]"
    assert sorted(found) == sorted([
        ("doubled", "x > 100  →  x > 200"),
        ("sign", f"{whole}  →  -x[0, -1].sum(dim=-1) - 2.0 * x[1 - 1, 0]"),
        ("dropped", f"{whole}  →  -x[0, -1].sum(dim=-1)"),
        ("dropped", f"{whole}  →  2.0 * x[1 - 1, 0]"),
        ("sign", "-x[0, -1].sum(dim=-1)  →  x[0, -1].sum(dim=-1)"),
        ("doubled", "2.0 * x[1 - 1, 0]  →  4.0 * x[1 - 1, 0]"),
        ("sign", f"y -= {last}  →  y += {last}"),
        ("dropped", f"y -= {last}  →  pass"),
        ("sign", f"{last}  →  3 + x[1, 0]"),
        ("dropped", f"{last}  →  3"),
        ("dropped", f"{last}  →  -x[1, 0]"),
        ("doubled", f"{last}  →  6 - x[1, 0]"),
    ])  # fmt: skip


def test_a_mutant_lives_in_every_reference_and_is_put_back(mutate):
    source = "def add(a, b):\n    return a + b\n"
    names: dict = {}
    exec(source, names)
    add = kept = names["add"]
    tree = ast.parse(source)
    ((path, node),) = mutate.functions(tree)
    target = mutate.Target("file.add", add, mutate.mutants_of(tree, path, node, "file.py"))

    class Test:
        nodeid = "test"

    met = []
    mutate_passes, mutate.passes = mutate.passes, lambda _: met.append(kept(3, 2)) or kept(3, 2) == 5
    try:
        run = mutate.Mutation([])
        run.against(target, [Test()])
    finally:
        mutate.passes = mutate_passes
    assert met == [1, 3, 2]  # a - b, a, b
    assert [verdict.killer for verdict in run.found] == ["test"] * 3
    assert kept(3, 2) == 5


def test_a_page_counts_survivors_and_leaves_equivalent_ones_out(mutate, monkeypatch):
    def verdict(change, killer):
        return mutate.Verdict("f.g", mutate.Mutant("sign", 3, change, (lambda: None).__code__), killer)

    found = [verdict("a", "test"), verdict("b", None), verdict("c", None)]
    monkeypatch.setattr(mutate, "EQUIVALENT", {("f.g", "c"): "c is c", ("f.g", "a"): "stale"})
    told = mutate.table(found, {"loss": {"f.g"}})
    assert "| `loss` | 1 | 1/2 | - | - | 1 |" in told
    assert "| `f.g` | 3 | `b` |" in told and "| `f.g` | `c` | c is c |" in told
    assert mutate.outdated(found) == [("f.g", "a")]


def test_every_function_of_the_families_has_its_own_code(mutate):
    # what the script exchanges must be the function's own code, not a wrapper's
    for target in mutate.targets():
        assert target.original.co_name == target.name.rsplit(".", 1)[1]
        for mutant in target.mutants:
            assert mutant.code.co_name == target.original.co_name
            assert mutant.code.co_freevars == target.original.co_freevars


LOOKS = """
import torch
from math import exp, log1p
from equipoise.core import Scores
from equipoise.core.objectives import Cdpo

def test_it():
    logp, reference = torch.tensor([[3.0, 1.0]]).double(), torch.tensor([[2.0, 1.0]]).double()
    scores = Scores(logp=logp, anchors={"reference": reference})
    value = Cdpo(beta=0.5, smoothing=0.25)(scores).value.item()  # m = 0.5 (2 - 1)
    assert VALUE
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asserted", "code"), [("abs(value - (log1p(exp(-0.5)) + 0.25 * 0.5)) < 1e-12", 0), ("value == value", 1)]
)
def test_one_value_by_hand_kills_every_mutant_of_cdpo_and_a_test_that_cannot_fail_none(
    tmp_path, asserted, code
):
    (tmp_path / "test_it.py").write_text(LOOKS.replace("VALUE", asserted))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(SCRIPT), "cdpo", "--tests", str(tmp_path / "test_it.py")]
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, timeout=300
    )
    assert result.returncode == code, result.stdout + result.stderr
    every = next(line for line in result.stdout.splitlines() if line.startswith("| all"))
    made, survivors = every.split("|")[3:5], every.split("|")[6].strip()
    for cell in made:
        killed, of = map(int, cell.split("/"))
        assert of > 0 and killed == (of if code == 0 else 0)
    assert (survivors == "-") == (code == 0)
