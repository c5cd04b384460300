"""Gradient entanglement (2410.13828): inner products of two gradients say which log-probs of a pair will rise.

One pair at a time and a log-linear policy, so that nothing else moves it. With g_w, g_l the gradients of log pi(w) and
log pi(l), and d_w, d_l what a loss pulls at them, a small step moves

    log pi(w) by d_w |g_w|^2 + d_l <g_w, g_l>,    log pi(l) by d_w <g_w, g_l> + d_l |g_l|^2

(margin losses: d_w = -d_l, so that both fall where <g_w, g_l> > |g_w|^2). How far from the start does that hold?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Claim, Evidence, Scale, Table, verdict
from equipoise.claims.draws import torch_draws
from equipoise.claims.intervals import Mean, mean_of
from equipoise.core.objectives import Dpo, Ipo, Objective, Rpo, Sppo
from equipoise.core.scores import Scores

ARMS, FEATURES, W, L = 12, 16, 0, 1  # which responses are chosen and rejected is arbitrary
STRIDE, STEPS = 0.02, 400  # length of a step in theta, and how many
NEAR, FAR = 0.1, 1.0  # nats of margin where signs are looked at
RIGHT = 0.9  # share of signs predicted rightly
LOSSES: Mapping[str, Objective] = {
    "DPO": Dpo(beta=0.5),
    "IPO": Ipo(tau=0.1),
    "RPO": Rpo(beta=0.5, eta=0.1),
    "SPPO": Sppo(eta=4.0),
}
MARGIN = ("DPO", "IPO")  # losses of the margin alone
PLANS: Mapping[Scale, tuple[int, int]] = {"quick": (6, 60), "full": (20, 300)}  # seeds, pairs of each


@dataclass(frozen=True, eq=False)
class Moves:
    """[seeds, pairs, 2] of chosen and rejected log-prob.

    predicted    by inner products at the start, up to a factor.
    near, far    what has moved where the margin first is NEAR or FAR; NaN where it never is.
    """

    predicted: Array
    near: Array
    far: Array


def run(scale: Scale) -> Evidence:
    seeds, pairs = PLANS[scale]
    phi, reference = draw(seeds * pairs)
    return judge({name: follow(phi, reference, loss, (seeds, pairs, 2)) for name, loss in LOSSES.items()})


def draw(count: int) -> tuple[Tensor, Tensor]:
    """Features [N, A, D] and reference log-probs [N, A].

    The rejected response's features lie at a cosine from -1/2 to 1 to the chosen one's and are half to twice as long.
    """
    generator = torch_draws(0)
    phi = torch.randn(count, ARMS, FEATURES, generator=generator, dtype=torch.float64) / FEATURES**0.5
    cosine = 1.5 * torch.rand(count, 1, generator=generator, dtype=torch.float64) - 0.5
    length = 4 ** (torch.rand(count, 1, generator=generator, dtype=torch.float64) - 0.5)
    phi[:, L] = length * (cosine * phi[:, W] + (1 - cosine**2).sqrt() * phi[:, L])
    return phi, torch.randn(count, ARMS, generator=generator, dtype=torch.float64).log_softmax(dim=1)


def follow(phi: Tensor, reference: Tensor, loss: Objective, shape: tuple[int, int, int]) -> Moves:
    """Steps of one length down each pair's gradient."""
    start = reference[:, [W, L]]
    theta = torch.zeros(phi.shape[0], FEATURES, dtype=torch.float64)
    path, predicted = [], torch.zeros_like(start)
    for step in range(STEPS + 1):
        log_pi = (reference + torch.einsum("nad,nd->na", phi, theta)).log_softmax(dim=1)
        logp = log_pi[:, [W, L]].detach().requires_grad_(True)
        path.append(logp.detach() - start)
        rates = torch.tensor([1.0, 0.0], dtype=torch.float64).expand_as(
            logp
        )  # win rates, for a loss that reads them
        value = loss(Scores(logp=logp, anchors=dict.fromkeys(loss.anchors, start), reward=rates)).value
        (pull,) = torch.autograd.grad(-value.sum(), logp)  # d_w, d_l
        own = phi[:, [W, L]] - torch.einsum("na,nad->nd", log_pi.exp(), phi)[:, None]  # g_w, g_l
        if step == 0:
            predicted = torch.einsum("nk,nkd,njd->nj", pull, own, own)
        move = torch.einsum("nk,nkd->nd", pull, own)
        theta = (theta + STRIDE * move / move.norm(dim=1, keepdim=True).clamp(min=1e-9)).detach()
    along = torch.stack(path, dim=1).numpy()  # [N, STEPS + 1, 2]
    near, far = (_at(along, level) for level in (NEAR, FAR))
    return Moves(predicted.numpy().reshape(shape), near.reshape(shape), far.reshape(shape))


