"""Self-consistency labels without a judge: the most frequent answer among a policy's own responses (RLP-SPG)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import punctuation

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn.functional import normalize

Same = Callable[[str, str], bool]


def normalised(text: str) -> str:
    """The text in lower case, without punctuation, with single spaces."""
    return " ".join(text.casefold().translate(str.maketrans("", "", punctuation)).split())


def same_text(a: str, b: str) -> bool:
    """Equal up to case, punctuation and space."""
    return normalised(a) == normalised(b)


def same_meaning(texts: Sequence[str], vectors: Tensor, similarity: float) -> Same:
    """Equal, or of cosine similarity of at least `similarity` between the texts' embeddings, vectors [N, D].

    Only `texts` can be compared. A vector of zeros is similar to nothing. A contradiction in similar words passes for
    the same meaning.
    """
    unit = normalize(vectors.double(), dim=1)
    known = dict(zip(texts, unit, strict=True))
    return lambda a, b: a == b or float(known[a] @ known[b]) >= similarity


def same_by(texts: Sequence[str], table: npt.NDArray[np.bool_]) -> Same:
    """Equal, or said to mean the same by a table [K, K] over `texts`. Only these can be compared."""
    place = {text: k for k, text in enumerate(texts)}
    return lambda a, b: a == b or bool(table[place[a], place[b]])


def clusters(texts: Sequence[str], same: Same = same_text) -> list[list[int]]:
    """Clusters of equivalent texts, as lists of indices in the order of their first members.

    Each text joins the first cluster whose first member is the `same`. `same` should be symmetric: the paper asks
    an entailment model in both directions.
    """
    groups: list[list[int]] = []
    for i, text in enumerate(texts):
        home = next((group for group in groups if same(texts[group[0]], text)), None)
        if home is None:
            groups.append([i])
        else:
            home.append(i)
    return groups


def confident_pair(
    texts: Sequence[str], rewards: Sequence[float], confidence: float, same: Same = same_text
) -> tuple[int, list[int]] | None:
    """(preferred response, dispreferred responses) out of n responses to one prompt, or None.

    If the largest cluster (the first of equally large ones) holds a share of at least `confidence`, its member of
    highest reward is preferred to every response outside it. None if all responses agree or too few do.

    Raises ValueError unless confidence lies in [0, 1]. Source: RLP-SPG of Lang et al. 2024 (2403.19279), which draws
    one of the responses outside the cluster.
    """
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must lie in [0, 1], got {confidence!r}")
    largest = max(clusters(texts, same), key=len)
    rest = [i for i in range(len(texts)) if i not in largest]
    if not rest or len(largest) < confidence * len(texts):
        return None
    return max(largest, key=lambda i: rewards[i]), rest
