"""Recorded pairs contain flipped labels, and pairs that are already ordered still count. rDPO, robust DPO
(2403.00409), is an unbiased estimate of DPO's clean loss under a known flip rate; DPO with a target margin
(2402.10571) subtracts one constant offset from every margin.
"""

from dataclasses import replace

from equipoise.core.objectives import OffsetDpo, Rdpo
from equipoise.methods.dpo import DPO

RDPO = replace(
    DPO,
    name="rdpo",
    title="Robust DPO",
    paper="2403.00409",
    objective=Rdpo(beta=0.1, flip=0.1),
    playground={**DPO.playground, "objective.flip": 0.1},
    exact={"flip": 0.0},
    sources={**DPO.sources, "beta": "recalled", "flip": "recalled; the share of turned labels you expect"},
    notes="The share of turned labels is a setting, as in the paper; `equipoise oracle check` estimates it from "
    "labels and a calibrated oracle that did not learn from them (calibration.flip_rate). Not bounded below: with "
    "flips assumed it pushes confident pairs for ever, so keep to few epochs. Exact games have no flipped labels: "
    "there flip is 0, and it is DPO.",
)

DPO_OFFSET = replace(
    DPO,
    name="dpo_offset",
    title="DPO with a target margin",
    paper="2402.10571",
    confidence="recalled",
    objective=OffsetDpo(beta=0.1, offset=1.0),
    sources={**DPO.sources, "offset": "ours"},
)
