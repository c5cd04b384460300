"""Questions asked one at a time: each once, verdicts kept as they come, failures counted and never guessed."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from equipoise.oracles.protocol import OracleError
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.questioner import Policy
from equipoise.oracles.questions.verdicts import Verdict, VerdictStore, key_of
from equipoise.oracles.rules.rule_oracle import RuleOracle

N = 40
PROMPTS = [f"prompt {i}" for i in range(N)]
A, B = [f"answer {i}" for i in range(N)], [f"other answer {i}" for i in range(N)]


class Judge:
    """The shorter answer wins, unless this call is one of those that fail."""

    def __init__(self, *failing: int, error: Exception | None = None) -> None:
        self.failing, self.error, self.calls = set(failing), error or ConnectionError("500"), []

    def __call__(self, prompt: str, a: str, b: str) -> float:
        self.calls.append((prompt, a, b))
        if len(self.calls) in self.failing:
            raise self.error
        return float(len(a) < len(b)) if len(a) != len(b) else 0.5


def asking(judge: Judge, store: VerdictStore | None = None, **policy) -> Asking:
    return Asking(RuleOracle(judge, "judge"), store, Policy(wait=0.0, **policy))


def test_a_failed_call_is_repeated_and_no_other():
    judge = Judge(30)
    assert asking(judge).compare(PROMPTS, A, B).tolist() == [1.0] * N
    assert len(judge.calls) == N + 1
    assert [question for question, times in Counter(judge.calls).items() if times > 1] == [judge.calls[29]]


def test_a_programming_error_is_not_repeated():
    judge = Judge(1, error=TypeError("no"))
    with pytest.raises(
        OracleError, match=r"1 of 40 questions have no verdict: rule judge failed on .*: TypeError: no"
    ):
        asking(judge).compare(PROMPTS, A, B)
    assert len(judge.calls) == 1


def test_after_a_failure_only_the_unanswered_questions_are_asked(tmp_path: Path):
    judge = Judge(30, error=ValueError("broken"))
    with pytest.raises(OracleError, match="29 answered, all verdicts that came are kept"):
        asking(judge, VerdictStore(tmp_path / "v.sqlite")).compare(PROMPTS, A, B)
    again = Judge()
    assert asking(again, VerdictStore(tmp_path / "v.sqlite")).compare(PROMPTS, A, B).tolist() == [1.0] * N
    assert not {*judge.calls[:29]} & {*again.calls} and len(again.calls) == N - 29


def test_failures_within_the_quota_have_no_verdict():
    judge = Judge(3, 7, error=ValueError("unreadable"))
    oracle = asking(judge, failures=0.05)
    verdicts = oracle.compare(PROMPTS, A, B)
    assert verdicts.isnan().nonzero().flatten().tolist() == [2, 6]
    assert (oracle.account.failed, oracle.account.answered) == (2, N - 2)
    assert sum(oracle.account.reasons.values()) == 2
    with pytest.raises(OracleError, match="3 of 40"):
        asking(Judge(3, 7, 9, error=ValueError()), failures=0.05).compare(PROMPTS, A, B)


def test_small_calls_share_the_quota_of_all_questions():
    judge = Judge(1, 70, error=ValueError("unreadable"))
    oracle = asking(judge, failures=0.02)
    for place in range(0, N, 4):  # 40 questions, one failure
        part = slice(place, place + 4)
        oracle.compare(PROMPTS[part], A[part], B[part])
    assert oracle.account.failed == 1
    oracle.compare([f"more {p}" for p in PROMPTS], A, B)  # 80 questions, two failures
    assert oracle.account.failed == 2
    with pytest.raises(OracleError, match="1 of 1 questions"):
        asking(Judge(1, error=ValueError())).compare(PROMPTS[:1], A[:1], B[:1])


def test_a_call_without_failures_is_answered_whatever_failed_before():
    oracle = asking(Judge(1, error=ValueError("unreadable")))
    with pytest.raises(OracleError, match="1 of 1 questions"):
        oracle.compare(PROMPTS[:1], A[:1], B[:1])
    assert torch.isfinite(oracle.compare(PROMPTS[1:5], A[1:5], B[1:5])).all()


def test_equal_questions_are_asked_once_and_equal_runs_agree_bit_for_bit(tmp_path: Path):
    def third(prompt: str, response: str) -> float:
        return len(response) / 3

    store = VerdictStore(tmp_path / "v.sqlite")
    first = Asking(RuleOracle(third, "third"), store).score(["p"] * 5, ["ab", "a", "ab", "abcd", "a"])
    read = Asking(RuleOracle(third, "third"), VerdictStore(tmp_path / "v.sqlite"))
    assert torch.equal(read.score(["p"] * 5, ["ab", "a", "ab", "abcd", "a"]), first)
    assert read.account.asked == 0 and read.account.stored == 3


def test_another_rule_has_other_verdicts(tmp_path: Path):
    store = VerdictStore(tmp_path / "v.sqlite")
    up = Asking(RuleOracle(lambda p, r: len(r), "rule"), store)
    down = Asking(RuleOracle(lambda p, r: -len(r), "rule"), store)
    assert up.score(["p"], ["abc"]).tolist() == [3] and down.score(["p"], ["abc"]).tolist() == [-3]


def test_both_orders_cancel_a_position_bias_and_count_it():
    oracle = asking(lambda prompt, a, b: 1.0 if prompt == "biased" else float(a < b), both_orders=True)
    verdicts = oracle.compare(["biased", "fair", "fair"], ["x", "a", "z"], ["y", "b", "y"])
    assert verdicts.tolist() == [0.5, 1.0, 0.0]
    assert (oracle.account.compared, oracle.account.disagreed) == (3, 1)


@pytest.mark.parametrize("kind", ["threads", "async"])
def test_questions_are_asked_at_once_and_answers_keep_their_places(kind: str):
    at_once, most, lock = [0], [0], threading.Lock()

    def enter(step: int) -> None:
        with lock:
            at_once[0] += step
            most[0] = max(most[0], at_once[0])

    def in_thread(prompt: str, response: str) -> float:
        enter(1)
        time.sleep(0.01)
        enter(-1)
        return float(response)

    async def in_loop(prompt: str, response: str) -> float:
        enter(1)
        await asyncio.sleep(0.01)
        enter(-1)
        return float(response)

    rule = RuleOracle(in_thread if kind == "threads" else in_loop, "slow")
    scores = Asking(rule, policy=Policy(concurrency=8)).score(["p"] * N, [str(i) for i in range(N)])
    assert scores.tolist() == list(range(N)) and 2 <= most[0] <= 8


def test_an_oracle_is_asked_inside_a_running_event_loop():
    async def notebook() -> list[float]:
        return asking(Judge()).compare(PROMPTS[:2], A[:2], B[:2]).tolist()

    assert asyncio.run(notebook()) == [1.0, 1.0]


def test_caps_are_checked_before_anything_is_asked(tmp_path: Path):
    judge = Judge()
    with pytest.raises(OracleError, match=r"40 more questions would pass judging\.most_calls = 39"):
        asking(judge, most_calls=39).compare(PROMPTS, A, B)
    assert not judge.calls
    store = VerdictStore(tmp_path / "v.sqlite")
    oracle = asking(judge, store, most_cost=1.0)
    store.put(b"k" * 32, oracle.fingerprint, Verdict(0.5, cost=0.1))
    with pytest.raises(OracleError, match=r"about 4, would pass judging\.most_cost = 1 \(0\.1 spent\)"):
        oracle.compare(PROMPTS, A, B)


def test_a_rule_that_exits_or_returns_no_number_is_named():
    def leaves(prompt: str, response: str) -> float:
        raise SystemExit(0)

    with pytest.raises(OracleError, match=r"rule quits failed on the prompt 'p': it called sys.exit"):
        Asking(RuleOracle(leaves, "quits")).score(["p"], ["r"])
    with pytest.raises(
        OracleError, match=r"rule says failed on .*: it must return one number, and returned None"
    ):
        Asking(RuleOracle(lambda p, r: None, "says")).score(["p"], ["r"])


def test_a_dry_run_counts_what_is_not_stored(tmp_path: Path):
    oracle = asking(Judge(), VerdictStore(tmp_path / "v.sqlite"))
    oracle.compare(PROMPTS[:10], A[:10], B[:10])
    assert oracle.to_ask(list(zip(PROMPTS, A, B, strict=True))) == N - 10


WRITER = """
import sys
from pathlib import Path
from equipoise.oracles.questions.verdicts import Verdict, VerdictStore, key_of
store, start = VerdictStore(Path(sys.argv[1])), int(sys.argv[2])
for i in range(start, start + 200):
    store.put(key_of("o", [i]), "o", Verdict(i / 7))
