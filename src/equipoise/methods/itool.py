"""More examples of tool calls teach ever less: what remains are single wrong fragments, such as one parameter. iTool
(2501.09766) warms up by supervised fine-tuning from easy to hard, finds the requests that the policy is deficient on,
searches a tree over fragments of their calls, and learns from the best and the worst fragment after the same beginning,
again and again with the policy that it has become.
"""

from dataclasses import replace

from equipoise.core.objectives import Dpo, Simpo
from equipoise.methods.sft import SFT
from equipoise.methods.sources import CODE, OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method, Phase
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.players.curriculum import Deficient, EasyToHard
from equipoise.play.players.tree_search import TreeSearch
from equipoise.play.state import START
from equipoise.play.updates.basic import Refit

SFT_EASY_TO_HARD = replace(
    SFT,
    name="sft_easy_to_hard",
    title="Supervised fine-tuning from easy to hard",
    paper="2501.09766",
    confidence="recalled",
    players=EasyToHard(stages=3),
    rounds=3,
    playground={**SFT.playground, "train.epochs": 3},
    sources={
        **of(OURS, "difficulty"),
        "stages": "three levels, RECALLED",
        "rounds": "one for each stage",
    },
    evidence=("tests/play/test_curriculum.py",),
    notes="iTool's warm-up. How it measures difficulty was not recovered; here it is the response's length, which for "
    "tool calls is their number and that of their arguments.",
)

ITOOL = Method(
    name="itool",
    title="Iterative reinforced fine-tuning for tool use",
    paper="2501.09766",
    confidence="verified in code",
    players=Deficient(
        base=TreeSearch(
            level="fragment",
            pairs=8,
            iterations=5,
            branch=3,
            depth=3,
            mark=",",
            outcome="score",
            self_evaluation=False,
        ),
        share=0.3,
    ),
    pairing=AsRecorded(),
    objective=Simpo(beta=2.5, gamma=0.5),
    anchors={},
    update=Refit(),
    rounds=3,
    phases=(Phase(name="easy_to_hard", method="sft_easy_to_hard"),),
    train={"batch": 8, "epochs": 2, "schedule": "cosine", "warmup": 0.1},
    playground={
        **TINY,
        "model.path": "playground:tools/model",
        "data.path": ["playground:tools/requests.jsonl"],
        "data.held_out": 0.2,
        "oracle": "playground:tools/graded.yaml",
        "sampling.max_new_tokens": 48,
        "train.batch": 16,
        "train.lr": 3e-4,
        "train.eps": 1e-6,
        "objective.iterations": 3,
        "objective.depth": 0,
        "evaluate.every": 3,
        "play.phases": {
            "sft_easy_to_hard": {
                "train.lr": 3e-4,
                "train.eps": 1e-6,
                "train.batch": 16,
                "sampling.max_new_tokens": 48,
                "evaluate.every": 3,
            }
        },
    },
    sources={
        **of(
            CODE,
            "share branch depth iterations exploration beta gamma rounds batch epochs schedule warmup level",
        ),
        **of(OURS, "pairs step_tokens opponents self_evaluation"),
        "mark": "authors' code also ends a fragment at a full stop, an equals sign and a bracket",
        "outcome": "ours: how far the calls agree with the right ones; the authors' judge is the policy itself",
        "smoothing": "0 is DPO",
        "players": "authors' code, but for the search",
    },
    evidence=("tests/play/test_curriculum.py", "tests/oracles/test_tool_calls.py", "itool_fragments"),
    notes="The search is that of mcts_dpo, where the authors' own counts values differently and samples at temperature "
    "1.5. They ask the policy to judge a fragment next to the right call; here every search runs to the end of "
    "the calls, "
    "and the oracle's score of these, exact in a verifiable world, is the value (kind: tool_calls, score: "
    "graded). Give "
    "demonstrations as data: their responses are imitated in the warm-up, and their perplexity says where the "
    "policy is "
    "deficient. The authors choose requests with and without a call separately, and have a model write variants of "
    "them; here neither is done.",
)

ITOOL_DPO = replace(
    ITOOL,
    name="itool_dpo",
    title="Iterative reinforced fine-tuning for tool use, with DPO",
    objective=Dpo(beta=0.1),
    anchors={"reference": START},
    sources={name: source for name, source in ITOOL.sources.items() if name != "gamma"},
)
