"""What a run depends on, as hashes (inputs.json): a resumed run must find the same model, data, template and oracle.

Hashes of contents, so that a copy elsewhere is the same input. The file also holds the size and times of large files,
which are hashed again only when these change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from equipoise import __version__
from equipoise.data.reading.data_files import data_file
from equipoise.data.reading.dataset_info import data_files
from equipoise.data.records import digest
from equipoise.data.rendering.render import Renderer
from equipoise.models.adapters import lineage, local
from equipoise.models.errors import ModelError
from equipoise.models.tokenizer import tokenizer_folder
from equipoise.oracles.checked import unwrapped
from equipoise.oracles.protocol import Fingerprinted
from equipoise.oracles.rules.given import is_given
from equipoise.oracles.rules.rule_sources import distribution, sources
from equipoise.oracles.spec import is_code
from equipoise.play.rows import Rows
from equipoise.policy.files import write_json
from equipoise.policy.protocol import Measured
from equipoise.reward_models.folder import content_hash
from equipoise.run.config import ConfigError
from equipoise.run.gathering.records import PLAYGROUND_LISTS, PLAYGROUND_PAIRS
from equipoise.run.materials import Materials
from equipoise.run.settings import RunConfig
from equipoise.worlds.folder.manifest import sha256
from equipoise.worlds.text.folder.gate_list import INPUTS
from equipoise.worlds.text.folder.gates import Gates

FILE = "inputs.json"
FORMAT = 2  # of run folders; 1 had no inputs.json
LONGEST_PATH = 4096  # characters; a longer text is a template itself
LARGE = 2**24  # bytes; smaller files are hashed every time
MODEL = ("config.json", "generation_config.json", "adapter_config.json")
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja",
    "chat_template.json",
)  # fmt: skip

PATHS = ("oracle", "play.teacher", "model.path", "data.path", "data.evaluation", "data.template")

# kind ("model", "oracle", ...) -> what -> hash
Inputs = dict[str, dict[str, str]]


@dataclass
class Hasher:
    """SHA-256 of files; of large ones remembered by size, times and inode.

    known    path -> [size, time of modification, of change, inode, hash].
    """

    known: dict[str, list[Any]] = field(default_factory=dict)

    def __call__(self, path: Path) -> str:
        real = path.resolve()
        stat = real.stat()
        seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        before = self.known.get(str(real))
        if stat.st_size >= LARGE and before and before[:4] == seen:
            return str(before[4])
        digest = sha256(real)
        if stat.st_size >= LARGE:
            self.known[str(real)] = [*seen, digest]
        return digest


def of_files(config: RunConfig, hasher: Hasher) -> Inputs:
    """Inputs that are files: of the model, its tokenizer, the data, the oracle."""
    model = config.start()
    found = {"model": dict(_model(model, hasher)), "tokenizer": dict(_tokenizer(model, hasher))}
    found["data"] = dict(_data(config, hasher))
    if config.oracle:
        found["oracle"] = dict(_oracle(config.oracle, hasher))
    return found


def of_materials(materials: Materials, folder: Path, hasher: Hasher) -> Inputs:
    """Inputs that are known once the data are rendered: template, rows as tokens, the oracle's own fingerprint."""
    found: Inputs = {"template": _template(materials.renderer), "rows": {"rows as tokens": _rows(materials)}}
    for name in (PLAYGROUND_PAIRS, PLAYGROUND_LISTS):
        if (folder / name).is_file():
            found["data"] = {name: hasher(folder / name)}
    judging = {
        f"of meaning, {model}": content_hash(local(model, weights=True)) for model in materials.method.models
    }
    oracle = unwrapped(materials.oracle)
    if isinstance(oracle, Fingerprinted):
        judging["fingerprint"] = _text_hash(oracle.fingerprint)
    if materials.teacher is not None:
        judging["teacher"] = digest(materials.teacher.file.plain())
    if judging:
        found["oracle"] = judging
    return found


def joined(*parts: Inputs) -> Inputs:
    """All parts in one; each kind has what each part says of it."""
    whole: Inputs = {}
    for part in parts:
        for kind, named in part.items():
            whole.setdefault(kind, {}).update(named)
    return whole


