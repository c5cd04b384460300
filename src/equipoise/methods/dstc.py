"""Preference pairs for code need known tests. DSTC, direct preference learning with only
self-generated
tests and code (2411.13611), has the policy write both: several programs and several tests of each problem, each run
against each. A minimax choice takes the best program with the hardest test that it passes, against the easiest test
that some program fails with a program that fails it; code and test are concatenated, for DPO or for KTO.
"""

from dataclasses import replace

from equipoise.core.objectives import Dpo, Kto
from equipoise.methods.sources import NOT_RECOVERED, OURS, SECOND_HAND, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.self_tested import SelfTested
from equipoise.play.players.code_and_tests import CodeAndTests
from equipoise.play.state import START
from equipoise.play.updates.basic import Refit

DSTC = Method(
    name="dstc",
    title="Direct Preference Learning with Self-Generated Tests and Code",
    paper="2411.13611",
    confidence="recalled",
    players=CodeAndTests(codes=8, tests=8),
    pairing=SelfTested(codes=8),
    objective=Dpo(beta=0.1),
    anchors={"reference": START},
    update=Refit(),
    rounds=1,
    sampling={"max_new_tokens": 512},
    playground={
        **TINY,
        "model.path": "playground:code/model",
        "data.path": ["playground:code/problems.jsonl"],
        "data.held_out": 0.25,
        "oracle": "playground:code/tests.yaml",
        "objective.ask_test": "{prompt} Test only .",
        "objective.ask_both": "{prompt} Code and test .",
        "objective.joined": "{code} {test}",
        "objective.beta": 0.1,
        "sampling.max_new_tokens": 24,
        "play.rounds": 3,
        "train.batch": 16,
        "train.epochs": 4,
        "judging.concurrency": 2,
    },
    sources={
        **of(NOT_RECOVERED, "codes tests beta rounds"),
        **of(OURS, "ask_code ask_test ask_both joined max_new_tokens"),
        "smoothing": "0 is DPO",
        "players": SECOND_HAND,
        "pairing": SECOND_HAND,
    },
    evidence=("tests/play/test_self_tested.py", "tests/oracles/test_self_written.py", "dstc_minimax"),
    notes="Which code is rejected is RECALLED: of those that fail the rejected test, the one with the fewest passes. "
    "Only plain asserts are read as tests (calls of the function, literals, operators): they run with each "
    "other, and a "
    "test that could decide the others' verdicts would be rewarded for it. What is not read takes no part. The prompt "
    "that is trained asks for code and test; the one that is evaluated is the data's own. Every table of passes is in "
    "self_tests.jsonl of the run folder.",
)

DSTC_KTO = replace(
    DSTC,
    name="dstc_kto",
    title="DSTC with Kahneman-Tversky Optimization",
    pairing=SelfTested(codes=8, labels="single"),
    objective=Kto(beta=0.1),
    sources={
        **{name: source for name, source in DSTC.sources.items() if name != "smoothing"},
        "desirable": "KTO's",
        "undesirable": "KTO's",
        "baseline": "'zero' would be apo_zero_unpaired",
    },
)
