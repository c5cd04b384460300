"""cDPO (E. Mitchell's note, 2023): DPO with smoothed labels."""

from dataclasses import replace

from equipoise.core.objectives import Cdpo
from equipoise.methods.dpo import DPO

CDPO = replace(
    DPO,
    name="cdpo",
    title="Conservative DPO",
    paper="",
    objective=Cdpo(beta=0.1, smoothing=0.1),
    sources={
        **DPO.sources,
        "smoothing": "ours; libraries differ, HALOs take 0.2",
    },
)
