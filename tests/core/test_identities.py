"""The identities that bind the objectives to each other, by the numbers of the matrix they were drawn up in.

Each entry gives two losses of the same scores. `ELSEWHERE` says which test holds an identity that has another form, or
other scores than those of a pair; every number from 1 to 18 must be in one of the two.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from equipoise.core import Scores, reduce
from equipoise.core import objectives as o
from equipoise.core.objectives import CATALOG, Objective
from equipoise.core.objectives.catalog import divergences, pairs, pointwise, reference_free

BETA, E = 0.3, 0.2


def drawn(rows: int = 40, scale: float = 3.0) -> Scores:
    generator = torch.Generator().manual_seed(0)

    def normal() -> Tensor:
        return scale * torch.randn(rows, 2, generator=generator, dtype=torch.float64)

    length = torch.randint(1, 9, (rows, 2), generator=generator).double()
    logp = -(length + normal().abs())
    return Scores(logp=logp.requires_grad_(), anchors={"reference": logp.detach() + normal()}, length=length)


SCORES = drawn()
SAME_LENGTH = replace(SCORES, length=torch.full_like(SCORES.length, 4.0))
EVEN = replace(SAME_LENGTH, anchors={"reference": torch.full_like(SCORES.length, -9.0)})
MARGIN = BETA * (SCORES.gap() - SCORES.gap("reference"))
DPO = o.Dpo(beta=BETA)


def of(objective: Objective, scores: Scores = SCORES) -> Tensor:
    return objective(scores).value


def labelled(objective: Objective, prob: float) -> Tensor:
    """The loss in expectation over a soft label: what every method that softens labels trains on."""
    soft = torch.full((len(SCORES),), prob, dtype=torch.float64)
    return reduce.expected(objective, replace(SCORES, prob=soft)).value


def shared_odds(lam: float) -> Tensor:
    p = (SCORES.logp / SCORES.length).exp()
    return lam * (p[:, 0] * (1 - p[:, 1]) + p[:, 1] * (1 - p[:, 0])).log()


def shifted_reference(delta: float) -> Scores:
    """Log-ratios less delta/beta: implicit rewards measured from delta."""
    moved = {"reference": SCORES.of("reference") + delta / BETA}
    return replace(SCORES, anchors=moved)


IDENTITIES: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
    "1 rDPO": lambda: (of(o.Rdpo(beta=BETA, flip=E)), of(DPO) - E / (1 - 2 * E) * MARGIN),
    "2 rDPO is unbiased": lambda: (labelled(o.Rdpo(beta=BETA, flip=E), 1 - E), of(DPO)),
    "3 cDPO without smoothing": lambda: (of(o.Cdpo(beta=BETA, smoothing=0.0)), of(DPO)),
    "3 rDPO without flips": lambda: (of(o.Rdpo(beta=BETA, flip=0.0)), of(DPO)),
    "3 a certain soft label (CREAM, SPA, OSP, UPO)": lambda: (labelled(DPO, 1.0), of(DPO)),
    "4 a soft label p is smoothing 1 - p (CREAM, OSP, MCTS-DPO)": lambda: (
        labelled(DPO, 1 - E),
        of(o.Cdpo(beta=BETA, smoothing=E)),
    ),
    "5 f-DPO with the reverse KL": lambda: (of(o.FDpo(beta=BETA)), of(DPO)),
    "10 ORPO and ASFT": lambda: (of(o.Orpo(lam=0.7)), of(o.Asft(lam=0.7)) + shared_odds(0.7)),
    "13 RSO's sigmoid-norm": lambda: (of(o.RsoNorm(gamma=BETA)), of(DPO)),
    "14 hinge-norm and a hinge in nats": lambda: (
        of(o.HingeNorm(gamma=1 / 4.0)),
        torch.relu(4.0 - (SCORES.gap() - SCORES.gap("reference"))) / 4.0,
    ),
    "14 hinge and SLiC": lambda: (of(o.Hinge(gamma=1 / 4.0)), of(o.Slic(delta=4.0, lam=0.0)) / 4.0),
    "15 RPO without likelihood": lambda: (of(o.Rpo(beta=BETA, eta=0.0)), of(DPO)),
    "15 Flex-DPO with one beta": lambda: (of(o.FlexDpo(beta_p=BETA, beta_n=BETA)), of(DPO)),
    "16 SimPO on equal lengths": lambda: (
        of(o.Simpo(beta=2.0, gamma=0.0), EVEN),
        of(o.Dpo(beta=2.0 / 4.0), EVEN),
    ),
    "17 CPO without likelihood": lambda: (
        of(o.Cpo(beta=BETA, alpha=0.0)),
        of(o.ReferenceFreeDpo(beta=BETA)),
    ),
    "17 reference-free DPO": lambda: (of(o.ReferenceFreeDpo(beta=BETA), EVEN), of(DPO, EVEN)),
    "18 IPO at the reference": lambda: (
        of(o.Ipo(tau=BETA), replace(SCORES, anchors={"reference": SCORES.logp.detach()})),
        torch.full((len(SCORES),), 1 / (4 * BETA**2), dtype=torch.float64),
    ),
}
ELSEWHERE = {
    6: "f_dpo_alpha's limits in the catalogue, evaluated by tests/contract",
    9: "below, as an inequality",
}
TO_COME = {
    7: "SparsePO reads tokens",
    8: "SparsePO and TDPO read tokens",
    11: "NPO reads single responses",
    12: "D2O reads groups of rejected responses",
}


@pytest.mark.parametrize("sides", IDENTITIES.values(), ids=IDENTITIES)
def test_identity(sides):
    left, right = sides()
    assert torch.allclose(left, right, rtol=1e-12, atol=1e-12)


def test_every_line_of_the_matrix_has_a_place():
    here = {int(name.split()[0]) for name in IDENTITIES}
    assert here | ELSEWHERE.keys() | TO_COME.keys() == set(range(1, 19))
    assert not here & TO_COME.keys()


@pytest.mark.parametrize("delta", [-1.5, 0.0, 0.7])
def test_9_bco_bounds_dpo_from_above_for_every_shift(delta):
    shifted = of(o.BcoPair(beta=BETA), shifted_reference(delta))
    assert bool((shifted >= of(DPO)).all())


AT_THE_REFERENCE = {
    "dpo": math.log(2),
    "cdpo": math.log(2),
    "rdpo": math.log(2),
    "f_dpo": math.log(2),
    "f_dpo_forward_kl": math.log(2),
    "f_dpo_js": math.log(2),
    "f_dpo_alpha": math.log(2),
    "rso_norm": math.log(2),
    "hinge_norm": 1.0,
    "nca_pair": 2 * math.log(2),
    "apo_zero": 1.0,
    "apo_down": 1.0,
    "bco_pair": 2 * math.log(2),
}


@pytest.mark.parametrize("name", AT_THE_REFERENCE)
def test_value_at_the_reference_is_the_published_constant(name):
    row = CATALOG[name]
    here = replace(SCORES, anchors={"reference": SCORES.logp.detach()})
    value = row.build()(here).value.tolist()
    assert value == pytest.approx([AT_THE_REFERENCE[name]] * len(SCORES), rel=1e-12)


@pytest.mark.parametrize("eta", [1.0, 10.0])
def test_value_of_sppo_hard_at_the_reference(eta):
    # 1/(2 beta^2) with beta = 1/eta
    here = replace(SCORES, anchors={"previous": SCORES.logp.detach()})
    assert o.SppoHard(eta=eta)(here).value.tolist() == pytest.approx([eta**2 / 2] * len(SCORES))


# gradient signs ----------------------------------------------------------------------------------

PAIR_ROWS = {
    name: row
    for family in (pairs, divergences, pointwise, reference_free)
    for name, row in family.ROWS.items()
    if name not in ("odpo", "wpo")  # they read more than a pair
}
REVERSING = {
    "cdpo": "past log((1 - e)/e)",
    "ipo": "past its target",
    "ipo_mean": "past its target",
    "exo_pair": "past log((1 - e)/e)",
    "nca_pair": "the chosen response's, past sigma(h0) = 2/3",
    "apo_down": "the chosen response's: it falls too",
    "discopop": "around margin 0",
}


def far_and_near(objective: Objective) -> Tensor:
    scores = drawn(rows=4000, scale=12.0)
    return torch.autograd.grad(objective(scores).value.sum(), scores.logp)[0]


@pytest.mark.parametrize("name", [n for n in PAIR_ROWS if n not in REVERSING])
def test_never_lowers_the_chosen_nor_raises_the_rejected_response(name):
    grad = far_and_near(PAIR_ROWS[name].build())
    assert bool((grad[:, 0] <= 0).all())
    assert bool((grad[:, 1] >= 0).all())


@pytest.mark.parametrize("name", REVERSING)
def test_the_losses_that_turn_back_do(name):
    beta = {"beta": 1.0} if "beta" in inspect.signature(PAIR_ROWS[name].build).parameters else {"tau": 0.5}
    grad = far_and_near(PAIR_ROWS[name].build(**beta))
    assert bool((grad[:, 0] > 0).any())


# labels, weights and target margins: what holds for every pair loss, however it is made -----------


@pytest.mark.parametrize("name", PAIR_ROWS)
def test_a_tie_pulls_both_orders_alike(name):
    """A tie is a soft label of one half; at equal scores neither response is preferred."""
    objective = PAIR_ROWS[name].build()
    same = torch.full((3, 2), -4.0, dtype=torch.float64, requires_grad=True)
    tie = Scores(
        logp=same,
        anchors=dict.fromkeys(objective.anchors, same.detach()),
        length=torch.full((3, 2), 5.0, dtype=torch.float64),
        prob=torch.full((3,), 0.5, dtype=torch.float64),
    )
    (grad,) = torch.autograd.grad(reduce.expected(objective, tie).value.sum(), same)
    assert torch.allclose(grad[:, 0], grad[:, 1], rtol=0, atol=1e-14)


def test_a_target_margin_is_a_shift_of_the_reference():
    """Any loss of the margin has a target: lower the reference's gap by offset/beta."""
    offset = 1.5
    moved = SCORES.of("reference") + torch.tensor([offset / BETA, 0.0], dtype=torch.float64)
    target = replace(SCORES, anchors={"reference": moved})
    assert torch.allclose(of(o.OffsetDpo(beta=BETA, offset=offset)), of(DPO, target), rtol=1e-12)
    assert torch.allclose(of(DPO, target), softplus(offset - MARGIN), rtol=1e-12)
