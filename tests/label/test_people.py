"""People as an oracle: asked once, in whichever order; votes kept, taken back, and never asked again."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

pytest.importorskip("uvicorn", reason="the labelling page needs the extra `label`")

from equipoise import oracles
from equipoise.label.desk import Stale
from equipoise.label.people import PeopleOracle, WaitingDesk
from equipoise.label.votes import Votes
from equipoise.oracles.checked import Checked
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.questioner import Policy
from equipoise.oracles.questions.verdicts import VerdictStore
from equipoise.oracles.spec import Placement, is_code
from equipoise.run.gathering.oracle import ORACLES

CHAT = [{"role": "user", "content": "hello"}]
PROMPTS = ["p0", "p1", CHAT, "p3", "p0"]
FIRST, SECOND = ["aa", "b", "ccc", "same", "bbb"], ["bbb", "aaaa", "d", "same", "aa"]
EXPECTED = [
    0.0,
    0.0,
    1.0,
    0.5,
    1.0,
]  # the longer one wins; equal ones tie; the last question is the first, turned


def people(folder: Path) -> PeopleOracle:
    return PeopleOracle.of({"rater": "ann"}, Path("people.yaml"), Placement(folder=folder))


def longer(left: str, right: str) -> str:
    return "a" if len(left) > len(right) else "b" if len(left) < len(right) else "tie"


@contextmanager
def answering(
    oracle: PeopleOracle, prefer: Callable[[str, str], str] = longer
) -> Iterator[list[tuple[str, str]]]:
    """Somebody at the desk until the end of the block; the sides that they were shown."""
    asked: list[tuple[str, str]] = []
    ended = threading.Event()

    def person() -> None:
        while not ended.wait(0.005):
            desk = oracle._desk
            shown = desk.show("ann") if desk else None
            if desk and shown and shown.item:
                asked.append(shown.item.sides)
                desk.choose("ann", shown.number, prefer(*shown.item.sides))  # type: ignore[arg-type]

    thread = threading.Thread(target=person, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        ended.set()
        thread.join()


def closed(oracle: PeopleOracle) -> None:
    """As if the process had ended."""
    oracle._page.stop()
    oracle._lock.close()


def test_people_are_asked_once_and_never_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    one = people(tmp_path)
    asking = Asking(one, VerdictStore(tmp_path / "v.sqlite"))
    with answering(one) as asked:
        assert Checked(asking).compare(PROMPTS, FIRST, SECOND).tolist() == EXPECTED
    assert len(asked) == 3  # the probe for antisymmetry, equal answers and the turned question ask nobody
    assert re.search(r"questions wait at http://127\.0\.0\.1:\d+/", capsys.readouterr().err)
    closed(one)

    for store in ("v.sqlite", "new.sqlite"):  # verdicts read back; and without them, votes
        again = people(tmp_path)
        kept = Asking(again, VerdictStore(tmp_path / store))
        assert kept.compare(PROMPTS, FIRST, SECOND).tolist() == EXPECTED
        assert again._desk is None or (again._desk.show("ann").item is None, closed(again))[0]
    assert len(Votes.read(tmp_path / "votes.jsonl").cast["ann"]) == 3


def test_a_vote_is_given_to_the_run_with_the_next_one(tmp_path: Path):
    votes = Votes.begin(tmp_path / "v.jsonl", None, seed=0, question="?")
    desk = WaitingDesk(votes, "ann", "?", 0)
    pairs = [oracles_pair(f"p{i}") for i in range(3)]
    answers = [desk.ask(pair) for pair in pairs]
    desk.choose("ann", 0, "a")
    assert not answers[0].done() and desk.show("ann").undo
    desk.undo("ann", 1)
    assert desk.show("ann").before is not None
    desk.choose("ann", 0, "tie")
    desk.choose("ann", 1, "b")
    assert answers[0].result().choice == "tie" and not answers[1].done()
    desk.choose("ann", 2, "a")  # no question is left: nobody may come again to take it back
    assert answers[1].result().choice == "b" and answers[2].result().choice == "a"
    with pytest.raises(Stale):
        desk.undo("ann", 3)
    again = WaitingDesk(Votes.begin(tmp_path / "v.jsonl", None, seed=0, question="?"), "ann", "?", 0)
    assert [again.ask(pair).result().choice for pair in pairs] == ["tie", "b", "a"]


def oracles_pair(prompt: str):
    from equipoise.label.pairs import Pair

    return Pair(context=prompt, answers=("x", "y"))


def test_a_held_vote_outlives_the_process(tmp_path: Path):
    votes = Votes.begin(tmp_path / "v.jsonl", None, seed=0, question="?")
    desk = WaitingDesk(votes, "ann", "?", 0)
    first = desk.ask(oracles_pair("p"))
    desk.ask(oracles_pair("q"))
    desk.choose("ann", 0, "b")
    assert not first.done()
    again = WaitingDesk(Votes.begin(tmp_path / "v.jsonl", None, seed=0, question="?"), "ann", "?", 0)
    assert again.ask(oracles_pair("p")).result().choice == "b"
    assert again.ask(oracles_pair("q")).done() is False and again.show("ann").number == 1


def test_skips_are_offered_where_questions_may_stay_open(tmp_path: Path):
    one = people(tmp_path)
    asking = Asking(one, policy=Policy(failures=0.5))
    with answering(one, lambda left, right: "skip" if "b" in left + right else longer(left, right)):
        prob = asking.compare(["p", "q"], ["b", "cc"], ["a", "d"]).tolist()
    assert math.isnan(prob[0]) and prob[1] == 1.0
    assert asking.account.reasons == {"a person said: skipped": 1}
    assert one._desk is not None and "skip" in one._desk.choices
    closed(one)
    strict = people(tmp_path / "strict")
    with answering(strict):
        Asking(strict).compare(["p"], ["bb"], ["a"])
    assert strict._desk is not None and list(strict._desk.choices) == ["a", "b", "tie"]
    closed(strict)


def test_how_people_are_named(tmp_path: Path):
    file = tmp_path / "people.yaml"
    file.write_text("kind: people\nquestion: Which is kinder?\nrater: bob\n")
    loaded = oracles.load(str(file), store=tmp_path / "v.sqlite", kinds=ORACLES).inner
    short = oracles.load("label:8123", store=tmp_path / "v.sqlite", kinds=ORACLES).inner
    assert isinstance(loaded, Asking) and isinstance(loaded.questioner, PeopleOracle)
    assert isinstance(short, Asking) and isinstance(short.questioner, PeopleOracle)
    assert (loaded.questioner.file.rater, short.questioner.file.port) == ("bob", 8123)
    assert loaded.fingerprint != short.fingerprint
    assert not is_code("label:8123") and is_code("label:judge") and is_code("a.py:f")
    file.write_text("kind: people\nport: 99999999\n")
    with pytest.raises(OracleError, match=r"the oracle .*people\.yaml: port: "):
        oracles.load(str(file), kinds=ORACLES)
    with pytest.raises(OracleError, match="kind 'people' is none of "):
        oracles.load(str(file))


SETTINGS = "play.prompts=3 play.samples=2 evaluate.prompts=2 evaluate.samples=1 sampling.max_new_tokens=6 train.batch=4"


@pytest.mark.nightly
def test_a_killed_run_asks_people_nothing_twice(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "equipoise",
        "align",
        "online_dpo",
        "--oracle",
        "label:0",
        "--rounds",
        "1",
    ]
    command += ["--out", str(tmp_path / "run"), "--set", *SETTINGS.split()]
    votes = tmp_path / "run" / "votes.jsonl"

    def played(stop: int | None) -> int:
        """Runs, answering until so many votes were cast by this call, or the end; the return code."""
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stderr is not None
            address = next(filter(None, (re.search(r"http://\S+", line) for line in process.stderr)), None)
            threading.Thread(target=process.stderr.read, daemon=True).start()
            cast = 0
            while process.poll() is None and cast != stop:
                cast += bool(address) and pressed(address.group())
                time.sleep(0.05)
            process.kill()
            return process.wait()

    def pressed(address: str) -> bool:
        page = f"{address}rater/people"
        try:
            text = urllib.request.urlopen(page).read().decode()
            number = re.search(r'name="number" value="(\d+)"', text)
            if 'value="a"' not in text or number is None:
                return False
            form = urlencode({"choice": "a", "number": number.group(1)}).encode()
            origin = {"Origin": re.match(r"http://[^/]+", address).group()}  # type: ignore[union-attr]
            urllib.request.urlopen(urllib.request.Request(page, form, origin))
        except OSError:
            return False
        return True

    assert played(2) == -9
    assert len(Votes.read(votes).cast["people"]) == 2
    assert played(None) == 0
    cast = Votes.read(votes).cast["people"]
    assert len(cast) > 2 and len({vote.pair for vote in cast}) == len(cast)
    assert (tmp_path / "run" / "report.html").is_file()
