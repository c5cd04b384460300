"""Steps of an evaluation: decide what is evaluated, evaluate it, write files of public suites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise import oracles
from equipoise.data.reading.given_rows import DataLike, given_rows, paths_of
from equipoise.evaluate import lm_eval
from equipoise.evaluate.answers import shown, write_answers
from equipoise.evaluate.collect import Request, file_name
from equipoise.evaluate.evaluation import Evaluated, annotations_of
from equipoise.evaluate.evaluation import evaluate as of_request
from equipoise.evaluate.located import Located, locate
from equipoise.evaluate.recorded import evaluate_recorded, kind_of
from equipoise.evaluate.suites import alpaca_eval, arena_hard, mt_bench, reward_bench
from equipoise.evaluate.suites.alpaca_eval import read_difficulty
from equipoise.oracles.checked import Checked
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.oracles.rules.given import Given
from equipoise.oracles.spec import asked as asking
from equipoise.playground.choice import game_of
from equipoise.policy.protocol import Decoding
from equipoise.run.config import ConfigError, read_file

if TYPE_CHECKING:
    from equipoise.data.reading.read import Dataset

PLAYGROUND = "playground"
SHOWN = 8  # prompts whose answers the page shows
FORMATS = ("alpaca_eval", "arena_hard", "mt_bench")
Read = Callable[[DataLike], "Dataset"]
Measured = tuple[dict[str, Any], list[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an evaluation is asked for, as its results record it."""

    models: list[str]
    baseline: str | None
    reference: str | None
    oracle: str | Given | None
    out: Path
    difficulty: Path | None
    everybody: bool
    format: str | None
    count: int
    seed: int
    round: str
    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int
    batch: int
    failures: float
    data: DataLike | None
    load: Mapping[str, Any]
    lm_eval: list[str]

    def plain(self) -> dict[str, Any]:
        """The options as results.json keeps them; of objects in memory their names."""
        rows = given_rows(self.data)
        held = {
            "oracle": self.oracle.spec if isinstance(self.oracle, Given) else self.oracle,
            "data": [rows.name] if rows else list(paths_of(self.data)),
        }
        return {name: str(v) if isinstance(v, Path) else v for name, v in (vars(self) | held).items()}

    @property
    def decoding(self) -> Decoding:
        return Decoding(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_new_tokens=self.max_new_tokens,
            batch=self.batch,
        )


def measured(asked: Asked, read: Read, pairs: DataLike | None, tell: Callable[[str], None]) -> Measured:
    """(results, examples for the page). Raises a sentence for what cannot be evaluated."""
    if asked.format is not None and asked.format not in FORMATS:
        raise ConfigError(f"--format must be one of {', '.join(FORMATS)}, got {asked.format!r}")
    if asked.out.exists() and not asked.out.is_dir():
        raise ConfigError(f"{asked.out} is a file: --out names the folder of results; choose another name")
    difficulty = read_difficulty(asked.difficulty) if asked.difficulty else None
    located = [locate(spec, asked.round) for spec in asked.models]
    judged = [one.file for one in located if one.file is not None and kind_of(one.file) is not None]
    if judged and len(judged) < len(located):
        raise ConfigError(f"{judged[0]} holds what a judge said, and not answers: give such files alone")
    if judged:
        return _of_judged(asked, judged, difficulty), []
    results: dict[str, Any] = {}
    examples: list[dict[str, Any]] = []
    if asked.lm_eval:
        results["lm_eval"] = {
            one.name: lm_eval.measure(
                one, asked.lm_eval, precision=asked.load["precision"], more=_limit(asked)
            )
            for one in located
        }
    known = (asked.oracle, asked.data, pairs, asked.baseline)
    if any(one is not None for one in known) or not asked.lm_eval:
        found = of_request(_request(asked, located, read, pairs, difficulty, tell))
        results = found.results | results
        examples = _examples(found)
        _write_files(asked, found)
    return results, examples


def _limit(asked: Asked) -> tuple[str, ...]:
    return ("--batch_size", str(asked.batch))


def _of_judged(asked: Asked, files: Sequence[Path], difficulty: Any) -> dict[str, Any]:
    if kind_of(files[0]) == "reward_bench" and asked.oracle:
        if len(files) > 1:
            raise ConfigError("RewardBench is one file: give the others in a command of their own")
        oracle = _oracle(asked, asked.oracle)
        items = reward_bench.read_items(files[0])
        scored = reward_bench.benchmarked(items, oracle)
        return {"kind": "reward_bench", "oracle": oracle.name, "reward_bench": scored.plain()}
    found = evaluate_recorded(files, baseline=asked.baseline, difficulty=difficulty, seed=asked.seed)
    if "leaderboard" in found:
        alpaca_eval.write_leaderboard(asked.out / "leaderboard.csv", found.pop("leaderboard"))
    return found


