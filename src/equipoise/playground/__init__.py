"""The playground: a language game with a known oracle, and the tiny transformer that ships with it.

game = LanguageGame()                    # 96 prompts x 24 responses, a panel of judges with cycles
oracle = game.oracle()                   # P(a beats b | prompt) on strings
model_path()                             # a folder that transformers loads
pairs(game, 2000, reference=reference_policy())     # recorded preference pairs on demand
"""

from equipoise.playground.language import GameOracle, LanguageGame
from equipoise.playground.offline import lists, pairs, write_lists, write_pairs
from equipoise.playground.reference import load_model, model_path, reference_policy, response_logprob

__all__ = [
    "GameOracle",
    "LanguageGame",
    "lists",
    "load_model",
    "model_path",
    "pairs",
    "reference_policy",
    "response_logprob",
    "write_lists",
    "write_pairs",
]
