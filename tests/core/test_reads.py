"""What an objective reads: combinations that no objective can mean are refused when they are written down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from equipoise.core.objectives import CATALOG
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.objectives.weighted import Wpo


def test_a_plain_pair_loss_reads_a_label_and_nothing_else():
    assert Reads() == PAIR
    assert PAIR.pair_label and not PAIR.live
    assert not Reads(rewards=True).pair_label and not Reads(labels=True).pair_label


@pytest.mark.parametrize(
    ("combination", "message"),
    [
        ({"rewards": True, "labels": True}, "rewards or labels of single responses, not both"),
        ({"labels": True, "group": True}, "a group of responses has rewards"),
        ({"divergences": ("reference",)}, "set tokens=True"),
        ({"token_weights": ("step",)}, "set tokens=True"),
        ({"tokens": True, "batch_statistic": True}, "computed on whole responses"),
        ({"statistic_columns": (1,)}, "set batch_statistic=True"),
        ({"running": True}, "a running statistic is one of a batch"),
        ({"batch_statistic": True, "statistic_columns": (0,)}, "column 0 is descended"),
        ({"swapped": (0, 1)}, "must exchange 0 and 1"),
        ({"swapped": (1, 0, 3, 4, 2)}, "be its own inverse"),
        ({"swapped": (1, 0, 3)}, "be its own inverse"),
        ({"rewards": True, "swapped": (1, 0, 3, 2)}, "only labelled pairs are swapped"),
        ({"labels": True, "swapped": (1, 0, 3, 2)}, "only labelled pairs are swapped"),
        ({"auxiliary": "degree"}, "auxiliary must be a tuple of names"),
        ({"auxiliary": ("",)}, "auxiliary must be a tuple of names"),
        ({"tokens": True, "divergences": ("reference", "reference")}, "duplicate name"),
    ],
    ids=str,
)
def test_a_combination_that_no_objective_can_mean_is_refused(
    combination: dict[str, object], message: str, no_shape_types
):
    with pytest.raises(ValueError, match=message):
        Reads(**combination)


def test_a_misspelt_field_is_refused():
    with pytest.raises(TypeError, match="reward"):
        Reads(reward=True)


def test_models_in_memory_are_those_of_divergences_and_of_the_auxiliary_head():
    reads = Reads(tokens=True, divergences=("reference",), token_weights=("step",), auxiliary=("degree",))
    assert reads.live == ("reference", "degree")


def test_an_added_term_reads_what_its_base_reads_and_its_own():
    base = CATALOG["tdpo1"].build()
    assert Wpo(base=base).reads == replace(base.reads, response_weights=True)
    assert CATALOG["spo_degree"].build(degrees=2).reads == Reads(auxiliary=("degree",), swapped=(1, 0, 3, 2))


@pytest.mark.parametrize("name", ["sppo", "kto", "aot", "sail", "spac"])
def test_a_term_is_added_to_the_loss_of_a_labelled_pair_only(name: str):
    base = CATALOG[name].build()
    with pytest.raises(
        ValueError, match=f"Wpo adds a term to the loss of a labelled pair; {type(base).__name__}"
    ):
        Wpo(base=base)
