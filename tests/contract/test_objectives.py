"""The contract of every objective. A new row in the catalogue buys the whole suite with no other edit."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from equipoise.claims.index import CLAIMS
from equipoise.core import Scores, reduce
from equipoise.core.objectives import CATALOG, Objective
from equipoise.core.objectives.catalog import FAMILIES, Claim, Limit, Row
from equipoise.core.objectives.estimates import Arms
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import TokenScores

ROOT = Path(__file__).resolve().parents[2]

CASES = {
    "-".join([name, *(f"{key}={value}" for key, value in variant.items())]): (row, row.build(**variant))
    for name, row in CATALOG.items()
    for variant in ({}, *row.variants)
}
each_objective = pytest.mark.parametrize("row, objective", CASES.values(), ids=CASES.keys())
each_row = pytest.mark.parametrize("row", CATALOG.values(), ids=CATALOG.keys())


def width(objective: Objective) -> int:
    """How many candidates to draw: more than the least where the objective reads a group."""
    return objective.candidates + 2 * objective.reads.group


LENGTHS = torch.tensor(
    [3, 1, 2, 3, 2, 1, 3, 2]
)  # of the tokens of a comparison's candidates, where tokens are read


def draw(objective: Objective, rows: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Scores:
    """Random scores with everything the objective declares: log-probs of a few nats, near their anchors."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, width(objective), *([3] if objective.reads.tokens else []))
    mask = (torch.arange(3) < LENGTHS[: shape[1], None]).expand(rows, -1, 3) if len(shape) == 3 else None

    def normal() -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        return drawn if mask is None else drawn.where(mask, 0)

    def kept(values: Tensor) -> Tensor:
        return (values if mask is None else values.where(mask, 0)).to(dtype)

    centre = 3 * normal() - 10
    read = {
        "logp": kept(centre + normal()).requires_grad_(),
        "anchors": {name: kept(centre + normal()) for name in objective.anchors},
        "reward": kept(normal().sigmoid()) if not objective.reads.pair_label else None,
    }
    if objective.reads.labels:  # both certain labels, and soft ones between them
        read["reward"][0, 0], read["reward"][1, 0] = 0.0, 1.0
    if mask is not None:
        read["weights"] = {name: kept(2 * normal().sigmoid()) for name in objective.reads.token_weights}
        read["divergences"] = {name: kept(normal().square()) for name in objective.reads.divergences}
        for values in (*read["weights"].values(), *read["divergences"].values()):
            values.requires_grad_()
        return of_tokens(objective, TokenScores(mask=mask, **read))
    auxiliary = {name: (-normal().square()).to(dtype).requires_grad_() for name in objective.reads.auxiliary}
    weight = normal().sigmoid().to(dtype) if objective.reads.response_weights else None
    length = torch.randint(1, 20, shape, generator=generator).to(dtype)
    return Scores(length=length, response_weight=weight, auxiliary=auxiliary, **read)


def of_tokens(objective: Objective, tokens: TokenScores) -> Scores:
    """The scores of these tokens; a label is one number for each response, here that of its first token."""
    if not objective.reads.labels:
        return Scores.of_tokens(tokens)
    assert tokens.reward is not None
    return Scores.of_tokens(replace(tokens, reward=None), reward=tokens.reward[..., 0])


def whole(scores: Scores) -> Tensor | None:
    """Rewards that are of responses and not of their tokens."""
    return scores.reward if scores.tokens is None or scores.tokens.reward is None else None


def table(scores: Scores) -> Scores | TokenScores:
    """Where the numbers stand that the objective reads."""
    return scores.tokens or scores


def put(scores: Scores, **changes: object) -> Scores:
    """The same scores with some of those numbers changed, sums included."""
    if scores.tokens is None:
        return replace(scores, **changes)
    reward = whole(scores)
    if reward is not None and "reward" in changes:
        reward = changes.pop("reward")  # type: ignore[assignment]
    return Scores.of_tokens(replace(scores.tokens, **changes), prob=scores.prob, reward=reward)


