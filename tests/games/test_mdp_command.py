"""`equipoise play --game mdp`: what it prints, draws and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from equipoise.cli.app import main
from equipoise.games.repeated.adversarial_mdp import random_mdp
from equipoise.games.repeated.mdp_regret import (
    BLOCKS,
    LEARNERS,
    PLANTED,
    coins,
    regret_from_own_paths,
    regret_of,
)

SIZES = {"states": 2, "actions": 3, "dimension": 2, "steps": 2}


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command."""
    with pytest.raises(SystemExit) as end:
        main(["play", *arguments])
    return end.value.code, *capsys.readouterr()


def test_the_figures_are_those_of_the_learners_on_the_mdps_of_the_seeds(capsys):
    given = (
        "--game",
        "mdp:2x3x2x2",
        "--rounds",
        "64",
        "--repeats",
        "2",
        "--adversary",
        "blocks",
        "--seed",
        "5",
    )
    code, out, _ = run(capsys, *given, "--json")
    found = json.loads(out)
    assert code == 0 and found["mdp"] == SIZES and found["episodes"] == [16, 32, 64]
    regrets = {(one["learner"], one["transitions"]): one["regret_per_episode"] for one in found["learners"]}
    assert len(regrets) == 5
    for i, episodes in enumerate(found["episodes"]):
        known, own = [], []
        for seed in (5, 6):
            mdp = random_mdp(seed, **SIZES)
            weights = coins(BLOCKS, episodes, seed, steps=2, dimension=2)[None]
            known.append(float(regret_of(mdp, weights, LEARNERS["log barrier"], [seed])))
            own.append(float(regret_from_own_paths(mdp, weights, LEARNERS["log barrier"], [seed])[0]))
        assert regrets["log barrier", "known"][i] == pytest.approx(sum(known) / 2 / episodes, abs=1e-9)
        assert regrets["log barrier", "own paths"][i] == pytest.approx(sum(own) / 2 / episodes, abs=1e-9)


def test_the_table_and_the_chart(tmp_path: Path, capsys):
    picture = tmp_path / "regret.png"
    given = ("--game", "mdp", "--rounds", "16", "--repeats", "1", "--plot", str(picture))
    code, out, _ = run(capsys, *given)
    assert code == 0 and "uniform policy" in out and "own paths" in out and "K = 16" in out and "±" not in out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--game", "mdp:3x3"), "mdp:3x3 is no MDP"),
        (("--game", "mdp:3x1x3x2"), "two actions or more"),
        (("--game", "mdp:3x3x3x21"), "up to 20"),
        (("--game", "mdp", "--rounds", "7"), "at least 8"),
        (("--game", "mdp", "--adversary", "periodic"), "planted or blocks, got 'periodic'"),
        (("--game", "mdp", "--method", "inpo"), "its own learners"),
    ],
)
def test_what_is_no_mdp_or_not_of_one_is_refused(given, said, capsys):
    code, out, err = run(capsys, *given)
    assert code == 2 and not out and said in " ".join(err.split())


def test_coins_favour_one_feature_of_each_step_and_blocks_change_it():
    means = {
        kind: coins(kind, 400, 3, steps=2, dimension=3).view(4, 100, 2, 3).mean(dim=1)
        for kind in (PLANTED, BLOCKS)
    }
    assert len(set(map(tuple, means[PLANTED].argmin(dim=2).tolist()))) == 1
    assert len(set(map(tuple, means[BLOCKS].argmin(dim=2).tolist()))) == 3  # the fourth is the first again
    for each in means.values():
        assert torch.equal((each < 0.5).sum(dim=2), torch.ones(4, 2, dtype=torch.long))
