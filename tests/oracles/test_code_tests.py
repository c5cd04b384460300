"""Tests of code as an oracle: right code passes, wrong code does not, and hostile code neither passes nor gets out."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import equipoise
from equipoise import oracles
from equipoise.oracles.code.code_tests import CodeTests, code_of
from equipoise.oracles.code.problems import BadTests, asserts_of, problem_of
from equipoise.oracles.code.sandbox import Limits, Sandbox, SandboxError, guarantees
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.questioner import Failure, Policy

SMALL = Limits(seconds=1, wall=4.0, memory=256 * 2**20, processes=8, file=2**20, output=2**16)
SANDBOX = Sandbox(SMALL, guarantees().isolation)
isolated = pytest.mark.skipif(
    guarantees().isolation != "namespaces", reason=f"this machine has no namespaces: {guarantees().why}"
)
ADD = ["assert add(1, 2) == 3", "assert add('a', 'b') == 'ab'", "assert add([1], [2]) == [1, 2]"]


def passed(code: str, tests, entry: str | None = "add", sandbox: Sandbox = SANDBOX) -> list[int]:
    return problem_of(tests, entry).run(sandbox, textwrap.dedent(code))[0]


def printed(code: str, sandbox: Sandbox = SANDBOX, **given) -> str:
    outcome = sandbox.program({"a.py": textwrap.dedent(code)}, **given)
    return outcome.output.decode()


# what passes --------------------------------------------------------------------------------------


def test_the_share_of_tests_that_pass():
    assert passed("def add(a, b): return a + b", ADD) == [1, 1, 1]
    assert passed("def add(a, b): return int(a) + int(b)", ADD) == [1, 0, 0]
    assert passed("def sub(a, b): return a - b", ADD) == [0, 0, 0]
    assert passed("def add(a, b) return", ADD) == [0, 0, 0]


def test_values_of_every_plain_kind_cross_between_code_and_tests():
    code = """
    from collections import Counter, namedtuple
    def same(x): return x
    def sort(x): x.sort()
    def fails(x): raise KeyError(x)
    def count(x): return Counter(x)
    def squares(n):
        for i in range(n): yield i * i
    class Stack:
        def __init__(self): self.items = []
        def push(self, x): self.items.append(x)
        def pop(self): return self.items.pop()
        def __len__(self): return len(self.items)
    """
    tests = [
        "for x in (None, True, 3, 10**40, -0.5, 1j, 'é', b'\\x00', [1, (2,)], {1: {2}}, {3}, frozenset({4})):\n"
        "    y = same(x)\n    assert y == x and type(y) is type(x)",
        "assert same(float('inf')) == float('inf')",
        "x = same(float('nan'))\nassert x != x",
        "x = [3, 1, 2]\nsort(x)\nassert x == [1, 2, 3]",
        "try:\n    fails('k')\nexcept KeyError as error:\n    assert 'k' in str(error)",
        "assert count('aab') == {'a': 2, 'b': 1}",
        "assert list(squares(4)) == [0, 1, 4, 9]",
        "s = Stack()\ns.push(5)\ns.push(6)\nassert len(s) == 2\nassert s.pop() == 6",
    ]
    assert passed(code, tests, None) == [1] * 9


def test_a_check_of_asserts_is_as_many_tests():
    source = """
def check(candidate):
    base = 2
    assert candidate(1, base) == 3
    for i in range(3):
        assert candidate(i, i) == 2 * i
    assert True, "no test"
