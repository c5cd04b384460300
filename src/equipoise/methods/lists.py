"""A ranked list says more than the pairs that can be cut from it. DPO with the Plackett-Luce model (2305.18290)
is the likelihood of the whole ranking; TPO, tree preference optimization (2410.12854), is a weighted ranking
loss on scored lists of paths through a tree of reasoning steps, which weighs a step by how much it differs from those
of the other paths. TPO's constants are RECALLED.
"""

from dataclasses import replace

from equipoise.core.objectives import PlackettLuce, Tpo
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import OURS, of
from equipoise.methods.tiny import PAIR_ROUNDS, TINY
from equipoise.play.needs import LISTS
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.pairings.sampled import Scored
from equipoise.play.players.recorded import Recorded
from equipoise.play.players.sampled import Written
from equipoise.play.players.tree_search import TreePaths
from equipoise.play.state import INITIAL
from equipoise.play.updates.live_reference import StepWeighted

PLACKETT_LUCE = replace(
    DPO,
    players=Recorded(needs=LISTS),
    name="plackett_luce",
    title="DPO of whole rankings (Plackett-Luce)",
    confidence="recalled",
    objective=PlackettLuce(beta=0.1),
    playground={**TINY, "train.lr": 5e-4, "train.batch": 64, "objective.beta": 0.5, "train.epochs": 4},
    in_theory=(Written(by=INITIAL, samples=3), Scored(against=INITIAL)),
    sources={**of(OURS, "schedule parts batch warmup"), "beta": "DPO's authors' code, for pairs"},
    notes="A finite game's lists are three responses of the initial policy, by their win rates against it.",
)

TPO = replace(
    PLACKETT_LUCE,
    name="tpo",
    title="Tree Preference Optimization",
    paper="2410.12854",
    objective=Tpo(beta=0.5, steps=True),
    update=StepWeighted(mark="\n"),
    train={"lr": 5e-7, "batch": 32, "schedule": "linear", "warmup": 0.1},
    playground={**TINY, "train.lr": 5e-4, "train.batch": 64, "train.epochs": 4, "objective.mark": ""},
    exact={"steps": False},
    sources={
        **of(OURS, "schedule parts batch warmup"),
        "beta": "the released code",
        "lr": "the released code; it takes one list at a time",
        "lambdas": "the paper, recalled",
        "gain": "ours: gains of the paper, 2 to the score, overflow",
        "steps": "the paper, recalled",
        "mark": "ours: a step is a line",
        "form": "the paper's aim, derived; the released code has the other sign",
    },
    notes="A step ends at `mark`, a newline; a mark of '' makes every token a step, as on the playground. Steps are "
    "weighted by 1 - cos to the other paths' steps: shared steps cancel in the margin whatever their weight, so that "
    "weight on them, as by the released code's 1 + cos (form: release), weakens the others. Data are scored lists, or "
    "trees of steps (format tree-text or tree-chat), whose paths are the list. In a finite game a response is one step "
    "of weight 1.",
)

TPO_TREES = replace(
    TPO,
    name="tpo_trees",
    title="Tree Preference Optimization on the policy's own trees",
    confidence="derived",
    players=TreePaths(samples=4),
    pairing=AsRecorded(),
    playground={
        **PAIR_ROUNDS,
        "play.rounds": 8,
        "play.samples": 4,
        "play.pairing": "method",
        "train.batch": 16,
        "objective.mark": "",
        "objective.depth": 0,
        "objective.branch": 2,
        "objective.nodes": 40,
        "objective.outcome": "win_rate",
    },
    sources={
        **{name: source for name, source in TPO.sources.items() if name != "parts"},
        "branch": "released data: three sampled branches",
        **of(OURS, "depth nodes step_tokens outcome opponents rounds"),
    },
    notes="The policy grows a tree of steps for every prompt, breadth first (tree of thoughts), and an oracle scores "
    "its paths: the lists that TPO ranks. Give an oracle that scores single responses, or outcome: win_rate. The "
    "paper's trees are written by a larger model and hold a recorded solution and a wrong one, too; here they hold "
    "what the policy writes. " + TPO.notes,
)
