"""Prompt search on a loaded model: answers under a system prompt, a judge and an optimiser, in a resumable folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.data.collate import Prompt
from equipoise.data.errors import DataError, Refusal
from equipoise.data.records import digest
from equipoise.evaluate.answers import canonical
from equipoise.evaluate.examples import Example, Examples, prompted
from equipoise.evaluate.principle import principled
from equipoise.evaluate.prompt_search.questions import AspectChoice, AspectScores, Proposal, Rewrite
from equipoise.evaluate.prompt_search.search import Judgement, Node, Plan
from equipoise.evaluate.writer import Writer
from equipoise.models.errors import ModelError
from equipoise.oracles.file import settings_of
from equipoise.oracles.judges.chat_client import ServerFile
from equipoise.oracles.judges.json_questions import JsonQuestions
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.questions.asking import UNREADABLE, Asking
from equipoise.oracles.questions.questioner import Policy
from equipoise.oracles.questions.verdicts import Verdict, VerdictStore
from equipoise.play.seeds import Seeds
from equipoise.policy.files import write_json
from equipoise.policy.generation.sampling import sample
from equipoise.policy.protocol import Decoding
from equipoise.safe_yaml import load

VERDICTS = "verdicts.sqlite"
LONG_ANSWER = 1024  # tokens of a judgement with reasons, or of a proposal, unless the file says otherwise
PROPOSED = {"proposal": "system_prompt", "rewrite": "answer"}  # form of question -> what its verdict holds
COMPARES = ("question", "answer", "attributes", "prompt")  # settings of a judge that compares


@dataclass(frozen=True, kw_only=True)
class Models:
    """The judge and the optimiser, asked through one store: the same questioner if they are the same file."""

    judge: Asking
    optimiser: Asking
    aspects: Mapping[str, str]

    @classmethod
    def of(
        cls, judge: Path, optimiser: Path | None, aspects: Mapping[str, str], store: Path, policy: Policy
    ) -> Models:
        """Read the files. Raises OracleError that names the file and the setting."""
        verdicts = VerdictStore(store)
        asked: list[Any] = [AspectChoice(aspects), AspectScores(aspects)]
        file, _ = read_server(judge)
        if optimiser is None:
            both = Asking(JsonQuestions(file, [*asked, Proposal(), Rewrite()], str(judge)), verdicts, policy)
            return cls(judge=both, optimiser=both, aspects=aspects)
        own, given = read_server(optimiser)
        how = {"temperature": own.temperature} if "temperature" in given else {}
        proposed: list[Any] = [Proposal(**how), Rewrite(**how)]
        return cls(
            judge=Asking(JsonQuestions(file, asked, str(judge)), verdicts, policy),
            optimiser=Asking(JsonQuestions(own, proposed, str(optimiser)), verdicts, policy),
            aspects=aspects,
        )


def read_server(file: Path) -> tuple[ServerFile, frozenset[str]]:
    """The chat model of a judge's YAML file, and the settings that it gives. Raises OracleError.

    What a judge that compares is asked (`question`, `answer`, ...) is not read: the questions here are others.
    """
    try:
        found = load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OracleError(f"cannot read the judge {file}: {error}") from None
    if not isinstance(found, Mapping):
        raise OracleError(f"cannot read the judge {file}: it must hold settings, NAME: VALUE in each line")
    if found.get("kind", "judge") != "judge":
        raise OracleError(f"{file}: kind {found['kind']!r} is no chat model behind a server; name a judge")
    settings = {str(name): value for name, value in found.items() if name != "kind" and name not in COMPARES}
    return settings_of(ServerFile, {"max_tokens": LONG_ANSWER, **settings}, file), frozenset(settings)


@dataclass(frozen=True, kw_only=True)
class ModelTask:
    """A model whose system prompt is searched: answers of a writer, dynamic rewards of a judge, proposals.

    examples    shown to the model with every query, if given
    """

    writer: Writer
    queries: Sequence[Prompt]
    models: Models
    decoding: Decoding
    seed: int
    examples: Examples | None = None

    def judge(self, cases: Sequence[tuple[str, int]]) -> list[Judgement | str]:
        """Each (system prompt, query) answered by the model and judged, or why it cannot be answered."""
        answers, refused = self._answers(cases)
        asked = [(cases[i][1], self.queries[cases[i][1]].context, answer) for i, answer in answers.items()]
        judged = dict(zip(answers, self.judged(asked), strict=True))
        return [judged[i] if i in judged else refused[i] for i in range(len(cases))]

    def judged(self, answers: Sequence[tuple[int, Any, str]]) -> list[Judgement]:
        """(number, conversation, answer) each judged by the aspects that the judge chooses for the conversation."""
        chosen = self.models.judge.verdicts([(context, "aspects") for _, context, _ in answers])
        read = [_known(verdict).about.get("aspects") for verdict in chosen]
        questions = [
            (context, "scores", answer, aspects or list(self.models.aspects))
            for (_, context, answer), aspects in zip(answers, read, strict=True)
        ]
        verdicts = self.models.judge.verdicts(questions)
        return [
            _judgement(number, answer, _known(verdict), not aspects)
            for (number, _, answer), verdict, aspects in zip(answers, verdicts, read, strict=True)
        ]

    def propose(self, node: Node, count: int, step: int) -> list[str | None]:
        """Proposals for a node, addressed by seed, step and number; None: unreadable."""
        judged = node.judgement
        about = (judged.answer, judged.text(), [list(one) for one in node.path])
        return self._proposed(self.queries[judged.query].context, "proposal", about, count, step)

    def rewrite(self, example: Example, judged: Judgement, count: int, step: int) -> list[str | None]:
        """Better answers to an example's query, addressed by seed, step and number; None: unreadable."""
        context = [{"role": "user", "content": example.query}]
        return self._proposed(context, "rewrite", (example.answer, judged.text()), count, step)

    def _proposed(
        self, context: Any, form: str, about: tuple[Any, ...], count: int, step: int
    ) -> list[str | None]:
        questions = [(context, form, *about, [self.seed, step, number]) for number in range(count)]
        found = [_known(verdict) for verdict in self.models.optimiser.verdicts(questions)]
        return [said.about.get(PROPOSED[form]) for said in found]

    def _answers(self, cases: Sequence[tuple[str, int]]) -> tuple[dict[int, str], dict[int, str]]:
        """The answers to cases by their places, and the reasons why others cannot be answered."""
        refused: dict[int, str] = {}
        prompts: dict[int, Prompt] = {}
        for i, (prompt, query) in enumerate(cases):
            try:
                (prompts[i],) = principled(self.writer, [self.queries[query]], prompt)
                if self.examples is not None:
                    (prompts[i],) = prompted(self.writer, [prompts[i]], self.examples)
            except (ModelError, Refusal) as error:
                refused[i] = str(error)
        groups = sample(
            self.writer.policy,
            list(prompts.values()),
            1,
            seed=Seeds(self.seed)(
                "sample"
            ),  # as `writer.sampled`: the answers of `sample --system` and this seed
            decoding=self.decoding,
            places=[cases[i][1] for i in prompts],
        )
        return {i: response.text for i, (response,) in zip(prompts, groups, strict=True)}, refused