"""


@pytest.mark.slow
def test_processes_share_one_store(tmp_path: Path):
    path = tmp_path / "v.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), start]) for start in ("0", "100")]
    assert [writer.wait() for writer in writers] == [0, 0]
    keys = [key_of("o", [i]) for i in range(300)]
    found = VerdictStore(path).get(keys)
    assert [found[key].value for key in keys] == [i / 7 for i in range(300)]
    assert VerdictStore(path).spent("o") == (300, 0.0)


def test_a_file_that_is_no_store_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "v.sqlite"
    path.write_text("not a database, but long enough to look like one" * 50)
    with pytest.raises(OracleError, match=r"cannot use the verdict store .*v\.sqlite"):
        VerdictStore(path)


def test_numbers_that_are_no_verdict_are_refused():
    with pytest.raises(OracleError, match="a verdict is a finite number"):
        asking(lambda p, a, b: math.nan).compare(["p"], ["a"], ["b"])


def test_a_store_with_a_verdict_that_is_no_number_is_refused(tmp_path):
    store = VerdictStore(tmp_path / "v.sqlite")
    store.put(b"key", "mine", Verdict(0.5))
    store._run("UPDATE verdict SET value = ?", ["much"])
    with pytest.raises(OracleError, match=r"cannot use the verdict store .*v\.sqlite"):
        store.get([b"key"])


RACER = """
import sys, time
from pathlib import Path
from equipoise.oracles import Asking, Policy, VerdictStore
from equipoise.oracles.rules.rule_oracle import RuleOracle
path, log = Path(sys.argv[1]), Path(sys.argv[2])
def slow(prompt, response):
    time.sleep(0.01)
    with log.open("a") as file:
        file.write(response + "\\n")
    return float(response)
