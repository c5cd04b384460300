"""Sections of a run's settings: model, data, play, training, sampling, judging, sandbox, evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from equipoise.data.reading.data_files import data_file
from equipoise.json_http import address_without_secrets


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _one_as_a_list(cls, value: Any, info: ValidationInfo) -> Any:
        """A single text where a list is expected: `path: pairs.jsonl`."""
        kind = cls.model_fields[info.field_name or ""].annotation
        listed = any(get_origin(a) is list for a in (kind, *get_args(kind)))
        return [value] if listed and isinstance(value, str) else value


class ModelSettings(Section):
    path: str | None = Field(
        None, description="checkpoint folder or name on the hub; none: the playground's model"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the matrix products; trained weights stay fp32"
    )
    attention: Literal["auto", "varlen", "flex"] = Field(
        "auto",
        description="kernel of packed rows on a GPU in bf16: varlen (FlashAttention) and flex (FlexAttention, "
        "compiled) pad nothing; auto: one causal call on padded sequences. Not measured on a GPU",
    )
    base_dtype: Literal["checkpoint", "float32", "bfloat16"] = Field(
        "checkpoint",
        description="how the frozen weights under a LoRA adapter are held; checkpoint: bfloat16 if all weights of the "
        "checkpoint are, with the same results as in float32, else float32; adapters and trained weights are float32",
    )
    quantization: Literal["none", "4bit", "8bit"] = Field(
        "none",
        description="QLoRA: frozen linear layers under a LoRA adapter in 4 bits (load_in_4bit: nf4, double "
        "quantisation) or 8 bits (load_in_8bit), by bitsandbytes (pip install 'equipoise[quant]')",
    )
    adapter: Literal["auto", "continue", "merge"] = Field(
        "auto",
        description="if the model is a LoRA adapter: train it further (continue), or merge it and train all weights "
        "or a new adapter (merge); auto: continue, unless lora_rank, lora_alpha or lora_targets ask for another one",
    )
    lora_rank: int = Field(
        0, ge=0, description="rank of new LoRA adapters; 0: full fine-tuning, or the adapter that is given"
    )
    lora_alpha: float | None = Field(None, gt=0, description="LoRA scale; none: twice the rank")
    lora_targets: list[str] | None = Field(None, description="module names; none: every linear layer")
    export: Literal["auto", "none", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="dtype of the last policy in the folder export (full models only; checkpoints stay fp32); "
        "auto: that of the given weights, if they are bf16 or fp16",
    )


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


class PlaySettings(Section):
    rounds: int = Field(1, gt=0, description="rounds of the game")
    samples: int | None = Field(None, gt=0, description="responses per prompt; none: the method's default")
    prompts: int | None = Field(None, gt=0, description="prompts per online round; none: all")
    pairing: Literal[
        "method",
        "tournament",
        "disjoint",
        "all",
        "disjoint_bernoulli",
        "all_bernoulli",
        "matches",
        "scored",
        "best_worst",
        "reward",
        "reward_normalised",
    ] = Field(
        "method",
        description="how responses become comparisons; method: the method's default; reward: the oracle's scalar score "
        "of each response; reward_normalised: in standard deviations of the first round's, clamped to 10",
    )
    phases: dict[str, dict[str, Any]] | None = Field(
        None,
        description="methods played before the rounds, with their settings, such as [sft] or {sft: {epochs: 2}}; "
        "none: the method's own",
    )
    keep: int | None = Field(
        None,
        gt=0,
        description="rounds whose checkpoint is kept, the last ones; none: all; the initial policy stays, and so do "
        "the policy before the last round and that of the last evaluation before it",
    )
    teacher: str | None = Field(
        None,
        description="YAML file of a model behind an OpenAI-compatible server (model, base_url, key, temperature, ...) "
        "that writes a response to each prompt, in the place of the data's: for dno_prct and spin, which then need "
        "prompts alone",
    )
    panel: Literal["intransitive", "transitive", "groups"] = Field(
        "intransitive", description="playground only: who judges; groups: two groups of users of unequal size"
    )

    @field_validator("phases", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        """A list of names means phases without settings."""
        names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return {name: {} for name in value} if names else value


class TrainSettings(Section):
    epochs: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="passes over a round's comparisons; auto: the method's; with an automatic batch more, up to 5, "
        "if a fit has fewer than 100 optimizer steps with the smallest batch",
    )
    batch: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="comparisons per optimizer step; auto: the method's, halved down to 8 until a fit has 100 "
        "optimizer steps",
    )
    micro_batch: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="most comparisons per forward pass; auto: as many as `tokens` allows",
    )
    tokens: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="most tokens per forward pass; auto: what memory allows, by a probe",
    )
    activation_checkpointing: bool = Field(
        False,
        description="gradient checkpointing: each transformer block keeps its input alone and is computed again in the "
        "backward; less memory for activations, one more forward, the same bits",
    )
    sharding: Literal["none", "full"] = Field(
        "none",
        description="full: FSDP2, several processes divide weights, gradients and moments during a fit, of which each "
        "has all otherwise; for optimizers adamw and sgd",
    )
    lr: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="peak learning rate; auto: the method's, by model size, ten times that for LoRA"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="of the learning rate after the warm-up, within a round"
    )
    warmup: float = Field(
        0.03,
        ge=0,
        lt=1,
        description="share of a round's steps, or of the run's where the optimizer goes on from round to round",
    )
    optimizer: Literal["adamw", "sgd", "adafactor", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw",
        description="adamw: 8 bytes of moments for each trained weight; adamw_8bit and paged_adamw_8bit (on a GPU, "
        "into the machine's memory): 2 bytes, by bitsandbytes (pip install 'equipoise[quant]'); adafactor: almost "
        "none, and sgd, with momentum beta1: 4; these two need a train.lr of their own",
    )
    weight_decay: float = Field(0.0, ge=0, description="of the optimizer; decoupled, except in sgd")
    beta1: float = Field(
        0.9, ge=0, lt=1, description="of AdamW, for the mean of the gradient; the momentum of sgd"
    )
    beta2: float = Field(0.999, ge=0, lt=1, description="of AdamW, for the mean of its square")
    eps: float = Field(1e-8, gt=0, description="AdamW's epsilon: smaller gradients are not amplified")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    save_every: int = Field(200, gt=0, description="optimizer steps between saved positions")
    save_steps: int = Field(
        0,
        ge=0,
        description="optimizer steps between policies saved inside a fit, in checkpoints/step-ROUND-STEP; 0: none",
    )
    keep: int | None = Field(
        None, gt=0, description="how many policies of save_steps are kept, the last ones; none: all"
    )

    @model_validator(mode="after")
    def _own_rate(self) -> TrainSettings:
        """Automatic learning rates are AdamW's."""
        if self.optimizer in ("sgd", "adafactor") and self.lr == "auto":
            raise ValueError(f"automatic learning rates are for AdamW; optimizer {self.optimizer} needs lr")
        return self


