"""Who is right when nobody judges? What a policy says most often: clusters of its own responses (RLP-SPG)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import punctuation

Same = Callable[[str, str], bool]


def normalised(text: str) -> str:
    """Lower case, without punctuation, single spaces."""
    return " ".join(text.casefold().translate(str.maketrans("", "", punctuation)).split())


def same_text(a: str, b: str) -> bool:
    """Equal up to case, punctuation and space."""
    return normalised(a) == normalised(b)


def clusters(texts: Sequence[str], same: Same = same_text) -> list[list[int]]:
    """Indices of the texts that say the same, in the order in which they were first said.

    Each text joins the first cluster whose first member it equals. `same` should be symmetric: the paper asks
    an entailment model in both directions.
    """
    found: list[list[int]] = []
    for i, text in enumerate(texts):
        home = next((cluster for cluster in found if same(texts[cluster[0]], text)), None)
        if home is None:
            found.append([i])
        else:
            home.append(i)
    return found


def confident_pair(
    texts: Sequence[str], rewards: Sequence[float], confidence: float, same: Same = same_text
) -> tuple[int, list[int]] | None:
    """(preferred response, the responses it beats) out of n to one prompt, or None.

    The largest cluster (the first among equals) is kept if it holds a share of at least `confidence`; its member of
    highest reward is preferred to every response outside it. All the same or too much disagreement: None.

    Raises ValueError unless confidence lies in [0, 1]. Source: RLP-SPG of Lang et al. 2024 (2403.19279), which draws
    one of the responses outside.
    """
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must lie in [0, 1], got {confidence!r}")
    largest = max(clusters(texts, same), key=len)
    rest = [i for i in range(len(texts)) if i not in largest]
    if not rest or len(largest) < confidence * len(texts):
        return None
    return max(largest, key=lambda i: rewards[i]), rest
