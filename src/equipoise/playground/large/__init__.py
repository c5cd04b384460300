"""The large tea house: a language game whose phenomena need games, votes and lengths to show, and its three models.

game = LargeTeaHouse("skewed")           # 128 requests x 972 answers, one of seven panels over one grammar
game.oracle()                            # P(a beats b | request) on strings, or votes on it
checkpoint_path("mid")                   # a folder that transformers loads: weak, mid or strong
enumerated_policy("mid")                 # its policy over all answers
answer_logps(model, prompts, trie)       # the same of any model, exact
"""

from equipoise.playground.large.enumerate import answer_logps, trie_of, trie_of_ids
from equipoise.playground.large.game import LargeTeaHouse
from equipoise.playground.large.models import CHECKPOINTS, checkpoint_path, enumerated_policy

__all__ = [
    "CHECKPOINTS",
    "LargeTeaHouse",
    "answer_logps",
    "checkpoint_path",
    "enumerated_policy",
    "trie_of",
    "trie_of_ids",
]
