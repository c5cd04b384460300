"""Search of better answers for in-context examples, each by hill climbing on its own dynamic reward (DRPO).

    step t:  an answer that is not good enough has n rewrites; the best of them takes its place if its reward is higher

Examples are improved once, before the search of the system prompt, which shows them. Source: the authors' code improves
its examples with the same reward; there the search is a beam, and its n and depth are those of the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from equipoise.evaluate.examples import Example
from equipoise.evaluate.prompt_search.search import Judgement, Record


class ExampleTask(Protocol):
    """What the search of examples asks of the world.

    judged     each (number, conversation, answer) judged
    rewrite    `count` better answers than a judged one at a step, None for one that cannot be read
    """

    def judged(self, answers: Sequence[tuple[int, Any, str]]) -> list[Judgement]: ...

    def rewrite(self, example: Example, judged: Judgement, count: int, step: int) -> list[str | None]: ...


def improved(
    task: ExampleTask,
    examples: Sequence[Example],
    *,
    steps: int,
    proposals: int,
    record: Record,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[list[Example], list[dict[str, Any]]]:
    """The examples with the best answers that were found, and for each its first and last reward.

    Finished examples are in the record, and are not improved again.
    """
    found = []
    for number, example in enumerate(examples):
        name = f"example-{number:03d}"
        one = record.get(name)
        if one is None:
            one = _climb(task, number, example, steps, proposals)
            record.put(name, one)
        tell(
            f"example {number + 1} of {len(examples)}: reward {one['first']:.2f} to {one['judgement']['reward']:.2f}"
        )
        found.append(one)
    better = [Example(example.query, one["answer"]) for example, one in zip(examples, found, strict=True)]
    return better, [{"first": one["first"], "last": one["judgement"]["reward"]} for one in found]


def _climb(task: ExampleTask, number: int, example: Example, steps: int, proposals: int) -> Mapping[str, Any]:
    context = [{"role": "user", "content": example.query}]
    (best,) = task.judged([(number, context, example.answer)])
    first = best.reward
    for step in range(1, steps + 1):
        if best.good:
            break
        rewrites = task.rewrite(Example(example.query, best.answer), best, proposals, step)
        texts = list(dict.fromkeys(text for text in rewrites if text is not None))
        # of equal ones the earlier, and the answer that was there before all
        best = max([best, *task.judged([(number, context, text) for text in texts])], key=_reward)
    return {"answer": best.answer, "first": first, "judgement": asdict(best)}


def _reward(judgement: Judgement) -> float:
    return judgement.reward
