"""Rows of text comparisons as parquet files of a run folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from equipoise.data.collate import Prompt, Response
from equipoise.data.formats.columns import RESPONSE_ATTRIBUTES
from equipoise.data.records import Conversation, template_kwargs_of, tools_of
from equipoise.play.rows import Rows, objects
from equipoise.policy.files import whole
from equipoise.worlds.folder.journal import Journal


def save(journal: Journal, path: Path, rows: Rows) -> None:
    """Write rows as parquet, and enter the file in the run's manifest."""
    save_rows(path, rows)
    journal.manifest.record(path)


def load(journal: Journal, path: Path) -> Rows:
    """Read rows of a run back. Raises DamagedRun if the file is not as it was written."""
    journal.manifest.verify(path)
    return load_rows(path)


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
