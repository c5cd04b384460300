"""The oracle that a specification names: a rule in Python, a reward model's folder, or a YAML file of some kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from equipoise.oracles.checked import Checked
from equipoise.oracles.ensemble import Ensemble, Members
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.questioner import Batched, Policy, Questioner
from equipoise.oracles.questions.verdicts import VerdictStore
from equipoise.oracles.rules.given import again, is_given
from equipoise.oracles.rules.rule_oracle import load_rule
from equipoise.safe_yaml import load as load_yaml

# (settings of the file without `kind`, the file's path, placement) -> an oracle of single questions, or of batches
Made: TypeAlias = "Questioner | Batched | Oracle | Members[Made]"
Maker: TypeAlias = Callable[[Mapping[str, Any], Path, Placement], Made]


def _judge(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.judges.judge import JudgeOracle

    return JudgeOracle.of(settings, file)


def _reward_server(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.judges.reward_server import RewardServer

    return RewardServer.of(settings, file)


def _recorded(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.recorded.verdict_file import RecordedVerdicts

    return RecordedVerdicts.of(settings, file)


def _density_ratio(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.models.density_ratio import density_ratio

    return density_ratio(settings, file, placement)


def _implicit_reward(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.models.density_ratio import implicit_reward

    return implicit_reward(settings, file, placement)


def _self(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.judges.self_judge import SelfJudge

    return SelfJudge.of(settings, file)


def _tests(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.code.code_tests import CodeTests

    return CodeTests.of(settings, file)


def _tool_calls(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.tools.tool_calls import ToolCalls

    return ToolCalls.of(settings, file)


def _mc_dropout(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.models.dropout import mc_dropout

    return mc_dropout(settings, file, placement, _of_folder)


def _pal(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.models.pal import pal

    return pal(settings, file, placement)


def _relevance(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.models.relevance import relevance

    return relevance(settings, file, placement)


def _ensemble(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    def member(spec: str) -> Made:
        if Path(spec).is_file() and _read(Path(spec), KINDS)[0] == "ensemble":  # perhaps this very file
            raise OracleError(f"the oracle {file}: its member {spec} is an ensemble; name that one's members")
        return _made(spec, placement, KINDS)

    return Members.of(settings, file, member)


def _yes_no(settings: Mapping[str, Any], file: Path, placement: Placement) -> Made:
    from equipoise.oracles.models.reward import as_oracle_errors, oracle_of
    from equipoise.reward_models.yes_no import YesNo, load

    with as_oracle_errors():
        loaded = load(YesNo.of(settings, file), dtype=placement.dtype, device=placement.device)
        return oracle_of(loaded, placement.tokens)


KINDS: dict[str, Maker] = {  # `kind:` of a YAML file; a file without it is a judge
    "judge": _judge,
    "reward_server": _reward_server,
    "tests": _tests,
    "tool_calls": _tool_calls,
    "recorded": _recorded,
    "density_ratio": _density_ratio,
    "implicit_reward": _implicit_reward,
    "self": _self,
    "ensemble": _ensemble,
    "mc_dropout": _mc_dropout,
    "pal": _pal,
    "relevance": _relevance,
    "yes_no": _yes_no,
}
SELF = "self"  # the policy itself, with the defaults of its kind
PEOPLE = re.compile(r"label:\d{1,5}")  # no rule: a function's name has no digit in front


def load(
    spec: str,
    *,
    store: Path | None = None,
    policy: Policy | None = None,
    placement: Placement | None = None,
    kinds: Mapping[str, Maker] = KINDS,
) -> Checked:
    """Loads `module:function` or `file.py:function` (a rule), an oracle's YAML file, or a reward model's folder.

    `label:PORT` is short for a file of kind `people` with this port, `self` for a file of kind `self`.

    store      file in which verdicts of single questions are kept; None: only in memory
    policy     how single questions are asked: concurrency, retries, failures
    placement  where models run
    kinds      `kind:` of a YAML file -> its maker; rooms above this one add their own

    Raises OracleError if the spec is none of these, or names something that cannot be used.
    """
    placement = placement or Placement()
    placement = replace(placement, folder=placement.folder or (store.parent if store else None))
    return asked(_made(spec, placement, kinds), store, policy)


def asked(made: Made, store: Path | None = None, policy: Policy | None = None) -> Checked:
    """An oracle whose every answer is checked; one of single questions is asked as the policy says."""
    if isinstance(made, Checked):
        return made
    if isinstance(made, Members):
        members = tuple(asked(member, store, policy) for member in made.made)
        return Checked(Ensemble(members, made.weights, made.name))
    if isinstance(made, Questioner | Batched):
        return Checked(Asking(made, VerdictStore(store) if store else None, policy))
    return Checked(made)


def is_code(spec: str) -> bool:
    """Whether a specification names code, which would be run."""
    return ":" in spec and not (PEOPLE.fullmatch(spec) or is_given(spec) or Path(spec).is_dir())


def _made(spec: str, placement: Placement, kinds: Mapping[str, Maker]) -> Made:
    if (Path(spec) / "config.json").is_file():
        return _of_folder(spec, placement)
    if spec.endswith((".yaml", ".yml")):
        kind, settings = _read(Path(spec), kinds)
        return kinds[kind](settings, Path(spec), placement)
    if PEOPLE.fullmatch(spec) and "people" in kinds:
        return kinds["people"]({"port": int(spec.partition(":")[2])}, Path(spec), placement)
    if spec == SELF and SELF in kinds:
        return kinds[SELF]({}, Path(spec), placement)
    if is_given(spec):
        raise OracleError(again(spec))
    if ":" in spec:
        return load_rule(spec)
    raise OracleError(
        f"{spec!r} is neither a rule (module:function or file.py:function), an oracle's file (.yaml) nor a folder "
        "with a reward model"
    )


def _of_folder(spec: str, placement: Placement) -> Oracle:
    from equipoise.oracles.models.pal import is_pal, pal_of_folder
    from equipoise.oracles.models.reward import load_oracle

    if is_pal(spec):
        return pal_of_folder(spec, placement)
    return load_oracle(spec, dtype=placement.dtype, device=placement.device, tokens=placement.tokens)


def _read(file: Path, kinds: Mapping[str, Maker]) -> tuple[str, Mapping[str, Any]]:
    """(kind, settings) of a YAML file. Raises OracleError for one that cannot be read, or of an unknown kind."""
    try:
        settings = load_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise OracleError(f"cannot read the oracle {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise OracleError(f"cannot read the oracle {file}: {error}") from error
    if not isinstance(settings, Mapping):
        raise OracleError(f"cannot read the oracle {file}: it must hold settings, NAME: VALUE in each line")
    kind = settings.get("kind", "judge")
    if not isinstance(kind, str) or kind not in kinds:
        raise OracleError(f"{file}: kind {kind!r} is none of {', '.join(sorted(kinds))}")
    return kind, {str(name): value for name, value in settings.items() if name != "kind"}