oracle = Asking(RuleOracle(slow, "slow", [path.with_name("rule.txt")]), VerdictStore(path), Policy(concurrency=4))
print(oracle.score(["p"] * 60, [str(i) for i in range(60)]).tolist() == [float(i) for i in range(60)])
"""


@pytest.mark.slow
def test_two_processes_ask_no_question_twice(tmp_path: Path):
    given = [sys.executable, "-c", RACER, str(tmp_path / "v.sqlite"), str(tmp_path / "log")]
    racers = [subprocess.Popen(given, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [racer.communicate()[0] for racer in racers] == ["True\n"] * 2
    assert sorted((tmp_path / "log").read_text().split(), key=int) == [str(i) for i in range(60)]


def test_a_second_verdict_gives_way_to_the_first(tmp_path: Path):
    store = VerdictStore(tmp_path / "v.sqlite")
    assert store.put(b"key", "mine", Verdict(0.25, cost=1.0)) == Verdict(0.25, cost=1.0)
    assert store.put(b"key", "mine", Verdict(0.75, cost=2.0)) == Verdict(0.25, cost=1.0)
    assert store.spent("mine") == (1, 3.0)


def test_a_refusal_in_one_place_keeps_the_answers_in_flight():
    answered = []

    async def judge(prompt: str, response: str) -> float:
        if response == "0":
            await asyncio.sleep(0.005)
            raise OracleError("refuses every question")
        await asyncio.sleep(0.02)
        answered.append(response)
        return float(response)

    class Refusing(RuleOracle):
        def _failure(self, error, question):
            return error

    oracle = Asking(Refusing(judge, "judge"), policy=Policy(concurrency=4))
    with pytest.raises(OracleError, match="refuses every question"):
        oracle.score(["p"] * N, [str(i) for i in range(N)])
    assert sorted(answered) == ["1", "2", "3"] and oracle.account.answered == 3


def test_a_rule_may_give_several_scores():
    def rate(prompt: str, response: str) -> dict:
        return {"short": -float(len(response)), "kind": float("please" in response)}

    rate.attributes = ("short", "kind")
    oracle = Asking(RuleOracle(rate, "rate"))
    assert oracle.scores(["p", "p"], ["a", "please"]).tolist() == [[-1, 0], [-6, 1]]
    assert oracle.score(["p"], ["please"]).tolist() == [-2.5] and oracle.account.asked == 2
    assert oracle.scores([], []).shape == (0, 2)
