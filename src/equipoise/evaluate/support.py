"""Support of the reference: whether a round's policy still writes what the reference could have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.policy.protocol import Measured

OUTSIDE = 0.05  # probability of texts that an enumerable game does not list, above the reference's
SURPRISAL = 2.0  # nats per token, above the reference's own: its tokens are seven times less likely
FINISHED = 0.5  # share of responses that end by themselves, as a fraction of the reference's


def support(reference: Mapping[str, Any], line: Mapping[str, Any]) -> Measured:
    """Whether a round's policy left the reference's support, by two lines of evaluation.jsonl.

    It did if the mass outside an enumerable game rose by more than OUTSIDE; or if the reference's surprisal at the
    policy's responses, the mean over responses of -log pi_ref(y|x)/|y| in nats per token, is more than SURPRISAL above
    that at its own; or if fewer than FINISHED of the reference's share of responses end by themselves. `measured` is
    the largest of the three as a share of its bound. The bounds are ours: wide enough for policies that concentrate on
    a few of the reference's responses, and far below those that write other things.
    """
    rises = [(0.0, "the policy writes what the reference could have written")]
    outside, surprisal = _rise(reference, line, "outside"), _rise(reference, line, "surprisal")
    if outside is not None:
        rises.append(
            (outside / OUTSIDE, f"{line['outside']:.1%} of its probability is on texts outside the game")
        )
    if surprisal is not None:
        text = f"the reference expects its responses {surprisal:.1f} nats a token less than its own"
        rises.append((surprisal / SURPRISAL, text))
    if reference.get("finished") and line.get("finished") is not None:
        lost = (1 - line["finished"] / reference["finished"]) / (1 - FINISHED)
        text = f"{line['finished']:.0%} of its responses end by themselves, where {reference['finished']:.0%} did"
        rises.append((lost, text))
    worst, what = max(rises, key=lambda rise: rise[0])
    return Measured(
        name="support",
        measured=worst,
        limit=1.0,
        passed=worst <= 1.0,
        sentence=f"round {line['round']}: {what}",
    )


def _rise(reference: Mapping[str, Any], line: Mapping[str, Any], name: str) -> float | None:
    before, after = reference.get(name), line.get(name)
    return None if before is None or after is None else after - before