@dataclass(frozen=True)
class _Said:
    """A verdict with what else was said."""

    value: float
    about: Mapping[str, Any]
    scores: Mapping[str, float]


def _known(verdict: Verdict | None) -> _Said:
    if verdict is None:
        raise OracleError("a question stayed without a verdict")
    return _Said(verdict.value, verdict.about or {}, verdict.scores or {})


def _judgement(query: int, answer: str, said: _Said, all_aspects: bool) -> Judgement:
    return Judgement(
        query=query,
        answer=answer,
        reward=said.value,
        scores=dict(said.scores),
        reasons=said.about.get("reasons", {}),
        unreadable=said.about.get(UNREADABLE),
        all_aspects=all_aspects,
    )


class SearchFolder:
    """The folder of a search: search.json says what it is, and every finished part is a file of steps/."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        path = folder / "search.json"
        if path.exists():
            if _read(path) != json.loads(json.dumps(settings)):
                raise DataError(
                    "the folder holds a search of other settings", file=str(path), hint="name another --out"
                )
        else:
            if folder.exists() and any(one.name not in _STORES for one in folder.iterdir()):
                raise DataError("the folder is not empty and holds no search", file=str(folder))
            (folder / "steps").mkdir(parents=True, exist_ok=True)
            write_json(path, settings)

    def get(self, name: str) -> Any:
        path = self._path(name)
        return _read(path) if path.exists() else None

    def put(self, name: str, value: Any) -> None:
        write_json(self._path(name), value)

    def _path(self, name: str) -> Path:
        return self.folder / "steps" / f"{name}.json"


_STORES = tuple(VERDICTS + end for end in ("", "-asking", "-wal", "-shm"))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not as it was written: {error}", file=str(path), hint="delete it") from None


def check_queries(queries: Sequence[Prompt]) -> None:
    """Raises DataError for a query in which a system prompt has no place, or which has one of its own."""
    for prompt in queries:
        if isinstance(prompt.context, str):
            raise DataError(
                "a query of plain text has no place for a system prompt",
                hint="give --wrap chat, so that plain strings become chat turns",
            )
        if prompt.context[0].get("role") == "system":
            raise DataError(
                "a query has a system prompt of its own, which the one that is searched would not replace",
                hint="take the system turns out of the queries",
            )


def settings_of_search(task: ModelTask, plan: Plan, example_steps: int = 0) -> dict[str, Any]:
    """What a search depends on, for its folder."""
    asked = [canonical(prompt.context) for prompt in task.queries]
    decoding = {
        name: value
        for name, value in vars(task.decoding).items()
        if name not in ("batch", "memory", "servers", "key")
    }
    shown = {} if task.examples is None else {"examples": [task.examples.fingerprint, example_steps]}
    return {
        "model": task.writer.fingerprint,
        "queries": digest(asked),
        "judge": task.models.judge.fingerprint,
        "optimiser": task.models.optimiser.fingerprint,
        "decoding": digest(sorted(decoding.items(), key=lambda item: item[0])),
        "seed": task.seed,
        "plan": vars(plan),
        **shown,
    }


def split(queries: int, held_out: int, depth: int, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(queries of the steps, held-out queries), drawn by seed. Raises DataError if too few are left for the steps."""
    if queries - held_out < 1:
        raise DataError(
            f"{queries} queries, of which {held_out} are held out: none is left for the steps",
            hint="give more queries or a smaller --held-out",
        )
    order = [int(i) for i in Seeds(seed).generator("prompt search", "split").permutation(queries)]
    return tuple(order[held_out : held_out + depth + 1]), tuple(sorted(order[:held_out]))
