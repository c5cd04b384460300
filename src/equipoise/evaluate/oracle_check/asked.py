"""Questions in both orders: an oracle's raw verdicts on every comparison, and some of them asked a second time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equipoise.evaluate.oracle_check.comparisons import Comparisons, Floats
from equipoise.oracles.account import Account, Accounted
from equipoise.oracles.checked import Checked, unwrapped
from equipoise.oracles.protocol import Fingerprinted, OracleError, parts_that
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.questioner import Policy


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdicts:
    """Verdicts of one oracle; nan where it gave none.

    forth  [N] P(a beats b), asked with a first         back  [N] P(a beats b), asked with b first
    again  [M] of the first comparisons, asked a second time with a first; M = 0 if it was not
    asked  what asking took (`oracles.account.Account`), with the reasons of failures; {} if nothing was counted
    """

    name: str
    fingerprint: str
    forth: Floats
    back: Floats
    again: Floats
    asked: dict[str, Any]

    @property
    def prob(self) -> Floats:
        """[N] P(a beats b), the mean of the two orders; nan if either has no verdict."""
        return (self.forth + self.back) / 2

    @property
    def answered(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[N] whether both orders have a verdict."""
        return np.isfinite(self.prob)

    @property
    def as_asked(self) -> Floats:
        """[N] P(a beats b) in one order only: a first in every second comparison, b first in the others."""
        return np.where(np.arange(len(self.forth)) % 2 == 0, self.forth, self.back)


def ask(oracle: Checked, comparisons: Comparisons, again: int = 0) -> Verdicts:
    """Ask every comparison in both orders, each order as a question of its own, and the first `again` once more.

    Answers in the wrong range are refused as ever; only the promise P(a > b) + P(b > a) = 1 is not asked for: it is
    what is measured. Questions may stay without a verdict, as they are counted here. What is asked again is asked of
    the oracle itself, not of stored verdicts.

    Raises OracleError for an oracle that breaks its contract, and if not one comparison has a verdict.
    """
    asking = unwrapped(oracle)
    raw = Checked(_in_one_order(asking) if isinstance(asking, Asking) else oracle.inner, probe=0)
    before = Account.total(part.account for part in parts_that(raw, Accounted))
    prompts, a, b = comparisons.questions()
    forth = raw.compare(prompts, a, b).numpy()
    back = 1 - raw.compare(prompts, b, a).numpy()
    some = slice(0, again)
    fresh = Checked(_anew(raw.inner), probe=0) if isinstance(raw.inner, Asking) else raw
    twice = fresh.compare(prompts[some], a[some], b[some]).numpy() if again else np.empty(0)
    after = Account.total(part.account for part in parts_that(raw, Accounted))
    account = after.since(before) if after != before else {}
    found = Verdicts(
        name=oracle.name,
        fingerprint=asking.fingerprint if isinstance(asking, Fingerprinted) else oracle.name,
        forth=forth,
        back=back,
        again=twice,
        asked=account,
    )
    if not found.answered.any():
        why = next(iter(account.get("reasons", {})), "it answered nan")
        raise OracleError(
            f"oracle {oracle.name}: none of {len(comparisons):,} comparisons has a verdict in both orders: {why}"
        )
    return found


def to_ask(oracle: object, comparisons: Comparisons) -> int | None:
    """How many questions the comparisons are in both orders, without those of stored verdicts; None: not known."""
    if not isinstance(oracle, Asking):
        return None
    prompts, a, b = comparisons.questions()
    if oracle.questioner.scores:
        return oracle.to_ask([*zip(prompts, a, strict=True), *zip(prompts, b, strict=True)])
    return oracle.to_ask([*zip(prompts, a, b, strict=True), *zip(prompts, b, a, strict=True)])


def recorded(comparisons: Comparisons, probs: Sequence[float], name: str) -> Verdicts:
    """The verdicts of one who was not asked: the same in both orders."""
    prob = np.asarray(probs, dtype=np.float64)
    return Verdicts(name=name, fingerprint=name, forth=prob, back=prob, again=np.empty(0), asked={})


def _in_one_order(asking: Asking) -> Asking:
    policy = replace(asking.policy, both_orders=False, failures=1.0)
    raw = Asking(asking.questioner, asking.store if asking.kept else None, policy)
    raw.answered = asking.answered
    return raw


def _anew(asking: Asking) -> Asking:
    """The same oracle without what it has answered."""
    policy: Policy = asking.policy
    return Asking(asking.questioner, None, policy)
