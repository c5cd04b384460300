"""Beam search of a system prompt, judged on one query a step and chosen on held-out queries (DRPO).

    r(p, q) = mean over the aspects of q of the judge's scores in [1, 5] of the answer to q under p; 0: unreadable
    step t:  every prompt p of the beam, last judged on q_(t-1), has the children {p} if r(p, q_(t-1)) is good enough,
             else {p, n proposals of the optimiser}; all children are judged on q_t, and the `width` best stay

A child's value is the mean reward along its path, and with width 1 its last reward: then a prompt is replaced only by
one that does better on the same query (hill climbing). Of all prompts that were ever in the beam the one with the best
mean reward on the held-out queries, none of which a proposal was made from, is the result.

Sources: judging, stopping rule, prompts shown, path means and n = 3, width 2 are those of the authors' code
(prompt_align/search_config.py, world_model.py, run.py). There a prompt that falls short is not among its own children,
the number of steps grows with every step that keeps a prompt, and the best last value is the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from equipoise.core.intervals import clustered_mean
from equipoise.oracles.protocol import OracleError

GOOD = 4.5  # a prompt whose last mean exceeds it is kept as it is
BEST = 5.0


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the judge says of one answer.

    unreadable    why there are no scores; the reward is then 0
    all_aspects   the choice of aspects could not be read, so that all of them are scored
    """

    query: int
    answer: str
    reward: float
    scores: Mapping[str, float]
    reasons: Mapping[str, str]
    unreadable: str | None = None
    all_aspects: bool = False

    @property
    def good(self) -> bool:
        """Whether the prompt is kept without proposals; nothing can be improved by what cannot be read."""
        return (
            self.unreadable is not None
            or self.reward > GOOD
            or all(score == BEST for score in self.scores.values())
        )

    def text(self) -> str:
        """The judgement as the optimiser reads it."""
        return "\n".join(f"{name}: {score:g}. {self.reasons[name]}" for name, score in self.scores.items())


@dataclass(frozen=True, kw_only=True)
class Node:
    """A prompt in the search, with its last judgement.

    parent   its parent's place in the beam before
    path     (prompt, reward) of each step that led here
    """

    prompt: str
    parent: int | None
    path: tuple[tuple[str, float], ...]
    judgement: Judgement

    def value(self, width: int) -> float:
        rewards = [reward for _, reward in self.path]
        return rewards[-1] if width == 1 else math.fsum(rewards) / len(rewards)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: the query, all children in the order they were judged, and which of them are the new beam.

    kept         prompts that were good enough and had no proposals
    proposed     proposals that were asked for.    unread  those of them that could not be read
    refused      children that could not be used, with the reason
    """

    step: int
    query: int
    nodes: tuple[Node, ...]
    beam: tuple[int, ...]
    kept: int
    proposed: int
    unread: int
    refused: tuple[tuple[str, str], ...]

    def best(self) -> list[Node]:
        return [self.nodes[i] for i in self.beam]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of a search.

    initial     the prompt that it starts from
    width, depth, proposals   prompts in the beam, steps after the first judgement, proposals for each prompt
    training, held_out        indices of the queries: those of the steps, in their order and over again if they are too
                              few, and those by which the result is chosen
    """

    initial: str
    width: int
    depth: int
    proposals: int
    training: tuple[int, ...]
    held_out: tuple[int, ...]

    def query(self, step: int) -> int:
        return self.training[step % len(self.training)]


class Task(Protocol):
    """What the search asks of the world.

    judge     each (prompt, query) answered and judged, or the reason why it cannot be answered
    propose   `count` proposals from a judged node at a step, None for one that cannot be read
    """

    def judge(self, cases: Sequence[tuple[str, int]]) -> list[Judgement | str]: ...

    def propose(self, node: Node, count: int, step: int) -> list[str | None]: ...


class Record(Protocol):
    """Where finished parts of a search are kept, by name: plain JSON values, each whole or not there."""

    def get(self, name: str) -> Any: ...

    def put(self, name: str, value: Any) -> None: ...


