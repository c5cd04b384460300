"""Oracles: who says that y beats y'? `load` makes one from what a user writes on the command line."""

from __future__ import annotations

from pathlib import Path

from equipoise.oracles.checked import Checked
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.oracles.rules import load_rule

__all__ = ["Checked", "Oracle", "OracleError", "load"]


def load(spec: str) -> Checked:
    """`module:function` or `file.py:function` (a rule), or the folder of a reward model (`config.json` in it).

    Raises OracleError if the spec is neither, or what it names cannot be used.
    """
    if (Path(spec) / "config.json").is_file():
        from equipoise.oracles.reward import RewardOracle

        return Checked(RewardOracle.load(spec))
    if ":" in spec:
        return Checked(load_rule(spec))
    raise OracleError(
        f"{spec!r} is neither a rule (module:function or file.py:function) nor a folder with a reward model"
    )
