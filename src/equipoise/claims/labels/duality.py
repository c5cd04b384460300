"""Utility-probability duality (2305.14859): maximum likelihood is preference learning, an identity of gradients."""

from __future__ import annotations

import torch

from equipoise.claims.claim import Claim, Evidence, Scale, Table, verdict
from equipoise.claims.draws import torch_draws
from equipoise.core.margins.duality import preference_gradient

ROUNDING = 1e-12


def identity(scale: Scale) -> Evidence:
    rows, labels, features = {"quick": (50, 6, 4), "full": (2000, 12, 20)}[scale]
    generator = torch_draws(2305)
    x = torch.randn(rows, features, dtype=torch.float64, generator=generator)
    y = torch.randint(labels, (rows,), generator=generator)
    weights = torch.randn(features, labels, dtype=torch.float64, generator=generator).requires_grad_()
    (x @ weights).log_softmax(dim=1).gather(1, y[:, None]).sum().backward()
    assert weights.grad is not None
    u = (x @ weights).detach()
    ours = x.T @ preference_gradient(u, y)
    error = float((ours - weights.grad).abs().max() / weights.grad.abs().max())
    belief = u.softmax(dim=1).gather(1, y[:, None])[:, 0]
    pull = preference_gradient(u, y).gather(1, y[:, None])[:, 0]
    mass = float((pull - (1 - belief)).abs().max())
    shift = torch.randn(rows, 1, dtype=torch.float64, generator=generator)
    moved = float((preference_gradient(u + shift, y) - preference_gradient(u, y)).abs().max())
    return judge(error, mass, moved)


def judge(error: float, mass: float, moved: float) -> Evidence:
    """The verdict on the largest errors of the identity and its two consequences."""
    return Evidence(
        verdict=verdict(error < ROUNDING, (mass < ROUNDING, moved < ROUNDING)),
        summary=f"The two gradients of a linear softmax model differ by {error:.1e} of the largest entry.",
        tables=(
            Table(
                "largest errors",
                ("identity", "error"),
                (
                    ("grad log pi(y) = sum over y' of pi(y') (grad u(y) - grad u(y')), relative", error),
                    ("the alternatives' weights add up to 1 - pi(y)", mass),
                    ("a function of x added to the utilities changes nothing", moved),
                ),
            ),
        ),
    )


IDENTITY = Claim(
    name="duality_identity",
    sentence="Maximum likelihood of a softmax model is learning of preferences: its gradient prefers the label to "
    "every alternative, weighted by the model's own belief in it.",
    paper="2305.14859",
    rule="A linear softmax model with random data, in double precision. Heart: the gradient of the log-likelihood by "
    f"autograd is the belief-weighted sum of preferences, to {ROUNDING:g} of its largest entry. Also: the weights of "
    "the alternatives add up to 1 - pi(y), and a function of x added to the utilities changes nothing.",
    program=identity,
)
