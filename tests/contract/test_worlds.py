"""The contract of worlds: a finite game and a language model answer every verb in the same way."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from contract.scenes import CAPABILITIES, Text, game, plain, table_states, verbs
from equipoise.core.objectives import Dpo
from equipoise.games.fit import NotConverged
from equipoise.methods.index import METHODS
from equipoise.play import capabilities
from equipoise.play.decoding import PLAIN
from equipoise.play.method import Method
from equipoise.play.needs import PAIRS
from equipoise.play.round import play_round
from equipoise.play.rows import Rows
from equipoise.play.state import BEFORE, INITIAL, START, Geometric, Past, Perturbation, State
from equipoise.play.world import World
from equipoise.worlds.scored.world import ScoredWorld
from equipoise.worlds.table.world import TableWorld
from equipoise.worlds.text.world import TextWorld
from points_world import points_world, second_round

WORLDS = {"table": TableWorld, "text": TextWorld, "scored": ScoredWorld}


@dataclass
class Scene:
    """A world with the state of its second round."""

    kind: str
    world: Any
    state: State


@pytest.fixture(params=WORLDS)
def scene(request: pytest.FixtureRequest, text: Text) -> Scene:
    if request.param == "text":
        return Scene("text", text.world(PAIRS, at=2), text.states[1])
    if request.param == "scored":
        scored = points_world()
        return Scene("scored", scored, second_round(scored))
    world = TableWorld(game(), remember=1)
    return Scene("table", world, table_states(world, 2)[1])


# the verbs ----------------------------------------------------------------------------------------


def offered(world: type) -> set[str]:
    return {name for name, capability in CAPABILITIES.items() if issubclass(world, capability)}


SIGNATURES = [
    (world, protocol, verb)
    for world in WORLDS.values()
    for protocol in (World, *(CAPABILITIES[name] for name in sorted(offered(world))))
    for verb in sorted(verbs(protocol))
]


def check_signature(world: type, protocol: type, verb: str) -> None:
    asked = list(inspect.signature(getattr(protocol, verb)).parameters.values())
    given = list(inspect.signature(getattr(world, verb)).parameters.values())
    shared = [(p.name, p.kind, p.default) for p in given[: len(asked)]]
    assert shared == [(p.name, p.kind, p.default) for p in asked]
    assert all(p.default is not p.empty for p in given[len(asked) :]), "what it takes besides has a default"


@pytest.mark.parametrize(
    "world, protocol, verb", SIGNATURES, ids=lambda value: getattr(value, "__name__", value)
)
def test_answers_with_the_protocols_signature(world: type, protocol: type, verb: str):
    check_signature(world, protocol, verb)


class Odd:
    def prompts(self, state: State, more: int) -> Rows: ...

    def recorded(self, round: State) -> Rows: ...

    def settle(self, *, state: State) -> State: ...


@pytest.mark.parametrize("verb", ["prompts", "recorded", "settle"])
def test_another_signature_is_seen(verb: str):
    with pytest.raises(AssertionError):
        check_signature(Odd, World, verb)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
def test_every_public_method_is_a_verb_or_a_capability(world: type):
    known = verbs(World).union(*(verbs(CAPABILITIES[name]) for name in offered(world)))
    assert verbs(World) <= verbs(world)
    own = {
        "table": {"who", "distribution"},
        "text": {"begin", "score"},
        "scored": {"begin", "parameters"},
    }
    (kind,) = (name for name, value in WORLDS.items() if value is world)
    assert verbs(world) - known == own[kind]


def test_a_language_model_offers_every_capability_and_a_game_what_can_be_enumerated():
    assert offered(TextWorld) == set(CAPABILITIES)
    assert set(CAPABILITIES) - offered(TableWorld) == {
        "RandomDraws",
        "BothRoles",
        "Degradations",
        "LiveReferences",
        "OracleVotes",
        "StepContinuation",
        "SelfEvaluation",
        "ResponseRewards",
        "Meanings",
        "NamedScores",
        "RewardModels",
        "SetRewards",
        "PromptTemplates",
        "SelfWrittenTests",
        "TeacherResponses",
    }


def test_samples_are_further_columns_after_those_that_are_there(scene: Scene):
    rows = scene.world.recorded(scene.state)
    more = scene.world.sample(scene.state, rows, START, 2, PLAIN)
    assert more.writers == (*rows.writers, "start", "start")
    assert more.responses.shape == (len(more), 4) and more.reward is None
    before = {(p, *group) for p, group in zip(rows.prompts.tolist(), rows.responses.tolist(), strict=True)}
    assert {
        (p, *g[:2]) for p, g in zip(more.prompts.tolist(), more.responses.tolist(), strict=True)
    } == before
    if scene.kind != "table":
        assert more.responses[:, :2].tolist() == rows.responses.tolist()
    assert more.weight.sum() == pytest.approx(rows.weight.sum(), rel=1e-12)


@pytest.mark.parametrize(
    "who",
    [START, BEFORE, INITIAL, Geometric(share=0.5), Past(), Perturbation(scale=0.1)],
    ids=str,
)
def test_every_name_of_a_policy_can_write_and_writes_the_same_again(scene: Scene, who: Any):
    rows = scene.world.prompts(scene.state)
    if scene.kind == "scored" and isinstance(who, Geometric):
        with pytest.raises(ValueError, match="is no policy of a world of scored examples"):
            scene.world.sample(scene.state, rows, who, 1)
        return
    first, second = (scene.world.sample(scene.state, rows, who, 1) for _ in range(2))
    assert first.writers == (str(who),)
    if scene.kind == "scored":  # equal examples, each with an index of its own
        one, other = (scene.world.examples.numpy(sampled.responses)["x"] for sampled in (first, second))
        assert np.array_equal(one, other) and np.array_equal(first.prompts, second.prompts)
    else:
        assert plain(first) == plain(second)


def test_verdicts_are_probabilities_of_both_orders(scene: Scene):
    rows = scene.world.recorded(scene.state)
    first, second = np.zeros(len(rows), int), np.ones(len(rows), int)
    wins, losses = scene.world.compare(rows, first, second), scene.world.compare(rows, second, first)
    assert wins.shape == (len(rows),) and ((wins >= 0) & (wins <= 1)).all()
    assert np.allclose(wins + losses, 1, rtol=0, atol=1e-12)
    assert np.allclose(scene.world.compare(rows, first, first), 0.5, rtol=0, atol=1e-12)


@pytest.mark.parametrize("opponents", [0, 2])
def test_win_rates_are_means_of_what_is_asked_for(scene: Scene, opponents: int):
    rows = scene.world.sample(scene.state, scene.world.prompts(scene.state), START, 2)

    def rates(of: Callable[[Any], Any]) -> Any:
        return scene.world.win_rates(scene.state, rows, START, opponents, of)

    wins = rates(lambda p: p)
    assert wins.shape == rows.responses.shape and ((wins >= 0) & (wins <= 1)).all()
    assert np.allclose(rates(lambda p: 2 * p - 1), 2 * wins - 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tokens", [False, True])
def test_anchors_are_scores_under_the_named_policies(scene: Scene, tokens: bool):
    rows = scene.world.recorded(scene.state)
    names = {"reference": INITIAL, "previous": START}
    anchors = scene.world.anchors(scene.state, rows, names, tokens=tokens)
    assert set(anchors) == set(names)
    longest = max(len(r.ids) for group in rows.responses for r in group) if scene.kind == "text" else 0
    shape = (2, 3) if scene.kind == "table" else (len(rows), 2)
    if tokens and scene.kind == "text":  # elsewhere a response is one token
        shape = (len(rows), 2, longest)
    assert {tuple(scores.shape) for scores in anchors.values()} == {shape}
    assert all(bool((scores <= 0).all()) for scores in anchors.values())
    assert not torch.equal(anchors["reference"], anchors["previous"])


def margins(scene: Scene, rows: Rows, policy: str, state: State) -> Any:
    """[N] log pi(chosen) - log pi(rejected)."""
    scores = scene.world.scores(state, rows, policy)[0]
    return scores[:, 0] - scores[:, 1]


@pytest.mark.parametrize("verb", ["fit", "descend"])
def test_learning_from_a_pair_raises_its_margin(scene: Scene, verb: str):
    rows = scene.world.recorded(scene.state).take(np.arange(1))
    rows = replace(rows, prob=np.array([0.999]))  # a label of 1 would have no minimum
    anchors = scene.world.anchors(scene.state, rows, {"reference": INITIAL})
    rate = {} if verb == "fit" else {"rate": 0.1}
    learn = getattr(scene.world, verb)
    policy = learn(scene.state, rows, anchors, Dpo(beta=0.1), **rate)
    after = scene.state.with_policies(learnt=policy)
    assert margins(scene, rows, "learnt", after)[0] > margins(scene, rows, START, after)[0]
    turned = replace(rows, prob=1 - rows.prob)
    policy = learn(scene.state, turned, anchors, Dpo(beta=0.1), **rate, name="turned")
    after = scene.state.with_policies(learnt=policy)
    assert margins(scene, rows, "learnt", after)[0] < margins(scene, rows, START, after)[0]


def test_a_finished_stage_is_made_once_and_a_settled_round_stays_as_it_is(scene: Scene):
    made: list[Rows] = []

    def make() -> Rows:
        made.append(scene.world.recorded(scene.state))
        return made[-1]

    first, second = (scene.world.stage(scene.state, "judging", make) for _ in range(2))
    assert plain(first) == plain(second) == plain(made[0])
    assert len(made) == (1 if scene.kind == "text" else 2), "a game has nothing to resume"
    once = scene.world.settle(scene.state)
    assert scene.world.settle(once) == once == scene.state
    later = replace(scene.state, round=scene.state.round + 1)
    past = scene.world.past(later, 1)
    assert past is not None and plain(past) == plain(first)
    assert scene.world.past(later, 2) is None


# the methods --------------------------------------------------------------------------------------


def refusal(method: Method, world: type) -> str:
    """Why the world refuses the method; "" where it accepts it."""
    try:
        method.check_world(world)
    except ValueError as error:
        return str(error)
    return ""


def check_refusal(method: Method, world: type, said: str) -> None:
    """One sentence, that names the method, what it lacks and the world; none where nothing is missing."""
    missing = [c for c in method.capabilities if not issubclass(world, c)]
    assert bool(said) == bool(missing)
    if missing:
        names = [(c.__doc__ or "").splitlines()[0].rstrip(".") for c in missing]
        assert said.startswith(f"{method.name} needs {names[0]}")
        assert said.endswith(f"which {world.kind} does not offer") and "\n" not in said  # type: ignore[attr-defined]


def test_a_wrong_refusal_is_seen():
    wrong = {
        "srpo": ("", "srpo needs a table, which a finite game does not offer"),
        "dpo": ("dpo is refused",),
    }
    for name, sentences in wrong.items():
        for said in sentences:
            with pytest.raises(AssertionError):
                check_refusal(METHODS[name], TableWorld, said)


def marked(slow: set[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in METHODS]


# hinges: seconds of looking for a smooth minimum that is not there
KINKED = {"hinge", "hinge_norm", "slic", "rso_hinge", "rso_hinge_norm"}
# of the methods with the same kind of update, all but the first
FIRST = {type(m.update): name for name, m in reversed(METHODS.items())}
ALIKE = set(METHODS) - set(FIRST.values())
# without a clear winner among a handful of samples there is nothing to learn from
EASIER: dict[str, dict[str, Any]] = {
    "constrained": {"thresholds": {"host": 1.0}},
    "dno_prct": {"high": 3.0, "margin": 0.1, "own_margin": 0.1},
    # the panel has no scores
    **{
        name: {"outcome": "win_rate", "mark": "", "depth": 3, "iterations": 2}
        for name in ("mcts_dpo", "itool", "itool_dpo")
    },
    "tpo_trees": {"outcome": "win_rate", "mark": "", "depth": 0, "branch": 2, "nodes": 40},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", marked(KINKED))
def test_a_game_plays_a_method_or_refuses_it_in_a_sentence(name: str):
    """What is accepted may still have no minimum, which is said; what is refused could not be played."""
    method = METHODS[name].with_parameters(METHODS[name].exact).on_exact_games(2)
    said = refusal(method, TableWorld)
    check_refusal(method, TableWorld, said)
    world = TableWorld(game(), remember=method.reach)
    state = State.begin(world.game.initial(), method.update.memory, keep_past=method.asks_the_past)
    if said:
        with pytest.raises(ValueError, match="a finite game"):
            play_round(method, world, state)
        return
    try:
        after = play_round(method, world, state)
    except (ValueError, NotConverged) as error:
        assert len(str(error).split()) > 4 and not str(error).endswith(".")
        return
    assert after.round == 2 and bool(after.policies[START].probs().isfinite().all())


@pytest.mark.slow
@pytest.mark.parametrize("name", marked(ALIKE))
def test_a_language_model_plays_every_method(name: str, text: Text):
    method = replace(METHODS[name].with_parameters(EASIER.get(name, {})), rounds=2)
    check_refusal(method, TextWorld, refusal(method, TextWorld))
    world = text.world(method.needs)
    world.model.hold(text.states[0].policies[INITIAL])
    state = world.begin(method.update.memory, keep_past=method.asks_the_past)
    if method.phases:  # which move the policy away from the base model
        state = state.with_policies(**{START: text.states[1].policies[START]})
    after = play_round(method, world, state)
    assert after.round == 2 and after.policies[START].is_dir()


def test_a_world_that_lacks_a_capability_is_refused_by_its_first_line():
    class Bare:
        kind = "a bare world"

    for capability in CAPABILITIES.values():
        with pytest.raises(ValueError, match=r"mine needs .*, which a bare world does not offer"):
            capabilities.check("mine", (capability,), Bare)
        with pytest.raises(ValueError, match=r"this needs .*, which a bare world does not offer"):
            capabilities.needing(Bare(), capability)
        capabilities.check("mine", (capability,), TextWorld)
