"""What is added to a pair loss: the likelihood of a rationale, the classification of degraded texts."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch

from equipoise.core import Scores, reduce
from equipoise.core.objectives import Dpo, IpoMean, PlackettLuce, Ppo, RationaleDpo, Rloo, Tdpo1
from equipoise.core.objectives.degradation import DegreeDpo, WithDegrees
from equipoise.core.objectives.rationale import WithRationale
from equipoise.methods.index import get

DOUBLE = torch.float64


def drawn(columns: int, seed: int = 0, degree: bool = False) -> Scores:
    draw = torch.Generator().manual_seed(seed)

    def normal() -> torch.Tensor:
        return torch.randn(5, columns, generator=draw, dtype=DOUBLE)

    logp = (normal() - 6).requires_grad_()
    return Scores(
        logp=logp,
        anchors={"reference": normal() - 6},
        length=torch.randint(2, 9, (5, columns), generator=draw).to(DOUBLE),
        auxiliary={"degree": (-normal().square()).requires_grad_()} if degree else {},
    )


def slope(objective, scores: Scores) -> torch.Tensor:
    return torch.autograd.grad(objective(scores).value.sum(), scores.logp)[0]


# degrees beside any loss of pairs ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ipo", "simpo", "rpo", "tdpo2", "hinge_norm", "rdpo"])
def test_degrees_beside_a_method_are_its_loss_and_the_classification(name):
    plain, both = get(name), get(f"{name}+degrees")
    scores = drawn(8, degree=True)
    if plain.loss.reads.tokens:
        one = scores.by_token()
        tokens = replace(one, divergences={"reference": one.logp.detach().abs()})
        scores = replace(Scores.of_tokens(tokens), auxiliary=scores.auxiliary)
    nll = -scores.auxiliary["degree"].mean(dim=1)
    changed = both.with_parameters({"gamma_d": 0.7})
    assert torch.allclose(changed.loss(scores).value, plain.loss(scores).value + 0.7 * nll, rtol=1e-14)
    assert plain.parameters().items() <= both.parameters().items()
    assert both.anchors == plain.anchors and both.needs == plain.needs
    assert get(f"{name.upper()}+DEGREES") is both  # one object: a configuration compares methods by identity


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("kto", "adds a term to the loss of a labelled pair; Kto is not one"),
        ("online_ipo", "degrees cannot be added to online_ipo: its update is gradient steps"),
        ("wpo", "degrees cannot be added to wpo: it weighs responses at every step"),
        ("spo_degree", "an auxiliary head, DegreeHeads"),
    ],
)
def test_degrees_are_refused_where_there_is_no_such_loss(name, reason):
    with pytest.raises(ValueError, match=reason):
        get(f"{name}+degrees")


def test_an_unknown_added_term_names_the_known_one():
    with pytest.raises(KeyError, match="no added term 'degree'; did you mean 'degrees'"):
        get("ipo+degree")


# rationales ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [Dpo(beta=0.3), IpoMean(tau=0.2)])
@pytest.mark.parametrize("average", [True, False])
def test_a_rationale_adds_its_likelihood(base, average: bool):
    scores, gamma = drawn(3), 0.7
    nll = -scores.logp[:, 2] / (scores.length[:, 2] if average else 1)
    mine = WithRationale(base=base, gamma_r=gamma, average=average)
    assert torch.allclose(mine(scores).value, base(scores).value + gamma * nll, rtol=1e-14)
    grad, pair = slope(mine, scores), slope(base, scores)
    assert grad[:, :2].equal(pair[:, :2])  # the rationale's term has no gradient in the two responses
    per_token = 1 / scores.length[:, 2] if average else torch.ones(5, dtype=DOUBLE)
    told = mine(scores).metrics["rationale"]  # per token, whichever way the loss counts
    assert torch.allclose(told, -scores.logp[:, 2] / scores.length[:, 2], rtol=1e-14) and (told > 0).all()
    assert torch.allclose(grad[:, 2], -gamma * per_token, rtol=1e-14)


def test_the_released_form_has_slopes_between_half_gamma_and_gamma():
    """-log sigma(gamma logp) is log 2 + gamma NLL/2 near NLL = 0, and gamma NLL far from it."""
    gamma = 0.4
    released = RationaleDpo(gamma_r=gamma, form="log_sigmoid", average=False)

    def at(nll: float) -> tuple[float, float]:
        logp = torch.tensor([[0.0, 0.0, -nll]], dtype=DOUBLE, requires_grad=True)
        scores = Scores(
            logp=logp,
            anchors={"reference": torch.zeros(1, 3, dtype=DOUBLE)},
            length=torch.ones(1, 3, dtype=DOUBLE),
        )
        value = released(scores).value
        return value.item() - log(2), -float(torch.autograd.grad(value.sum(), logp)[0][0, 2])

    near, far = at(1e-6), at(500.0)
    assert near[0] - log(2) == pytest.approx(gamma * 1e-6 / 2, rel=1e-3)
    assert near[1] == pytest.approx(gamma / 2, rel=1e-6)
    assert far == (pytest.approx(gamma * 500, rel=1e-12), pytest.approx(gamma, rel=1e-12))
    for nll in (0.1, 1.0, 10.0):
        assert gamma / 2 < at(nll)[1] < gamma


def test_a_soft_label_mixes_the_base_loss_and_keeps_the_rationale():
    scores, mine = drawn(3), RationaleDpo(beta=0.3, gamma_r=0.7)
    prob = torch.linspace(0, 1, 5, dtype=DOUBLE)
    soft = reduce.expected(mine, replace(scores, prob=prob)).value
    base = reduce.expected(Dpo(beta=0.3), replace(scores, prob=prob)).value
    assert torch.allclose(soft - base, mine(scores).value - Dpo(beta=0.3)(scores).value, rtol=1e-12)


# degrees ------------------------------------------------------------------------------------------------


def test_degrees_add_the_mean_cross_entropy():
    scores = drawn(8, degree=True)
    mine = DegreeDpo(beta=0.3, gamma_d=0.5)
    nll = -scores.auxiliary_output("degree").mean(dim=1)
    assert torch.allclose(mine(scores).value, Dpo(beta=0.3)(scores).value + 0.5 * nll, rtol=1e-14)
    assert mine(scores).metrics["degree_nll"].equal(nll.detach())
    assert slope(mine, scores).equal(slope(Dpo(beta=0.3), scores))  # the degraded texts are only classified
    (grad,) = torch.autograd.grad(mine(scores).value.sum(), scores.auxiliary["degree"])
    assert torch.allclose(grad, torch.full_like(grad, -0.5 / 8))


def test_turning_a_pair_round_keeps_each_text_with_its_side():
    mine = DegreeDpo()
    assert mine.reads.swapped == (1, 0, 5, 6, 7, 2, 3, 4)
    scores = drawn(8, degree=True)
    assert (
        reduce.swap(mine, scores)
        .auxiliary_output("degree")
        .equal(scores.auxiliary_output("degree")[:, list(mine.reads.swapped)])
    )
    assert DegreeDpo(degrees=2).reads.swapped == (1, 0, 3, 2)


# both ---------------------------------------------------------------------------------------------------


def test_a_term_reads_of_the_pair_what_its_base_reads():
    mine = WithRationale(base=Tdpo1(beta=0.2))
    assert mine.reads.tokens and mine.reads.divergences == ("reference",) and mine.candidates == 3


def test_refusals(no_shape_types):
    for base in (PlackettLuce(), Ppo(), Rloo()):
        for kind in (WithRationale, WithDegrees):
            with pytest.raises(
                ValueError, match=f"{kind.__name__} adds a term to the loss of a labelled pair"
            ):
                kind(base=base)
    for wrong in ({"gamma_r": -1.0}, {"form": "square"}):
        with pytest.raises(ValueError):
            RationaleDpo(**wrong)
    for wrong in ({"gamma_d": -1.0}, {"degrees": 1}):
        with pytest.raises(ValueError):
            DegreeDpo(**wrong)
    with pytest.raises(ValueError, match="missing auxiliary output 'degree' \\(available: none\\)"):
        DegreeDpo()(drawn(8))
    with pytest.raises(ValueError, match="4 degrees of a pair are 8 texts, got 6"):
        DegreeDpo()(drawn(6, degree=True))