def mapped(scores: Scores, change: Callable[[Tensor], Tensor]) -> Scores:
    """The same scores with every number that the objective reads changed in the same way."""
    read = table(scores)
    changes: dict[str, object] = {"logp": change(read.logp)}
    changes["anchors"] = {name: change(x) for name, x in read.anchors.items()}
    changes["reward"] = None if read.reward is None else change(read.reward)
    for field in ("weights", "divergences") if scores.tokens else ("auxiliary",):
        changes[field] = {name: change(x) for name, x in getattr(read, field).items()}
    if scores.tokens is None:
        for field in ("length", "response_weight"):
            changes[field] = None if getattr(read, field) is None else change(getattr(read, field))
        return replace(scores, **changes)
    mask, reward = change(scores.tokens.mask.double()) != 0, whole(scores)
    reward = None if reward is None else change(reward)
    return Scores.of_tokens(replace(scores.tokens, mask=mask, **changes), reward=reward)


def added(values: Tensor, by: Tensor) -> Tensor:
    """The values with so much more for each response, [B, K] or [K]: for its first token, where there are any."""
    if values.ndim == 2:
        return values + by
    return torch.cat([values[..., :1] + by[..., None], values[..., 1:]], dim=2)


def within(scores: Scores, values: Tensor) -> Tensor:
    """Numbers of tokens with 0 where there is no token; others as they are."""
    return values if scores.tokens is None else values.where(scores.tokens.mask, 0)


def leaves(scores: Scores) -> dict[str, Tensor]:
    """Everything that a gradient may flow into, by name."""
    read = table(scores)
    fields = ("weights", "divergences") if scores.tokens else ("auxiliary",)
    found = {(field, name): x for field in fields for name, x in getattr(read, field).items()}
    return {("logp", ""): read.logp} | found


def with_leaves(scores: Scores, values: Mapping[tuple[str, str], Tensor]) -> Scores:
    changes: dict[str, object] = {"logp": values["logp", ""]}
    for field, name in values:
        if field != "logp":
            changes[field] = {**changes.get(field, {}), name: values[field, name]}  # type: ignore[dict-item]
    return put(scores, **changes)


def gradient(objective: Objective, scores: Scores, of: Tensor | None = None) -> Tensor:
    """In the policy's scores (of tokens, where they are read), or in what they were made from."""
    value = objective(scores).value.sum()
    leaf = table(scores).logp if of is None else of
    (found,) = torch.autograd.grad(value, leaf, retain_graph=of is not None)
    return (
        found if scores.tokens is None else found.where(scores.tokens.mask, 0)
    )  # elsewhere there is no token


def meaning(objective: Objective, scores: Scores) -> Tensor:
    """What of the objective means something: its value, or a surrogate's gradient."""
    return gradient(objective, scores) if objective.reads.surrogate else objective(scores).value


def columns(scores: Scores, which: Tensor | slice) -> Scores:
    """The given candidates only, in the given order."""
    return mapped(scores, lambda x: x[:, which])


def at_rest(objective: Objective) -> Scores:
    """Where nothing has been learnt: the policy is its own anchor, or both responses score the same."""
    scores = draw(objective)
    read = table(scores)
    if not objective.anchors:
        same = scores.logp.detach()[:, :1].expand_as(scores.logp).clone().requires_grad_()
        return replace(scores, logp=same, length=scores.length[:, :1].expand_as(same))
    anchors = dict.fromkeys(objective.anchors, read.logp.detach())
    if scores.tokens is None:
        return put(scores, anchors=anchors)
    none = {name: torch.zeros_like(x) for name, x in scores.tokens.divergences.items()}
    return put(scores, anchors=anchors, divergences=none)


def labelled(scores: Scores, label: float) -> Scores:
    """The same responses, all with one label."""
    return put(scores, reward=torch.full_like(scores.rewards(), label))


def of_labels(scores: Scores, claimed: float | tuple[float, float]) -> list[float]:
    """What is claimed of one comparison, for each: of a labelled response by its label."""
    if not isinstance(claimed, tuple):
        return [claimed] * len(scores)
    down, up = claimed
    return [label * up + (1 - label) * down for label in scores.labels().tolist()]


def skip_if_exempt(row: Row, claim: Claim) -> None:
    if claim in row.exempt:
        pytest.skip(row.exempt[claim])


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


