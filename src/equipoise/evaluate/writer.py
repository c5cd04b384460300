"""Sampling of answers from any policy on disk, as a run samples: its loading, template, stop tokens and sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equipoise.data.collate import Prompt, Response
from equipoise.data.reading.read import Dataset
from equipoise.data.records import digest
from equipoise.data.rendering.render import Rendered, Renderer, load_tokenizer
from equipoise.data.rendering.tokens import longest_sequence
from equipoise.data.revision_prompt import Leads, leads_of
from equipoise.evaluate.answers import Answer, Answers, canonical, gather, key_of
from equipoise.evaluate.located import Located
from equipoise.models.adapters import chain, lineage
from equipoise.models.errors import ModelError
from equipoise.models.folder import described
from equipoise.models.tokenizer import check_ids, check_tokenizer, embedding_rows
from equipoise.play.seeds import Seeds
from equipoise.play.state import Floats
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.digests import verify
from equipoise.policy.files import MOMENTS
from equipoise.policy.generation.contrast import Contrast
from equipoise.policy.generation.sampling import sample
from equipoise.policy.generation.self_revision import improve
from equipoise.policy.protocol import Decoding
from equipoise.policy.scoring.anchor_store import score
from equipoise.policy.scoring.microbatch import Comparison
from equipoise.worlds.folder.manifest import append_line, complete_lines
from equipoise.worlds.text.recorded_rows import distinct_prompts, pair_rows, prompts_of

CHUNK = 64  # prompts whose answers are kept at a time


@dataclass(frozen=True)
class Writer:
    """A loaded policy that answers prompts."""

    name: str
    policy: CausalPolicy
    renderer: Renderer
    fingerprint: str

    @classmethod
    def load(
        cls,
        of: Located,
        *,
        precision: str = "fp32",
        max_length: int | None = None,
        rendering: Mapping[str, Any] | None = None,
    ) -> Writer:
        """Load a participant's policy; its adapters are merged.

        max_length  most tokens of prompt and answer, the model's limit if less.
        rendering   settings of the template, over those of its run (`data.rendering.render.Renderer`)

        Raises ModelError or DataError for what cannot be loaded, as training does.
        """
        if of.model is None:
            raise ModelError(f"{of.file} is a file of answers: there is no model to ask")
        inspected(of)
        tokenizer = load_tokenizer(of.model)
        check_tokenizer(of.model, tokenizer)
        limit = longest_sequence(of.model)
        renderer = Renderer(
            tokenizer, max_length=min(max_length or limit, limit), **{**of.rendering, **(rendering or {})}
        )
        policy = CausalPolicy.load(of.model, tokenizer, precision=precision, adapter="merge")
        return cls(of.name, policy, renderer, _fingerprint(of.model, renderer, precision))

    def prompts(self, dataset: Dataset) -> list[Prompt]:
        """The distinct prompts of a data set of any kind; those that cannot be rendered are refused in its ledger."""
        asked = [
            replace(
                record, kind="prompt", candidates=(), desirable=None, margin=None, rationale="", weight=1.0
            )
            for record in dataset.records
        ]
        rendered = self.renderer.render(replace(dataset, records=tuple(asked), kind="prompt"))
        prompts = distinct_prompts(rendered, self.renderer)
        limit = self.renderer.max_length
        long = [len(prompt.ids) for prompt in prompts if len(prompt.ids) >= limit]
        if long:
            raise ModelError(f"a prompt of {max(long)} tokens leaves no room for an answer within {limit}")
        self._check_ids(prompt.ids for prompt in prompts)
        if any(not isinstance(prompt.context, str) for prompt in prompts):
            self.policy.stop_at(self.renderer.turn_ends)
        return prompts

    def prompt(self, context: Any) -> Prompt:
        """One prompt, as `prompts` renders it. Raises Refusal for what the template cannot render."""
        ids = self.renderer.prompt(context)
        if not isinstance(context, str) and self.policy.turn_ends != self.renderer.turn_ends:
            self.policy.stop_at(self.renderer.turn_ends)
        return Prompt(ids, context, self.renderer.text(ids))

    def _check_ids(self, sequences: Any) -> None:
        model = str(self.policy.start.chain.base.path) if self.policy.start else None
        if model is not None and check_tokenizer(model, self.renderer.codec.tokenizer):
            check_ids(model, embedding_rows(model), sequences, self.renderer.codec.tokenizer)

    def comparisons(self, dataset: Dataset) -> tuple[list[Rendered], list[Comparison]]:
        """Recorded pairs as this policy reads them, the preferred response first: (rows, token ids of each prompt and
        its responses)."""
        rendered = self.renderer.render(dataset)
        rows = pair_rows(rendered, prompts_of(rendered, self.renderer)).preferred_first()
        return rendered, [(p.ids, list(group)) for p, group in zip(rows.prompts, rows.responses, strict=True)]

    def pairs(self, dataset: Dataset) -> tuple[list[Rendered], Floats, Floats]:
        """Recorded pairs as this policy reads them: (rows, log-probs [N, 2], tokens [N, 2]), preferred first."""
        rendered, comparisons = self.comparisons(dataset)
        logp, length = score(self.policy, comparisons)
        return rendered, logp.double().numpy(), length.double().numpy()

    def logps(self, answers: Sequence[Answer]) -> Floats:
        """[N] log-probs in nats of answers with token ids, under this policy."""
        comparisons = [(a.prompt_ids, [Response(a.ids, "")]) for a in answers if a.ids and a.prompt_ids]
        if len(comparisons) < len(answers):
            raise ModelError(f"{len(answers) - len(comparisons)} answers have no token ids to be scored")
        return score(self.policy, comparisons)[0][:, 0].double().numpy()

    def words(self) -> str:
        """Hash of the tokenizer's vocabulary: equal for two writers whose token ids mean the same."""
        return digest(self.renderer.codec.tokenizer.get_vocab())


