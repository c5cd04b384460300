"""Exact finite preference games: responses are enumerated, so gaps and equilibria are exact."""

from equipoise.games import zoo
from equipoise.games.expectation import Comparisons, enumerate_data, enumerate_pairs, pairs, scores, triples
from equipoise.games.fit import NotConverged, minimise
from equipoise.games.gaps import gap0, gap_tau, kl, kl_to, win_rate
from equipoise.games.load import load_game
from equipoise.games.offline import PairData
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
    "enumerate_data",
    "enumerate_pairs",
    "gap0",
    "gap_tau",
    "kl",
    "kl_to",
    "load_game",
    "minimise",
    "mixture",
    "nash",
    "pairs",
    "regularised_nash",
    "rto_reward",
    "scores",
    "soft_optimum",
    "terminal_reward",
    "triples",
    "win_rate",
    "zoo",
]