@each_objective
def test_declares_what_it_reads_in_one_record_and_nowhere_else(row: Row, objective: Objective):
    assert isinstance(objective.reads, Reads)
    parameters = {field.name for field in dataclasses.fields(objective)}
    public = {name for name in dir(objective) if not name.startswith("_")} - parameters
    declared = {name for name in public if not callable(getattr(objective, name))}
    assert {"anchors", "candidates", "reads"} <= declared
    # a flag that is misspelt, or kept outside the record, would be read by nothing
    assert declared <= {"anchors", "candidates", "reads", "parameters", "link"}


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
    here, again = table(scores), table(draw(objective))
    assert here.logp.equal(again.logp)
    assert all(here.of(name).equal(again.of(name)) for name in objective.anchors)


@each_objective
def test_reads_the_anchors_it_declares_and_no_other(row: Row, objective: Objective):
    scores = draw(objective)
    read = table(scores)
    more = put(scores, anchors={**read.anchors, "undeclared": torch.full_like(read.logp, math.nan).detach()})
    assert objective(more).value.equal(objective(scores).value)
    for name in objective.anchors:
        rest = {key: value for key, value in read.anchors.items() if key != name}
        with pytest.raises(KeyError, match=name):
            objective(put(scores, anchors=rest))
        # a shift may be no change, of one comparison or of all
        uneven = torch.arange(len(scores) * width(objective)).view(len(scores), -1).square() / 10
        moved = {**read.anchors, name: added(read.of(name), uneven)}
        assert not objective(put(scores, anchors=moved)).value.equal(objective(scores).value)


@each_objective
def test_reads_the_weights_divergences_and_words_from_beside_that_it_declares(row: Row, objective: Objective):
    scores = draw(objective)
    for (field, name), values in leaves(scores).items():
        if field == "logp":
            continue
        there = {key: x for key, x in getattr(table(scores), field).items() if key != name}
        with pytest.raises(ValueError, match=f"'{name}' \\(available"):
            objective(put(scores, **{field: there}))
        moved = put(scores, **{field: {**there, name: 1.5 * values.detach()}})
        assert not objective(moved).value.equal(objective(scores).value)
    unread = torch.full_like(table(scores).logp, 7.0).detach()
    if scores.tokens is not None:
        unread = unread.where(scores.tokens.mask, 0)
    for field in ("weights", "divergences") if scores.tokens else ("auxiliary",):
        more = put(scores, **{field: {**getattr(table(scores), field), "undeclared": unread}})
        assert objective(more).value.equal(objective(scores).value)


@each_objective
def test_reads_the_candidates_it_declares_and_no_other(row: Row, objective: Objective):
    scores = draw(objective)
    value = objective(scores).value.sum()
    slopes = torch.autograd.grad(value, list(leaves(scores).values()), allow_unused=True)
    moved = torch.stack(
        [(x != 0).view(*x.shape[:2], -1).any(dim=2).any(dim=0) for x in slopes if x is not None]
    )
    descended = [k for k in range(width(objective)) if k not in objective.reads.statistic_columns]
    assert bool(moved.any(dim=0)[descended].all())
    if not objective.reads.group:

        def widen(x: Tensor) -> Tensor:
            return torch.cat([x, torch.full_like(x[:, :1], math.nan)], dim=1)

        wide = mapped(scores, widen)
        assert objective(wide).value.equal(objective(scores).value)
    if objective.candidates > 1:
        with pytest.raises((IndexError, ValueError)):
            objective(columns(scores, slice(0, objective.candidates - 1)))


@each_objective
def test_reads_rewards_only_if_it_says_so(row: Row, objective: Objective):
    scores = draw(objective)
    if objective.reads.pair_label:
        poisoned = put(scores, reward=torch.full_like(table(scores).logp, math.nan).detach())
        assert objective(poisoned).value.equal(objective(scores).value)
        return
    with pytest.raises(ValueError, match="reward"):
        objective(put(scores, reward=None))
    rewards = scores.rewards() if objective.reads.labels else table(scores).rewards()
    other = 1 - rewards if objective.reads.labels else added(rewards, torch.arange(width(objective)))
    moved = put(scores, reward=other)
    assert not meaning(objective, moved).equal(meaning(objective, scores))


