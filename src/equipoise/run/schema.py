"""JSON schema of a configuration file, for editors: sections, settings with their descriptions, and methods."""

from __future__ import annotations

from typing import Any

from equipoise.report.methods.stored import methods
from equipoise.run.settings import RunConfig

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TEXT = {"type": "string"}


def schema() -> dict[str, Any]:
    """The schema of what `align --config` reads, by its sections; short and dotted names are not listed."""
    found: dict[str, Any] = RunConfig.model_json_schema()
    for part in (found, *found["$defs"].values()):
        for about in part["properties"].values():
            _one_or_several(about)
    fields, entries = found["properties"], methods()
    names = [entry["name"] for entry in entries]
    fields["method"] = {"enum": names, "description": fields["method"]["description"]}
    parameters = dict.fromkeys(name for entry in entries for name in entry["defaults"])
    fields["objective"]["properties"] = {
        name: {
            "description": "of " + ", ".join(entry["name"] for entry in entries if name in entry["defaults"])
        }
        for name in parameters
    }
    for name in ("model", "data"):  # a path alone
        section = fields[name]
        fields[name] = {"anyOf": [{"$ref": section["$ref"]}, TEXT]}
    fields["data"]["anyOf"].append({"type": "array"})
    fields["out"] = {**TEXT, "description": "run folder; an existing one is resumed"}
    for about in ("hash", "chosen"):
        fields[about] = {"description": "in the config.yaml of a run folder; not read"}
    required = [name for name in found.get("required", ()) if name != "method"]
    title = {"$schema": DRAFT, "title": "A run of equipoise"}
    return {**found, **title, **({"required": required} if required else {})}


def _one_or_several(about: dict[str, Any]) -> None:
    """Let one text stand where a list of texts is meant, as `align` does."""
    kinds = about.get("anyOf", [about])
    if any(kind.get("type") == "array" for kind in kinds) and TEXT not in kinds:
        rest = {name: about.pop(name) for name in ("type", "items") if name in about}
        about["anyOf"] = [*([rest] if rest else about["anyOf"]), TEXT]
