"""Closed-form update steps of the tabular methods, all special cases of one mirror step.

Every step takes and returns a `TabularPolicy`. "~" means proportional to, normalised over y for each prompt. `eta`
is an inverse step size in INPO and DNO and a step size everywhere else, as in the papers.
"""

from __future__ import annotations

import torch

from equipoise.core.dims import Strategy
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy


def mirror_step(
    policy: TabularPolicy,
    payoff: Strategy,
    *,
    step: float,
    magnet: TabularPolicy | None = None,
    pull: float = 0.0,
) -> TabularPolicy:
    """Mirror-descent step pi_next ~ pi^(1 - pull) * magnet^pull * exp(step * payoff).

    payoff    [X, A]; adding c(x) changes nothing.
    pull      in [0, 1], weight of the magnet (a policy; required if pull > 0).
    """
    if pull and magnet is None:
        raise ValueError("pull > 0 needs a magnet")
    base = policy.geometric(magnet, pull) if magnet is not None else policy
    return TabularPolicy(base.log_probs() + step * payoff)


def best_response(game: PreferenceGame, policy: TabularPolicy, tau: float | None = None) -> TabularPolicy:
    """Best response to `policy`: ref exp(P(y > pi)/tau)/Z, or for tau None the first argmax of P(y > pi).

    With `policy` = the data distribution mu this is also the population optimum of IPO (see `ipo_optimum`).
    """
    win = game.win(policy)
    if tau is not None:
        return mirror_step(game.initial(), win, step=1 / tau)
    choice = torch.nn.functional.one_hot(win.argmax(dim=1), game.actions).to(win.dtype)
    return TabularPolicy.from_probs(choice)


def inpo_step(game: PreferenceGame, policy: TabularPolicy, *, eta: float, tau: float) -> TabularPolicy:
    """INPO: pi_next ~ exp(P(y > pi)/eta) ref^(tau/eta) pi^(1 - tau/eta), eta an INVERSE step.

    Needs 0 <= tau <= eta. Its fixed point is the tau-regularised Nash policy for every eta.
    Source: Zhang et al. 2024 (2407.00617).
    """
    if not 0 <= tau <= eta:
        raise ValueError(f"INPO needs 0 <= tau <= eta, got tau={tau!r}, eta={eta!r}")
    return mirror_step(policy, game.win(policy), step=1 / eta, magnet=game.initial(), pull=tau / eta)


def dno_step(game: PreferenceGame, policy: TabularPolicy, *, eta: float) -> TabularPolicy:
    """DNO: pi_next ~ pi exp(P(y > pi)/eta), eta an INVERSE step: INPO without a reference (2404.03715)."""
    return inpo_step(game, policy, eta=eta, tau=0.0)


def mwu_step(game: PreferenceGame, policy: TabularPolicy, *, eta: float) -> TabularPolicy:
    """Multiplicative weights in self-play, the target of SPPO and SPO: pi_next ~ pi exp(eta P(y > pi))."""
    return mirror_step(policy, game.win(policy), step=eta)


def nash_md_step(game: PreferenceGame, policy: TabularPolicy, *, eta: float, tau: float) -> TabularPolicy:
    """Nash-MD: mix ~ pi^(1 - eta tau) ref^(eta tau); pi_next ~ mix exp(eta P(y > mix)) (2312.00886).

    With a constant step the limit is NOT the regularised Nash policy but differs from it by O(eta^2) in KL.
    """
    mix = policy.geometric(game.initial(), eta * tau)
    return mirror_step(mix, game.win(mix), step=eta)


def egpo_step(
    game: PreferenceGame, policy: TabularPolicy, *, eta: float, beta: float
) -> tuple[TabularPolicy, TabularPolicy]:
    """Extragradient step (EGPO), twice from the same anchor: (half, full) (2503.08942).

    half ~ pi^(1 - eta beta) ref^(eta beta) exp(eta P(y > pi)),  full the same with opponent half
    """
    reference, pull = game.initial(), eta * beta
    half = mirror_step(policy, game.win(policy), step=eta, magnet=reference, pull=pull)
    return half, mirror_step(policy, game.win(half), step=eta, magnet=reference, pull=pull)


def mmd_step(
    game: PreferenceGame, policy: TabularPolicy, magnet: TabularPolicy, *, eta: float, alpha: float
) -> TabularPolicy:
    """Magnetic mirror descent, the step of MPO (2410.16714).

    pi_next ~ [ pi magnet^(eta alpha) exp(eta P(y > pi)) ]^(1/(1 + eta alpha))
    """
    scale = 1 + eta * alpha
    return mirror_step(policy, game.win(policy), step=eta / scale, magnet=magnet, pull=eta * alpha / scale)


def onpo_step(
    game: PreferenceGame, lazy: TabularPolicy, policy: TabularPolicy, *, eta: float
) -> tuple[TabularPolicy, TabularPolicy]:
    """Optimistic mirror descent (ONPO): (lazy', pi_next) from (lazy, pi), both initialised to the reference.

    lazy' ~ lazy exp(eta P(y > pi)),   pi_next ~ lazy' exp(eta P(y > pi))

    Source: Zhang et al. 2025 (2502.16852).
    """
    win = game.win(policy)
    lazy = mirror_step(lazy, win, step=eta)
    return lazy, mirror_step(lazy, win, step=eta)


def gpo_step(game: PreferenceGame, policy: TabularPolicy, *, eta: float) -> TabularPolicy:
    """GPO on the score s = logit P: pi_next ~ pi exp(eta E_{y'~pi} s(y, y')).

    Raises ValueError if P has a 0 or a 1.
    """
    score = torch.logit(game.preference)
    if not bool(score.isfinite().all()):
        raise ValueError(
            "logit(P) is infinite: this game has a certain preference, P = 0 or 1; GPO needs 0 < P < 1"
        )
    return mirror_step(policy, torch.einsum("xab,xb->xa", score, policy.probs()), step=eta)


def ipo_optimum(game: PreferenceGame, mu: TabularPolicy, tau: float) -> TabularPolicy:
    """Population minimiser of IPO on pairs i.i.d. from a full-support mu: the best response to mu at tau."""
    return best_response(game, mu, tau)


def dpo_optimum(reference: TabularPolicy, reward: Strategy, beta: float) -> TabularPolicy:
    """Population minimiser of DPO, Bradley-Terry labels with `reward`, full support: ref exp(r/beta)/Z."""
    return mirror_step(reference, reward, step=1 / beta)


def spac_saddle(winner: Strategy, loser: Strategy, lam: float) -> TabularPolicy:
    """Interior saddle point of SPAC-T: pi(y) = [ (1 + lam) w(y) + (1 - lam) l(y) ]/2, its critic constant.

    winner, loser    [X, A] fraction of pairs that y wins (loses); `PairData.winner` and `.loser`.
    lam              weight of the preference loss relative to the pessimism.

    lam = 0 imitates the data, lam = 1 gives the empirical distribution of winners. Raises ValueError if
    the formula leaves the simplex (only possible for lam > 1): there the saddle lies on the boundary.
    DERIVED: stationarity of the critic at f = const is pi - mu = lam (w - l)/2.
    """
    probs = ((1 + lam) * winner + (1 - lam) * loser) / 2
    if bool((probs < 0).any()):
        raise ValueError(
            f"lam = {lam!r} puts the saddle point outside the simplex (least entry {float(probs.min()):g}); lower lam"
        )
    return TabularPolicy.from_probs(probs)
