"""Iterative DPO is a proximal-point method and converges slowly. APO, accelerated preference optimisation
(2410.06293), adds Nesterov's momentum: after each fit it extrapolates the parameters along the last change. The
core is RECALLED.
"""

from dataclasses import replace

from equipoise.methods.online_dpo import ITERATIVE_DPO
from equipoise.play.updates.basic import Extrapolated

APO = replace(
    ITERATIVE_DPO,
    name="apo",
    title="Accelerated Preference Optimization",
    paper="2410.06293",
    update=Extrapolated(alpha=0.3),
    playground={**ITERATIVE_DPO.playground, "train.eps": 1e-2},
    sources={
        **ITERATIVE_DPO.sources,
        "alpha": "recalled",
        "rounds": "recalled",
    },
    evidence=("tests/play/test_updates.py",),
)
