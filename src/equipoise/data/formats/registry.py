"""Every row format that `read` knows, by name; each file of this folder lists those of its kind."""

from __future__ import annotations

from equipoise.data.formats.format import Format
from equipoise.data.formats.layouts.comparisons import COMPARISONS
from equipoise.data.formats.layouts.demonstrations import DEMONSTRATIONS
from equipoise.data.formats.layouts.named_pairs import NAMED_PAIRS
from equipoise.data.formats.layouts.pairs import PAIRS
from equipoise.data.formats.layouts.prompts import PROMPTS
from equipoise.data.formats.layouts.ranked import RANKED
from equipoise.data.formats.layouts.rounds import ROUNDS
from equipoise.data.formats.layouts.trees import TREES
from equipoise.data.formats.layouts.unpaired import UNPAIRED

FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        *(*RANKED, *TREES, *PAIRS, *NAMED_PAIRS, *COMPARISONS, *ROUNDS, *UNPAIRED, *DEMONSTRATIONS, *PROMPTS),
    )
}
