"""Support of the reference: whether a round's policy still writes what the reference or the data could have written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import log
from typing import Any

from equipoise.policy.protocol import Measured
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.folder import gates

NAME = "support"
OUTSIDE = 0.05  # probability of texts that an enumerable game does not list, above the reference's
SURPRISAL = 2.0  # nats per token, above the reference's own: its tokens are seven times less likely
FINISHED = 0.5  # share of responses that end by themselves, as a fraction of the reference's
FEWER = (
    0.1  # responses that end by themselves, at the least, that count as lost: less is noise of the samples
)
LENGTH = 4.0  # times longer, or shorter


def support(reference: Mapping[str, Any], line: Mapping[str, Any]) -> Measured:
    """Whether a round's policy left the support of the reference and the data, by two lines of evaluation.jsonl.

    It did if one of these exceeds its bound:
    outside     the mass outside an enumerable game, by OUTSIDE above the reference's.
    surprisal   the mean over the policy's responses of -log pi_ref(y|x)/|y|, the logarithm of their perplexity under
                the reference, by SURPRISAL nats per token above that of its own responses and of the recorded ones.
                KL(pi||pi_ref) is this times the length, less the policy's entropy, so this bounds it from above: a
                policy that writes a few of the reference's responses has a large KL and is within the support.
    finished    responses that end by themselves: fewer than FINISHED of the reference's share.
    length      mean length, by a factor LENGTH outside the range between the reference's and the recorded responses'.

    `measured` is the largest of them as a share of its bound. The bounds are ours. What a line lacks is not judged.
    """
    worst, what = max(_signs(reference, line), key=lambda sign: sign[0])
    return Measured(
        name=NAME,
        measured=worst,
        limit=1.0,
        passed=worst <= 1.0,
        sentence=f"round {line['round']}: {what}",
    )


def delivered(journal: Journal) -> int:
    """The round whose policy a run delivers: the last finished one, or the last evaluated one before it that is within
    the support, if the gate refused that."""
    done, bad = journal.rounds_done(), refused(journal)
    if done not in bad:
        return done
    return max(line["round"] for line in journal.lines("evaluation.jsonl") if line["round"] not in bad)


def refused(journal: Journal) -> set[int]:
    """The rounds whose policy the gate refused and the user did not allow."""
    lines = gates.read(journal.folder / gates.FILE)
    return {
        line["round"] for line in lines if line["name"] == NAME and not (line["passed"] or line["allowed"])
    }


def _signs(reference: Mapping[str, Any], line: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    """(share of its bound, what it says) of each sign that both lines have."""
    yield 0.0, "the policy writes what the reference or the data could have written"
    outside = _known(reference, line, "outside")
    if outside:
        yield (
            (outside[1] - outside[0]) / OUTSIDE,
            f"{outside[1]:.1%} of the policy's probability is on texts outside the game",
        )
    surprisal = _known(reference, line, "surprisal")
    if surprisal:
        expected = max(surprisal[0], _value(line, "recorded_surprisal") or 0.0)
        yield (
            (surprisal[1] - expected) / SURPRISAL,
            f"the reference gives the policy's responses {surprisal[1]:.1f} nats per token of surprisal, and "
            f"{expected:.1f} to its own or the recorded ones",
        )
    finished = _known(reference, line, "finished")
    if finished and finished[0]:
        lost = (finished[0] - finished[1]) / max((1 - FINISHED) * finished[0], FEWER)
        yield lost, f"{finished[1]:.0%} of the policy's responses end by themselves, {finished[0]:.0%} before"
    length = _known(reference, line, "length")
    if length:
        usual = [length[0], _value(line, "recorded_length") or length[0]]
        ratio = max(length[1] / max(usual), min(usual) / length[1])
        yield (
            log(ratio) / log(LENGTH),
            f"the policy's responses have {length[1]:.0f} tokens, where {length[0]:.0f} were usual",
        )


def _known(reference: Mapping[str, Any], line: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    before, after = _value(reference, name), _value(line, name)
    return None if before is None or after is None else (before, after)


def _value(line: Mapping[str, Any], name: str) -> float | None:
    """A figure of a line; of an estimate its centre."""
    value = line.get(name)
    return value["value"] if isinstance(value, Mapping) else value