check(add)
"""
    found = asserts_of([source], "add")
    assert len(found.tests) == 2 and found.names == ("add",)
    assert passed("def add(a, b): return a + b", source) == [1, 1]
    assert passed("def add(a, b): return 2 * a if a == b else 0", source) == [0, 1]


def test_cases_of_standard_input_and_output():
    cases = [
        {"input": "1 2\n", "output": "3"},
        {"input": "4 5\n", "output": "9\n"},
        {"input": "x", "output": "0"},
    ]
    code = "print(sum(map(int, input().split())))"
    assert passed(code, cases, None) == [1, 1, 0]
    assert passed("print(3)", cases, None) == [1, 0, 0]


def test_a_command_beside_files_of_its_own():
    about = {
        "command": ["sh", "run.sh"],
        "name": "add.sh",
        "files": {"run.sh": ". ./add.sh; test $(add 1 2) = 3"},
    }
    assert passed("add() { echo $(($1 + $2)); }", about, None) == [1]
    assert passed("add() { echo 4; }", about, None) == [0]


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("a\n```python\nx = 1\n```\nb\n```\nx = 2\n```\n", "x = 2\n"),
        ("```python\nx = 1", "x = 1"),
        ("~~~py\nx = '```'\n~~~", "x = '```'\n"),
        ("x = 3", "x = 3"),
    ],
)
def test_the_code_of_a_response_is_its_last_block(response: str, code: str):
    assert code_of(response, "fenced") == code
    assert code_of(response, "whole") == response
    assert code_of("  return 1", "continued", "def f():\n") == "def f():\n  return 1"


# what must not pass -------------------------------------------------------------------------------

FORGERIES = {
    "exit before the tests": "import os; os._exit(0)",
    "exit in the function": "def add(a, b):\n    import os; os._exit(0)",
    "sys.exit": "import sys; sys.exit(0)",
    "equal to everything": """
        class Any:
            def __eq__(self, other): return True
            def __bool__(self): return True
        def add(a, b): return Any()
        """,
    "a number equal to everything": """
        class Any(int):
            def __eq__(self, other): return True
            def __hash__(self): return 0
        def add(a, b): return Any(0)
        """,
    "no assert": """
        import builtins
        builtins.AssertionError = ValueError
        class AssertionError(Exception): pass
        def add(a, b): return None
        """,
    "its own builtins": """
        def set(x): return 0
        def isinstance(a, b): return True
        def add(a, b): return 0
        """,
    "a verdict on every pipe": """
        import os
        for fd in range(3, 64):
            try: os.write(fd, b'{"passed": [1, 1, 1], "why": ""}\\n')
            except OSError: pass
        os._exit(0)
        """,
    "answers beforehand": """
        import os
        for fd in range(3, 64):
            try: os.write(fd, b'{"names": ["add"]}\\n' + 9 * (
                b'{"value": true, "given": {"list": [{"list": []}, {"dict": []}]}}\\n'))
            except OSError: pass
        def add(a, b): return 0
        """,
    "a broken protocol": """
        import os
        for fd in range(3, 64):
            try: os.write(fd, b'{"names": ["add", 5, "__builtins__"], "value": {"held": []}}\\n[[[[\\n')
            except OSError: pass
        """,
    "another process's memory": """
        import gc, sys
        for frame in sys._current_frames().values():
            while frame:
                for value in list(frame.f_locals.values()):
                    if isinstance(value, list): value[:] = [1] * len(value)
                frame = frame.f_back
        def add(a, b): return 0
        """,
}


@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES.keys())
def test_no_test_passes_that_the_code_does_not_pass(code: str):
    tests = [
        "assert add(1, 2) == 3",
        "assert set([add(2, 2)]) == set([4])",
        "assert isinstance(add(3, 3), int) and add(3, 3) == 6",
    ]
    assert passed(code, tests) == [0, 0, 0]


def test_a_name_that_tests_use_is_never_a_builtin_of_the_response():
    found = asserts_of(["import math\nassert math.isclose(area(1), math.pi) and abs(area(1)) < 4"])
    assert found.names == ("area",)


# what must end ------------------------------------------------------------------------------------

HOSTILE = {
    "an infinite loop": "while True: pass",
    "sleep": "import time; time.sleep(60)",
    "a memory bomb": "x = []\nwhile True: x.append(bytearray(2**24))",
    "a fork bomb": """
        import os, time
        end = time.time() + 3
        while time.time() < end:
            try: os.fork()
            except OSError: pass
        """,
    "huge output": "while True: print('x' * 10000, flush=True)",
    "a deaf loop": """
        import signal
        for s in range(1, 65):
            try: signal.signal(s, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True: pass
        """,
}


# the number of root's processes is bounded in a namespace alone
BOMBS = {"a fork bomb": [isolated]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "code", [pytest.param(code, id=name, marks=BOMBS.get(name, ())) for name, code in HOSTILE.items()]
)
def test_hostile_code_ends_and_passes_nothing(code: str):
    begun = time.monotonic()
    assert passed(code, [{"input": "", "output": "ok"}], None) == [0]
    assert passed(code, ADD) == [0, 0, 0]
    assert time.monotonic() - begun < 2 * (SMALL.wall + 12)


def test_a_loop_in_one_test_leaves_those_before_it():
    code = "def add(a, b):\n    while a == 'a': pass\n    return a + b"
    assert passed(code, ADD) == [1, 0, 0]


def test_files_are_bounded():
    code = """
    try:
        with open("big", "wb") as f:
            for _ in range(64): f.write(bytes(2**20))
    except OSError: print("bounded")
    """
    assert (
        printed("import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + textwrap.dedent(code))
        == "bounded\n"
    )


# what must stay inside ----------------------------------------------------------------------------


def test_the_environment_is_empty_of_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert "sk-secret" not in printed("import os; print(dict(os.environ))")
    reads = """
    import glob
    for path in glob.glob("/proc/*/environ"):
        try: print(open(path, "rb").read())
        except OSError: pass
    """
    if guarantees().isolation == "namespaces":
        assert "sk-secret" not in printed(reads)


@isolated
def test_there_is_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
        import socket
        for at in (("127.0.0.1", {server.getsockname()[1]}), ("1.1.1.1", 53)):
            try:
                with socket.socket() as s:
                    s.settimeout(2); s.connect(at); print("connected")
            except OSError: print("no")
        """
        assert printed(code) == "no\nno\n"


@isolated
def test_no_file_outside_is_read_or_written(tmp_path: Path):
    (tmp_path / "secret").write_text("sk-secret")
    tmp_path.chmod(0o777)
    code = f"""
    import os, sys
    def tries(action):
        try: action(); print("done")
        except OSError: print("no")
    tries(lambda: open({str(tmp_path / "secret")!r}).read())
    tries(lambda: open({str(tmp_path / "new")!r}, "w"))
    tries(lambda: open("/etc/passwd"))
    tries(lambda: os.stat({str(Path.cwd() / "pyproject.toml")!r}))
    try: print(sorted(os.listdir({str(Path.cwd())!r})))
    except OSError: print([])
    tries(lambda: open("/usr/new", "w"))
    tries(lambda: open(os.path.join(sys.base_prefix, "new"), "w"))
    tries(lambda: os.mkdir("/new"))
    tries(lambda: os.chroot("/tmp"))
    tries(lambda: os.setuid(0))
    tries(lambda: open("own", "w").write("x"))
    """
    # of the working directory nothing is there but the way to a Python that lies in it, such as .venv
    python = {Path(prefix) for prefix in (sys.prefix, sys.base_prefix)}
    way = sorted({p.relative_to(Path.cwd()).parts[0] for p in python if p.is_relative_to(Path.cwd())})
    said = printed(code).splitlines()
    assert said.pop(4) == str(way)
    assert said == ["no"] * 9 + ["done"]
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]


