"""Real games: every figure of the reference file, recomputed from the payoffs and verdicts themselves."""

from __future__ import annotations

import json
from math import comb

import numpy as np
import pytest
import torch

from equipoise.games import PreferenceGame, TabularPolicy, gap0, load_game
from equipoise.games.analyse import analyse, beats, bootstrap, condorcet, three_cycles
from equipoise.games.load import load_verdicts
from equipoise.games.nash_set import nash_average, nash_range
from equipoise.games.verdicts import Verdicts, from_scores

SINGLE = ["rrps_bots", "mujoco_soccer", "pokemon_types"]
VERDICTS = {
    "judge_roundrobin_vicuna80 (aggregate)": "judge_roundrobin_vicuna80/preference_tensor.npz",
    "judge_roundrobin_oasst953 (aggregate)": "judge_roundrobin_oasst953/preference_tensor.npz",
    "pandalm_human (human votes, aggregate)": "pandalm_human/preference_tensor.npz",
    "arena_bench_scored majority (derived: prompts vote on models)": "arena_bench_scored/score_matrix.npz",
    "atari_agent57_majority (derived: games vote on agents)": "games/atari_agents.npz",
    "hanna_story_ratings majority (derived: rater-criterion pairs vote on systems)": "hanna_story_ratings/ratings.npz",
}


@pytest.fixture(scope="module")
def reference(shared_data):
    return json.loads((shared_data / "games" / "reference.json").read_text(encoding="utf-8"))


def read(folder, file: str) -> Verdicts:
    if file.startswith("hanna"):
        with np.load(folder / file, allow_pickle=False) as archive:
            ratings = archive["ratings"]  # [system, prompt, rater, criterion]
            voters = np.moveaxis(ratings.reshape(*ratings.shape[:2], -1), 0, 2)
            return from_scores(voters, names=archive["systems"], prompt_names=archive["prompt_index"])
    return load_verdicts(folder / file, "atari_agent57_table" if "atari" in file else None)


def check_game(game: PreferenceGame, expected: dict) -> float:
    """Size, cycles, Condorcet winner, and that the reference's equilibrium is one of ours; the spread of ours."""
    wins = beats(game.preference)
    names = list(game.names[0])
    winner = condorcet(wins)[0]
    assert game.actions == expected["n"]
    assert int(three_cycles(wins)) == expected["three_cycles"]
    assert (None if winner is None else names[winner]) == expected["condorcet_winner"]

    low, high = nash_range(game)
    known = torch.tensor([expected["nash"].get(name, 0.0) for name in names], dtype=torch.float64)
    assert set(expected["nash"]) <= set(names) and expected["exploitability"] < 1e-12
    assert gap0(game, TabularPolicy.from_probs(known / known.sum())).item() < 2e-6  # six decimals are given
    assert bool(((known > low - 1e-6) & (known < high + 1e-6)).all())
    assert gap0(game, nash_average(game, torch.stack([low, high]))).item() < 1e-9
    return float((high - low).max())


@pytest.mark.parametrize("name", SINGLE)
def test_games_of_one_table(shared_data, reference, name):
    game = load_game(shared_data / "games" / f"{name}.npz")
    spread = check_game(game, reference[name])
    if name != "rrps_bots":
        assert spread == pytest.approx(reference[name]["nash_coordinate_range"], abs=1e-9)


def test_the_bots_have_one_equilibrium_and_the_reference_sees_its_solver_s_tolerance(shared_data, reference):
    """The reference gives a range of 1.31e-4. It is 0: the support's own table has a kernel of one dimension and
    every other bot loses by 1.8e-4 or more. Allowing policies to be beaten by 5e-10 gives the reference's figure.
    """
    game = load_game(shared_data / "games" / "rrps_bots.npz")
    assert reference["rrps_bots"]["nash_coordinate_range"] == 1.31e-4
    low, high = nash_range(game)
    assert float((high - low).max()) < 1e-9
    loosest = nash_range(game, slack=5e-10)
    assert float((loosest[1] - loosest[0]).max()) == pytest.approx(1.31e-4, rel=0.01)
    policy, margin = high / high.sum(), game.preference[0] - 0.5
    support = policy > 1e-9
    assert int(support.sum()) == 5
    singular = torch.linalg.svdvals(margin[support][:, support])
    assert singular[-1] < 1e-15 < 1e-4 < singular[-2]
    assert float((margin @ policy)[~support].max()) < -1.8e-4


def test_seasons(shared_data, reference):
    seasons = load_verdicts(shared_data / "games" / "epl_seasons.npz")
    assert set(seasons.prompt_names) == set(reference["epl_seasons"]) and not seasons.shared
    with pytest.raises(ValueError, match="cannot be pooled"):
        seasons.pooled()
    for season, expected in reference["epl_seasons"].items():
        game = seasons.only(season).pooled()
        assert check_game(game, expected) == pytest.approx(expected["nash_coordinate_range"], abs=1e-6)


