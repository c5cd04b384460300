"""The oracle that a specification names: a rule in Python, a reward model's folder, or a YAML file of some kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from equipoise.oracles.asking import Asking, Policy, Questioner
from equipoise.oracles.checked import Checked
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.oracles.rules import load_rule
from equipoise.oracles.verdicts import VerdictStore
from equipoise.safe_yaml import load as load_yaml


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where an oracle's own models run: on the run's device and in its dtype unless the oracle says otherwise.

    device  a torch device; None: the GPU if there is one
    dtype   "float32", "bfloat16", "float16"; None: as the checkpoint is stored
    tokens  most padded tokens of one batch
    """

    device: str | None = None
    dtype: str | None = "float32"
    tokens: int = 8192


# (settings of the file without `kind`, the file's path, placement) -> an oracle of single questions, or of batches
Made: TypeAlias = Questioner | Oracle
Maker: TypeAlias = Callable[[Mapping[str, Any], Path, Placement], Made]


def _judge(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.judge import JudgeOracle

    return JudgeOracle.of(settings, file)


def _yes_no(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.reward import as_oracle_errors, oracle_of
    from equipoise.reward_models.yes_no import YesNo, load

    with as_oracle_errors():
        loaded = load(YesNo.of(settings, file), dtype=placement.dtype, device=placement.device)
        return oracle_of(loaded, placement.tokens)


KINDS: dict[str, Maker] = {
    "judge": _judge,
    "yes-no": _yes_no,
}  # `kind:` of a YAML file; a file without it is a judge


def load(
    spec: str,
    *,
    store: Path | None = None,
    policy: Policy | None = None,
    placement: Placement | None = None,
) -> Checked:
    """Loads `module:function` or `file.py:function` (a rule), an oracle's YAML file, or a reward model's folder.

    store      file in which verdicts of single questions are kept; None: only in memory
    policy     how single questions are asked: concurrency, retries, failures
    placement  where models run

    Raises OracleError if the spec is none of these, or names something that cannot be used.
    """
    placement = placement or Placement()
    if (Path(spec) / "config.json").is_file():
        from equipoise.oracles.reward import load_oracle

        made = load_oracle(spec, dtype=placement.dtype, device=placement.device, tokens=placement.tokens)
        return Checked(made)
    if spec.endswith((".yaml", ".yml")):
        return asked(_of_file(Path(spec), placement), store, policy)
    if ":" in spec:
        return asked(load_rule(spec), store, policy)
    raise OracleError(
        f"{spec!r} is neither a rule (module:function or file.py:function), an oracle's file (.yaml) nor a folder "
        "with a reward model"
    )


def asked(made: Made, store: Path | None = None, policy: Policy | None = None) -> Checked:
    """An oracle whose every answer is checked; one of single questions is asked as the policy says."""
    if isinstance(made, Questioner):
        return Checked(Asking(made, VerdictStore(store) if store else None, policy))
    return Checked(made)


def _of_file(file: Path, placement: Placement) -> Made:
    try:
        settings = load_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OracleError(f"cannot read the oracle {file}: {error}") from error
    if not isinstance(settings, Mapping):
        raise OracleError(f"cannot read the oracle {file}: it must hold settings, NAME: VALUE in each line")
    kind = settings.get("kind", "judge")
    if kind not in KINDS:
        raise OracleError(f"{file}: kind {kind!r} is none of {', '.join(sorted(KINDS))}")
    return KINDS[kind]({name: value for name, value in settings.items() if name != "kind"}, file, placement)
