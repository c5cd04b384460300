"""Every row format that `read` knows, by name; each file of this folder lists those of its kind."""

from __future__ import annotations

from equipoise.data.formats.comparisons import COMPARISONS
from equipoise.data.formats.demonstrations import DEMONSTRATIONS
from equipoise.data.formats.format import Format
from equipoise.data.formats.named_pairs import NAMED_PAIRS
from equipoise.data.formats.pairs import PAIRS
from equipoise.data.formats.prompts import PROMPTS
from equipoise.data.formats.ranked import RANKED
from equipoise.data.formats.rounds import ROUNDS
from equipoise.data.formats.trees import TREES
from equipoise.data.formats.unpaired import UNPAIRED

FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        *(*RANKED, *TREES, *PAIRS, *NAMED_PAIRS, *COMPARISONS, *ROUNDS, *UNPAIRED, *DEMONSTRATIONS, *PROMPTS),
    )
}
