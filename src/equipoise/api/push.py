"""Push of a run's policy to the Hugging Face Hub, with its card; private unless it is said otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from equipoise.api.card import card_of
from equipoise.api.comparison import folder_of
from equipoise.api.export import FILE_MODE, export, is_adapted
from equipoise.evaluate.located import locate
from equipoise.models.adapters import HUB_NAME
from equipoise.policy.digests import write_sums
from equipoise.run.config import ConfigError
from equipoise.run.finished import Run, load_run


@dataclass(frozen=True)
class Pushed:
    """What was made: the folder, if it was kept, and the address, if it was sent."""

    folder: Path | None
    address: str | None


def hub() -> Any:
    """The Hub's client."""
    from huggingface_hub import HfApi

    return HfApi()


def push(
    run: Run | str | Path,
    to: str,
    *,
    form: str = "auto",
    round: str = "final",
    private: bool = True,
    dry_run: str | Path | None = None,
    client: Callable[[], Any] = hub,
) -> Pushed:
    """Send a run's policy to a repository of the Hub, with a model card made from the run's facts.

    to       OWNER/NAME; it is made if it does not exist, private unless `private` is False
    form     merged or adapter; auto: an adapter if the run trained one on a model of the Hub
    dry_run  a folder into which everything is written that would be sent; nothing is sent

    Raises ConfigError for a name that is none, and for what the Hub refuses.
    """
    if to.count("/") != 1 or not HUB_NAME.fullmatch(to):
        raise ConfigError(f"{to!r} is no repository; give OWNER/NAME")
    if dry_run is not None:
        return Pushed(_written(run, Path(dry_run), to, form, round), None)
    with TemporaryDirectory() as parent:
        folder = _written(run, Path(parent) / "repository", to, form, round)
        return Pushed(None, _sent(folder, to, private, client))


def _written(run: Run | str | Path, folder: Path, to: str, form: str, round: str) -> Path:
    where = locate(str(folder_of(run)), round)
    done = load_run(folder_of(run))
    if form == "auto":
        base = str(done.summary.get("model") or "")
        published = "/" in base and HUB_NAME.fullmatch(base) and not Path(base).exists()
        form = "adapter" if published and is_adapted(run, round) else "merged"
    if form not in ("merged", "adapter"):
        raise ConfigError(f"a repository holds a merged model or an adapter, got {form!r}")
    export(run, form, folder, round=round)
    card = folder / "README.md"
    card.write_text(
        card_of(done, where.round, "adapter" if form == "adapter" else "model", to), encoding="utf-8"
    )
    card.chmod(FILE_MODE)
    write_sums(folder)
    return folder


def _sent(folder: Path, to: str, private: bool, client: Callable[[], Any]) -> str:
    try:
        api = client()
        api.create_repo(to, private=private, exist_ok=True)
        api.upload_folder(repo_id=to, folder_path=str(folder), commit_message="Upload with Equipoise")
    except Exception as error:  # noqa: BLE001 - the errors of the HTTP library have no common base that is stable
        why = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise ConfigError(
            f"the Hugging Face Hub refuses {to}: {why}; log in with `hf auth login`, or write the folder alone with "
            "--dry-run FOLDER"
        ) from None
    return f"https://huggingface.co/{to}"
