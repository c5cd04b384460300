"""Preference labels are sometimes wrong, and DPO pushes the margin of a mislabelled pair without end. cDPO,
conservative DPO (E. Mitchell's note, 2023), smooths the labels: with the assumed flip probability the optimal
margin is finite.
"""

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