@each_objective
def test_reads_weights_only_if_it_says_so(row: Row, objective: Objective):
    scores = draw(objective)
    if not objective.reads.response_weights:
        poisoned = replace(
            scores, response_weight=torch.full_like(scores.logp, math.nan, requires_grad=False)
        )
        assert objective(poisoned).value.equal(objective(scores).value)
        return
    with pytest.raises(ValueError, match="weight"):
        objective(replace(scores, response_weight=None))
    assert torch.allclose(
        objective(replace(scores, response_weight=2 * scores.response_weights())).value,
        4 * objective(scores).value,
    )


@each_objective
def test_rewarded_responses_are_exchangeable(row: Row, objective: Objective):
    if objective.reads.pair_label:
        pytest.skip("reads labels: the order of the candidates is the label")
    if objective.reads.labels:
        pytest.skip("one response has the label")
    scores = draw(objective)
    order = torch.arange(width(objective)).roll(1)
    assert torch.allclose(objective(columns(scores, order)).value, objective(scores).value, rtol=1e-12)


@each_objective
def test_labels_of_responses_lie_between_0_and_1(row: Row, objective: Objective):
    if not objective.reads.labels:
        pytest.skip("reads no labels of single responses")
    assert row.reward_shift_invariant is None
    scores = draw(objective)
    for illegal in (-0.01, 1.01, math.nan):
        reward = scores.rewards().clone()
        reward[3, 0] = illegal
        with pytest.raises(ValueError, match=r"label and must lie in \[0, 1\]"):
            objective(put(scores, reward=reward))
    # what stands in a column without a label is nobody's business
    reward = scores.rewards().clone()
    reward[:, 1:] = math.nan
    assert objective(put(scores, reward=reward)).value.equal(objective(scores).value)


@each_objective
def test_reads_of_the_whole_batch_no_more_than_its_context(row: Row, objective: Objective):
    scores = draw(objective)
    if not objective.reads.batch_statistic:
        assert not objective.reads.statistic_columns
        assert reduce.with_batch_statistic(objective, scores) is scores
        parts = [objective(scores.take(torch.tensor([i]))).value for i in range(len(scores))]
        assert torch.allclose(torch.cat(parts), objective(scores).value, rtol=1e-13)
        return
    # anchors of other comparisons: drawn near their policy they have its ranks
    scores = replace(scores, anchors={name: anchor.flip(0) for name, anchor in scores.anchors.items()})
    whole = reduce.with_batch_statistic(objective, scores)
    assert whole.batch_statistic is not None and not whole.batch_statistic.requires_grad
    assert objective(whole).value.equal(objective(scores).value)
    # a step is the same number however it is cut, once each comparison carries its share
    parts = [objective(whole.take(torch.tensor(rows))).value for rows in ([0, 1, 2], [3], [4, 5])]
    assert torch.allclose(torch.cat(parts), objective(scores).value, rtol=1e-14)
    alone = torch.cat([objective(scores.take(torch.tensor([i]))).value for i in range(len(scores))])
    assert not torch.allclose(alone, objective(scores).value, rtol=1e-3)
    # columns that only the context reads may be missing afterwards, and never have a gradient
    kept = [k for k in range(width(objective)) if k not in objective.reads.statistic_columns]
    narrow = replace(columns(scores, torch.tensor(kept)), batch_statistic=whole.batch_statistic)
    assert objective(narrow).value.equal(objective(scores).value)
    assert not gradient(objective, scores)[:, list(objective.reads.statistic_columns)].any()
    # a comparison of weight 0 does not count
    weight = torch.tensor([1.0, 2.0, 0.0, 1.0, 0.5, 3.0], dtype=torch.float64)
    weighted = reduce.with_batch_statistic(objective, scores, weight).take(weight > 0).batch_statistic
    without = reduce.with_batch_statistic(
        objective, scores.take(weight > 0), weight[weight > 0]
    ).batch_statistic
    assert torch.allclose(weighted, without, rtol=1e-12)


# numbers ----------------------------------------------------------------------------------------


@each_objective
def test_gradient_against_finite_differences(row: Row, objective: Objective):
    if objective.reads.surrogate:
        pytest.skip("the value means nothing; the gradient is compared with that of what it estimates")
    scores = reduce.with_batch_statistic(objective, draw(objective))  # a context is held fixed
    held = {"divergences"} if "divergences" in row.exempt else set()
    names, values = zip(*((n, x) for n, x in leaves(scores).items() if n[0] not in held), strict=True)

    def value(*at: Tensor) -> Tensor:
        return objective(with_leaves(scores, leaves(scores) | dict(zip(names, at, strict=True)))).value

    # places without a token are 0 and stay so
    inside = None if scores.tokens is None else scores.tokens.mask
    free = [x if inside is None else x[inside].detach().requires_grad_() for x in values]

    def laid(x: Tensor) -> Tensor:
        return x if inside is None else x.new_zeros(inside.shape).masked_scatter(inside, x)

    assert torch.autograd.gradcheck(lambda *at: value(*map(laid, at)), free)


