"""The contract of every objective. A new row in the catalogue buys the whole suite with no other edit."""

from __future__ import annotations

import dataclasses
import inspect
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from equipoise.core import Scores, reduce
from equipoise.core.objectives import CATALOG, Objective
from equipoise.core.objectives.catalog import Row

CASES = {
    name + "".join(f"-{value}" for value in variant.values()): (row, row.build(**variant))
    for name, row in CATALOG.items()
    for variant in ({}, *row.variants)
}
each_objective = pytest.mark.parametrize("row, objective", CASES.values(), ids=CASES.keys())
each_row = pytest.mark.parametrize("row", CATALOG.values(), ids=CATALOG.keys())


def draw(objective: Objective, rows: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Scores:
    """Random scores with everything the objective declares: log-probs of a few nats, near their anchors."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(rows, objective.candidates, generator=generator, dtype=torch.float64)

    centre = 3 * normal() - 10
    return Scores(
        logp=(centre + normal()).to(dtype).requires_grad_(),
        anchors={name: (centre + normal()).to(dtype) for name in objective.anchors},
        length=torch.randint(1, 20, (rows, objective.candidates), generator=generator).to(dtype),
    )


def gradient(objective: Objective, scores: Scores) -> Tensor:
    return torch.autograd.grad(objective(scores).value.sum(), scores.logp)[0]


# the interface ----------------------------------------------------------------------------------


@each_objective
def test_is_a_frozen_objective_with_one_loss_per_comparison(row: Row, objective: Objective):
    assert isinstance(objective, Objective)
    assert objective.candidates >= 1
    scores = draw(objective)
    losses = objective(scores)
    assert losses.value.shape == (len(scores),)
    for metric in losses.metrics.values():
        assert metric.shape == (len(scores),)
        assert not metric.requires_grad
    with pytest.raises(dataclasses.FrozenInstanceError):
        objective.anything = 1


@each_row
def test_parameters_are_keyword_only_and_have_defaults(row: Row):
    parameters = inspect.signature(row.build).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in parameters)
    with pytest.raises(TypeError):
        row.build(0.1)


@each_row
def test_numbers_that_are_never_legal_are_refused(row: Row):
    for name, parameter in inspect.signature(row.build).parameters.items():
        if isinstance(parameter.default, float):
            for value in (math.nan, -math.inf):
                with pytest.raises(ValueError):
                    row.build(**{name: value})


@each_row
def test_choices_outside_their_list_are_refused(row: Row, no_shape_types):
    for name, parameter in inspect.signature(row.build).parameters.items():
        if isinstance(parameter.default, str):
            with pytest.raises(ValueError, match=name):
                row.build(**{name: "no such choice"})


@each_objective
def test_same_input_same_bits_and_inputs_untouched(row: Row, objective: Objective):
    scores = draw(objective)
    first = objective(scores).value
    objective(draw(objective, rows=3, seed=1))  # something else in between leaves no trace
    assert objective(scores).value.equal(first)
    again = draw(objective)
    assert scores.logp.equal(again.logp)
    assert all(scores.of(name).equal(again.of(name)) for name in objective.anchors)


@each_objective
def test_reads_the_anchors_it_declares_and_no_other(row: Row, objective: Objective):
    scores = draw(objective)
    more = replace(scores, anchors={**scores.anchors, "undeclared": torch.full_like(scores.logp, math.nan)})
    assert objective(more).value.equal(objective(scores).value)
    for name in objective.anchors:
        rest = {key: value for key, value in scores.anchors.items() if key != name}
        with pytest.raises(KeyError, match=name):
            objective(replace(scores, anchors=rest))
        moved = {**scores.anchors, name: scores.of(name) + torch.arange(objective.candidates)}
        assert not objective(replace(scores, anchors=moved)).value.equal(objective(scores).value)


@each_objective
def test_reads_the_candidates_it_declares_and_no_other(row: Row, objective: Objective):
    scores = draw(objective)
    assert bool((gradient(objective, scores) != 0).any(dim=0).all())
    extra = torch.full((len(scores), 1), math.nan, dtype=torch.float64)

    def widen(x: Tensor) -> Tensor:
        return torch.cat([x, extra], dim=1)

    wide = Scores(
        logp=widen(scores.logp),
        anchors={name: widen(x) for name, x in scores.anchors.items()},
        length=widen(scores.length),
    )
    assert objective(wide).value.equal(objective(scores).value)
    narrow = slice(0, objective.candidates - 1)
    short = Scores(
        logp=scores.logp[:, narrow],
        anchors={name: x[:, narrow] for name, x in scores.anchors.items()},
        length=scores.length[:, narrow],
    )
    with pytest.raises((IndexError, ValueError)):
        objective(short)


# numbers ----------------------------------------------------------------------------------------


@each_objective
def test_gradient_against_finite_differences(row: Row, objective: Objective):
    scores = draw(objective)
    assert torch.autograd.gradcheck(lambda logp: objective(replace(scores, logp=logp)).value, scores.logp)


@each_objective
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e4])
def test_extreme_scores_stay_finite_in_float32(row: Row, objective: Objective, size: float):
    # every sign pattern of +-size for policy and anchors, on the columns that are read
    columns = objective.candidates * (1 + len(objective.anchors))
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * columns).reshape(-1, columns)
    policy, *anchors = (size * signs).split(objective.candidates, dim=1)
    scores = Scores(
        logp=policy.clone().requires_grad_(),
        anchors=dict(zip(objective.anchors, anchors, strict=True)),
        length=torch.ones_like(policy),
    )
    assert bool(objective(scores).value.isfinite().all())
    assert bool(gradient(objective, scores).isfinite().all())


@each_objective
def test_bfloat16_is_as_good_as_its_inputs(row: Row, objective: Objective):
    coarse = draw(objective, rows=200, dtype=torch.bfloat16)
    fine = Scores(
        logp=coarse.logp.detach().double().requires_grad_(),
        anchors={name: x.double() for name, x in coarse.anchors.items()},
        length=coarse.length.double(),
    )
    # to first order each rounding (half a unit, 2^-9) of a score or of the result moves the loss by its
    # condition: |L| + sum |dL/ds||s|, where no anchor weighs more than the policy; six such roundings
    sizes = sum(fine.of(name).abs() for name in (None, *objective.anchors))
    condition = objective(fine).value.abs() + (gradient(objective, fine).abs() * sizes).sum(dim=1)
    error = (objective(coarse).value.double() - objective(fine).value).abs()
    assert bool((error <= 6 * 2**-9 * condition).all()), (error / condition).max()


# the claims of the row --------------------------------------------------------------------------


@each_objective
def test_value_where_the_policy_is_its_own_anchor(row: Row, objective: Objective):
    scores = draw(objective)
    anchors = dict.fromkeys(objective.anchors, scores.logp.detach())
    value = objective(replace(scores, anchors=anchors)).value
    assert value.tolist() == pytest.approx([row.at_anchor(objective)] * len(scores), rel=1e-12)


@each_objective
def test_first_order_raises_the_chosen_and_lowers_the_rejected(row: Row, objective: Objective):
    if not row.first_order:
        pytest.skip("not claimed")
    scores = draw(objective)
    anchors = dict.fromkeys(objective.anchors, scores.logp.detach())
    grad = gradient(objective, replace(scores, anchors=anchors))
    assert bool((grad[:, 0] < 0).all())
    assert bool((grad[:, 1] > 0).all())


@each_objective
def test_margin_changes_sign_with_the_order(row: Row, objective: Objective):
    if not row.antisymmetric:
        pytest.skip("not claimed")
    scores = draw(objective)
    here, turned = objective(scores).metrics["margin"], objective(scores.swap()).metrics["margin"]
    assert torch.allclose(here, -turned, rtol=0, atol=1e-12)
    assert bool((here != 0).all())


@each_objective
def test_a_shift_of_all_scores_of_a_prompt_changes_nothing(row: Row, objective: Objective):
    scores = draw(objective)
    for name in (None, *objective.anchors):
        shift = torch.linspace(-2, 2, len(scores), dtype=torch.float64)[:, None]
        shifted = (
            replace(scores, logp=scores.logp + shift)
            if name is None
            else replace(scores, anchors={**scores.anchors, name: scores.of(name) + shift})
        )
        same = torch.allclose(objective(shifted).value, objective(scores).value, rtol=1e-11)
        assert same == row.shift_invariant  # a claim of "not invariant" is checked as well


# the batch --------------------------------------------------------------------------------------


@each_objective
def test_permuting_the_batch_permutes_the_losses(row: Row, objective: Objective):
    scores = draw(objective)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert torch.allclose(objective(scores.take(order)).value, objective(scores).value[order], rtol=1e-14)


@each_objective
def test_a_weight_is_a_number_of_repetitions(row: Row, objective: Objective):
    scores, times = draw(objective), torch.tensor([1, 3, 0, 2, 1, 4])
    repeated = scores.take(torch.repeat_interleave(torch.arange(6), times))
    once = reduce.mean(objective(scores).value, times.double())
    assert torch.allclose(once, reduce.mean(objective(repeated).value), rtol=1e-13)


@each_objective
def test_a_soft_label_is_the_mixture_of_both_orders(row: Row, objective: Objective):
    scores = draw(objective)
    prob = torch.tensor([0.0, 0.25, 0.5, 0.7, 0.9, 1.0], dtype=torch.float64)
    soft = reduce.expected(objective, replace(scores, prob=prob)).value
    certain, turned = objective(scores).value, objective(scores.swap()).value
    assert torch.allclose(soft, prob * certain + (1 - prob) * turned, rtol=1e-14)
    # and the label belongs to the pair: turning both changes nothing
    both_turned = reduce.expected(objective, replace(scores, prob=prob).swap()).value
    assert torch.allclose(both_turned, soft, rtol=1e-13)


def test_the_catalogue_says_where_each_objective_comes_from():
    for name, row in CATALOG.items():
        assert row.title, name
        doc = inspect.getdoc(row.build) or ""
        assert "Source:" in doc, name
        assert row.paper in doc, name
