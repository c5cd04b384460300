"""Preference oracles: P(y beats y' | prompt), asked in batches.

load            the oracle named on the command line: a rule in Python, a YAML file, or a folder with a reward model
Asking          batches of an oracle that answers single questions: concurrency, retries, stored verdicts
RuleOracle      an oracle of single questions, from a Python function
Checked         any oracle, with its contract checked on every call
TableOracle     a preference matrix over known responses
RecordedOracle  recorded votes, averaged
"""

from __future__ import annotations

from equipoise.oracles.checked import Checked
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.questioner import Batched, Policy, Questioner
from equipoise.oracles.questions.verdicts import VerdictStore
from equipoise.oracles.recorded.table import RecordedOracle, TableOracle
from equipoise.oracles.rules.rule_oracle import RuleOracle
from equipoise.oracles.spec import load

__all__ = [
    "Asking",
    "Batched",
    "Checked",
    "Oracle",
    "OracleError",
    "Placement",
    "Policy",
    "Questioner",
    "RecordedOracle",
    "RuleOracle",
    "TableOracle",
    "VerdictStore",
    "load",
]
