"""Model card of a checkpoint, README.md: what it is, what it was made from and how, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from equipoise.models.adapters import HUB_NAME


def write_card(folder: Path, about: Mapping[str, str], base: str | None, *, adapter: bool) -> None:
    """Write the card of a checkpoint; PEFT's own, with nothing filled in, is replaced.

    about    facts of the run by name, such as its method and the hash of its settings.
    base     the model that it was made from, a folder or hub name, if known.
    """
    library, loader = (
        ("peft", "AutoPeftModelForCausalLM") if adapter else ("transformers", "AutoModelForCausalLM")
    )
    header = [f"library_name: {library}", "pipeline_tag: text-generation", "tags:", "- equipoise"]
    if base and "/" in base and HUB_NAME.fullmatch(base) and not Path(base).exists():
        header.append(f"base_model: {base}")
    facts = {"kind": "LoRA adapter" if adapter else "full model", "base": base or "unknown"} | dict(about)
    facts["library"] = f"Equipoise {version('equipoise')}"
    rows = "\n".join(f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in facts.items())
    text = (
        f"# A policy aligned with Equipoise\n\n| | |\n|---|---|\n{rows}\n\n"
        f"```python\nfrom {library} import {loader}\n\nmodel = {loader}.from_pretrained(folder)\n```\n"
    )
    (folder / "README.md").write_text("---\n" + "\n".join(header) + "\n---\n\n" + text, encoding="utf-8")
