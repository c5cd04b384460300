"""Preference oracles: P(y beats y' | prompt), asked in batches.

load            the oracle named on the command line: a rule in Python, a YAML file, or a folder with a reward model
Asking          batches of an oracle that answers single questions: concurrency, retries, stored verdicts
Checked         any oracle, with its contract checked on every call
TableOracle     a preference matrix over known responses
RecordedOracle  recorded votes, averaged
"""

from __future__ import annotations

from equipoise.oracles.asking import Asking, Policy
from equipoise.oracles.checked import Checked
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.oracles.spec import load
from equipoise.oracles.table import RecordedOracle, TableOracle
from equipoise.oracles.verdicts import VerdictStore

__all__ = [
    "Asking",
    "Checked",
    "Oracle",
    "OracleError",
    "Placement",
    "Policy",
    "RecordedOracle",
    "TableOracle",
    "VerdictStore",
    "load",
]
