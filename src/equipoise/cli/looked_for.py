"""Commands that people look for and that have another name here: one line says what to use."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

COMPARED = (
    "`equipoise evaluate A B --data PROMPTS --oracle O` asks which is better; "
    "`equipoise compare RUN RUN` compares runs"
)
SERVED = "the policy after each round, RUN/checkpoints/round-NNN, is a Hugging Face folder, for transformers or vLLM"
TRAINED = "`equipoise align METHOD --model MODEL --data FILE` trains; `equipoise methods` lists the methods"
READ = "`equipoise report RUN` writes the figures, the diagnosis and a page"
INSTEAD = {
    "eval": COMPARED,
    "arena": COMPARED,
    "generate": "`equipoise sample MODEL --data PROMPTS --out FILE` writes answers, `equipoise chat MODEL` talks",
    "serve": SERVED,
    "merge": "`--set model.adapter=merge` merges the adapter that a run starts from into its model; "
    "`equipoise export RUN --to merged --out FOLDER` writes a run's own adapter merged",
    "upload": "`equipoise push RUN --to OWNER/NAME` uploads a run's model with its card",
    "annotate": "`equipoise label page FILE` opens a page where people compare (docs/labelling.md)",
    "reward": "`equipoise oracle train bt --model MODEL --data FILE --out FOLDER` trains a reward model",
    "judge": "`--oracle judge.yaml` asks an LLM judge, `--oracle FOLDER` a reward model (docs/oracles.md)",
    "show": READ,
    "plot": READ,
    "train": TRAINED,
    "dpo": f"{TRAINED}: `equipoise align dpo`",
    "sft": "supervised fine-tuning is a phase: `--set play.phases='{sft: {epochs: 2}}'`, or `equipoise align sft`",
    "resume": "the same `equipoise align` command, repeated, resumes",
    "sweep": "`equipoise align METHOD --sweep lr=1e-6,5e-6` (or a YAML file of lists) runs every combination",
    "list": "`equipoise runs` lists runs, `equipoise methods` lists methods",
    "ls": "`equipoise runs` lists runs",
    "doctor": "`equipoise env` prints versions and hardware",
    "schema": "`equipoise config schema` prints the JSON schema of the settings",
    "convert": "`equipoise data convert FILE`",
    "check": "`equipoise data check FILE`, `equipoise oracle check ORACLE`",
    "import": "`equipoise config import FILE`",
}


class Commands(TyperGroup):
    """The program's commands; a name that is none of them and in the table is answered with what to use."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name in INSTEAD and self.get_command(ctx, name) is None:
            typer.echo(f"error: there is no command {name}: {INSTEAD[name]}", err=True)
            raise typer.Exit(2)
        return super().resolve_command(ctx, args)