@isolated
def test_no_process_outside_is_signalled_and_none_is_left_behind(tmp_path: Path):
    code = f"""
    import os, signal, subprocess, sys
    for pid in ({os.getpid()}, os.getppid()):
        try: os.kill(pid, signal.SIGKILL); print("killed", pid)
        except OSError: print("no")
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(61.5)"], start_new_session=True,
                     stdout=subprocess.DEVNULL)
    """
    assert "killed 1\n" not in printed(code)
    time.sleep(0.2)
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"time.sleep(61.5)\0" in _read(path)]
    assert not left


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_limits_alone_end_what_was_started_and_say_what_is_open(tmp_path: Path):
    alone = Sandbox(SMALL, "limits")
    assert passed("def add(a, b): return a + b", ADD, sandbox=alone) == [1, 1, 1]
    assert passed("import os; os._exit(0)", ADD, sandbox=alone) == [0, 0, 0]
    code = """
    import subprocess, sys
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(61.25)"], start_new_session=True)
    print("started")
    """
    begun = time.monotonic()
    assert printed(code, alone) == "started\n" and time.monotonic() - begun < 20
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"time.sleep(61.25)\0" in _read(p)]


@isolated
def test_an_environment_behind_links_is_shown_too(tmp_path: Path):
    """A virtual environment that is a link to a link is as isolated as one that is not."""
    (tmp_path / "first").symlink_to(sys.prefix)
    (tmp_path / "second").symlink_to(tmp_path / "first")
    python = tmp_path / "second" / "bin" / Path(sys.executable).name
    asked = "from equipoise.oracles.code.sandbox import guarantees; print(guarantees().why or 'isolated')"
    found = subprocess.run(
        [str(python), "-c", asked],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(equipoise.__file__).parents[1])},
    )
    assert found.stdout.strip() == "isolated"


