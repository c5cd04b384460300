"""A reward model trained once becomes inaccurate as the policy moves away from the responses it was trained on.
RLP, reward learning on policy (2403.19279), learns the reward again at intervals on the policy's own samples,
by an unsupervised multi-view objective or on synthetic preferences, and starts the policy gradient again on it.
"""

from dataclasses import replace

from equipoise.core.objectives import Rloo
from equipoise.methods.ppo import PPO
from equipoise.methods.sources import OURS, PAPER, of
from equipoise.methods.tiny import MANY_STEPS
from equipoise.play.method import Method
from equipoise.play.pairings.learned_reward import ByLearnedReward
from equipoise.play.players.sampled import Self
from equipoise.play.state import INITIAL
from equipoise.play.updates.basic import Descend
from equipoise.play.updates.ppo import TokenAdvantages
from equipoise.play.updates.reward_relearning import Restarted

REWARD = (
    "The reward is a reward model that begins as the initial policy; reward=features takes a small network on its "
    "hidden states, as exact games do."
)
MEANING = (
    " Responses say the same where the initial policy's mean hidden states have a cosine of `similarity`; `meaning` "
    "also takes the folder of an embedding model, or of an entailment model, which is asked in both directions as in "
    "the paper."
)

RLP_UML = Method(
    name="rlp_uml",
    title="Reward Learning on Policy, unsupervised multi-view",
    paper="2403.19279",
    confidence="paper's text",
    players=Self(samples=4),
    pairing=ByLearnedReward(every=50, own=10, bottleneck=0.5, reward="model"),
    objective=Rloo(tau=0.1),
    anchors={"reference": INITIAL},
    update=Restarted(base=Descend(rate=0.1), every=50),
    rounds=100,
    train={"batch": 64, "schedule": "constant", "warmup": 0.0},
    playground={
        **MANY_STEPS,
        "train.lr": 5e-4,
        "train.eps": 1e-2,
        "objective.tau": 1.0,
        "objective.every": 15,
        "play.rounds": 30,
        "objective.reward_epochs": 3,
        "play.samples": 8,
    },
    exact={"tau": 0.2, "every": 25, "own": 2, "reward": "features"},
    in_theory=(Self(samples=2), ByLearnedReward(bottleneck=0.5)),
    sources={
        **of(OURS, "tau every samples batch schedule warmup"),
        "own": "paper's text: 10 outputs per prompt",
        "reward": "paper's text: a whole model",
        "reward_epochs": OURS,
        "meaning": "ours; the paper's is entailment in both directions",
        "similarity": OURS,
        "bottleneck": PAPER,
        "confidence": "no synthetic pairs in this variant",
        "rounds": "ours: two phases, as in the paper",
        "rate": "ours; exact games only",
    },
    evidence=("tests/play/test_reward_relearning.py", "tests/worlds/test_run_rewards.py"),
    notes="The learner is REINFORCE with a leave-one-out baseline; with the paper's, PPO, it is rlp_uml_ppo. "
    + REWARD,
)

RLP_SPG = replace(
    RLP_UML,
    name="rlp_spg",
    title="Reward Learning on Policy, synthetic preferences",
    pairing=ByLearnedReward(every=50, own=10, confidence=0.5, reward="model", meaning="states"),
    exact={"tau": 0.2, "every": 25, "own": 3, "reward": "features", "meaning": "text"},
    playground={**RLP_UML.playground, "objective.meaning": "text"},
    in_theory=(Self(samples=2), ByLearnedReward(confidence=0.5)),
    sources={
        **RLP_UML.sources,
        "confidence": PAPER,
        "bottleneck": "paper's text: none in this variant",
    },
    notes="The learner is REINFORCE with a leave-one-out baseline; with the paper's, PPO, it is rlp_spg_ppo. "
    + REWARD
    + MEANING,
)

# the paper's learner: the policy and its critic start again together, as the reward that the critic knew is given up
RLP_UML_PPO = replace(
    RLP_UML,
    name="rlp_uml_ppo",
    title="Reward Learning on Policy, unsupervised multi-view, by PPO",
    objective=PPO.objective,
    anchors=PPO.anchors,
    update=Restarted(base=TokenAdvantages(tau=0.1), every=50),
    playground={
        **PPO.playground,
        **{
            f"objective.{name}": RLP_UML.playground[f"objective.{name}"]
            for name in ("tau", "every", "reward_epochs")
        },
        "play.rounds": RLP_UML.playground["play.rounds"],
    },
    exact={**RLP_UML.exact, "whiten": False},
    in_theory=(Self(samples=1), ByLearnedReward(bottleneck=0.5)),
    sources={**PPO.sources, **RLP_UML.sources},
    evidence=(*RLP_UML.evidence, *PPO.evidence),
    notes="The learner is PPO with a critic, as in the paper; both start again with each reward. " + REWARD,
)

RLP_SPG_PPO = replace(
    RLP_UML_PPO,
    name="rlp_spg_ppo",
    title="Reward Learning on Policy, synthetic preferences, by PPO",
    pairing=RLP_SPG.pairing,
    playground={**RLP_UML_PPO.playground, "objective.meaning": "text"},
    exact={**RLP_SPG.exact, "whiten": False},
    in_theory=(Self(samples=1), ByLearnedReward(confidence=0.5)),
    sources={**PPO.sources, **RLP_SPG.sources},
    notes=RLP_UML_PPO.notes + MEANING,
)
