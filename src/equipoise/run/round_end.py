"""End of a round: its policy is evaluated once, judged against the reference's support, and kept if it is the best."""

from __future__ import annotations

import sys
from typing import Any

from equipoise.evaluate.details import VERDICTS, Evaluated
from equipoise.evaluate.support import delivered, support
from equipoise.evaluate.text import Evaluator
from equipoise.play.method import Method
from equipoise.play.needs import DEMONSTRATIONS
from equipoise.play.state import State
from equipoise.run.settings import RunConfig
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.folder.manifest import DamagedRun
from equipoise.worlds.text.folder.best import WITHIN_A_FIT, Best
from equipoise.worlds.text.folder.gates import GateClosed, Gates

EVALUATION, SAMPLES = "evaluation.jsonl", "samples.jsonl"


def check_evaluations(journal: Journal, done: int, config: RunConfig) -> None:
    """Raises DamagedRun if the evaluation of a round before the last is missing: it is not measured again."""
    there = {line["round"] for line in journal.lines(EVALUATION)}
    missing = [past for past in range(0, done, config.evaluate.every) if past not in there]
    if missing:
        raise DamagedRun(
            f"{journal.folder / EVALUATION} has no line of round {missing[0]}: restore it from a copy, or "
            "start again in another folder"
        )


def measure(state: State, journal: Journal, evaluator: Evaluator, config: RunConfig) -> None:
    """Evaluate a round boundary once; its line in evaluation.jsonl, written last, marks it as done."""
    done = state.round - 1
    last = done == config.play.rounds or budget_spent(journal, config, done)
    if done % config.evaluate.every and not last:
        return
    count = min(config.evaluate.shown, len(evaluator.prompts))
    ranks = evaluator.world.folder.ranks

    def measured() -> bool:
        lines = {name: [line["round"] for line in journal.lines(name)] for name in (EVALUATION, SAMPLES)}
        return done in lines[EVALUATION] and count <= lines[SAMPLES].count(done)

    if ranks.agreed(measured):
        return
    found = evaluator.measure(state)

    def write() -> None:
        logs = {SAMPLES: _samples(found, done, count), **found.logs, EVALUATION: [found.line]}
        for name, lines in logs.items():  # the line of evaluation.jsonl comes last
            journal.rewind(name, done - 1)
            for line in lines:
                journal.append(name, line)
        journal.seal()

    ranks.once(write)


def budget_spent(journal: Journal, config: RunConfig, done: int) -> bool:
    """Whether one more round like the last would pass the budget of questions (judging.budget)."""
    if config.judging.budget is None or not done:
        return False
    return journal.judge_calls(*range(1, done + 1), done) > config.judging.budget


def _samples(found: Evaluated, done: int, count: int) -> list[dict[str, Any]]:
    """Lines of samples.jsonl: the first response to each of the first prompts, what it met, and the verdict on them."""
    wins = {(line["prompt_index"], line["sample"]): line["win"] for line in found.logs[VERDICTS]}
    lines = []
    for index in range(count):
        response = found.own.responses[index, 0]
        line = {
            "round": done,
            "prompt_index": index,
            "prompt": found.own.prompts[index].text,
            "response": response.text,
            "finished": response.finished,
        }
        if (index, 0) in wins:
            line |= {"against": found.reference.responses[index, 0].text, "win": wins[index, 0]}
        lines.append(line)
    return lines


def judge_support(method: Method, journal: Journal, gates: Gates, done: int) -> bool:
    """Judge whether the policy after a round, if it was evaluated, is within the reference's support."""
    lines = {line["round"]: line for line in journal.lines(EVALUATION)}
    if not done or done not in lines or method.needs.records == DEMONSTRATIONS.records:
        return True  # demonstrations may lie anywhere, and are what the policy shall write
    try:
        gates.judge(support(lines[0], lines[done]), round=done)
    except GateClosed as closed:
        if gates.main and not gates.quiet:
            print(f"  stopped   {closed}; delivered is round {delivered(journal)}", file=sys.stderr)
        return False
    return True


def keep_best(state: State, journal: Journal, config: RunConfig) -> None:
    """Keep the best policy so far of a sound round: the round's own, if the run chooses among rounds, or what its fits
    found best; of a round that is not evaluated, once a later one is."""
    metric, best = config.evaluate.best, Best(journal)
    lines = [line for line in journal.lines(EVALUATION) if line["round"] > 0]
    if metric == "none" or not lines or lines[-1]["round"] != state.round - 1:
        return
    if config.evaluate.steps and metric in WITHIN_A_FIT:
        best.accept()
    elif best.is_best(metric, lines, lines[-1]):
        best.take(journal.checkpoint(state.round - 1), metric, lines[-1])
