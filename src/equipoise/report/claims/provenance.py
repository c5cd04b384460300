"""Where stored evidence comes from: the rule and the program that it was found under, the commit, the day.

A rule may not follow the figures. So evidence carries the hash of its rule's words, and evidence under another rule
counts no longer (`stored_evidence`). The commit says that rule and program lay there before the run, if nothing of
theirs was changed since the commit; a `+` behind it says that something was.
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from equipoise.claims.claim import Claim
from equipoise.claims.index import HOMES

ROOM = "equipoise.claims"


def rule_hash(claim: Claim) -> str:
    """SHA-256 of the rule's words."""
    return hashlib.sha256(claim.rule.encode()).hexdigest()


def program_hash(name: str) -> str:
    """SHA-256 of the sources of the claim's module and of all that it imports, directly or not, from its room."""
    digest = hashlib.sha256()
    for module in sorted(_modules(f"{ROOM}.{HOMES[name].split(':')[0]}", set())):
        digest.update(module.encode() + b"\0" + _source(module).read_bytes() + b"\0")
    return digest.hexdigest()


def provenance(name: str, claim: Claim) -> dict[str, Any]:
    """What is stored beside the figures of a run that has just been made."""
    return {
        "rule_sha256": rule_hash(claim),
        "program_sha256": program_hash(name),
        "commit": commit(),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def commit() -> str | None:
    """The commit that the package lies at, with a + where files of the package differ from it; None outside of git."""
    package = Path(__file__).parents[2]
    try:
        tracked = _git(package, "ls-files", "__init__.py")
        head, changed = _git(package, "rev-parse", "HEAD"), _git(package, "status", "--porcelain", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "") if tracked else None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _modules(module: str, seen: set[str]) -> set[str]:
    """`module` and what it imports inside the room; `seen` is added to."""
    seen.add(module)
    for node in ast.walk(ast.parse(_source(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(ROOM):
            for found in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                if found not in seen and found != ROOM and _is_module(found or ""):
                    _modules(found or "", seen)
    return seen


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # a record of a module, not a module of a package
        return False


def _source(module: str) -> Path:
    found = find_spec(module)
    assert found is not None and found.origin is not None
    return Path(found.origin)
