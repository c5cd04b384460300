"""The documentation page of gates: every name, limit and remedy, from the table that the code reads.

python -m equipoise.run.docs.gates > docs/gates.md
"""

from __future__ import annotations

from equipoise.report.comparison.comparable import BASES, FAMILIES
from equipoise.worlds.text.folder.gate_list import CODE, GATES, INPUTS

INTRODUCTION = """# Gates

A run passes named checks before and during training. Each measures something against a limit and is recorded in the
run folder's `gates.json` and in the report. A gate that refuses ends the run, before compute is spent where that is
possible, with one sentence and exit code 2. `--allow NAME` (repeatable; in Python `allow=["NAME"]`, in a file
`allow: [NAME]`) lets the run go on regardless: the report then shows the gate as allowed. A gate that warns never
ends a run.

Generated from `src/equipoise/worlds/text/folder/gate_list.py`; do not edit. Print it with
`python -m equipoise.run.docs.gates > docs/gates.md`.
"""

RESUMING = """
## Resuming: what must be as it was

A run folder records what the run was begun with (`inputs.json`: hashes of contents, so a copy elsewhere is the
same) and what it has written (`manifest.jsonl`: the SHA-256 of every finished file, checked when the file is read).
A resumed run that finds something else is refused with the difference. Allowed changes are recorded for good, and
the report names them.

| `--allow` | what may have changed |
|---|---|"""

SWAPS = """
What was tried on runs that were killed after the first of two rounds (INPO with a rule, with a reward model and on the
playground, DPO on files and on an adapter): one thing exchanged, the same command again. `tests/run/test_inputs.py` and
`tests/run/test_integrity.py` repeat it.

| exchanged | found |
|---|---|
| nothing | the bytes of the run that was never killed |
| the model's weights, configuration, generation configuration or tokenizer | refused, file named |
| the chat template, a further template, a template file | refused, file named |
| an adapter's weights or scale | refused, file named |
| its base's weights or configuration, wherever the base is found | refused, file named |
| a rule's file, a module that it imports | refused, file named |
| a reward model's weights or template | refused, file named |
| the data, the evaluation file | refused, file named |
| `template_date.txt`: edited; deleted, on the same day | refused; the same bytes |
| a setting of the command; `config.yaml` edited with it, broken, deleted | refused |
| `inputs.json`, `manifest.jsonl`: deleted, broken | refused |
| a bit of a checkpoint; a checkpoint deleted | refused, file named, with what to do |
| a log edited; an earlier evaluation cut | refused, file named |
| `checkpoints/initial` deleted | written again, the same bytes |
| `verdicts.sqlite`: deleted; broken | asked again, the same bytes; refused |

`tests/run/test_resume.py` (marked slow) asks the same of SPAC and INPO runs that were killed at twelve points:
in sampling, judging and scoring anchors, in the middle of an epoch and
of a step, while a position is saved, with half a checkpoint, half a line of a log, a file that the manifest does not
know, between rounds, in an evaluation, before the report.
"""

OTHERS = f"""
Not seen: files that a rule opens while it judges, and what a hosted judge runs behind the same name. Another
version of equipoise is told, and refused only where the layout of run folders differs. Other settings are always
refused, also if `config.yaml` was edited to agree.

`--allow {CODE}` lets a configuration file run the oracle that it names. An oracle that is code (`module:function`,
`file.py:function`) and that only the file given with `--config` names is refused otherwise: configuration files
come from other people. Naming it with `--oracle` is the same consent.

A damaged file is refused with its name and what to do. A stage, an anchor or a saved position of an unfinished
round may be deleted: it is computed again, to the same bytes on a CPU. A last line that a power loss cut short is
dropped, because its stage is repeated; anything else that is not as it was written is refused.

## Comparing runs

`equipoise compare` refuses no run. Figures stand in one table only if all that they depend on is the same; what is
not is said in words, and its figures stand in tables of their own.

| what the runs do not share | figures that are no longer of one evaluation |
|---|---|"""


def markdown() -> str:
    """The whole of docs/gates.md."""
    lines = [
        INTRODUCTION,
        "| gate | limit | what is measured | where it is closed | what to do |",
        "|---|---|---|---|---|",
    ]
    for gate in GATES.values():
        limit = "depends on the run" if gate.limit is None else f"{gate.limit:g}"
        closed = "refuses" if gate.refuses else "warns"
        lines.append(f"| `{gate.name}` | {limit} | {gate.what} | {closed} | {gate.remedy} |")
    lines += [RESUMING, *(f"| `{name}` | {what} |" for name, what in INPUTS.items())]
    lines += [SWAPS.rstrip("\n"), OTHERS]
    for name, basis in BASES.items():
        figures = ", ".join(family.title for family in FAMILIES if name in family.bases)
        lines.append(
            f"| they {basis.differ} | {figures or 'all still are: only what explains a difference is open'} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
