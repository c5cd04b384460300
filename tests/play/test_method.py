"""A method is one record: its choices must fit together when it is made; parameters may follow schedules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from equipoise.core.objectives import Dpo, Inpo
from equipoise.methods.dpo import DPO
from equipoise.methods.index import METHODS, get
from equipoise.methods.rto import RTO
from equipoise.methods.spac import SPAC
from equipoise.play.capabilities import LiveReferences, TokenValues, needing
from equipoise.play.method import Method
from equipoise.play.needs import LISTS, NOTHING, ORACLE, PAIRS, UNPAIRED, Needs
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.pairings.sampled import Pairs, Tournament
from equipoise.play.pairings.unpaired import Labelled
from equipoise.play.players.perturbed import PerturbedPlayer
from equipoise.play.players.protocol import Players
from equipoise.play.players.recorded import Recorded
from equipoise.play.players.sampled import Self
from equipoise.play.rows import Rows
from equipoise.play.schedules import ByRound, Ramp
from equipoise.play.state import INITIAL, START, Geometric, State
from equipoise.play.updates.zeroth_order import ZerothOrder
from equipoise.play.world import World
from equipoise.worlds.table.world import TableWorld
from equipoise.worlds.text.world import TextWorld


def test_two_choices_have_one_value_of_a_parameter_that_they_share():
    with pytest.raises(ValueError, match=r"parameter mu is shared and has conflicting values, 3\.0 and 1\.0"):
        replace(get("zpg"), players=PerturbedPlayer(samples=4, mu=1.0), update=ZerothOrder(mu=3.0))
    for method in METHODS.values():
        again = method.with_parameters(method.parameters())
        assert again.players == method.players and again.update == method.update, method.name
        assert again.pairing == method.pairing and again.objective == method.objective, method.name


def test_responses_that_cannot_be_paired_are_refused_when_the_method_is_made():
    with pytest.raises(ValueError, match="a tournament needs 4, 8, 16"):
        replace(get("inpo"), players=Self(samples=6))
    with pytest.raises(ValueError, match="one response per row, got 2"):
        replace(DPO, pairing=Labelled())


@pytest.mark.parametrize("field, value", [("confidence", "verifed"), ("status", "beta")])
def test_words_of_a_closed_list_are_checked(field, value):
    with pytest.raises(ValueError, match=f"{field} must be one of .*, got '{value}'"):
        replace(DPO, **{field: value})


def test_needs_are_those_of_all_choices_together():
    assert DPO.needs == PAIRS and get("inpo").needs == ORACLE and get("kto").needs == UNPAIRED
    assert RTO.needs == PAIRS | ORACLE and str(RTO.needs) == "pairs and oracle"
    assert get("sail_dpp").needs == PAIRS
    assert get("sail_dpp").with_parameters({"offline": 0.0}).needs == NOTHING and str(NOTHING) == "prompts"
    assert get("sail").needs == PAIRS | ORACLE
    assert get("sail").with_parameters({"offline": 0.0}).needs == ORACLE
    assert str(get("odpo").needs) == "pairs with margins" and get("tpo").needs == LISTS


def test_needs_that_cannot_be_met_cannot_be_written_down():
    with pytest.raises(ValueError, match="margins, rationales and goals need pairs, got"):
        Needs(records="lists", margins=True)
    with pytest.raises(ValueError, match="read different records: pairs and lists"):
        _ = PAIRS | LISTS
    with pytest.raises(TypeError):
        Needs(records="pairs", piars=True)  # type: ignore[call-arg]


def test_a_world_that_lacks_something_is_refused_in_one_sentence():
    with pytest.raises(
        ValueError, match=r"^spo_degree needs progressively degraded responses .*a finite game"
    ):
        get("spo_degree").check_world(TableWorld)
    for method in METHODS.values():
        method.check_world(TextWorld)
    with pytest.raises(ValueError, match="this needs live references and auxiliary heads"):
        needing(object(), LiveReferences)
    assert TokenValues in RTO.capabilities


@dataclass(frozen=True, kw_only=True)
class Alternating(Players):
    """The policy in odd rounds, a mixture in even ones: players that the package does not know."""

    samples: int = 2
    exchangeable: ClassVar[bool] = True

    @property
    def width(self) -> int:
        return self.samples

    def write(self, world: World, state: State) -> Rows:
        who = START if state.round % 2 else Geometric(share=0.5, base=START, other=INITIAL)
        return world.sample(state, world.prompts(state), who, self.samples)

    def writing(self, samples: int) -> Alternating:
        return replace(self, samples=samples)

    def describe(self) -> str:
        return "the policy and a mixture in turn"


def test_new_players_cost_nothing_else():
    method = replace(get("iterative_dpo"), players=Alternating(samples=4), pairing=Tournament())
    assert method.needs == ORACLE and method.players.width == 4
    assert replace(method, players=method.players.writing(2), pairing=Pairs()).players.width == 2
    with pytest.raises(ValueError, match="a tournament needs"):
        replace(method, players=Alternating(samples=3))


def test_a_parameter_moves_over_rounds():
    method = SPAC.with_parameters({"b": [0.1, 0.4]})
    assert method.schedules["b"] == ByRound((0.1, 0.4)) and method.parameters()["b"] == 0.1
    values = [method.at_round(t).parameters()["b"] for t in (1, 2, 3)]
    assert values == [0.1, 0.4, 0.4]
    ramp = SPAC.with_parameters({"b": {"start": 1.0, "end": 0.2, "over": "rounds"}})
    assert [ramp.at_round(t).parameters()["b"] for t in (1, 2, 3)] == pytest.approx([1.0, 0.6, 0.2])
    assert SPAC.at_round(2) is SPAC


@pytest.mark.parametrize("schedule", [[0.1, 0.4], {"start": 1.0, "end": 0.2, "over": "rounds"}])
def test_a_schedule_is_a_setting_that_reads_as_the_same_schedule(schedule):
    method = SPAC.with_parameters({"b": schedule})
    again = SPAC.with_parameters(method.settings())
    assert again.schedules == method.schedules and again.parameters() == method.parameters()
    assert SPAC.settings() == SPAC.parameters()


def test_a_parameter_of_the_objective_moves_over_steps():
    method = DPO.with_parameters({"beta": {"start": 0.1, "end": 0.5}})
    stepped = method.loss
    assert stepped.at(0.0) == Dpo(beta=0.1) and stepped.at(1.0) == Dpo(beta=0.5)
    assert stepped.at(0.5).beta == pytest.approx(0.3) and stepped.anchors == ("reference",)
    cosine = Ramp(start=0.0, end=1.0, shape="cosine", share=0.5)
    assert [cosine.value(d) for d in (0, 0.25, 0.5, 1)] == pytest.approx([0, 0.5, 1, 1])


@pytest.mark.parametrize(
    "value, says",
    [
        ([], "empty"),
        ([0.1, -1.0], "positive"),
        (["a"], "must hold numbers"),
        ({"start": 0.1}, "needs start and end"),
        ({"start": 0.1, "end": 0.2, "ovr": "steps"}, "not ovr"),
        ({"start": 0.1, "end": 0.2, "over": "epochs"}, "a ramp needs over = rounds or steps"),
    ],
)
def test_schedules_are_checked_before_a_round_meets_them(value, says):
    with pytest.raises(ValueError, match=says):
        DPO.with_parameters({"beta": value})


def test_only_the_objective_moves_within_a_round():
    with pytest.raises(ValueError, match="only an objective's parameters can change over steps"):
        get("apo").with_parameters({"alpha": {"start": 0.1, "end": 0.3, "over": "steps"}})


def test_a_method_is_four_choices_and_its_anchors_are_read():
    with pytest.raises(ValueError, match=r"its objective reads the anchors .*, got"):
        replace(DPO, objective=Inpo(eta=0.5, tau=0.1))
    assert isinstance(DPO, Method) and DPO.players == Recorded() and DPO.pairing == AsRecorded()
