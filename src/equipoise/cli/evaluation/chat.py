"""`equipoise chat`: talk to a model in the terminal."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from equipoise.api.options import placed
from equipoise.cli.evaluation.options import (
    MaxNewTokens,
    Precision,
    Round,
    SamplingSeed,
    System,
    Temperature,
    TopK,
    TopP,
)
from equipoise.cli.loading import told

HELP = "/reset forgets the conversation, /system TEXT sets the system prompt and forgets, /quit or end of input ends"


def chat(
    model: Annotated[str, typer.Argument(help="a model or adapter folder, a hub name, or a run folder")],
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    max_new_tokens: MaxNewTokens = 256,
    seed: SamplingSeed = 0,
    round: Round = "final",
    system: System = None,
    precision: Precision = "fp32",
    text: Annotated[
        bool, typer.Option("--text", help="each line is plain text to continue, without a chat template")
    ] = False,
) -> None:
    """Talk to a model, line by line; /reset, /system TEXT and /quit. Input may come from a pipe."""
    with told():
        from equipoise.evaluate.conversation import Chat
        from equipoise.evaluate.located import locate
        from equipoise.evaluate.writer import Writer
        from equipoise.policy.protocol import Decoding

    where = locate(model, round)
    decoding = Decoding(
        temperature=temperature, top_p=top_p, top_k=top_k, max_new_tokens=max_new_tokens, batch=1
    )
    writer = Writer.load(where, **placed(precision))
    talk = Chat(writer, decoding, seed=seed, system=system, plain=text)
    asks = sys.stdin.isatty()
    if asks:
        print(f"{writer.name}. {HELP}.", file=sys.stderr)
    while (line := _line(asks)) is not None:
        if line.strip() == "/quit":
            break
        if line.strip():
            print(_reply(talk, line), flush=True)


def _line(asks: bool) -> str | None:
    """The next line of input; None at its end."""
    if asks:
        print("> ", end="", file=sys.stderr, flush=True)
    read = sys.stdin.readline()
    return read.rstrip("\r\n") if read else None


def _reply(talk: Any, line: str) -> str:
    """What is printed after a line: the answer, or what a command did. A line that cannot be answered is told why."""
    from equipoise.data.errors import Refusal
    from equipoise.policy.protocol import ModelError

    command, _, rest = line.strip().partition(" ")
    if command == "/reset":
        talk.reset()
        return "(forgotten)"
    if command == "/system":
        talk.reset(rest.strip() or None)
        return "(system prompt set)" if rest.strip() else "(no system prompt)"
    if command.startswith("/") and command[1:].isalpha():
        return f"({command} is no command: {HELP})"
    try:
        return str(talk.say(line))
    except (Refusal, ModelError) as error:
        return f"(no answer: {error})"
