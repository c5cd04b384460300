"""Evidence of claims, as files and as the generated page docs/claims.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.claims.claim import Claim, Evidence, Fresh, Scale, Table
from equipoise.claims.grades import GRADES, MEANING
from equipoise.claims.index import CLAIMS, get
from equipoise.policy.files import whole, write_json, write_text
from equipoise.report.claims.provenance import program_hash, provenance, rule_hash
from equipoise.report.claims.text import cell, told

SHORT = 10  # characters of a hash on the page


@dataclass(frozen=True)
class Stored:
    """Evidence with its scale, where it comes from, and the verdicts of other offsets of the seeds.

    fresh     offset -> verdict; empty where no other offset was run.
    origin    rule_sha256, program_sha256, commit, date, seed_offset, or what is known of them.
    """

    evidence: Evidence
    scale: Scale = "full"
    fresh: Mapping[int, str] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The verdict that all offsets agree on, else "undecided"."""
        return self.evidence.verdict if set(self.fresh.values()) <= {self.evidence.verdict} else "undecided"


def run_claim(
    name: str, scale: Scale = "full", out: Path | None = None, *, seed_offset: int = 0, fresh: int = 0
) -> Fresh:
    """Run one claim with one offset of its seeds, or as shipped and with `fresh` further ones.

    out    folder to write the evidence of the first run to, with the others' verdicts.

    Raises KeyError for an unknown name, ValueError for a negative number or for both numbers at once.
    """
    if fresh and seed_offset:
        raise ValueError("--fresh runs the seeds as shipped and its own offsets: leave --seed-offset out")
    if fresh < 0:
        raise ValueError(f"a number of fresh offsets is at least 0, not {fresh}")
    claim = get(name)
    found = (
        claim.fresh(scale, fresh)
        if fresh
        else Fresh({seed_offset: claim.run(scale, seed_offset)}, exact=False)
    )
    if out is not None:
        first, *others = found.runs
        verdicts = {k: found.runs[k].verdict for k in others}
        write_evidence(name, found.runs[first], out, scale, seed_offset=first, fresh=verdicts)
    return found


def stored_evidence(name: str, folder: Path, scale: Scale) -> Stored | None:
    """What an earlier run wrote to folder/NAME.json; None if there is nothing to go by.

    Evidence at full scale serves a quick page too. Evidence found under another rule, or with other seeds than those
    shipped, does not count.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    current = stored.get("rule_sha256") == rule_hash(get(name)) and stored.get("rule") == get(name).rule
    if not current or stored.get("scale") not in ("full", scale) or stored.get("seed_offset", 0):
        return None
    origin = {
        k: stored[k] for k in ("rule_sha256", "program_sha256", "commit", "stored_in", "date") if k in stored
    }
    fresh = {int(k): verdict for k, verdict in stored.get("fresh", {}).items()}
    return Stored(Evidence.from_json(stored), stored["scale"], fresh, origin)


def write_evidence(
    name: str,
    evidence: Evidence,
    folder: Path,
    scale: Scale = "full",
    *,
    seed_offset: int = 0,
    fresh: Mapping[int, str] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> list[Path]:
    """folder/NAME.json with every figure, and folder/NAME.png where there is something to draw.

    origin    where the evidence comes from, if it was not found just now.
    """
    claim = get(name)
    about = {
        "claim": name,
        "sentence": claim.sentence,
        "paper": claim.paper,
        "rule": claim.rule,
        "set": claim.set,
        "scale": scale,
        "seed_offset": seed_offset,
        "fresh": {str(k): verdict for k, verdict in (fresh or {}).items()},
    }
    paths = [folder / f"{name}.json"]
    write_json(paths[0], about | dict(origin or provenance(name, claim)) | evidence.as_json())
    if evidence.panels:
        from equipoise.report.claims.picture import picture

        paths.append(folder / f"{name}.png")
        with whole(paths[1]) as draft:
            draft.write_bytes(picture(evidence))
    return paths


def changed(folder: Path) -> tuple[list[str], list[str]]:
    """Claims whose stored evidence in `folder` was found under another rule, and those whose program changed since.

    Evidence without a hash of its program counts as changed: it cannot be told.
    """
    rules, programs = [], []
    for name in CLAIMS:
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.get("rule_sha256") != rule_hash(get(name)):
            rules.append(name)
        if stored.get("program_sha256") != program_hash(name):
            programs.append(name)
    return rules, programs


def markdown(found: Mapping[str, Stored], figures: str = "figures", waiting: Sequence[str] = ()) -> str:
    """The whole page from evidence by claim name; `figures` is the pictures' folder, relative.

    waiting    claims without evidence: they are listed as not run.
    """
    lines = [
        "# Claims",
        "",
        "Generated by `python -m equipoise.report.claims.evidence docs/claims.md`; do not edit. Each sentence below "
        "is a small program on exact games and small models: the command under it prints the figures that stand there. "
        "The verdict follows from the figures by the stated rule. Where a rule or its settings were set when figures "
        "had been seen, this is said: such a verdict tells what the program shows, and is no test of the sentence. A "
        "quick run takes seconds and has few seeds: it is marked as quick, and is too small to be cited.",
        "",
        "Every seed of a program moves with `--seed-offset K`; `--fresh 3` runs the seeds as shipped and three further "
        "sets of them, and a verdict that turns with the seeds is **undecided**. Stored evidence carries the hash of "
        "its rule: `python -m equipoise.report.claims.evidence --check docs/claims.md` lists what was found under "
        "another one.",
        "",
        "The grade says how much a verdict is worth, whichever way it goes:",
        "",
        *(f"- **{letter}**: {words}" for letter, words in MEANING.items()),
        "",
        "| claim | sentence | paper | verdict | scale | grade |",
        "|---|---|---|---|---|---|",
    ]
    for name, stored in found.items():
        claim = get(name)
        cells = (bars(claim.sentence), arxiv(claim.paper), stored.verdict, stored.scale, GRADES[name].letter)
        lines.append(f"| [`{name}`](#{name}) | {' | '.join(cells)} |")
    for name in waiting:
        claim = get(name)
        unknown = (bars(claim.sentence), arxiv(claim.paper), "not run yet", "-", GRADES[name].letter)
        lines.append(f"| `{name}` | {' | '.join(unknown)} |")
    for name, stored in found.items():
        lines += ["", *section(get(name), stored, figures)]
    return "\n".join(lines) + "\n"


def section(claim: Claim, stored: Stored, figures: str) -> list[str]:
    """One claim's part of the page."""
    evidence, grade = stored.evidence, GRADES[claim.name]
    lines = [
        f"## {claim.name}",
        "",
        f"{claim.sentence} ({arxiv(claim.paper)})",
        "",
        f"**{stored.verdict}{' (quick run)' if stored.scale == 'quick' else ''}.** {evidence.summary}",
        "",
        f"Rule: {claim.rule}",
        *(["", f"When it was set: {claim.set}"] if claim.set else []),
        *(["", told(evidence.verdict, stored.fresh)] if stored.fresh else []),
        "",
        f"Grade {grade.letter}: {grade.reason}",
        "",
        f"`equipoise claims {claim.name} --scale {stored.scale}` {origin_told(stored.origin)}",
    ]
    if evidence.panels:
        title = "; ".join(panel.title for panel in evidence.panels)
        lines += ["", f"![{title}]({figures}/{claim.name}.png)"]
    for table in evidence.tables:
        lines += ["", *markdown_table(table)]
    return lines


