"""Texts of the large tea house beside its answers: revisions, rationales, critiques and judgements.

Some methods let the policy write, or score, more than answers. The model is trained on such texts too, in the forms in
which the library renders them for models that follow no instructions, so that they are not outside what it knows:

    revision     request, an answer, the request again            ->  an answer
    rationale    request, the better, the worse, request again    ->  what is better about the first
    critique     request, an answer, "What is missing?"           ->  what the answer lacks
    judgement    request, two answers, "Which is better?"         ->  "First." or "Second."
"""

from __future__ import annotations

from equipoise.playground.large.grammar import GUESTS, MOODS, WEATHERS, Answer, Request

MISSING, WHICH = "What is missing?", "Which is better?"
FIRST, SECOND = "First.", "Second."
NOTHING = "nothing"


def merits(request: Request, answer: Answer) -> dict[str, bool]:
    """What the request asks for, in words, and whether the answer has it."""
    size, kind, extra = GUESTS[request.guest], WEATHERS[request.weather], MOODS[request.mood]
    return {
        "courtesy": bool(answer.opening),
        f"{kind} for {request.weather}": answer.kind == kind,
        f"{size} for {request.guest}": answer.size == size,
        f"{extra or NOTHING} for {request.mood}": answer.extra == extra,
    }


def rationale(request: Request, better: Answer, worse: Answer) -> str:
    """What the better answer has of what is asked for and the worse has not; its style, if nothing."""
    has, lacks = merits(request, better), merits(request, worse)
    return " ".join(name for name in has if has[name] and not lacks[name]) or f"{better.style} tea."


def critique(request: Request, answer: Answer) -> str:
    """What the answer lacks of what is asked for."""
    return " ".join(name for name, had in merits(request, answer).items() if not had) or NOTHING


def revision_prompt(request: Request, earlier: Answer) -> str:
    return f"{request.text} {earlier.text} {request.text}"


def rationale_prompt(request: Request, better: Answer, worse: Answer) -> str:
    return f"{request.text} {better.text} {worse.text} {request.text}"


def critique_prompt(request: Request, answer: Answer) -> str:
    return f"{request.text} {answer.text} {MISSING}"


def judge_prompt(request: Request, first: Answer, second: Answer) -> str:
    return f"{request.text} {first.text} {second.text} {WHICH}"


def words() -> tuple[str, ...]:
    """Words of these texts that the grammar may lack."""
    plain = f"{MISSING} {WHICH} {FIRST} {SECOND} {NOTHING} courtesy for honey wild small enormous iced hot"
    asked = [*WEATHERS, *MOODS, *GUESTS]
    return tuple(dict.fromkeys([*plain.split(), *asked]))