def test_a_program_that_cannot_be_started_does_not_end_well():
    outcome = SANDBOX.program({"main.py": ""}, command=["no-such-program"])
    assert outcome.ended == "exit" and outcome.code != 0


def test_a_sandbox_that_cannot_be_made_is_no_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def broken(*given, **named):
        raise SandboxError("no process can be started")

    oracle = made(tmp_path, [{"prompt": "p", "tests": ADD}])
    monkeypatch.setattr(Sandbox, "_started", broken)
    with pytest.raises(Failure, match="no process can be started"):
        oracle.run("p", "def add(a, b): return a + b")


# the oracle ---------------------------------------------------------------------------------------


def made(folder: Path, rows: list[dict], **settings) -> CodeTests:
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"tests": "problems.jsonl", "isolation": guarantees().isolation, **settings}
    return CodeTests.of(settings, folder / "tests.yaml")


def test_prompts_find_their_tests(tmp_path: Path):
    turns = [{"role": "system", "content": "Python."}, {"role": "user", "content": "Subtract."}]
    rows = [
        {"prompt": "Add.", "tests": ADD[:2], "entry_point": "add"},
        {"prompt": turns, "tests": "assert sub(3, 1) == 2"},
    ]
    oracle = Asking(made(tmp_path, rows), policy=Policy(concurrency=2))
    add, sub = "```python\ndef add(a, b): return a + b\n```", "def sub(a, b): return a - b"
    half = "def add(a, b): return 3 if a == 1 else 0"
    asked = ["Add.", [{"role": "user", "content": "Add."}], turns, "Add."]
    assert oracle.score(asked, [add, add, sub, half]).tolist() == [1.0, 1.0, 1.0, 0.5]
    assert Asking(made(tmp_path, rows, score="all")).score(["Add."], [half]).tolist() == [0.0]
    with pytest.raises(OracleError, match=r"has no tests for the prompt 'Multiply\.'"):
        oracle.score(["Multiply."], [add])
    with pytest.raises(OracleError, match="has no tests"):
        oracle.questioner.check_prompts(["Add.", "Multiply."])