def origin_told(origin: Mapping[str, Any]) -> str:
    """In brackets: day, commit and rule of the run, as far as they are known."""
    parts = (
        [f"run on {origin['date']}" if "commit" in origin else f"stored on {origin['date']}"]
        if origin
        else []
    )
    if origin.get("commit"):
        parts.append(f"commit {origin['commit'][:SHORT]}{'+' if origin['commit'].endswith('+') else ''}")
    elif origin.get("stored_in"):
        parts.append(f"in commit {origin['stored_in'][:SHORT]}; that of the run was not recorded")
    if origin.get("rule_sha256"):
        parts.append(f"rule {origin['rule_sha256'][:SHORT]}")
    return f"({', '.join(parts)})" if parts else ""


def markdown_table(table: Table) -> list[str]:
    rule = [
        "---" if any(isinstance(row[i], str) for row in table.rows) else "---:"
        for i in range(len(table.columns))
    ]
    rows = [[bars(cell(value)) for value in row] for row in table.rows]
    return [
        table.title[:1].upper() + table.title[1:] + ".",
        "",
        *(f"| {' | '.join(row)} |" for row in ([bars(c) for c in table.columns], rule, *rows)),
    ]


def bars(text: str) -> str:
    return text.replace("|", "\\|")


def arxiv(paper: str) -> str:
    return f"[{paper}](https://arxiv.org/abs/{paper})"


def write_page(path: Path, scale: Scale = "full", *, run: bool = True) -> None:
    """Write the page, and pictures and JSON into the folder `figures` next to it.

    Claims whose evidence lies there already, at this scale or the full one and under the same rule, are not run
    again: remove a claim's JSON to have it run.

    run    False: nothing is run, and a claim without evidence is listed as such.
    """
    folder = path.parent / "figures"
    found = {}
    for name in CLAIMS:
        stored = stored_evidence(name, folder, scale)
        if stored is None and not run:
            continue
        if stored is None:
            write_evidence(name, get(name).run(scale), folder, scale)
            stored = stored_evidence(name, folder, scale)
        assert stored is not None
        found[name] = stored
    write_text(path, markdown(found, waiting=[name for name in CLAIMS if name not in found]))


def check(page: Path) -> int:
    """Print what `changed` finds for the evidence beside the page; 1 if a rule is not the one that the evidence has."""
    rules, programs = changed(page.parent / "figures")
    for name in rules:
        print(f"{name}: the rule was changed after the stored run; remove its JSON and run it again")
    for name in programs:
        print(f"{name}: the program has changed since the stored run, or its hash was not stored")
    return int(bool(rules))


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(check(Path(next(word for word in sys.argv[1:] if word != "--check"))))
    asked = sys.argv[2:]
    write_page(
        Path(sys.argv[1]), "full" if "full" in asked or not asked else "quick", run="stored" not in asked
    )
