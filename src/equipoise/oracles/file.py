"""An oracle's YAML file: its settings as a record, errors that name them, and paths relative to its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from equipoise.data.errors import DataError
from equipoise.models.adapters import HUB_NAME
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import OracleError


class OracleFile(BaseModel):
    """Settings of an oracle's file; an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelFile(OracleFile):
    """Settings of an oracle with models of its own.

    device, dtype, tokens   as in `Placement`; None: as the run has them. dtype "stored": as the checkpoint is stored
    """

    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16", "stored"] | None = None
    tokens: int | None = Field(None, gt=0)

    def placed(self, run: Placement) -> Placement:
        """Where its models run, in a run that has a placement of its own."""
        dtype = run.dtype if self.dtype is None else None if self.dtype == "stored" else self.dtype
        return Placement(device=self.device or run.device, dtype=dtype, tokens=self.tokens or run.tokens)


F = TypeVar("F", bound=BaseModel)


def settings_of(kind: type[F], settings: Mapping[str, Any], file: Path, *, what: str = "oracle") -> F:
    """The record of a file's settings. Raises OracleError that names the file and every setting that is wrong."""
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise OracleError(f"the {what} {file}: {problems}") from error


@contextmanager
def data_errors(of: str) -> Iterator[None]:
    """Context manager: a file that an oracle reads its questions' answers from cannot be used (DataError)."""
    try:
        yield
    except DataError as error:
        raise OracleError(f"the oracle {of}: {error}") from None


def relative_to(file: Path, named: str) -> str:
    """A path of the file's settings, relative to its folder; a name that is no file there may be one of the hub."""
    place = file.parent / named
    of_the_hub = HUB_NAME.fullmatch(named) and not named.endswith((".yaml", ".yml"))
    return named if of_the_hub and not place.exists() else str(place)


def digest(*about: Any) -> str:
    """Hash of what an oracle's verdicts depend on, 16 digits."""
    return hashlib.sha256(repr(about).encode("utf-8", errors="surrogatepass")).hexdigest()[:16]