def search(
    task: Task, plan: Plan, record: Record, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Search a prompt; parts that the record has are not repeated. Returns the report, with `system_prompt`.

    Raises OracleError if the initial prompt cannot be used.
    """
    steps: list[Step] = []
    for number in range(plan.depth + 1):
        name = f"step-{number:03d}"
        found = record.get(name)
        if found is None:
            step = _step(task, plan, steps)
            record.put(name, asdict(step))
        else:
            step = _read_step(found)
        steps.append(step)
        tell(
            f"step {number} of {plan.depth}: best reward {max(n.path[-1][1] for n in step.best()):.2f}, {_what(step)}"
        )
    return _report(plan, steps, _held_out(task, plan, steps, record, tell))


def _what(step: Step) -> str:
    return f"{step.proposed} proposed, {step.kept} kept" if step.step else "the initial prompt"


def _step(task: Task, plan: Plan, steps: Sequence[Step]) -> Step:
    number = len(steps)
    children: list[tuple[str, int | None]] = []  # (prompt, parent)
    kept = proposed = unread = 0
    if not steps:
        children.append((plan.initial, None))
    for place, node in enumerate(steps[-1].best() if steps else ()):
        children.append((node.prompt, place))
        if node.judgement.good:
            kept += 1
            continue
        proposals = task.propose(node, plan.proposals, number)
        proposed += len(proposals)
        unread += proposals.count(None)
        children += [(prompt, place) for prompt in proposals if prompt is not None]
    distinct = dict(reversed(children))  # the first of equal ones
    cases = [(prompt, distinct[prompt]) for prompt in dict.fromkeys(prompt for prompt, _ in children)]
    query = plan.query(number)
    judged = task.judge([(prompt, query) for prompt, _ in cases])
    nodes, refused = [], []
    for (prompt, parent), judgement in zip(cases, judged, strict=True):
        if isinstance(judgement, str):
            refused.append((prompt, judgement))
            continue
        before = steps[-1].best()[parent].path if parent is not None else ()
        path = (*before, (prompt, judgement.reward))
        nodes.append(Node(prompt=prompt, parent=parent, path=path, judgement=judgement))
    if not nodes:
        raise OracleError(f"no system prompt can be used with query {query}: {refused[0][1]}")
    order = sorted(range(len(nodes)), key=lambda i: -nodes[i].value(plan.width))  # of equal ones the earlier
    return Step(
        step=number,
        query=query,
        nodes=tuple(nodes),
        beam=tuple(order[: plan.width]),
        kept=kept,
        proposed=proposed,
        unread=unread,
        refused=tuple(refused),
    )


def _read_step(found: Mapping[str, Any]) -> Step:
    nodes = tuple(
        Node(
            prompt=node["prompt"],
            parent=node["parent"],
            path=tuple((prompt, float(reward)) for prompt, reward in node["path"]),
            judgement=Judgement(**node["judgement"]),
        )
        for node in found["nodes"]
    )
    refused = tuple((prompt, why) for prompt, why in found["refused"])
    return Step(**{**found, "nodes": nodes, "beam": tuple(found["beam"]), "refused": refused})


def _held_out(
    task: Task, plan: Plan, steps: Sequence[Step], record: Record, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Every prompt that was ever in the beam, the initial one first, judged on the held-out queries."""
    prompts = dict.fromkeys([plan.initial, *(node.prompt for step in steps for node in step.best())])
    found = []
    for number, prompt in enumerate(prompts):
        name = f"held-out-{number:03d}"
        one = record.get(name)
        if one is None:
            judged = task.judge([(prompt, query) for query in plan.held_out])
            refused = next((judgement for judgement in judged if isinstance(judgement, str)), None)
            plain = [asdict(judgement) for judgement in judged if isinstance(judgement, Judgement)]
            one = {"prompt": prompt, "refused": refused, "judgements": plain}
            record.put(name, one)
        tell(f"prompt {number + 1} of {len(prompts)} on {len(plan.held_out)} held-out queries")
        found.append(one)
    return found


def _report(plan: Plan, steps: Sequence[Step], held_out: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was found; held-out differences to the initial prompt with t-intervals over queries."""
    usable = [one for one in held_out if one["refused"] is None]
    if not usable:
        raise OracleError(f"no system prompt can be used with the held-out queries: {held_out[0]['refused']}")
    rewards = {one["prompt"]: [j["reward"] for j in one["judgements"]] for one in usable}
    means = {prompt: math.fsum(found) / len(found) for prompt, found in rewards.items()}
    chosen = max(means, key=lambda prompt: means[prompt])  # of equal ones the earlier
    judgements = [asdict(node.judgement) for step in steps for node in step.nodes]
    judgements += [judgement for one in held_out for judgement in one["judgements"]]
    report: dict[str, Any] = {
        "system_prompt": chosen,
        "initial": plan.initial,
        "held_out": {
            "queries": len(plan.held_out),
            "chosen": means[chosen],
            "initial": means.get(plan.initial),
            "difference": None,
            "prompts": [
                {"prompt": one["prompt"], "mean": means.get(one["prompt"]), "refused": one["refused"]}
                for one in held_out
            ],
        },
        "unreadable": {
            "judgements": sum(judgement["unreadable"] is not None for judgement in judgements),
            "choices": len({judgement["query"] for judgement in judgements if judgement["all_aspects"]}),
            "proposals": sum(step.unread for step in steps),
        },
        "steps": [
            {
                "step": step.step,
                "query": step.query,
                "best": max(node.path[-1][1] for node in step.best()),
                "mean": math.fsum(node.path[-1][1] for node in step.nodes) / len(step.nodes),
                "judged": len(step.nodes),
                "kept": step.kept,
                "proposed": step.proposed,
                "unread": step.unread,
                "refused": len(step.refused),
                "beam": [node.prompt for node in step.best()],
            }
            for step in steps
        ],
    }
    if chosen != plan.initial and plan.initial in rewards:
        differences = [a - b for a, b in zip(rewards[chosen], rewards[plan.initial], strict=True)]
        report["held_out"]["difference"] = clustered_mean(differences, plan.held_out)
    return report


def report_text(report: Mapping[str, Any]) -> str:
    """The report as text: rewards by step, and the choice on held-out queries."""
    lines = ["step  query  judged  kept  proposed  mean  best"]
    lines += [
        f"{s['step']:4d}  {s['query']:5d}  {s['judged']:6d}  {s['kept']:4d}  {s['proposed']:8d}  {s['mean']:4.2f}  "
        f"{s['best']:4.2f}"
        for s in report["steps"]
    ]
    found, unreadable = report["held_out"], report["unreadable"]
    lines += ["", f"on {found['queries']} held-out queries, of {len(found['prompts'])} prompts:"]
    lines += [
        f"  {'not usable' if one['mean'] is None else format(one['mean'], '10.2f')}  {one['prompt'][:70]!r}"
        for one in found["prompts"]
    ]
    difference = found["difference"]
    if difference is None:
        lines.append("the initial prompt stays" if report["system_prompt"] == report["initial"] else "")
    else:
        interval = (
            "" if difference["low"] is None else f" ({difference['low']:+.2f} to {difference['high']:+.2f})"
        )
        lines.append(
            f"chosen minus initial {difference['value']:+.2f}{interval}; the chosen one is the best of several on "
            "these queries, so judge it again on others before you quote this"
        )
    lines.append(
        f"unreadable answers: {unreadable['judgements']} judgements (reward 0), {unreadable['choices']} choices of "
        f"aspects (all are scored), {unreadable['proposals']} proposals (left out)"
    )
    if report.get("examples"):
        changed = [one for one in report["examples"] if one["last"] > one["first"]]
        lines.append(f"{len(changed)} of {len(report['examples'])} examples have a better answer now")
    return "\n".join([*lines, "", "the chosen system prompt:", report["system_prompt"]]) + "\n"
