"""Exact finite preference games: every response can be enumerated, so gaps and equilibria are exact.

Exported here, for your own experiments and as the truths that learned policies are tested against:

games        `PreferenceGame`, `load_game`, the named games of `zoo`; `TabularPolicy`, `mixture`.
equilibria   `nash`, `regularised_nash`, `best_response`; `gap0`, `gap_tau`, `kl`, `kl_to`, `win_rate`.
closed forms one exact step of each tabular method (`inpo_step`, `egpo_step`, ...) and the population minimisers of DPO
             and IPO (`dpo_optimum`, `ipo_optimum`) and SPAC (`spac_saddle`).
losses       `pairs`, `triples`, `enumerate_pairs`, `scores`: any core objective in exact expectation, and `minimise`.
recorded     `PairData`, and `concentrability`, how well such data cover a policy.
tokens       `TokenTree`, `TokenPolicy`: responses of several tokens; `soft_optimum`, `rto_reward`: token rewards.

Not imported with the package: `games.regret` (online learners such as `Ftrl` and `PerturbedLeader`, external and
dynamic regret), `games.no_regret` (sequence models trained to have none), `games.spac_t` and `games.srpo` (the players
of SPAC's and SRPO's theory, and the values of their games), `games.analyse`, `games.skew`, `games.verdicts`.
"""

from equipoise.games import zoo
from equipoise.games.closed_form import (
    dno_step,
    dpo_optimum,
    egpo_step,
    gpo_step,
    inpo_step,
    ipo_optimum,
    mirror_step,
    mmd_step,
    mwu_step,
    nash_md_step,
    onpo_step,
    spac_saddle,
)
from equipoise.games.expectation import Comparisons, enumerate_data, enumerate_pairs, pairs, scores, triples
from equipoise.games.fit import NotConverged, minimise
from equipoise.games.gaps import gap0, gap_tau, kl, kl_to, win_rate
from equipoise.games.load import load_game
from equipoise.games.offline import PairData, concentrability
from equipoise.games.preference import PreferenceGame
from equipoise.games.solve import best_response, nash, regularised_nash
from equipoise.games.tabular import TabularPolicy, mixture
from equipoise.games.token_mdp import SoftOptimum, rto_reward, soft_optimum, terminal_reward
from equipoise.games.tokens import TokenPolicy, TokenTree

__all__ = [
    "Comparisons",
    "NotConverged",
    "PairData",
    "PreferenceGame",
    "SoftOptimum",
    "TabularPolicy",
    "TokenPolicy",
    "TokenTree",
    "best_response",
    "concentrability",
    "dno_step",
    "dpo_optimum",
    "egpo_step",
    "enumerate_data",
    "enumerate_pairs",
    "gap0",
    "gap_tau",
    "gpo_step",
    "inpo_step",
    "ipo_optimum",
    "kl",
    "kl_to",
    "load_game",
    "minimise",
    "mirror_step",
    "mixture",
    "mmd_step",
    "mwu_step",
    "nash",
    "nash_md_step",
    "onpo_step",
    "pairs",
    "regularised_nash",
    "rto_reward",
    "scores",
    "soft_optimum",
    "spac_saddle",
    "terminal_reward",
    "triples",
    "win_rate",
    "zoo",
]