class SamplingSettings(Section):
    temperature: float = Field(1.0, ge=0, description="sampling temperature; 0: greedy")
    top_k: int = Field(0, ge=0, description="sample from the k most likely tokens; 0: off")
    top_p: float = Field(
        1.0, gt=0, le=1, description="nucleus sampling: sample from this probability mass; 1: off"
    )
    max_new_tokens: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="most tokens of a sampled response; auto: what 99 % of the recorded responses have, between 16 and "
        "512, and 128 without any",
    )
    batch: int = Field(32, gt=0, description="prompts decoded concurrently (continuous batching)")
    engine: Literal["torch", "vllm", "vllm_server"] = Field(
        "torch",
        description="vllm: in this process, if installed, not yet tested on a GPU; vllm_server: `vllm serve`, started "
        "here, or those of sampling.servers",
    )
    servers: list[str] = Field(
        default_factory=list,
        description="addresses of vLLM servers for engine vllm_server, http://HOST:PORT, among which prompts are "
        "dealt; none: one is started here, by the program that $EQUIPOISE_VLLM names, or `vllm`",
    )
    key: str | None = Field(
        None,
        description="NAME of the environment variable that holds the bearer token of sampling.servers; none: no token",
    )
    memory: float = Field(0.4, gt=0, le=1, description="fraction of GPU memory for vllm")

    @field_validator("servers")
    @classmethod
    def _addresses(cls, values: list[str]) -> list[str]:
        for value in values:
            address_without_secrets(value)
            if value.rstrip("/").endswith("/v1"):
                raise ValueError(f"{value}: leave out /v1, which other endpoints of the server do not have")
        if len(set(values)) < len(values):
            raise ValueError("an address is given twice")
        return values

    @model_validator(mode="after")
    def _for_servers(self) -> SamplingSettings:
        if (self.servers or self.key) and self.engine != "vllm_server":
            raise ValueError(f"servers and key are for engine vllm_server, and engine is {self.engine}")
        return self