@each_objective
def test_gradient_of_a_surrogate_is_that_of_what_it_estimates(row: Row, objective: Objective):
    if not objective.reads.surrogate:
        assert row.estimates is None
        pytest.skip("a loss proper; its gradient is compared with finite differences")
    assert row.estimates is not None
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    logits, skew = normal(3).requires_grad_(), normal(3, 3)
    logp, prefer = logits.log_softmax(0), torch.sigmoid(skew - skew.T)
    arms = Arms(
        logp=logp,
        reward=normal(3).sigmoid(),
        prefer=prefer,
        anchors={name: normal(3).log_softmax(0) for name in objective.anchors},
    )
    # every tuple of responses with its probability, and both labels of the pair where there are labels
    tuples = torch.cartesian_prod(*[torch.arange(3)] * width(objective))
    sampled = logp.detach()[tuples[:, row.own :]].sum(dim=1).exp() / 3**row.own
    labelled = objective.reads.pair_label
    scores = Scores(
        logp=logp[tuples],
        anchors={name: x[tuples] for name, x in arms.anchors.items()},
        reward=None if labelled else arms.reward[tuples],
        prob=prefer[tuples[:, 0], tuples[:, 1]] if labelled else None,
    )
    expected = (sampled * reduce.expected(objective, scores).value).sum()
    (got,) = torch.autograd.grad(expected, logits, retain_graph=True)
    (want,) = torch.autograd.grad(row.estimates(objective, arms), logits)
    assert torch.allclose(got, want, rtol=0, atol=1e-14 * float(want.abs().max() + 1))
    assert bool((want.abs() > 1e-6).all())


@each_objective
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e4])
def test_extreme_scores_stay_finite_in_float32(row: Row, objective: Objective, size: float):
    scores = sized(objective, size)
    assert bool(objective(scores).value.isfinite().all())
    assert bool(gradient(objective, scores).isfinite().all())


def sized(objective: Objective, size: float) -> Scores:
    """Every sign pattern of +-size (4,096 of them where there are more) for what may have either sign, in float32."""
    tokens = objective.reads.tokens
    extras = (
        len(objective.reads.divergences) + len(objective.reads.token_weights) + len(objective.reads.auxiliary)
    )
    cells = (1 + len(objective.anchors) + (not objective.reads.pair_label) + extras) * objective.candidates
    every = cells <= 12
    signs = (
        torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * cells)
        if every
        else 2.0 * torch.randint(2, (4096, cells)) - 1
    )
    parts = iter((size * signs.view(len(signs), cells)).split(objective.candidates, dim=1))

    def part() -> Tensor:
        return next(parts)[..., None] if tokens else next(parts)

    policy = part().clone().requires_grad_()
    read = {
        "logp": policy,
        "anchors": {name: part() for name in objective.anchors},
        "reward": part() if not objective.reads.pair_label else None,
    }
    if objective.reads.labels:
        read["reward"] = (read["reward"] > 0).to(policy)
    if not tokens:
        auxiliary = {name: -part().abs() for name in objective.reads.auxiliary}
        weight = torch.ones_like(policy) if objective.reads.response_weights else None
        return Scores(length=torch.ones_like(policy), response_weight=weight, auxiliary=auxiliary, **read)
    read["weights"] = {name: part().abs() for name in objective.reads.token_weights}
    read["divergences"] = {name: part().abs() for name in objective.reads.divergences}
    return of_tokens(objective, TokenScores(mask=torch.ones_like(policy, dtype=torch.bool), **read))


