"""Routing from files: mixes, the small reward model, and `equipoise oracle route`."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from scipy.special import expit

from equipoise.cli.app import main
from equipoise.data.errors import DataError
from equipoise.data.reading.read import read
from equipoise.oracles.hybrid.comparison_features import Binning, Comparison
from equipoise.oracles.hybrid.pool import (
    Pool,
    fit_linear_reward,
    measure_of,
    pool_of,
    read_mixes,
    word_differences,
)

SUBJECTS = ("law", "cooking", "travel")


def rows(count, seed):
    """People prefer "good" answers; the judge agrees, but on law it says the opposite."""
    draw = random.Random(seed)
    words = [f"word{i}" for i in range(30)]
    found = []
    for n in range(count):
        subject = draw.choice(SUBJECTS)
        chosen, rejected = (" ".join(draw.choices(words, k=draw.randint(3, 12))) for _ in range(2))
        found.append(
            {
                "id": f"{seed}-{n}",
                "prompt": f"question {seed} {n} " + " ".join(draw.choices(words, k=draw.randint(1, 8))),
                "chosen": f"{chosen} good {subject}",
                "rejected": f"{rejected} bad {subject}",
                "subject": subject,
                "ai": 0.1 if subject == "law" else 0.9,
            }
        )
    return found


def written(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


@pytest.fixture
def files(tmp_path):
    return written(tmp_path / "target.jsonl", rows(60, 1)), written(tmp_path / "pool.jsonl", rows(90, 2))


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["oracle", "route", *map(str, arguments)])
    return end.value.code


@pytest.mark.parametrize("measure", ["labels", "reward"])
def test_people_get_the_subject_that_the_judge_gets_wrong(files, tmp_path, capsys, measure):
    target, pool = files
    law = sum(json.loads(line)["subject"] == "law" for line in target.read_text().splitlines())
    out, rest = tmp_path / "people.jsonl", tmp_path / "judge.jsonl"
    common = ("--human-budget", law, "--learn", pool, "--tags", "subject", "--measure", measure)
    assert run(target, *common, "--mixes", 120, "--out", out, "--rest", rest, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    people = [json.loads(line) for line in out.read_text().splitlines()]
    assert said["people"] == len(people) == law
    assert {row["id"] for row in people} == set(said["ids"])
    assert len(rest.read_text().splitlines()) == 60 - law
    hits = sum(row["subject"] == "law" for row in people)
    assert hits == law if measure == "labels" else hits > 0.7 * law
    assert max(said["gain_of_feature"], key=said["gain_of_feature"].get) == "subject = law"
    assert said["r_squared"] > 0.8 if measure == "labels" else said["r_squared"] > 0.3
    assert read(out).kind == "pair"  # what is written is read again


def test_budgets_at_both_ends_and_beyond(files, capsys):
    target, pool = files
    for budget, code in ((0, 0), (60, 0), (61, 2)):
        assert run(target, "--human-budget", budget, "--learn", pool, "--measure", "labels", "--json") == code
        said = capsys.readouterr()
        if code == 0:
            assert len(json.loads(said.out)["ids"]) == budget
        else:
            assert "between 0 and 60" in said.err and len(said.err.splitlines()) == 1


def test_measured_mixes_decide(files, tmp_path, capsys):
    """Whoever labels what, performance is the number of cooking pairs that people label."""
    target, pool = files
    known = [json.loads(line) for line in pool.read_text().splitlines()]
    draw = random.Random(0)
    mixes = []
    for _ in range(60):
        people = draw.sample(known, draw.randint(0, len(known)))
        worth = sum(row["subject"] == "cooking" for row in people)
        mixes.append({"people": [row["id"] for row in people], "performance": worth})
    measured = written(tmp_path / "mixes.jsonl", mixes)
    assert (
        run(
            target,
            "--human-budget",
            5,
            "--learn",
            pool,
            "--tags",
            "subject",
            "--measured",
            measured,
            "--json",
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    subjects = {
        json.loads(line)["id"]: json.loads(line)["subject"] for line in target.read_text().splitlines()
    }
    assert {subjects[name] for name in found["ids"]} == {"cooking"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "m.jsonl:2:"),
        ("[]", ":2: a row must be an object"),
        ('{"people": ["2-0"], "performance": NaN}', ":2: `performance` must be a number"),
        ('{"people": ["2-0"], "performance": 1%s}' % ("0" * 400), ":2: a whole number has more than"),
        ('{"people": ["9-9"], "performance": 1}', ":2: no pair of the pool has the id '9-9'"),
        ('{"people": [{}], "performance": 1}', ":2: no pair of the pool"),
    ],
)
def test_broken_mixes(files, tmp_path, line, why):
    pool = pool_of(read(files[1]), "ai")
    path = tmp_path / "m.jsonl"
    path.write_text('{"people": ["2-0"], "performance": 1}\n' + line + "\n")
    phi = Binning.of(pool.comparisons).apply(pool.comparisons)
    with pytest.raises(DataError, match=why):
        read_mixes(path, pool, phi)


def test_a_judges_label_that_is_none_is_named(files, tmp_path, capsys):
    broken = written(tmp_path / "b.jsonl", [*rows(2, 3), rows(1, 4)[0] | {"ai": "A"}])
    assert run(files[0], "--human-budget", 1, "--learn", broken) == 2
    said = capsys.readouterr().err
    assert "b.jsonl" in said and "it holds 'A'" in said and len(said.splitlines()) == 1
    assert run(files[0], "--human-budget", 1, "--learn", files[1], "--tags", "topic") == 2
    assert "no column 'topic'" in capsys.readouterr().err


def test_the_linear_reward_is_at_its_optimum():
    draw = np.random.default_rng(0)
    d, prob = draw.normal(size=(40, 3)), draw.random(40)
    w = fit_linear_reward(d, prob)
    assert np.abs(d.T @ (expit(d @ w) - prob) + w).max() < 1e-3


def test_word_differences_turn_with_the_pair():
    pair = Comparison(id="1", prompt="", first="one two two", second="three")
    turned = Comparison(id="1", prompt="", first="three", second="one two two")
    found = word_differences([pair, turned])
    assert np.array_equal(found[0], -found[1])
    assert found[0, -1] == pytest.approx(np.log1p(3) - np.log1p(1))
    assert sorted(found[0][found[0] != 0][:-1]) == pytest.approx([-np.log(2), np.log(2), np.log(3)])


def test_a_mix_of_labels_and_a_pool_of_one_prompt():
    pool = Pool([Comparison(id="1", prompt="", first="a", second="b")] * 2, ["x", "x"], np.array([0.25, 0.5]))
    assert measure_of(pool, "labels", 0)(np.array([True, False])) == 0.75
    with pytest.raises(DataError, match="two prompts"):
        measure_of(pool, "reward", 0)
