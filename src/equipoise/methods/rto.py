"""PPO for language models is given one reward at the end of a response. RTO, reinforced token optimization
(2404.18922), takes token-level rewards from the log-ratios of a policy that DPO trained on recorded pairs, and
maximises them with PPO.
"""

from dataclasses import replace

from equipoise.methods.ppo import PPO
from equipoise.methods.sources import CODE, OURS, of
from equipoise.play.players.sampled import Self
from equipoise.play.updates.ppo import TeacherRewards, TokenAdvantages

RTO = replace(
    PPO,
    name="rto",
    title="Reinforced Token Optimization",
    paper="2404.18922",
    confidence="verified in code",
    players=Self(samples=1),
    update=TeacherRewards(base=TokenAdvantages(tau=0.01)),
    train={**PPO.train, "batch": 128},
    playground={
        **PPO.playground,
        "objective.beta": 0.5,
        "objective.beta1": 0.05,
        "objective.cap": 0.05,
    },
    exact={"tau": 0.1, "whiten": False, "beta": 0.5},
    sources={
        **PPO.sources,
        **of(CODE, "clip lam beta1 cap samples batch"),
        "tau": "authors' code: their beta2",
        "beta": "DPO's usual",
        "sentence": OURS,
    },
    notes="Round 1 trains the teacher on all recorded pairs, with the learning rate, batch and epochs of the run. The "
    "response's reward is the win rate against the initial policy, times `sentence`; with a reward model as oracle, "
    "`play.pairing=reward_normalised` takes its normalised score, clamped to 10, as the released code does. A round is "
    "one pass over the prompts, of which the authors sample 1024 at a time (`play.prompts`). The critic is PPO's here. "
    "On a finite game a response is one token.",
)