@dataclass
class Record:
    """inputs.json of a run folder.

    begun      what the run began with, or was allowed to go on with; empty before it began.
    changed    sentences on what was allowed to change, oldest first.
    settings   hash of the run's other settings; empty in a folder of an earlier version.
    """

    folder: Path
    begun: Inputs = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    settings: str = ""
    version: str = __version__
    format: int = FORMAT
    hasher: Hasher = field(default_factory=Hasher)

    @classmethod
    def read(cls, folder: Path) -> Record:
        """The record of a folder; an empty one if it has none. Raises ConfigError for a damaged file."""
        path = folder / FILE
        if not path.exists():
            return cls(folder)
        try:
            stored = json.loads(path.read_bytes())
            return cls(
                folder,
                begun={kind: dict(named) for kind, named in stored["inputs"].items()},
                changed=list(stored["changed"]),
                settings=str(stored.get("settings", "")),
                version=str(stored["equipoise"]),
                format=int(stored["format"]),
                hasher=Hasher({name: list(entry) for name, entry in stored["files"].items()}),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"{path} is damaged ({type(error).__name__}: {error}); restore it from a copy, or start again in "
                "another folder"
            ) from error

    def check(self, now: Inputs, gates: Gates, *, partial: bool = False) -> None:
        """Compare with what the run began with. Raises ConfigError with the differences, unless they are allowed.

        partial    `now` does not yet hold everything: what it lacks is not missed.
        A difference that is allowed is noted, and is then what the run goes on with.
        """
        if not self.begun or self.format != FORMAT:
            found = [f"{self.folder} is a run folder of another format: it does not say what it depends on"]
            self._allow("changed_format", found, gates)
            return
        explained = False  # other rows are no surprise where their file, template or tokenizer has changed
        for kind in sorted(now.keys() | self.begun.keys(), key=lambda kind: kind == "rows"):
            named, before = now.get(kind, {}), self.begun.get(kind, {})
            if partial:
                before = {name: value for name, value in before.items() if name in named}
            differing = list(differences(kind, before, named))
            if differing and not (kind == "rows" and explained):
                self._allow(f"changed_{kind}", differing, gates)
            explained |= bool(differing) and kind in ("data", "template", "tokenizer")

    def check_settings(self, config: RunConfig) -> None:
        """Raises ConfigError if the settings are not those that the run was begun with, whatever config.yaml says."""
        if self.settings and self.settings != settings_hash(config):
            raise ConfigError(
                f"{self.folder / 'config.yaml'} was edited: the run was begun with other settings; restore it, or "
                "choose another folder"
            )

    def write(self, now: Inputs, config: RunConfig) -> None:
        """Write the file whole, with what the run depends on now."""
        content = {
            "format": FORMAT,
            "equipoise": self.version if self.begun else __version__,
            "inputs": now,
            "changed": self.changed,
            "settings": settings_hash(config),
            "files": dict(sorted(self.hasher.known.items())),
        }
        write_json(self.folder / FILE, content)

    def _allow(self, name: str, differing: Collection[str], gates: Gates) -> None:
        lines = "\n  ".join(differing)
        if name not in gates.allowed:
            raise ConfigError(
                f"{self.folder} was begun with something else:\n  {lines}\n"
                f"restore it, choose another folder, or go on with --allow {name}, which the report will say"
            )
        self.changed += [line for line in differing if line not in self.changed]


