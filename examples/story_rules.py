"""Rules that judge short stories. A rule is a function of (prompt, response) -> score, higher is better;
two responses are compared by Bradley-Terry, P(a beats b) = sigmoid(score(a) - score(b)).

    equipoise align inpo --model MODEL --data stories.jsonl --oracle examples/story_rules.py:cheerful
"""

import gzip
import os
import re
from functools import lru_cache
from pathlib import Path

# Used when no lexicon file is named: a few words a young reader would know.
SMALL_LEXICON = {
    **dict.fromkeys(["happy", "love", "loved", "fun", "smiled", "laughed", "friend", "friends", "good"], 2.5),
    **dict.fromkeys(["nice", "pretty", "kind", "play", "played", "liked", "hug", "safe", "brave"], 1.8),
    **dict.fromkeys(["sad", "cried", "scared", "angry", "hurt", "lost", "bad", "mean", "afraid"], -2.0),
}


@lru_cache(maxsize=1)
def lexicon() -> dict[str, float]:
    """Word -> valence, from the file named by STORY_LEXICON (token, tab, valence, ...; .gz is fine)."""
    path = os.environ.get("STORY_LEXICON")
    if not path:
        return SMALL_LEXICON
    stored = Path(path).read_bytes()
    text = (gzip.decompress(stored) if path.endswith(".gz") else stored).decode("utf-8")
    cells = (line.split("\t") for line in text.splitlines())
    return {cell[0]: float(cell[1]) for cell in cells if len(cell) > 1}


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def cheerful(prompt: str, response: str) -> float:
    """Summed valence per root of the number of words: cheerful, without a reward for length alone."""
    found = words(response)
    return sum(lexicon().get(word, 0.0) for word in found) / max(1, len(found)) ** 0.5


def varied(prompt: str, response: str) -> float:
    """Share of distinct words among the last 40, times ten: stories that do not repeat themselves."""
    found = words(response)[-40:]
    return 10 * len(set(found)) / max(1, len(found))