def condition(objective: Objective, scores: Scores) -> Tensor:
    """|L| + sum over every number read of |dL/ds| |s|, by central differences: detached parts count as well."""
    total, step = objective(scores).value.abs(), 1e-6
    read, fields = table(scores), ("weights", "divergences") if scores.tokens else ("auxiliary",)
    places = [(field, name) for field in ("anchors", *fields) for name in getattr(read, field)]
    places += [("logp", "")]
    places += [
        (name, "")
        for name, read_here in (
            ("reward", not objective.reads.pair_label),
            ("response_weight", objective.reads.response_weights),
        )
        if read_here
    ]
    if objective.reads.labels:  # linear in the label, which may not leave its range
        places.remove(("reward", ""))
        slope = objective(labelled(scores, 1.0)).value - objective(labelled(scores, 0.0)).value
        total = total + slope.abs() * scores.labels()

    def moved(field: str, name: str, at: tuple[slice | int, ...], factor: float) -> Tensor:
        held = getattr(read, field)
        values = (held[name] if name else held).clone()
        values[at] *= factor
        return objective(put(scores, **{field: {**held, name: values} if name else values})).value

    with torch.no_grad():
        for field, name in places:
            for at in cells(read.logp):
                up, down = (moved(field, name, at, 1 + sign * step) for sign in (1, -1))
                total = total + (up - down).abs() / (2 * step)
    return total


def cells(values: Tensor) -> list[tuple[slice | int, ...]]:
    """Every number of a comparison, in all comparisons at once."""
    return [(slice(None), *place) for place in torch.ones(values.shape[1:]).nonzero().tolist()]


@each_objective
def test_bfloat16_is_as_good_as_its_inputs(row: Row, objective: Objective):
    coarse = draw(objective, rows=200, dtype=torch.bfloat16)
    fine = mapped(coarse, lambda x: x.detach().double())
    fine = with_leaves(fine, {key: x.requires_grad_() for key, x in leaves(fine).items()})
    # to first order each rounding (half a unit, 2^-9) of an input or of the result moves the loss by its
    # condition; six such roundings
    error = (objective(coarse).value.double() - objective(fine).value).abs()
    limit = condition(objective, fine)
    assert bool((error <= 6 * 2**-9 * limit).all()), (error / limit).max()


# the claims of the row --------------------------------------------------------------------------


@each_objective
def test_value_where_the_policy_is_its_own_anchor(row: Row, objective: Objective):
    skip_if_exempt(row, "at_anchor")
    if not objective.anchors:
        assert row.at_anchor is None
        pytest.skip("it has no anchor; its value at equal scores is claimed instead")
    assert row.at_anchor is not None
    value = objective(at_rest(objective)).value
    expected = of_labels(draw(objective), row.at_anchor(objective))
    assert value.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)


@each_objective
def test_value_where_both_responses_score_the_same(row: Row, objective: Objective):
    skip_if_exempt(row, "at_anchor")
    if objective.anchors:
        assert row.at_equal is None
        pytest.skip("it has anchors; its value there is claimed instead")
    assert row.at_equal is not None
    for mean in (-0.05, -1.0, -6.0):
        for tokens in (1, 7):
            both = torch.full((3, objective.candidates), mean * tokens, dtype=torch.float64)
            labels = torch.tensor([[0.0], [0.3], [1.0]], dtype=torch.float64).expand_as(both)
            reward = labels if objective.reads.labels else None
            scores = Scores(logp=both, length=torch.full_like(both, tokens), reward=reward)
            expected = of_labels(scores, row.at_equal(objective, mean, tokens))
            assert objective(scores).value.tolist() == pytest.approx(expected, rel=1e-12)


@each_objective
def test_first_order_raises_the_chosen_and_lowers_the_rejected(row: Row, objective: Objective):
    skip_if_exempt(row, "first_order")
    scores = at_rest(objective)
    if objective.reads.labels:
        up, down = labelled(scores, 1.0), labelled(scores, 0.0)
        no_part = not objective(up).value.any()  # a loss of what is to be forgotten may read nothing else
        assert no_part or bool((gradient(objective, up)[:, 0] < 0).all())
        assert bool((gradient(objective, down)[:, 0] > 0).all())
        return
    grad = gradient(objective, scores)
    chosen, rejected = (
        grad[:, k] if scores.tokens is None else grad[:, k][scores.tokens.mask[:, k]] for k in (0, 1)
    )
    assert bool((chosen < 0).all())
    assert bool((rejected > 0).all())


