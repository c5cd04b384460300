"""Game analysis of a preference table: cycles, best-fitting reward model, equilibria."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from equipoise.core.dims import Payoff, PerPrompt, Strategy
from equipoise.games.gaps import gap0
from equipoise.games.nash_set import USED, nash_average, nash_range
from equipoise.games.preference import TOLERANCE, PreferenceGame
from equipoise.games.skew import BradleyTerry, fit_bradley_terry, fit_general_preference, schur_embedding
from equipoise.games.solve import nash, regularised_nash
from equipoise.games.verdicts import Verdicts, pool

Beats = Bool[Tensor, "X A A"]
TAUS = (1.0, 0.1, 0.01)
PLANES = 3  # maximal number of planes that an analysis fits
RIDGE = 1e-5  # of the general preference model if a label is 0 or 1


def beats(prob: Payoff) -> Beats:
    """Whether P(y > y') > 1/2 (by more than 1e-9); for a pair without comparisons (NaN) neither beats the other."""
    return prob > 0.5 + TOLERANCE


def three_cycles(wins: Beats) -> PerPrompt:
    """Number of strict 3-cycles of each table, a > b > c > a counted once: trace(B^3)/3."""
    return _traces(wins) / 3


def decided_triples(wins: Beats) -> PerPrompt:
    """Number of triples without ties, which are either transitive or a cycle."""
    return _traces(wins | wins.mT) / 6


def condorcet(wins: Beats) -> list[int | None]:
    """Condorcet winner of each table: the response that beats every other one, if there is one."""
    sure = (wins | torch.eye(wins.shape[1], dtype=torch.bool)).all(dim=2)
    return [int(row.double().argmax()) if bool(row.any()) else None for row in sure]


def borda(prob: Payoff) -> Strategy:
    """Borda score: mean probability of beating another response, [X, A]."""
    return (prob.sum(dim=2) - 0.5) / max(prob.shape[1] - 1, 1)


def copeland(wins: Beats) -> Strategy:
    """Copeland score: number of responses beaten minus number of responses that beat it, [X, A]."""
    return (wins.double() - wins.mT.double()).sum(dim=2)


def curl(flow: Payoff) -> PerPrompt:
    """Curl (cyclic part): fraction of an antisymmetric flow that no reward explains, in [0, 1]; 0 for a zero flow.

        || flow_ij - (r_i - r_j) ||^2 / || flow ||^2,    r_i = mean_j flow_ij, the best r in least squares

    On a complete graph the residual consists of 3-cycles only (Jiang et al. 2011, 0811.1067). With flow =
    logit P it is 0 exactly for Bradley-Terry; P - 1/2 is finite for every game, but its residual is not 0 even for
    Bradley-Terry.
    """
    reward = flow.mean(dim=2)
    left = flow - reward.unsqueeze(2) + reward.unsqueeze(1)
    total = flow.square().sum(dim=(1, 2))
    return torch.where(total > 0, left.square().sum(dim=(1, 2)) / total, torch.zeros_like(total))


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Goodness of fit of a model of the table, over pairs of different responses.

    planes      0 for Bradley-Terry, k for a general preference model of k planes
    mean, worst |P - model|
    accuracy    fraction of decided pairs with the winner predicted; a prediction of 1/2 counts half; None if all
                pairs tie
    """

    planes: int
    mean: float
    worst: float
    accuracy: float | None


def fit_of(planes: int, model: Payoff, prob: Payoff) -> Fit:
    """Errors of a model [1, A, A] of the table [1, A, A]."""
    off = torch.triu(torch.ones_like(prob), diagonal=1) > 0
    error = (model - prob).abs()[off]
    decided = off & (beats(prob) | beats(prob).mT)
    says = beats(model) | beats(model).mT
    right = torch.where(says, (beats(model) == beats(prob)).double(), 0.5)
    return Fit(
        planes=planes,
        mean=float(error.mean()),
        worst=float(error.max()),
        accuracy=float(right[decided].mean()) if bool(decided.any()) else None,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """Analysis of a game of one prompt and A responses; [A] fields are in the order of `game.names[0]`.

    triples, decided, cycles    all triples, those without a tie, and those that are strict 3-cycles
    curl_margin, curl_logit     see `curl`, of P - 1/2 and of logit P (None if a label is 0 or 1)
    margin_planes, logit_planes strengths of the planes of both, strongest first: see `schur_embedding`
    fits                        Bradley-Terry, then general preference models of 1, 2, .. planes
    ridge                       of the general preference models: 0 unless a label is 0 or 1
    nash, low, high, average    a Nash policy, the range of each probability over all of them, the one of maximal
                                entropy
    regularised                 (tau, the tau-regularised Nash policy, its gap in the unregularised game)
    """

    game: PreferenceGame
    triples: int
    decided: int
    cycles: int
    condorcet: int | None
    borda: Tensor
    copeland: Tensor
    curl_margin: float
    curl_logit: float | None
    margin_planes: Tensor
    logit_planes: Tensor | None
    bradley_terry: BradleyTerry
    fits: tuple[Fit, ...]
    ridge: float
    nash: Tensor
    gap: float
    low: Tensor
    high: Tensor
    average: Tensor
    regularised: tuple[tuple[float, Tensor, float], ...]

    @property
    def unique(self) -> bool:
        """Whether the Nash policy is unique, up to 1e-7."""
        return float((self.high - self.low).max()) < USED

    @property
    def order(self) -> list[int]:
        """Responses by their Nash average, then by level and strength of the Bradley-Terry fit, best first."""
        level, strength = self.bradley_terry.level[0].tolist(), self.bradley_terry.strength[0].tolist()
        weight = self.average.round(decimals=9).tolist()
        return sorted(range(len(weight)), key=lambda i: (-weight[i], -level[i], -strength[i]))


def analyse(game: PreferenceGame, taus: Sequence[float] = TAUS, planes: int = PLANES) -> Analysis:
    """Full analysis of a game of one prompt.

    taus, planes    KL weights of the regularised Nash policies, and maximal number of planes (see `Analysis`).

    Raises ValueError for several prompts or a single response.
    """
    if game.actions < 2:
        raise ValueError("a game needs at least two responses per prompt, got one")
    bounds = nash_range(game)
    prob, wins = game.preference, beats(game.preference)
    certain = bool(((prob == 0) | (prob == 1)).any())
    ridge = RIDGE if certain else 0.0
    reward = fit_bradley_terry(prob)
    logit = None if certain else torch.logit(prob)
    fits = [fit_of(0, reward.prob(), prob)]
    fits += [
        fit_of(k, fit_general_preference(prob[0], k, ridge=ridge).prob().unsqueeze(0), prob)
        for k in range(1, min(planes, game.actions // 2) + 1)
    ]
    policy = nash(game)
    policies = [(tau, regularised_nash(game, tau)) for tau in taus]
    size = game.actions
    return Analysis(
        game=game,
        triples=size * (size - 1) * (size - 2) // 6,
        decided=int(decided_triples(wins)),
        cycles=int(three_cycles(wins)),
        condorcet=condorcet(wins)[0],
        borda=borda(prob)[0],
        copeland=copeland(wins)[0],
        curl_margin=float(curl(prob - 0.5)),
        curl_logit=None if logit is None else float(curl(logit)),
        margin_planes=schur_embedding(prob[0] - 0.5)[1],
        logit_planes=None if logit is None else schur_embedding(logit[0])[1],
        bradley_terry=reward,
        fits=tuple(fits),
        ridge=ridge,
        nash=policy.probs()[0],
        gap=float(gap0(game, policy)),
        low=bounds[0],
        high=bounds[1],
        average=nash_average(game, bounds).probs()[0],
        regularised=tuple((tau, p.probs()[0], float(gap0(game, p))) for tau, p in policies),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Bootstrap:
    """Bootstrap percentile intervals over resampled prompts; [2, ...]: the 2.5 % and the 97.5 % points.

    resamples, left_out    samples drawn, and those dropped because some pair had no verdict
    condorcet              [A] fraction of samples with each response as the Condorcet winner
    cycles                 [2]; `cyclic` is the fraction of samples with at least one 3-cycle
    curl_margin, error     [2] see `Analysis.curl_margin` and the mean error of the Bradley-Terry fit
    borda, average         [2, A] Borda score and Nash average
    """

    resamples: int
    left_out: int
    condorcet: Tensor
    cyclic: float
    cycles: Tensor
    curl_margin: Tensor
    error: Tensor
    borda: Tensor
    average: Tensor


def bootstrap(verdicts: Verdicts, resamples: int, seed: int = 0) -> Bootstrap:
    """Bootstrap over prompts: draw them with replacement, pool each sample (`Verdicts.pooled`), repeat the analysis.

    Prompts are the independent unit: verdicts on one prompt may depend on each other in any way. The same
    seed gives the same intervals. A sample's Nash average is unique even if its equilibria are not.

    Raises ValueError for fewer than two prompts or resamples, for prompts that compare different responses,
    or if every sample was left out.
    """
    prompts = len(verdicts.prompt_names)
    if prompts < 2 or resamples < 2:
        raise ValueError(
            f"a bootstrap needs at least two prompts and two resamples, got {prompts} and {resamples}"
        )
    verdicts.pooled()  # raises if the prompts cannot be pooled
    uniform = torch.full((resamples, prompts), 1 / prompts, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(uniform, prompts, replacement=True, generator=generator)
    times = torch.zeros_like(uniform).scatter_add_(1, drawn, torch.ones_like(uniform))
    tables = pool(verdicts, times)
    tables = tables[~tables.isnan().any(dim=2).any(dim=1)]
    if not len(tables):
        raise ValueError("no resample of the prompts has a verdict on every pair; add verdicts")
    wins = beats(tables)
    cycles = three_cycles(wins)
    off = ~torch.eye(tables.shape[1], dtype=torch.bool)
    champions = torch.tensor([-1 if winner is None else winner for winner in condorcet(wins)])
    averages = torch.stack([_average(table) for table in tables])
    return Bootstrap(
        resamples=resamples,
        left_out=resamples - len(tables),
        condorcet=(champions.unsqueeze(1) == torch.arange(tables.shape[1])).double().mean(dim=0),
        cyclic=float((cycles > 0).double().mean()),
        cycles=_interval(cycles),
        curl_margin=_interval(curl(tables - 0.5)),
        error=_interval((fit_bradley_terry(tables).prob() - tables).abs()[:, off].mean(dim=1)),
        borda=_interval(borda(tables)),
        average=_interval(averages),
    )


def _average(table: Float[Tensor, "A A"]) -> Tensor:
    return nash_average(PreferenceGame(table)).probs()[0]


def _interval(values: Tensor) -> Tensor:
    return torch.quantile(values, torch.tensor([0.025, 0.975], dtype=values.dtype), dim=0)


def _traces(edges: Beats) -> PerPrompt:
    """Number of closed walks of three steps."""
    graph = edges.double()
    return torch.einsum("xab,xbc,xca->x", graph, graph, graph)