@pytest.mark.parametrize("name", VERDICTS)
def test_pooled_verdicts(shared_data, reference, name):
    verdicts, expected = read(shared_data, VERDICTS[name]), reference[name]
    game = verdicts.pooled()
    assert check_game(game, expected) == expected["nash_coordinate_range"] == 0
    wins = beats(verdicts.prob)
    cycles = three_cycles(wins)
    if "prompts" in expected:
        assert len(verdicts.prompt_names) == expected["prompts"]
        assert int((cycles > 0).sum()) == expected["prompts_with_a_strict_3_cycle"]
        assert int(cycles.sum()) == expected["strict_3_cycles_total"]
    if "prompts_without_condorcet_winner" in expected:
        assert condorcet(wins).count(None) == expected["prompts_without_condorcet_winner"]


def test_every_game_of_the_reference_is_looked_at(reference):
    assert set(reference) == {*SINGLE, "epl_seasons", *VERDICTS}


@pytest.mark.parametrize(
    ("folder", "missing"), [("judge_roundrobin_vicuna80", 0), ("judge_roundrobin_oasst953", 47)]
)
def test_judges(shared_data, folder, missing):
    """Pooling, missing comparisons and the list of cycles, as the archive and its neighbour give them."""
    verdicts = load_verdicts(shared_data / folder / "preference_tensor.npz")
    assert verdicts.missing == missing
    with np.load(shared_data / folder / "preference_tensor.npz", allow_pickle=False) as archive:
        assert np.allclose(verdicts.pooled().preference[0], archive["aggregate_prob"], atol=1e-12)
        assert (verdicts.count.sum(dim=0).numpy() == archive["aggregate_count"]).all()
    listed = json.loads((shared_data / folder / "cycles.json").read_text(encoding="utf-8"))
    assert len(listed) == int(three_cycles(beats(verdicts.prob)).sum())
    for entry in listed:
        table = verdicts.prob[verdicts.prompt_names.index(str(entry["prompt_id"]))]
        at = [verdicts.names[0].index(system) for system in entry["cycle"]]
        found = [float(table[i, j]) for i, j in zip(at, at[1:] + at[:1], strict=True)]
        assert found == entry["prob"] and min(found) > 0.5


def test_missing_comparisons_are_counted_and_never_a_half(shared_data):
    people = load_verdicts(shared_data / "pandalm_human" / "preference_tensor.npz")
    assert (people.missing, people.cells, sum(people.complete)) == (452, 1110, 11)
    assert people.count.sum() / 2 == 3 * (1110 - 452)  # three annotators each
    with pytest.raises(ValueError, match=r"452 of 1110 comparisons were never made"):
        load_game(shared_data / "pandalm_human" / "preference_tensor.npz")
    arena = load_verdicts(shared_data / "arena_bench_scored" / "score_matrix.npz")
    with np.load(shared_data / "arena_bench_scored" / "score_matrix.npz", allow_pickle=False) as archive:
        there = (~np.isnan(archive["scores"])).sum(axis=1)
    assert arena.cells - arena.missing == sum(comb(int(n), 2) for n in there)


def test_a_complete_tensor_is_a_game_of_prompts(shared_data):
    game = load_game(shared_data / "judge_roundrobin_vicuna80" / "preference_tensor.npz")
    assert (game.prompts, game.actions) == (54, 8) and game.names[0][5] == "gpt-3.5"
    assert game.prompt_names[0] == "1"


def test_tables_of_an_archive_are_named(shared_data):
    with pytest.raises(ValueError, match=r"has several tables.*atari_agent57_table, atari_muesli_table11"):
        load_verdicts(shared_data / "games" / "atari_agents.npz")
    muesli = load_verdicts(shared_data / "games" / "atari_agents.npz", "atari_muesli_table11")
    assert muesli.names[0] == ("random", "human", "muzero", "muesli") and len(muesli.prompt_names) == 57


def test_soccer_in_full(shared_data):
    """Two ways one answer: what the analysis says of a game with one equilibrium of three agents."""
    found = analyse(load_game(shared_data / "games" / "mujoco_soccer.npz"), planes=1)
    assert found.unique and (found.average - found.nash).abs().max() < 1e-9
    assert (found.triples, found.decided, found.cycles) == (120, 120, 6)
    assert found.fits[0].accuracy == pytest.approx(40 / 45)
    taus = [gap for _, _, gap in found.regularised]
    assert taus[0] > taus[1] > taus[2] > 0


def test_judges_agree_on_the_best_system_whatever_prompts_are_drawn(shared_data):
    found = bootstrap(load_verdicts(shared_data / "judge_roundrobin_oasst953" / "preference_tensor.npz"), 50)
    assert found.left_out == 0 and found.condorcet[5] == 1 and found.condorcet.sum() == 1
    assert bool((found.average[:, 5] == 1).all())