def sampled(
    writer: Writer,
    prompts: Sequence[Prompt],
    count: int,
    decoding: Decoding,
    *,
    seed: int = 0,
    revisions: int = 0,
    store: Path | None = None,
    tick: Callable[[int], None] = lambda done: None,
    contrast: Contrast | None = None,
) -> Answers:
    """`count` answers of a policy to every prompt, addressed by seed, prompt's place and number.

    revisions   how often the policy then improves its own answer (SRPO); the last version is the answer.

    store   file in which finished answers are kept as they come; what it has of the same model, prompts and settings
            is not sampled again, anything else in it is replaced. An answer depends on its address alone, so that
            an interrupted call leaves the same answers as one that was not (rounding of other batches aside).
    contrast  the same prompts with a principle, by which the answers are aligned while they are written.
    """
    about = _settings(writer, prompts, count, decoding, seed, revisions, contrast)
    kept = _Kept(store, about) if store else None
    chats = {not isinstance(prompt.context, str) for prompt in prompts}
    lead = leads_of(writer.renderer, chats) if revisions else None
    done: dict[int, list[Answer]] = dict(kept.read()) if kept else {}
    address = Seeds(seed)("sample")
    size = max(CHUNK, decoding.batch)
    tick(len(done))
    for begin in range(0, len(prompts), size):
        places = [i for i in range(begin, min(begin + size, len(prompts))) if i not in done]
        if not places:
            continue
        chosen = [prompts[i] for i in places]
        groups = sample(
            writer.policy,
            chosen,
            count,
            seed=address,
            decoding=decoding,
            places=places,
            contrast=contrast.at(places) if contrast else None,
        )
        if lead is not None:
            groups = _revised(writer.policy, chosen, groups, lead, revisions, Seeds(seed), decoding, places)
        for place, group in zip(places, groups, strict=True):
            done[place] = [_answer(prompts[place], response) for response in group]
            if kept:
                kept.add(place, done[place])
        tick(len(places))
    return gather(
        writer.name,
        ((key_of(prompt.context), prompt.context, a) for i, prompt in enumerate(prompts) for a in done[i]),
    )