def _at(along: Array, level: float) -> Array:
    """[N, 2] where the margin first reaches this level, or NaN."""
    margin = along[..., 0] - along[..., 1]
    there: npt.NDArray[np.bool_] = np.asarray(margin >= level)
    found = along[np.arange(len(along)), there.argmax(axis=1)]
    reached: npt.NDArray[np.bool_] = np.any(there, axis=1, keepdims=True)
    return np.where(reached, found, np.nan)


def agree(predicted: Array, moved: Array) -> Array:
    """[seeds] share of pairs and sides whose sign was predicted, among those that get there."""
    known = np.isfinite(moved)
    return ((np.sign(predicted) == np.sign(moved)) & known).sum(axis=(1, 2)) / known.sum(axis=(1, 2))


def judge(found: Mapping[str, Moves]) -> Evidence:
    near = {name: mean_of(agree(m.predicted, m.near)) for name, m in found.items()}
    far = {name: mean_of(agree(m.predicted, m.far)) for name, m in found.items()}
    naive = np.array([1.0, -1.0])  # chosen rises, rejected falls
    more: dict[str, Mean] = {
        name: mean_of(agree(m.predicted, m.far) - agree(np.broadcast_to(naive, m.far.shape), m.far))
        for name, m in found.items()
    }
    rows = []
    for name, m in found.items():
        up = np.nanmean(np.where(np.isfinite(m.far), m.far > 0, np.nan), axis=(0, 1))
        rows.append((name, *near[name], *far[name], *more[name], float(up[0]), float(up[1])))
    told = ", ".join(f"{name} {far[name].value:.3f}" for name in found)
    close = ", ".join(f"{name} {near[name].value:.3f}" for name in found)
    return Evidence(
        verdict=verdict(
            all(far[name].low > RIGHT for name in MARGIN) and all(more[name].low > 0 for name in MARGIN),
            tuple(far[name].low > RIGHT for name in found if name not in MARGIN),
        ),
        summary=f"Signs predicted rightly from inner products at the start, where the margin is {FAR:g} nat: "
        f"{told}; where it is {NEAR:g}: {close}. More than by 'chosen rises, rejected falls', for DPO: "
        f"{more['DPO']}.",
        tables=(
            Table(
                f"share of signs predicted, {found['DPO'].far.shape[0]} seeds of {found['DPO'].far.shape[1]} "
                "pairs",
                (
                    *("loss", f"at {NEAR:g} nats", "from", "to", f"at {FAR:g} nat", "from", "to"),
                    *("more than naive", "from", "to", "chosen that rise", "rejected that rise"),
                ),
                tuple(rows),
            ),
        ),
    )


ENTANGLED = Claim(
    name="gradient_entanglement",
    sentence="Whether a pair loss raises or lowers the chosen and the rejected response is decided by the "
    "inner product of their gradients, against the norms.",
    paper="2410.13828",
    rule="Log-linear policies, a pair at a time, steps of one length down the loss's gradient; rejected "
    "responses at cosines from -1/2 to 1 to the chosen one. Heart: for DPO and IPO, the signs that the inner "
    f"products at the start predict are those of what has moved where the margin is {FAR:g} nat for over "
    f"{RIGHT:.0%} of pairs and sides (95 % interval over seeds), and for more than are predicted by 'chosen "
    f"rises, rejected falls' (paired interval above 0). Also: over {RIGHT:.0%} for RPO and SPPO, with what "
    "these pull at either side.",
    program=run,
)
