"""Evaluation of models, run folders and files of answers: figures with intervals, and a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.api.comparison import named
from equipoise.api.data import read
from equipoise.api.measured import Asked, measured
from equipoise.api.options import check_count, placed, wrapped
from equipoise.data.reading.given_rows import DataLike
from equipoise.html_text import html_table
from equipoise.oracles.rules.given import Given, OracleLike, given
from equipoise.report.evaluation import tables, write_evaluation
from equipoise.run.config import ConfigError
from equipoise.run.finished import Run

if TYPE_CHECKING:
    from equipoise.data.reading.read import Dataset


@dataclass(frozen=True)
class Evaluation:
    """Results of an evaluation, as in results.json: win rates, ratings and more, each with an interval.

    folder    of results.json, answers and verdicts.      page  the same for a reader, index.html or the like.
    """

    results: Mapping[str, Any]
    folder: Path
    page: Path

    def _repr_html_(self) -> str:
        return "".join(
            html_table(sheet.rows, sheet.columns, sheet.title, sheet.note) for sheet in tables(self.results)
        )


def evaluate(
    *models: Run | str | Path,
    data: DataLike | None = None,
    oracle: OracleLike | None = None,
    baseline: Run | str | Path | None = None,
    reference: Run | str | Path | None = None,
    pairs: DataLike | None = None,
    difficulty: str | Path | None = None,
    everybody: bool = False,
    lm_eval: Sequence[str] = (),
    out: str | Path = "evaluation",
    format: str | None = None,
    count: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    max_new_tokens: int = 256,
    seed: int = 0,
    round: str = "final",
    wrap: str = "none",
    system: str | None = None,
    limit: int | None = None,
    precision: str = "fp32",
    batch: int = 32,
    failures: float = 0.1,
    tell: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Compare models, runs or files of answers: win rate, length control, ratings, each with an interval.

    models     results of `align`, run, model or adapter folders, hub names, files of answers; or files that a judge
               has filled (AlpacaEval annotations, Arena-Hard or MT-Bench judgments), or RewardBench's items
    data       prompts, and `pairs` held-out pairs for ranking accuracies: files or rows, as `read` takes them
    oracle     the judge, as `align` takes it, or "playground"
    baseline   whom the others are compared with; the last model, or a run's start, if not given
    reference  a policy from which KL divergences are measured
    out        folder of results.json, the page, answers and verdicts; the same call goes on where one was stopped

    The other arguments are those of `equipoise evaluate`. Raises ConfigError, DataError, OracleError or ModelError.
    """
    if not models:
        raise ConfigError("evaluate what? give models, runs or files of answers")
    check_count(count)
    asked = Asked(
        models=[named(model) for model in models],
        baseline=None if baseline is None else named(baseline),
        reference=None if reference is None else named(reference),
        oracle=_held(oracle),
        out=Path(out),
        difficulty=None if difficulty is None else Path(difficulty),
        everybody=everybody, format=format, count=count, seed=seed, round=round, temperature=temperature, top_p=top_p,
        top_k=top_k, max_new_tokens=max_new_tokens, batch=batch, failures=failures, data=data,
        load=placed(precision), lm_eval=list(lm_eval),
    )  # fmt: skip

    def rows(data: DataLike) -> Dataset:
        return read(data, wrap=wrapped(wrap), system=system, limit=limit, seed=seed)

    try:
        results, examples = measured(asked, rows, pairs, tell)
    finally:
        if isinstance(asked.oracle, Given):
            asked.oracle.asked()
    results["asked"] = asked.plain()
    _, page = write_evaluation(asked.out, results, examples)
    return Evaluation(results, asked.out, page)


def _held(oracle: OracleLike | None) -> str | Given | None:
    return (
        oracle
        if oracle is None or isinstance(oracle, str)
        else str(oracle)
        if isinstance(oracle, Path)
        else given(oracle)
    )