def _revised(
    policy: CausalPolicy,
    prompts: Sequence[Prompt],
    groups: Sequence[Sequence[Response]],
    lead: Leads,
    revisions: int,
    seeds: Seeds,
    decoding: Decoding,
    places: Sequence[int],
) -> list[list[Response]]:
    """Every answer of every prompt's group after so many revisions by its own writer."""
    columns = []
    for number, first in enumerate(zip(*groups, strict=True)):
        last: Sequence[Response] = first
        for turn in range(revisions):
            seed = seeds("revision", turn, number)
            last = improve(policy, prompts, last, lead=lead, seed=seed, decoding=decoding, places=places)
        columns.append(last)
    return [list(group) for group in zip(*columns, strict=True)]


def of_rows(name: str, rows: Any) -> Answers:
    """Answers out of a stage of a run: rows with their prompts and sampled responses."""
    return gather(
        name,
        (
            (key_of(prompt.context), prompt.context, _answer(prompt, response))
            for prompt, group in zip(rows.prompts, rows.responses, strict=True)
            for response in group
        ),
    )


def _answer(prompt: Prompt, response: Response) -> Answer:
    return Answer(
        response.text, response.finished, len(response.ids), response.logp, response.ids, prompt.ids
    )


class _Kept:
    """Answers in a file, a line for each prompt, behind a first line that says what they are answers of."""

    def __init__(self, path: Path, settings: str) -> None:
        self.path, self.settings = path, settings

    def read(self) -> list[tuple[int, list[Answer]]]:
        if self.path.exists():
            lines = [line for _, line in complete_lines(self.path)]
            if lines and lines[0].get("settings") == self.settings:
                return [(line["place"], [_read(one) for one in line["answers"]]) for line in lines[1:]]
            self.path.unlink()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_line(self.path, {"settings": self.settings})
        return []

    def add(self, place: int, answers: Sequence[Answer]) -> None:
        append_line(self.path, {"place": place, "answers": [vars(answer) for answer in answers]})


def _read(one: dict[str, Any]) -> Answer:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in one.items()}
    return Answer(**values)


def _settings(
    writer: Writer,
    prompts: Sequence[Prompt],
    count: int,
    decoding: Decoding,
    seed: int,
    revisions: int,
    contrast: Contrast | None,
) -> str:
    asked = [[list(prompt.ids), canonical(prompt.context)] for prompt in prompts]
    about = {k: v for k, v in vars(decoding).items() if k not in ("batch", "memory", "servers", "key")}
    settings: list[Any] = [writer.fingerprint, asked, count, about, seed]
    if revisions:
        settings.append(revisions)
    if contrast:
        settings.append([[list(p.ids) for p in contrast.prompts], contrast.strength, contrast.divergence])
    return digest(settings)


def _fingerprint(model: str, renderer: Renderer, precision: str) -> str:
    """What the answers of a policy depend on: its files by size and time, tokenizer and template, precision."""
    files = []
    for folder in lineage(model):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            status = path.stat()
            files.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    return digest([model, files, renderer.fingerprint, precision, torch.cuda.is_available()])


def ranking_accuracy(logp: Floats, length: Floats) -> tuple[Floats, Floats]:
    """Ranking accuracy of each pair [N], preferred first: 1 where log pi(y_w) >= log pi(y_l), and the same per token.

    log pi is a sum over tokens (Chen et al. 2024, 2405.19534); an implicit reward's accuracy, which training reports,
    is another quantity.
    """
    mean = logp / length
    return (logp[:, 0] >= logp[:, 1]).astype(float), (mean[:, 0] >= mean[:, 1]).astype(float)


def inspected(of: Located) -> None:
    """Check a participant's model by its configuration and the headers of its files, without loading weights.

    Raises ModelError or DataError for a model that cannot be loaded.
    """
    if of.model is None:
        return
    folder = Path(of.model)
    if folder.is_dir():
        verify(folder, may_lack=(MOMENTS,))
    described(chain(of.model).base)


def divergence(own: Sequence[Answer], reference: Floats) -> Floats:
    """[N] log pi - log pi_ref of answers that pi sampled at temperature 1, whose mean estimates KL(pi || pi_ref)."""
    logp = np.array([math.nan if a.logp is None else a.logp for a in own])
    return logp - reference