@each_objective
def test_margin_changes_sign_with_the_order(row: Row, objective: Objective):
    skip_if_exempt(row, "margin")
    scores = draw(objective)
    here, turned = (
        objective(scores).metrics["margin"],
        objective(reduce.swap(objective, scores)).metrics["margin"],
    )
    assert torch.allclose(here, -turned, rtol=0, atol=1e-12)
    assert bool((here != 0).all())


@each_objective
def test_a_shift_of_all_scores_of_a_prompt_changes_nothing(row: Row, objective: Objective):
    scores = draw(objective)
    shift = torch.linspace(-2, 2, len(scores), dtype=torch.float64)[:, None].expand(-1, width(objective))
    read = table(scores)
    shifted = [
        put(scores, logp=added(read.logp, shift)),
        *(put(scores, anchors={**read.anchors, a: added(read.of(a), shift)}) for a in objective.anchors),
    ]
    here = meaning(objective, scores)
    same = all(torch.allclose(meaning(objective, there), here, rtol=1e-11) for there in shifted)
    assert same == row.shift_invariant(objective)  # a claim of "not invariant" is checked as well


@each_objective
def test_longer_responses_of_the_same_mean_log_prob_change_nothing(row: Row, objective: Objective):
    if objective.reads.surrogate:
        pytest.skip("its value means nothing, and its gradient is in sums")
    scores, times = draw(objective), 3
    if scores.tokens is not None:
        # the same tokens again and again; a label is of the whole response
        longer = mapped(scores, lambda x: torch.cat([x] * times, dim=2) if x.ndim == 3 else x)
    else:
        longer = replace(
            scores,
            logp=times * scores.logp,
            anchors={name: times * scores.of(name) for name in objective.anchors},
            length=times * scores.length,
        )
    same = torch.allclose(objective(longer).value, objective(scores).value, rtol=1e-11)
    assert same == row.length_invariant(objective)  # a claim of "not invariant" is checked as well


@each_objective
def test_a_shift_of_all_rewards_of_a_prompt_changes_nothing(row: Row, objective: Objective):
    if objective.reads.pair_label:
        assert row.reward_shift_invariant is None
        pytest.skip("reads no rewards")
    if objective.reads.labels:
        pytest.skip("a shifted label is none; it is refused")
    scores = draw(objective)
    shift = torch.linspace(-2, 2, len(scores), dtype=torch.float64)[:, None].expand(-1, width(objective))
    there = meaning(objective, put(scores, reward=added(table(scores).rewards(), shift)))
    assert torch.allclose(there, meaning(objective, scores), rtol=1e-11) == row.reward_shift_invariant


@each_objective
def test_the_loss_is_bounded_below_where_the_row_says_so(row: Row, objective: Objective):
    if row.bounded.startswith("loss >= 0 (") and objective != row.build():
        pytest.skip(f"claimed under a condition: {row.bounded}")
    values = []
    for scores in (draw(objective, rows=200), sized(objective, 50.0)):
        read = table(scores)
        ceiling = read.logp.detach().amax()  # log-probs are not positive
        anchors = {name: within(scores, x - ceiling) for name, x in read.anchors.items()}
        values.append(objective(put(scores, logp=within(scores, read.logp - ceiling), anchors=anchors)).value)
    losses = torch.cat([value.double() for value in values])
    if re.match(r"(0 <= loss|loss (>=|in \(0))", row.bounded):
        assert bool((losses >= 0).all())
    elif row.bounded.startswith("not bounded below"):
        assert bool((losses < 0).any())
    else:
        pytest.skip(f"bounded is something else: {row.bounded}")


LIMITS = {f"{name}: {limit}": (row, limit) for name, row in CATALOG.items() for limit in row.limits}


@pytest.mark.parametrize("row, limit", LIMITS.values(), ids=LIMITS.keys())
def test_at_its_limit_an_objective_is_the_one_that_it_names(row: Row, limit: Limit):
    assert limit.is_ in CATALOG, f"{limit.is_!r} is not in the catalogue"
    here, there = row.build(**limit.parameters), CATALOG[limit.is_]
    shared = {
        name: getattr(here, name) for name in inspect.signature(there.build).parameters if hasattr(here, name)
    }
    other = there.build(**(shared | limit.other))
    drawn = draw(here)
    scores = limit.given(drawn)
    names = {name: limit.anchors.get(name, name) for name in other.anchors}
    seen = replace(scores, anchors={name: scores.of(mine) for name, mine in names.items()})
    leaf = table(drawn).logp
    want = limit.factor * gradient(other, seen, leaf)
    assert close(gradient(here, scores, leaf), want, limit.tolerance)
    if not (here.reads.surrogate or other.reads.surrogate):
        got, want = here(scores).value.detach(), limit.factor * other(seen).value.detach()
        if limit.up_to_constant:
            got, want = got - got.mean(), want - want.mean()
        assert close(got, want, limit.tolerance)


