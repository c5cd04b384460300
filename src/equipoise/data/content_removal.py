"""Progressive removal of key phrases (SPO degradations): a text's versions with less and less content."""

from __future__ import annotations

import re
from collections import Counter

# words without content: phrases end at them, and at punctuation
_FUNCTION = """
a an the this that these those i you he she it we they me him her us them my your his its our their mine yours is am are
was were be been being do does did done have has had having will would shall should can could may might must and or but
nor so yet if then else when while as because since than though although of in on at by to from with without into onto
over under about after before between through during against for not no only just also very too there here what which
who whom whose where why how all any both each few more most other some such own same s t don
"""
FUNCTION_WORDS = frozenset(_FUNCTION.split())
LONGEST = 3  # words of a phrase; a longer run of content words is split
_WORD = re.compile(r"\w+(?:['’-]\w+)*")


def key_phrases(text: str, longest: int = LONGEST) -> list[tuple[int, int]]:
    """Key phrases of a text as [start, end) in characters, the most important first.

    A phrase is a run of at most `longest` content words separated by spaces only. As in RAKE, a word's score is
    degree/frequency, where its degree counts the words of all phrases that contain it, and a phrase's score is the sum
    over its words; ties keep the text's order. The same text always gives the same list.
    """
    phrases: list[list[re.Match[str]]] = []
    end = -1
    for word in _WORD.finditer(text):
        content = word.group().lower() not in FUNCTION_WORDS
        joined = end >= 0 and text[end : word.start()].isspace()
        if content and joined and phrases and len(phrases[-1]) < longest:
            phrases[-1].append(word)
        elif content:
            phrases.append([word])
        end = word.end() if content else -1
    names = [[word.group().lower() for word in phrase] for phrase in phrases]
    frequency = Counter(name for phrase in names for name in phrase)
    degree: Counter[str] = Counter()
    for phrase in names:
        for name in phrase:
            degree[name] += len(phrase)
    scores = [sum(degree[name] / frequency[name] for name in phrase) for phrase in names]
    order = sorted(range(len(phrases)), key=lambda i: (-scores[i], i))
    return [(phrases[i][0].start(), phrases[i][-1].end()) for i in order]


def degraded(text: str, degree: int, degrees: int, longest: int = LONGEST) -> str:
    """Removes the most important ceil(n degree/degrees) of a text's n key phrases.

    At degree 0, and without key phrases, the text is returned unchanged. The spaces around a removed phrase are closed
    up, and punctuation that would then come first is removed too. Raises ValueError unless 0 <= degree < degrees.
    """
    if not 0 <= degree < degrees:
        raise ValueError(f"degree must be at least 0 and below {degrees}, got {degree}")
    phrases = key_phrases(text, longest)
    count = -(-len(phrases) * degree // degrees)
    for start, end in sorted(phrases[:count], reverse=True):
        before, after = text[:start], text[end:]
        text = before.rstrip(" ") + after if not after.strip(" ") or after[0] in " .,;:!?" else before + after
    return text if not count else text.lstrip(" ,;:")


def versions(text: str, degrees: int) -> list[str] | None:
    """Degraded versions at degrees 1 .. degrees - 1, all different; None for a text of fewer than `degrees` phrases.

    Phrases are as long as the text allows: a short text loses single words.
    """
    for longest in range(LONGEST, 0, -1):
        texts = [degraded(text, degree, degrees, longest) for degree in range(degrees)]
        if len(set(texts)) == degrees and len(key_phrases(text, longest)) >= degrees:
            return texts[1:]
    return None
