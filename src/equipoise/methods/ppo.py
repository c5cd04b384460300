"""A reward for a whole response says little about which tokens earned it, and large policy-gradient steps on
old samples are unstable. PPO, proximal policy optimization (1707.06347; for language models 2406.09279),
computes token-level advantages with a critic and clips the importance ratio.
"""

from equipoise.core.objectives import Ppo
from equipoise.methods.sources import OURS, SHORT_ROUNDS, of
from equipoise.methods.tiny import MANY_STEPS
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import Scored
from equipoise.play.players.sampled import Self
from equipoise.play.state import INITIAL, START
from equipoise.play.updates.ppo import TokenAdvantages

PPO = Method(
    name="ppo",
    title="Proximal Policy Optimization",
    paper="2406.09279",
    confidence="recalled",
    players=Self(samples=4),
    pairing=Scored(against=INITIAL, opponents=2),
    objective=Ppo(clip=0.2),
    anchors={"previous": START},
    update=TokenAdvantages(),
    rounds=100,
    train={"batch": 16, "schedule": "constant", "warmup": 0.0},
    playground={**MANY_STEPS, "objective.tau": 0.05, "objective.critic_rate": 3.0, "play.samples": 8},
    exact={"tau": 0.1, "whiten": False},
    in_theory=(Self(samples=1), Scored(against=INITIAL, opponents=1)),
    sources={
        **SHORT_ROUNDS,
        **of(OURS, "tau samples"),
        "clip": "RTO's authors' code",
        "lam": "RTO's authors' code",
        "critic": "RTO's authors' code: a network of its own",
        "critic_rate": "RTO's authors' code: 9e-6 against 5e-7",
        "value_clip": "RTO's authors' code",
        "whiten": "ours; usual",
    },
    evidence=("tests/play/test_ppo.py",),
    notes="The reward is the win rate against the initial policy, which is fixed; `play.pairing=reward` takes the "
    "oracle's scalar score, such as a reward model's. The value network starts as a copy of the policy with a head of "
    "zeros, where the authors start from a reward model; critic=regression fits the values to each round's returns in "
    "closed form and keeps one model. On a finite game a response is one token.",
)