class JudgingSettings(Section):
    concurrency: int = Field(1, gt=0, description="questions to a rule in flight at once")
    retries: int = Field(
        3, ge=0, description="further attempts after a network or server error, with growing waits"
    )
    failures: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of all questions that may stay without a verdict; their prompts are left out",
    )
    both_orders: bool | None = Field(
        None, description="ask (a, b) and (b, a) and average; none: judges yes, rules no"
    )
    store: str | None = Field(
        None, description="file of verdicts, shared by runs; none: verdicts.sqlite in the run folder"
    )
    dtype: Literal["run", "stored", "float32", "bfloat16", "float16"] = Field(
        "run",
        description="of a reward model's weights; run: bfloat16 if model.precision is bf16, else float32; stored: as "
        "its checkpoint is; its last layer is computed in float32 in any case",
    )
    device: str | None = Field(
        None, description="where a reward model runs, such as cpu or cuda:1; none: on the GPU if there is one"
    )
    tokens: int = Field(8192, gt=0, description="most padded tokens of a reward model's forward pass")
    most_calls: int | None = Field(None, gt=0, description="most questions that one start of the run may ask")
    most_cost: float | None = Field(
        None, gt=0, description="most that the verdicts may cost, in the oracle's units"
    )


class SandboxSettings(Section):
    isolation: Literal["namespaces", "limits"] = Field(
        "namespaces",
        description="how code that the policy writes is kept apart (dstc); limits: resource limits alone, with network "
        "and files open to it",
    )
    seconds: int = Field(5, gt=0, description="processor time of one run of self-written code")
    wall: float = Field(15.0, gt=0, description="seconds by the clock of one run")
    memory: int = Field(512, gt=0, description="MiB of address space of one process")
    concurrency: int = Field(2, gt=0, description="problems whose code runs at once")


class EvaluateSettings(Section):
    prompts: int = Field(64, gt=0, description="held-out prompts for win rates")
    samples: int = Field(4, gt=0, description="responses per prompt")
    pairs: int = Field(1000, gt=0, description="held-out pairs for preference accuracy")
    every: int = Field(
        1, gt=0, description="rounds between evaluations; the first and last are always evaluated"
    )
    shown: int = Field(4, gt=0, description="prompts whose samples the report shows")
    earlier_rounds: bool = Field(
        False,
        description="whether the oracle also compares each round's policy with those of all earlier rounds, for the "
        "matrix of win rates (a game that is enumerated has it without asking)",
    )
    steps: int = Field(
        0,
        ge=0,
        description="optimizer steps between evaluations inside a fit (loss, accuracy and margin of held-out rows); "
        "0: none",
    )
    best: Literal["none", "accuracy", "margin", "loss", "win_rate", "exact_win_rate", "exploitability"] = (
        Field(
            "none",
            description="metric of the policy that is kept in checkpoints/best; accuracy, margin and loss are compared "
            "inside fits (evaluate.steps), the others, and accuracy without evaluate.steps, after rounds",
        )
    )
    patience: int = Field(
        0,
        ge=0,
        description="evaluations inside a fit without a better evaluate.best after which the fit ends; 0: never",
    )

    @model_validator(mode="after")
    def _measured(self) -> EvaluateSettings:
        within = self.best in ("accuracy", "margin", "loss")
        if self.best in ("margin", "loss") and not self.steps:
            raise ValueError(
                f"best: {self.best} is measured inside fits: set evaluate.steps, such as steps=50"
            )
        if self.patience and not (within and self.steps):
            raise ValueError(
                "patience needs evaluate.steps above 0, and evaluate.best: accuracy, margin or loss"
            )
        return self
