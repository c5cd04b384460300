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
from equipoise.data.formats.columns import RESPONSE_ATTRIBUTES
from equipoise.data.records import Conversation, template_kwargs_of, tools_of
from equipoise.play.rows import Rows, objects
from equipoise.play.state import POLICY
from equipoise.policy.files import MOMENTS, whole, write_text
from equipoise.worlds.text.folder.manifest import LOGS, REPEATED, Manifest, append_line, complete_lines


class Journal:
    """Journal of a run folder: a file that exists is complete; a missing one was not finished.

    What is finished is entered in the manifest, and verified when it is read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics = folder / "metrics.jsonl"
        self.manifest = Manifest(folder)
        self._verified: set[str] = set()

    def save(self, path: Path, rows: Rows) -> None:
        """Write rows as parquet, and enter the file in the manifest."""
        save_rows(path, rows)
        self.manifest.record(path)

    def load(self, path: Path) -> Rows:
        """Read rows back. Raises DamagedRun if the file is not as it was written."""
        self.manifest.verify(path)
        return load_rows(path)

    def stage(self, round: int, name: str) -> Path:
        return self.folder / "rounds" / f"{round:03d}" / f"{name}.parquet"

    def checkpoint(self, round: int, name: str = POLICY) -> Path:
        """Checkpoint of the policy after a round, or of an intermediate policy of that round."""
        own = f"round-{round:03d}" if round else "initial"
        return self.checkpoints / (own if name == POLICY else f"{own}-{name}")

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def tidy(self, round: int, used: set[str], started: set[str], keep: int | None = None) -> None:
        """Delete intermediate policies that no name refers to any more, and optimizer states that no fit starts from.

        used, started   checkpoints that a name refers to; those among them that a fit may start from.
        keep            rounds whose final policy is kept, the last ones; None: all.
        """
        final = {self.checkpoint(past) for past in range(max(0, round - (keep or round)) + 1, round + 1)}
        for past in range(1 if keep else max(0, round - 1), round + 1):
            for folder in self.checkpoints.glob(f"round-{past:03d}*"):
                if folder.name not in used and folder not in final:
                    self.manifest.forget(folder)
                    shutil.rmtree(folder)
                elif folder.name not in started:
                    self.manifest.forget(folder / MOMENTS)
                    (folder / MOMENTS).unlink(missing_ok=True)

    def settled(self, round: int) -> Path:
        """File that maps policy names to checkpoints after a round; written last, it marks the round as done."""
        return self.folder / "rounds" / f"{round:03d}" / "policies.json"

    @property
    def progress(self) -> Path:
        """Weights and optimizer state in the middle of a fit."""
        return self.folder / "progress.safetensors"

    @property
    def next_progress(self) -> Path:
        """The next position of a fit, until it is entered in the manifest and renamed to `progress`."""
        return self.folder / "progress.next.safetensors"

    def rounds_done(self) -> int:
        done = 0
        while self.settled(done + 1).exists():
            done += 1
        return done

    def append(self, name: str, line: dict[str, Any]) -> None:
        """Append a line to a log; a last line cut short by a crash is dropped first."""
        append_line(self.folder / name, line)

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Complete lines of a log: a last line cut short by a crash is skipped, since its stage is repeated.

        Raises DamagedRun for a line that is not JSON, and if what was written before the last boundary has changed.
        """
        yield from (line for _, line in self._read(name))

    def rewind(self, name: str, round: int, step: int | None = None) -> None:
        """Drop the lines after (round, step), which a resumed run will write again."""
        path, position = self.folder / name, (round, step if step is not None else -1)
        kept = [raw for raw, line in self._read(name) if (line["round"], line.get("step", -1)) <= position]
        text = b"".join(raw + b"\n" for raw in kept)
        if path.exists() and len(text) < path.stat().st_size:
            if name in LOGS:  # before it is cut: in this order a crash leaves a log that begins as recorded
                self.manifest.record_log(path, len(text))
            write_text(path, text.decode())

    def seal(self) -> None:
        """Enter all logs as they are in the manifest: at the end of a round, an evaluation, a saved position."""
        for name in LOGS:
            self.manifest.record_log(self.folder / name)

    def _read(self, name: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
        path = self.folder / name
        if name in LOGS and name not in self._verified:
            self.manifest.verify_log(path, repeated=name in REPEATED)
            self._verified.add(name)
        if path.exists():
            yield from complete_lines(path)


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
        "responses": [[plain(response) for response in group] for group in rows.responses],
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
    for name, values in _annotations(rows).items():
        columns[name] = values
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
    responses = [[response_of(r) for r in group] for group in columns["responses"]]
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
        user=np.array(columns["user_id"], dtype=object) if "user_id" in columns else None,
        attributes=_attributes([json.loads(row) for row in columns.get(RESPONSE_ATTRIBUTES, ())]),
    )


def _annotations(rows: Rows) -> dict[str, list[str]]:
    """The columns of annotators and attributes, as `data.read` reads them; none where the rows have none."""
    found = {} if rows.user is None else {"user_id": list(rows.user)}
    if rows.attributes:
        known = [
            [
                {name: v[i, k] for name, v in rows.attributes.items() if v[i, k] == v[i, k] and v[i, k] != ""}
                for k in range(rows.responses.shape[1])
            ]
            for i in range(len(rows))
        ]
        found[RESPONSE_ATTRIBUTES] = [json.dumps(row, ensure_ascii=False) for row in known]
    return found


def _attributes(known: list[list[dict[str, Any]]]) -> dict[str, np.ndarray]:
    """Name -> [N, K] of the objects that `_annotations` wrote."""
    names = dict.fromkeys(name for row in known for response in row for name in response)
    found = {}
    for name in names:
        values = [[response.get(name) for response in row] for row in known]
        text = any(isinstance(value, str) for row in values for value in row)
        unknown = "" if text else np.nan
        filled = [[unknown if value is None else value for value in row] for row in values]
        found[name] = np.array(filled, dtype=object if text else np.float64)
    return found


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


def plain(response: Response) -> dict[str, Any]:
    """A response as plain data, of which JSON and parquet keep every bit."""
    return {
        "ids": list(response.ids),
        "text": response.text,
        "finished": response.finished,
        "logp": response.logp,
        "lead": list(response.lead),
        "between": [{"at": place, "ids": list(read)} for place, read in response.between],
    }


def response_of(data: dict[str, Any]) -> Response:
    """The inverse of `plain`."""
    between = tuple((read["at"], tuple(read["ids"])) for read in data.get("between") or ())
    made = {**data, "ids": tuple(data["ids"]), "lead": tuple(data["lead"]), "between": between}
    return Response(**made)


def _context(columns: dict[str, Any], place: int) -> Any:
    messages = json.loads(columns["context"][place])
    belongs = {name: json.loads(columns[name][place]) for name in _BELONGS if name in columns}
    return Conversation(messages, **belongs) if any(belongs.values()) else messages