def _request(
    asked: Asked,
    located: Sequence[Located],
    read: Read,
    pairs: DataLike | None,
    difficulty: Any,
    tell: Callable[[str], None],
) -> Request:
    baseline = _baseline(asked, located)
    everyone = [*located, baseline]
    questions = _only_file(asked.data) if any(one.file for one in everyone) else None
    spec = asked.oracle or _own_oracle(everyone)
    if spec is None and pairs is None and not asked.reference:
        raise OracleError(
            "who says which answer is better? give --oracle (or --pairs or --reference for figures without a judge)"
        )
    return Request(
        participants=located,
        baseline=baseline,
        data=None if asked.data is None else read(asked.data),
        questions=questions,
        oracle=_oracle(asked, spec) if spec else None,
        pairs=None if pairs is None else _pairs(read(pairs)),
        reference=locate(asked.reference, "start") if asked.reference else None,
        difficulty=difficulty,
        everybody=asked.everybody,
        store=asked.out / "answers",
        count=asked.count,
        decoding=asked.decoding,
        seed=asked.seed,
        load=asked.load,
        tell=tell,
    )


def _only_file(data: DataLike | None) -> Path | None:
    """The file that the data are, if they are one."""
    if data is None or given_rows(data):
        return None
    paths = list(paths_of(data))
    return (
        Path(paths[0]) if len(paths) == 1 and isinstance(paths[0], str) and Path(paths[0]).is_file() else None
    )


def _pairs(dataset: Dataset) -> Dataset:
    if dataset.kind != "pair":
        raise ConfigError(f"--pairs needs pairs of answers; these data contain {dataset.kind}")
    return dataset


def _baseline(asked: Asked, located: Sequence[Located]) -> Located:
    if asked.baseline is not None:
        return locate(asked.baseline, asked.round)
    if len(located) > 1:
        return located[-1]
    (only,) = located
    return only.at(0) if only.run is not None else only


def _own_oracle(everyone: Sequence[Located]) -> str | None:
    """The oracle of a run of the built-in game; of other runs none, which may be code or cost money."""
    for one in everyone:
        if one.run is None:
            continue
        settings = read_file(one.run / "config.yaml")
        model, data = (settings.get(part) or {} for part in ("model", "data"))
        if not settings.get("oracle") and not model.get("path") and not data.get("path"):
            return f"{PLAYGROUND}:{(settings.get('play') or {}).get('panel', '')}".rstrip(":")
    return None


def _oracle(asked: Asked, spec: str | Given) -> Oracle:
    policy = oracles.Policy(failures=asked.failures)
    store = asked.out / "verdicts.sqlite"
    if isinstance(spec, Given):
        return asking(spec.made, store, policy)
    name, _, panel = spec.partition(":")
    if name == PLAYGROUND:
        try:
            return Checked(game_of(panel or "intransitive").oracle())
        except ValueError as error:
            raise OracleError(f"{spec}: {error}") from error
    return oracles.load(spec, store=store, policy=policy)


def _examples(found: Evaluated) -> list[dict[str, Any]]:
    """The first answers of everybody to the first prompts, with the verdicts against the baseline."""
    base = next(a for a in found.answers if a.name == found.results["baseline"])
    return [
        {
            "prompt": shown(context),
            "answers": [
                (a.name, a.by[key][0].text, _said(found, a.name, key)) for a in found.answers if key in a.by
            ],
        }
        for key, context in islice(base.contexts.items(), SHOWN)
    ]


def _said(found: Evaluated, name: str, key: str) -> str:
    for c in found.contests:
        if c.candidate == name and c.against == found.results["baseline"] and key in c.prompts:
            p = float(c.prob[c.prompts.index(key)])
            return "no verdict" if p != p else f"wins with {p:.0%}"
    return ""


def _write_files(asked: Asked, found: Evaluated) -> None:
    """Answers of everybody, and what --format asks for."""
    base = next(a for a in found.answers if a.name == found.results["baseline"])
    for a in found.answers:
        write_answers(asked.out / "answers" / f"{file_name(a.name)}.jsonl", a)
    judge = found.results["oracle"] or ""
    for c in found.contests if asked.format else ():
        folder, name = asked.out / str(asked.format), file_name(f"{c.candidate}-against-{c.against}")
        if asked.format == "alpaca_eval":
            made = annotations_of(c, base, judge)
            if made is None:
                raise ConfigError("AlpacaEval's files hold one answer to one instruction of a single turn")
            alpaca_eval.write_annotations(folder / f"{name}.json", made)
        elif asked.format == "arena_hard":
            rows = [
                arena_hard.Judgment(
                    key, c.candidate, c.against, "", judge,
                    (None, None) if p != p else (arena_hard.label(1 - p), arena_hard.label(p)),
                )
                for key, p in zip(c.prompts, c.prob, strict=True)
            ]  # fmt: skip
            arena_hard.write_judgments(folder / f"{name}.jsonl", rows)
        else:
            matches = [
                mt_bench.Match(key, c.candidate, c.against, 1, (_winner(p), _winner(p)), judge)
                for key, p in zip(c.prompts, c.prob, strict=True)
            ]
            mt_bench.write_matches(folder / f"{name}.jsonl", matches)


def _winner(p: float) -> str:
    return "error" if p != p else "model_1" if p > 0.5 else "model_2" if p < 0.5 else "tie"
