"""Settings of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from equipoise.data.reading.data_files import data_file
from equipoise.run.sections.section import Section


class DataSettings(Section):
    path: list[str | dict[str, Any]] | None = Field(
        None,
        description="files, each a path or {path, format, mapping, weight, share, limit, split}; none: the "
        "playground's generated pairs",
    )
    evaluation: list[str | dict[str, Any]] | None = Field(
        None,
        description="files of held-out rows, in place of the held-out share; the same forms as data.path",
    )
    allow_overlap: bool = Field(
        False, description="accept prompts that are in data.path and in data.evaluation"
    )
    format: str = Field("auto", description="a format's name; auto: detected from the columns of all rows")
    mapping: dict[str, str] = Field(default_factory=dict, description="known field -> your column")
    wrap: Literal["none", "chat"] = Field(
        "none", description="chat: rows of plain strings become chat turns, and the chat template is used"
    )
    system: str | None = Field(None, description="system prompt of every conversation that has none")
    equal_scores: Literal["keep", "tie", "drop"] = Field(
        "keep", description="pairs whose answers have equal scores: as labelled, ties (prob 0.5), or left out"
    )
    mixture: Literal["first_exhausted", "all_exhausted"] = Field(
        "first_exhausted",
        description="how files with shares are mixed: the scarcest is used whole and no record repeated, or every "
        "record is used and those of scarcer files several times",
    )
    template: str = Field("auto", description="auto | tokenizer | plain | a Jinja template or its file")
    max_length: int = Field(
        1024, gt=1, description="most tokens of prompt and response together; the model's limit if less"
    )
    max_prompt_length: int | None = Field(None, gt=0, description="most tokens of the prompt")
    long_prompt: Literal["drop", "keep_end"] = Field("drop", description="what to do with longer prompts")
    prompt_words: int | None = Field(
        None, gt=0, description="for plain texts: number of leading words that form the prompt"
    )
    held_out: float = Field(0.1, gt=0, lt=1, description="share of prompts kept for evaluation")
    split_by: Literal["prompt", "user"] = Field(
        "prompt", description="user: the held-out share is one of annotators, who judge no training row"
    )
    shots: int = Field(
        0,
        ge=0,
        description="few-shot episodes: labelled pairs of the same annotator shown before each prompt",
    )
    limit: int | None = Field(None, gt=0, description="read only this many rows")
    strict: bool = Field(False, description="any refused row ends the run")
    allow_template_divergence: bool = Field(
        False, description="use rows whose prompt the template rewrites once an answer follows"
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="settings of the chat template for every row, such as {enable_thinking: false}; a row's own win",
    )
    system_turn: Literal["keep", "merge"] = Field(
        "keep",
        description="merge: where the template has no place for a system turn, it opens the first question",
    )
    reasoning: Literal["keep", "drop"] = Field(
        "keep", description="drop: use rows although the template leaves out the reasoning of an answer"
    )
    template_date: str | None = Field(
        None,
        description="day that the template may write, YYYY-MM-DD; none: the day of a run's start, kept when it resumes",
    )
    list_size: int | None = Field(
        None, gt=1, description="answers used per ranked list; none: the most frequent number"
    )
    list_pairs: Literal["best_worst", "all", "adjacent"] = Field(
        "best_worst", description="which pairs of a ranked list a pairwise method trains on"
    )
    goal: str | None = Field(
        None,
        description="where data are read at goals: sentence that asks for a response of a score and holds {goal}; "
        "none: 'Give an answer whose quality is rated {goal}.'",
    )
    goal_levels: list[str] = Field(
        default_factory=list,
        description="where data are read at goals: names of quality levels, the worst first, into which scores are "
        "divided in equal parts; none: the scores themselves",
    )
    at_goals: bool = Field(
        False,
        description="read scored pairs at the goals of both responses, as reward_augmented does: for methods of pairs, "
        "and for sft, which then imitates either response at its own score",
    )
    turns: Literal["last", "every"] = Field(
        "every", description="sft only: which assistant turns of a conversation are imitated"
    )
    pairs: int = Field(2000, gt=0, description="playground only: recorded pairs to generate")
    coverage: Literal["reference", "uniform", "narrow", "lucky"] = Field(
        "reference", description="playground only: distribution of the recorded responses"
    )
    noise: float = Field(0.0, ge=0, lt=0.5, description="playground only: share of flipped labels")

    @field_validator("path", "evaluation", mode="before")
    @classmethod
    def _one_file(cls, value: Any) -> Any:
        """One file alone, as a path or a mapping, is a list of one; each is one that `data.read` takes."""
        files = [value] if isinstance(value, str | Mapping) else value
        for item in files if isinstance(files, list) else ():
            data_file(item)
        return files

    @property
    def mixes(self) -> bool:
        """Whether the training files have shares of a mixture."""
        return any(data_file(item).share is not None for item in self.path or ())

    @model_validator(mode="after")
    def _something_to_mix(self) -> DataSettings:
        if self.mixture != "first_exhausted" and not self.mixes:
            raise ValueError("mixture needs files with a share: {path: FILE, share: 0.7}")
        return self
