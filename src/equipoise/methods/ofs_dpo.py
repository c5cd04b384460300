"""Preference data arrive as a stream whose domain changes, and a policy trained on the newest part forgets the
earlier ones. OFS-DPO (2406.05534) trains a fast and a slow policy that chase each other through the stream;
COFS-DPO also combines the policies of several domains.
"""

from dataclasses import replace

from equipoise.core.objectives import FastSlowDpo
from equipoise.methods.sources import NOT_RECOVERED, OURS, SHORT_ROUNDS, of
from equipoise.methods.tiny import MANY_STEPS
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.players.by_domain import ByDomain
from equipoise.play.players.recorded import Recorded
from equipoise.play.state import INITIAL, SLOW
from equipoise.play.updates.fast_slow import CrossDomainFastSlow, FastSlow

OFS_DPO = Method(
    name="ofs_dpo",
    title="Online Fast-Slow chasing DPO",
    paper="2406.05534",
    confidence="derived",
    players=Recorded(parts=20),
    pairing=AsRecorded(),
    objective=FastSlowDpo(beta=0.1, chase=0.1),
    anchors={"reference": INITIAL, "rival": SLOW},
    update=FastSlow(rate=1.0, speed=0.5),
    rounds=20,
    train={"batch": 64, "schedule": "constant", "warmup": 0.0},
    playground={**MANY_STEPS, "objective.beta": 0.5},
    exact={"beta": 0.5, "parts": 1},
    sources={
        **SHORT_ROUNDS,
        **of(NOT_RECOVERED, "beta chase speed"),
        "parts": OURS,
    },
    evidence=("tests/play/test_fast_slow.py",),
    notes="The losses were read in a third party's code; beta, chase, the two learning rates and how often the roles "
    "change were not recovered. Rival and reference are scored at the start of a round. Full weights or LoRA.",
)

COFS_DPO = replace(
    OFS_DPO,
    name="cofs_dpo",
    title="Cross-domain Online Fast-Slow chasing DPO",
    players=ByDomain(stay=20, parts=20),
    update=CrossDomainFastSlow(base=FastSlow(rate=1.0, speed=0.5), stay=20, recall=64),
    rounds=40,
    playground={
        **MANY_STEPS,
        "objective.beta": 0.5,
        "objective.stay": 15,
        "objective.parts": 15,
        "play.rounds": 30,
        "train.lr": 5e-4,
    },
    exact={"beta": 0.5, "stay": 10, "parts": 1, "recall": 1000},
    sources={
        **OFS_DPO.sources,
        **of(NOT_RECOVERED, "stay recall"),
    },
    notes=f"{OFS_DPO.notes} Domains are the data files in their order (--data a --data b); set rounds to stay times "
    "their number. That weights are chosen on a small memory of earlier domains is recalled; choosing one weight per "
    "domain and going on from the combination are ours. LoRA adapters are combined by their products B A, cut to "
    "the adapter's rank: give it room for several domains (model.lora_rank).",
)