def test_other_tests_are_another_oracle(tmp_path: Path):
    one, other = {"prompt": "p", "tests": ADD}, {"prompt": "p", "tests": ADD[:2]}
    assert made(tmp_path, [one]).fingerprint == made(tmp_path, [one]).fingerprint
    assert made(tmp_path, [one]).fingerprint != made(tmp_path, [other]).fingerprint
    assert made(tmp_path, [one]).fingerprint != made(tmp_path, [one], score="all").fingerprint


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "p"}, r":1: no column 'tests'; it has 'prompt'"),
        ({"prompt": "p", "tests": "assert ("}, ":1: the tests are no Python"),
        ({"prompt": "p", "tests": "x = 1"}, ":1: the tests hold no assert"),
        ({"prompt": "p", "tests": []}, ":1: tests are Python text"),
        ({"prompt": "p", "tests": [{"input": "1"}]}, ":1: tests are Python text"),
        (
            {"prompt": "p", "tests": ADD, "entry_point": "a b"},
            ":1: entry_point must be a function's name",
        ),
        ({"prompt": "p", "tests": {"command": "make"}}, ":1: a command is a list of words"),
    ],
)
def test_tests_that_cannot_be_run_are_refused_by_line(row: dict, says: str, tmp_path: Path):
    with pytest.raises(OracleError, match=says):
        made(tmp_path, [row])


def test_two_rows_of_one_prompt_with_other_tests_are_refused(tmp_path: Path):
    with pytest.raises(OracleError, match=":2: another row has the same prompt"):
        made(tmp_path, [{"prompt": "p", "tests": ADD}, {"prompt": "p", "tests": ADD[:1]}])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "tests: Field required"),
        ({"tests": "none.jsonl"}, "none.jsonl"),
        ({"tests": "t", "scor": 1}, "scor: Extra"),
    ],
)
def test_a_file_that_cannot_work_is_refused_by_name(settings: dict, says: str, tmp_path: Path):
    (tmp_path / "t.yaml").write_text(json.dumps({"kind": "tests", **settings}))
    with pytest.raises(OracleError, match=says):
        oracles.load(str(tmp_path / "t.yaml"))


def test_a_machine_without_namespaces_is_refused_unless_it_is_accepted(tmp_path: Path, monkeypatch):
    from equipoise.oracles.code import code_tests, sandbox

    limits = sandbox.Guarantees(
        isolation="limits", enforced=("time",), not_enforced=("no network",), why="no such call"
    )
    monkeypatch.setattr(code_tests, "guarantees", lambda: limits)
    rows = [{"prompt": "p", "tests": ADD}]
    with pytest.raises(
        OracleError, match=r"cannot isolate code \(no such call\).*does not enforce: no network"
    ):
        made(tmp_path, rows, isolation="namespaces")
    assert "not enforced: no network" in made(tmp_path, rows, isolation="limits").remarks[0]


def test_bad_tests_of_no_kind():
    with pytest.raises(BadTests):
        problem_of(5)


PROBLEMS = Path(os.environ.get("EQUIPOISE_CODE_PROBLEMS", "none"))


@pytest.mark.nightly
@pytest.mark.skipif(
    not PROBLEMS.is_dir(), reason="set EQUIPOISE_CODE_PROBLEMS to a folder with humaneval.jsonl.gz"
)
def test_reference_solutions_pass_and_empty_ones_do_not(tmp_path: Path):
    with gzip.open(PROBLEMS / "humaneval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    helped = {"HumanEval/32": "poly", "HumanEval/38": "encode_cyclic", "HumanEval/50": "encode_shift"}
    made_of = [
        {
            "prompt": r["prompt"],
            "tests": r["test"],
            "entry_point": [r["entry_point"], *filter(None, [helped.get(r["task_id"])])],
        }
        for r in rows
    ]
    oracle = Asking(made(tmp_path, made_of, code="continued"), policy=Policy(concurrency=2))
    prompts = [r["prompt"] for r in rows]
    assert oracle.score(prompts, [r["canonical_solution"] for r in rows]).tolist() == [1.0] * len(rows)
    assert oracle.score(prompts, ["    import os; os._exit(0)\n"] * len(rows)).tolist() == [0.0] * len(rows)
