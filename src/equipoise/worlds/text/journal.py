"""Journal of a run folder: finished stages, checkpoints and logs; rows as parquet files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from equipoise.data.collate import Prompt, Response
from equipoise.data.records import Conversation, template_kwargs_of, tools_of
from equipoise.play.rows import Rows, objects
from equipoise.play.state import POLICY
from equipoise.policy.checkpoint import MOMENTS
from equipoise.policy.files import whole, write_text


class Journal:
    """Journal of a run folder: a file that exists is complete; a missing one was not finished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics = folder / "metrics.jsonl"

    def stage(self, round: int, name: str) -> Path:
        return self.folder / "rounds" / f"{round:03d}" / f"{name}.parquet"

    def checkpoint(self, round: int, name: str = POLICY) -> Path:
        """Checkpoint of the policy after a round, or of an intermediate policy of that round."""
        own = f"round-{round:03d}" if round else "initial"
        return self.checkpoints / (own if name == POLICY else f"{own}-{name}")

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def tidy(self, round: int, used: set[str], started: set[str]) -> None:
        """Delete intermediate policies that no name refers to any more, and optimizer states that no fit starts from.

        used, started   checkpoints that a name refers to; those among them that a fit may start from.
        """
        for past in (round - 1, round):
            for folder in self.checkpoints.glob(f"round-{past:03d}*"):
                if folder.name not in used and folder != self.checkpoint(past):
                    shutil.rmtree(folder)
                elif folder.name not in started:
                    (folder / MOMENTS).unlink(missing_ok=True)

    def settled(self, round: int) -> Path:
        """File that maps policy names to checkpoints after a round; written last, it marks the round as done."""
        return self.folder / "rounds" / f"{round:03d}" / "policies.json"

    @property
    def progress(self) -> Path:
        """Weights and optimizer state in the middle of a fit."""
        return self.folder / "progress.safetensors"

    def rounds_done(self) -> int:
        done = 0
        while self.settled(done + 1).exists():
            done += 1
        return done

    def append(self, name: str, line: dict[str, Any]) -> None:
        with (self.folder / name).open("ab+") as file:
            size = file.tell()
            if size and (file.seek(size - 1), file.read(1))[1] != b"\n":  # truncated by a crash
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            file.write((json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode())

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Complete lines only: a line truncated by a crash is skipped."""
        path = self.folder / name
        if path.exists():
            # not splitlines: it would also split inside a text, at U+2028 and the like
            for line in path.read_bytes().split(b"\n")[:-1]:
                yield json.loads(line)

    def rewind(self, name: str, round: int, step: int | None = None) -> None:
        """Drop the lines after (round, step), which a resumed run will write again."""
        position = (round, step if step is not None else -1)
        kept = [line for line in self.lines(name) if (line["round"], line.get("step", -1)) <= position]
        if (self.folder / name).exists():
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
            write_text(self.folder / name, text)


def save_rows(path: Path, rows: Rows) -> None:
    """Write text comparisons as parquet, with writers, labels and rewards.

    Columns for tools and template settings, and the field `between`, are there only where a row has them.
    """
    columns: dict[str, Any] = {
        "prompt_ids": [list(p.ids) for p in rows.prompts],
        "prompt": [p.text for p in rows.prompts],
        "context": [json.dumps(p.context, ensure_ascii=False) for p in rows.prompts],
        "weight": rows.weight.tolist(),
        "prob": [None] * len(rows) if rows.prob is None else rows.prob.tolist(),
        "reward": [None] * len(rows) if rows.reward is None else rows.reward.tolist(),
        "responses": [[_plain(response) for response in group] for group in rows.responses],
    }
    reads = any(response.between for group in rows.responses for response in group)
    fields = [
        ("prompt_ids", pa.list_(pa.int64())),
        ("prompt", pa.string()),
        ("context", pa.string()),
        ("weight", pa.float64()),
        ("prob", pa.float64()),
        ("reward", pa.list_(pa.float64())),
        ("responses", pa.list_(pa.struct([*_RESPONSE, _BETWEEN] if reads else _RESPONSE))),
    ]
    for name, of in _BELONGS.items():
        if any(map(of, (p.context for p in rows.prompts))):
            columns[name] = [json.dumps(of(p.context), ensure_ascii=False) for p in rows.prompts]
            fields.append((name, pa.string()))
    schema = pa.schema(
        fields, metadata={"writers": json.dumps(rows.writers), "fresh": json.dumps(rows.fresh)}
    )
    with whole(path) as draft:
        pq.write_table(pa.Table.from_pydict(columns, schema=schema), draft)


def load_rows(path: Path) -> Rows:
    """The inverse of `save_rows`; it also reads files without the columns and fields that came later."""
    table = pq.read_table(path)
    writers = tuple(json.loads(table.schema.metadata[b"writers"]))
    columns = table.to_pydict()
    prompts = [
        Prompt(tuple(ids), _context(columns, place), text)
        for place, (ids, text) in enumerate(zip(columns["prompt_ids"], columns["prompt"], strict=True))
    ]
    responses = [[_response(r) for r in group] for group in columns["responses"]]
    judged = all(prob is not None for prob in columns["prob"])
    scored = len(table) > 0 and all(reward is not None for reward in columns["reward"])
    return Rows(
        prompts=objects(prompts),
        responses=objects(responses, width=len(writers)),
        weight=np.array(columns["weight"], dtype=np.float64),
        writers=writers,
        prob=np.array(columns["prob"], dtype=np.float64) if judged else None,
        reward=np.array(columns["reward"], dtype=np.float64) if scored else None,
        fresh=json.loads(table.schema.metadata[b"fresh"]),
    )


# what belongs to a prompt besides its messages, by the name of its column
_BELONGS: dict[str, Callable[[Any], Any]] = {"tools": tools_of, "template_kwargs": template_kwargs_of}
_IDS = pa.list_(pa.int64())
_RESPONSE = [
    ("ids", _IDS),
    ("text", pa.string()),
    ("finished", pa.bool_()),
    ("logp", pa.float64()),
    ("lead", _IDS),
]
_BETWEEN = ("between", pa.list_(pa.struct([("at", pa.int64()), ("ids", _IDS)])))


def _plain(response: Response) -> dict[str, Any]:
    return {
        "ids": list(response.ids),
        "text": response.text,
        "finished": response.finished,
        "logp": response.logp,
        "lead": list(response.lead),
        "between": [{"at": place, "ids": list(read)} for place, read in response.between],
    }


def _response(plain: dict[str, Any]) -> Response:
    between = tuple((read["at"], tuple(read["ids"])) for read in plain.get("between") or ())
    made = {**plain, "ids": tuple(plain["ids"]), "lead": tuple(plain["lead"]), "between": between}
    return Response(**made)


def _context(columns: dict[str, Any], place: int) -> Any:
    messages = json.loads(columns["context"][place])
    belongs = {name: json.loads(columns[name][place]) for name in _BELONGS if name in columns}
    return Conversation(messages, **belongs) if any(belongs.values()) else messages