def differences(kind: str, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """What differs between two sets of named hashes, a sentence for each."""
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old != new:
            what = "is new" if old is None else "is missing" if new is None else "has changed"
            yield f"{kind} {name}: {what} since the run began"


def settings_hash(config: RunConfig) -> str:
    """Hash of the lasting settings but those that name files: what these hold is an input, wherever it lies."""
    settings = {name: value for name, value in config.lasting().items() if name not in PATHS}
    return _text_hash(json.dumps(settings, sort_keys=True, default=str))


def tell(record: Record, gates: Gates) -> None:
    """Record the changes that were allowed as one gate each, for the report."""
    for name, what in INPUTS.items():
        kind = name.removeprefix("changed_")
        of_kind = [line for line in record.changed if line.startswith(f"{kind} ") or name == "changed_format"]
        if of_kind and name in gates.allowed:
            sentence = f"what the run depends on changed ({what}): " + "; ".join(of_kind)
            gates.record(Measured(name=name, measured=None, limit=None, passed=False, sentence=sentence))


def _model(path: str, hasher: Hasher) -> Iterator[tuple[str, str]]:
    """The files of a model folder that are read, and those of what an adapter stands on, found as the loader does."""
    try:
        folders = lineage(path)
    except ModelError:
        return  # the loader refuses it
    for depth, folder in enumerate(folders):
        prefix = "base/" * depth
        commit = None if depth == 0 and Path(path).is_dir() else _snapshot(folder)
        if commit:
            yield f"{prefix}{path if depth == 0 else 'commit'}", commit
        else:
            files = [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]
            yield from _files([*files, *(folder / name for name in MODEL)], hasher, prefix)


def _tokenizer(path: str, hasher: Hasher) -> Iterator[tuple[str, str]]:
    try:
        folder = tokenizer_folder(path)
    except ModelError:
        return
    more = (folder / "additional_chat_templates").glob("*.jinja")
    yield from _files([*(folder / name for name in TOKENIZER), *more], hasher)


def _data(config: RunConfig, hasher: Hasher) -> Iterator[tuple[str, str]]:
    """Every file that the data settings name: files, those in folders, those of a dataset_info.json, templates."""
    listed = [*(config.data.path or ()), *(config.data.evaluation or ())]
    paths = [data_file(item).path for item in listed]
    paths += [file.path for file in data_files(listed) if file.path not in paths]
    if "\n" not in config.data.template and len(config.data.template) < LONGEST_PATH:
        paths.append(config.data.template)
    seen: dict[str, int] = {}
    for path in map(Path, paths):
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in inside:
            if file.is_file():
                seen[str(file)] = seen.get(str(file), 0) + 1
                again = f" (given again, {seen[str(file)]})" if seen[str(file)] > 1 else ""
                yield f"{file}{again}", hasher(file)


def _oracle(spec: str, hasher: Hasher) -> Iterator[tuple[str, str]]:
    if is_given(spec):
        return  # the fingerprint says all
    if Path(spec).is_dir():
        yield from _model(spec, hasher)
        yield from _tokenizer(spec, hasher)
        return
    if Path(spec).is_file():
        yield Path(spec).name, hasher(Path(spec))
        return
    if not is_code(spec):
        return
    files = sources(spec)
    for file in files:
        beside = file.is_relative_to(files[0].parent)
        yield str(file.relative_to(files[0].parent) if beside else file.name), hasher(file)
    version = distribution(spec)
    if version:
        yield "distribution", version


def _template(renderer: Renderer) -> dict[str, str]:
    """Template, its settings and tokenizer as one, and the day that the template writes."""
    return {"and its settings": renderer.fingerprint, "date": _text_hash(str(renderer.date))}


def _rows(materials: Materials) -> str:
    """Hash of all that is trained on and evaluated with, as tokens."""
    digest = hashlib.sha256()
    for prompts in (materials.pool, materials.unseen):
        for prompt in prompts:
            digest.update(np.asarray((-1, *prompt.ids), dtype=np.int64).tobytes())
        digest.update(b"|")
    for rows in (materials.pairs, materials.held_out):
        _add_rows(digest, rows)
    return digest.hexdigest()


def _add_rows(digest: Any, rows: Rows | None) -> None:
    if rows is None:
        return
    for prompt, group in zip(rows.prompts, rows.responses, strict=True):
        for ids in (prompt.ids, *(response.ids for response in group)):
            digest.update(np.asarray((-1, *ids), dtype=np.int64).tobytes())
    for values in (rows.weight, rows.prob, rows.reward):
        digest.update(b"-" if values is None else values.tobytes())


def _files(paths: Iterable[Path], hasher: Hasher, prefix: str = "") -> Iterator[tuple[str, str]]:
    for path in sorted(set(paths)):
        if path.is_file():
            yield f"{prefix}{path.name}", hasher(path)


def _snapshot(folder: Path) -> str | None:
    """The commit of a hub repository, from its folder in the cache; None for any other folder."""
    kept = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
    return folder.name if kept else None


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()
