"""Preferences may be cyclic, and plain self-play against the current policy then circles. Nash-MD, Nash
learning from human feedback (2312.00886), takes a mirror-descent step against, and from, a mixture of the
policy with the reference, and its last iterate converges to the regularised Nash policy; Nash-MD-PG and
Nash-EMA-PG are its policy-gradient forms, the second against a moving average.

The tabular update as a regression is DERIVED; the paper trains language models with the policy gradients.
"""

from dataclasses import replace

from equipoise.core.objectives import NashMd, Rloo
from equipoise.games.closed_form import nash_md_step
from equipoise.methods.sources import OURS, SHORT_ROUNDS, of
from equipoise.methods.tiny import MANY_STEPS, PAIR_ROUNDS
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import Pairs, Scored, ScoredByMixture
from equipoise.play.players.sampled import Mixed, Self
from equipoise.play.state import AVERAGE, INITIAL, START
from equipoise.play.updates.basic import Averaged, Descend, Refit

NASH_MD = Method(
    name="nash_md",
    title="Nash-MD",
    paper="2312.00886",
    confidence="paper's text",
    players=Mixed(samples=8, mixture=0.008),  # eta tau, see `derived`
    pairing=Pairs(),
    objective=NashMd(eta=1.0, tau=0.008),
    anchors={"reference": INITIAL, "previous": START},
    update=Refit(),
    rounds=3,
    train={"batch": 128},
    playground={**PAIR_ROUNDS, "train.eps": 1e-2, "objective.eta": 5.0, "objective.tau": 0.05},
    exact={"eta": 0.5, "tau": 0.1},
    closed_form=lambda game, state, m: nash_md_step(
        game, state.policies[START], eta=m.parameters()["eta"], tau=m.parameters()["tau"]
    ),
    in_theory=(Mixed(samples=2), Pairs()),
    derived={"mixture": lambda p: p["eta"] * p["tau"]},
    kl_weight="tau",
    sources={
        **of(OURS, "eta samples rounds batch"),
        "tau": "paper's text, for its policy gradient; swept over 0.005 to 0.02",
        "mixture": "paper's text: eta tau",
    },
)

NASH_MD_PG = Method(
    name="nash_md_pg",
    title="Nash-MD-PG",
    paper="2312.00886",
    confidence="paper's text",
    players=Self(samples=2),
    pairing=ScoredByMixture(mixture=0.125, opponents=2),
    objective=Rloo(tau=0.008),
    anchors={"reference": INITIAL},
    update=Descend(rate=0.1),
    rounds=100,
    train={"batch": 32, "schedule": "constant", "warmup": 0.0},
    playground={**MANY_STEPS, "train.eps": 3e-3, "objective.tau": 0.05, "play.samples": 8},
    exact={"tau": 0.1},
    in_theory=(Self(samples=2), ScoredByMixture()),
    kl_weight="tau",
    sources={
        **SHORT_ROUNDS,
        "tau": "paper's text; swept over 0.005 to 0.02",
        "mixture": "paper's text: 0.125 to 0.375 were best",
        "samples": OURS,
    },
    notes="The baseline is the mean of the prompt's other samples; the paper subtracts the constant 1/2, with the same "
    "expected gradient. As the policy leaves the reference, rewards less their KL charge fall below 1/2, and with "
    "the constant all samples were pushed down: two runs of three left the playground's grammar.",
)

NASH_EMA_PG = replace(
    NASH_MD_PG,
    name="nash_ema_pg",
    title="Nash-EMA-PG",
    pairing=Scored(against=AVERAGE, opponents=2),
    update=Averaged(base=Descend(rate=0.1), decay=0.999),
    playground={**NASH_MD_PG.playground, "objective.decay": 0.9},
    exact={"tau": 0.1, "decay": 0.9},
    in_theory=(Self(samples=2), Scored(against=AVERAGE, opponents=1)),
    sources={
        **NASH_MD_PG.sources,
        "decay": "paper's text; also 0.9995",
    },
)
