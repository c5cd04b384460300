"""Preference oracles: P(y beats y' | prompt), asked in batches.

load            the oracle named on the command line: a rule in Python, or a folder with a reward model
Asking          batches of an oracle that answers single questions: concurrency, retries, stored verdicts
Checked         any oracle, with its contract checked on every call
TableOracle     a preference matrix over known responses
RecordedOracle  recorded votes, averaged
"""

from __future__ import annotations

from pathlib import Path

from equipoise.oracles.asking import Asking, Policy
from equipoise.oracles.checked import Checked
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.oracles.rules import load_rule
from equipoise.oracles.table import RecordedOracle, TableOracle
from equipoise.oracles.verdicts import VerdictStore

__all__ = [
    "Asking",
    "Checked",
    "Oracle",
    "OracleError",
    "Policy",
    "RecordedOracle",
    "TableOracle",
    "VerdictStore",
    "load",
]


def load(spec: str, *, store: Path | None = None, policy: Policy | None = None) -> Checked:
    """Loads `module:function` or `file.py:function` (a rule), or a reward model's folder (with a `config.json`).

    store   file in which the verdicts of a rule are kept; None: only in memory
    policy  how a rule is asked: concurrency, retries, failures

    Raises OracleError if the spec is neither, or names something that cannot be used.
    """
    if (Path(spec) / "config.json").is_file():
        from equipoise.oracles.reward import RewardOracle

        return Checked(RewardOracle.load(spec))
    if ":" in spec:
        rule = load_rule(spec)
        return Checked(Asking(rule, VerdictStore(store) if store else None, policy))
    raise OracleError(
        f"{spec!r} is neither a rule (module:function or file.py:function) nor a folder with a reward model"
    )
