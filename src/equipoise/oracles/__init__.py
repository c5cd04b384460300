"""Preference oracles: P(y beats y' | prompt), asked in batches.

load            the oracle named on the command line: a rule in Python, or a folder with a reward model
Asking          batches of an oracle that answers single questions: concurrency, retries, stored verdicts
Checked         any oracle, with its contract checked on every call
TableOracle     a preference matrix over known responses
RecordedOracle  recorded votes, averaged
"""

from __future__ import annotations

from pathlib import Path

from equipoise.oracles.asking import Asking, Policy, Questioner
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
    """Loads `module:function` or `file.py:function` (a rule), a judge's YAML file, or a reward model's folder.

    store   file in which the verdicts of a rule are kept; None: only in memory
    policy  how a rule is asked: concurrency, retries, failures

    Raises OracleError if the spec is neither, or names something that cannot be used.
    """
    if (Path(spec) / "config.json").is_file():
        from equipoise.oracles.reward import RewardOracle

        return Checked(RewardOracle.load(spec))
    if ":" in spec or spec.endswith((".yaml", ".yml")):
        asked = load_rule(spec) if ":" in spec else _judge(spec)
        return Checked(Asking(asked, VerdictStore(store) if store else None, policy))
    raise OracleError(
        f"{spec!r} is neither a rule (module:function or file.py:function), a judge's file (.yaml) nor a folder with "
        "a reward model"
    )


def _judge(spec: str) -> Questioner:
    from equipoise.oracles.judge import JudgeOracle

    return JudgeOracle.load(spec)