def close(got: Tensor, want: Tensor, tolerance: float) -> bool:
    return bool((got - want).abs().max() <= tolerance * float(want.abs().max()))


# the batch --------------------------------------------------------------------------------------


@each_objective
def test_permuting_the_batch_permutes_the_losses(row: Row, objective: Objective):
    scores = draw(objective)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert torch.allclose(objective(scores.take(order)).value, objective(scores).value[order], rtol=1e-14)


@each_objective
def test_a_weight_is_a_number_of_repetitions(row: Row, objective: Objective):
    skip_if_exempt(row, "repetition")
    scores, times = draw(objective), torch.tensor([1, 3, 0, 2, 1, 4])
    repeated = scores.take(torch.repeat_interleave(torch.arange(6), times))
    weighted = reduce.with_batch_statistic(objective, scores, times.double())
    once = reduce.mean(objective(weighted).value, times.double())
    assert torch.allclose(once, reduce.mean(objective(repeated).value), rtol=1e-13)


@each_objective
def test_a_soft_label_is_the_mixture_of_both_orders(row: Row, objective: Objective):
    scores = draw(objective)
    if objective.reads.labels:
        scores = reduce.with_batch_statistic(objective, scores)
        soft, label = objective(scores).value, scores.labels()
        up, down = objective(labelled(scores, 1.0)).value, objective(labelled(scores, 0.0)).value
        assert torch.allclose(soft, label * up + (1 - label) * down, rtol=1e-14)
        return
    prob = torch.tensor([0.0, 0.25, 0.5, 0.7, 0.9, 1.0], dtype=torch.float64)
    soft = reduce.expected(objective, replace(scores, prob=prob)).value
    certain, turned = objective(scores).value, objective(reduce.swap(objective, scores)).value
    assert torch.allclose(soft, prob * certain + (1 - prob) * turned, rtol=1e-14)
    # and the label belongs to the pair: turning both changes nothing
    both_turned = reduce.expected(objective, reduce.swap(objective, replace(scores, prob=prob))).value
    assert torch.allclose(both_turned, soft, rtol=1e-13)


@each_row
def test_the_guide_says_what_it_needs_what_is_bounded_and_what_proves_it(row: Row):
    assert row.bounded and row.evidence
    assert len(row.bounded) <= 56, "one line of a table"
    objective = row.build()
    assert (row.data == "pairs") <= objective.reads.pair_label, "a pair has a label, not rewards"
    assert (row.data == "rewards") <= (not objective.reads.pair_label)
    for said in (row.bounded, *row.deviations):
        assert not said.endswith("."), said
    for named in row.evidence:
        path, _, test = named.partition("::")
        if "/" not in path:
            assert path in CLAIMS, f"no claim {path!r}"
            continue
        assert (ROOT / path).is_file(), f"no file {path}"
        assert not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"no test {named}"


def test_no_two_families_claim_one_name():
    assert len(CATALOG) == sum(len(family.ROWS) for family in FAMILIES)


def test_the_catalogue_says_where_each_objective_comes_from():
    for name, row in CATALOG.items():
        assert row.title, name
        doc = inspect.getdoc(row.build) or ""
        assert "Source:" in doc, name
        assert row.paper in doc, name


def test_docstrings_have_their_headings_once_and_in_order():
    headings = ("Symbols:", "Gradient:", "Properties:", "Raises:", "Source:")
    for name, row in CATALOG.items():
        lines = (inspect.getdoc(row.build) or "").splitlines()
        found = [heading for line in lines for heading in headings if line.startswith(heading)]
        assert found == [heading for heading in headings if heading in found], f"{name}: {found}"
        assert any(line.startswith("    ") for line in lines) or "`" in lines[0], f"{name}: no formula"
