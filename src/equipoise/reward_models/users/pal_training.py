"""Training of ideal-point rewards of many users to a folder, and fits of new users: PAL's two commands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.core.calibration import ranked_right
from equipoise.data.errors import DataError
from equipoise.data.reading.read import Dataset
from equipoise.models.errors import ModelError
from equipoise.policy.digests import verify
from equipoise.policy.files import read_tensors, whole, write_json, write_tensors
from equipoise.reward_models.folder import Loaded, load, save
from equipoise.reward_models.head import Head
from equipoise.reward_models.model import RewardModel
from equipoise.reward_models.pairs import LabelledPair, labelled
from equipoise.reward_models.read import last_states
from equipoise.reward_models.texts import Texts
from equipoise.reward_models.train import Result
from equipoise.reward_models.users.ideal_points import Pal, PalSettings, fit_pal, fit_user, logistic_loss
from equipoise.reward_models.users.pairs import UserPairs, held_out_figures, labels_of, named_users

SETTINGS, TENSORS = "pal.json", "pal.safetensors"
HEAD = Head(attributes=("pal",))  # of the body's folder: its one output is not read


@dataclass(frozen=True)
class LoadedPal:
    """A body, the ideal-point rewards on its states, and the training users by number."""

    body: Loaded
    pal: Pal
    users: Mapping[str, int]


def train_pal(
    given: UserPairs,
    *,
    settings: PalSettings,
    tokens: int = 8192,
    about: Mapping[str, Any] | None = None,
) -> Result:
    """Fit PAL on a decoder's frozen states, and write a folder that `--oracle` loads.

    Held-out figures are of the training users' own rewards, on prompts that were not trained on.
    """
    out = given.out
    model, texts = given.beginning.model, given.beginning.texts
    prob, weight = labels_of(given.train)
    seen = features(model, texts, given.train, tokens)
    pal = fit_pal(*seen, given.user, prob, weight, settings, seed=given.seed)
    logits = pal.logits(*features(model, texts, given.held, tokens), pal.weights()[given.held_user])
    held_prob, _ = labels_of(given.held)
    figures = held_out_figures(logits, logistic_loss(logits, held_prob), given.held)
    with whole(out) as draft:
        draft.mkdir()
        write_json(draft / SETTINGS, {"settings": asdict(settings), "users": list(given.users)})
        write_tensors(draft / TENSORS, {name: t.contiguous() for name, t in pal.state_dict().items()})
        write_json(draft / "ledger.json", ledger := given.dataset.ledger.as_json())
        said = {"model": given.path, "seed": given.seed, "held_out": figures, **(about or {})}
        write_json(draft / "training.json", said)
        _hold_head(model)
        save(model, texts, draft)
    return Result(folder=out, steps=settings.steps, trained=len(given.train), figures=figures, ledger=ledger)


def load_pal(
    path: str | Path, *, dtype: str | None = "float32", device: str | torch.device | None = None
) -> LoadedPal:
    """A folder of `train_pal`, as untrusted input. Raises ModelError, in one sentence, for one that is broken."""
    folder = Path(path)
    try:
        verify(folder)
        said = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        settings, users = PalSettings(**said["settings"]), [str(name) for name in said["users"]]
        tensors, _ = read_tensors(folder / TENSORS)
        pal = Pal(len(tensors["centre"]), len(users), settings)
        pal.load_state_dict(tensors)
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"cannot load ideal points from {path}: {str(error).splitlines()[0]}") from None
    body = load(path, dtype=dtype, device=device)
    if body.model.body.config.hidden_size != len(tensors["centre"]):
        raise ModelError(f"{path}: its ideal points do not fit the width of its body")
    return LoadedPal(body, pal.requires_grad_(False), {name: n for n, name in enumerate(users)})


def fit_users(loaded: LoadedPal, dataset: Dataset, tokens: int = 8192) -> dict[str, dict[str, Any]]:
    """Weights of new users from their labels: user -> {"weights": [K], "labels": n, "accuracy": in these labels}.

    Raises DataError for a row that names no user, and for a user of the training (who has weights already).
    """
    pairs = labelled(dataset, loaded.body.texts, Head())
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(named_users(pairs)):
        if name in loaded.users:
            raise DataError(f"user {name!r} is one of the training's", hint="give labels of new users only")
        own = [pair for pair in pairs if pair.user == name]
        prob, weight = labels_of(own)
        seen, prompts = features(loaded.body.model, loaded.body.texts, own, tokens)
        weights = fit_user(loaded.pal, seen, prompts, prob, weight)
        logits = loaded.pal.logits(seen, prompts, weights.expand(len(own), -1))
        right = ranked_right(logits.numpy(), prob.numpy())
        found[name] = {"weights": weights.tolist(), "labels": len(own), "accuracy": float(np.mean(right))}
    return found


def features(
    model: RewardModel, texts: Texts, pairs: Sequence[LabelledPair], tokens: int
) -> tuple[Tensor, Tensor]:
    """(states [N, 2, D] at the ends of both responses, states [N, D] at the end of the prompt alone)."""
    sides = [last_states(model, [pair.tokens[side] for pair in pairs], tokens) for side in (0, 1)]
    prompts = last_states(model, [tuple(texts.prompt(pair.prompt)) for pair in pairs], tokens)
    return torch.stack(sides, dim=1), prompts


def _hold_head(model: RewardModel) -> None:
    """Gives the body one output of 0, under a head that no plain reader takes for a reward."""
    nn.init.zeros_(model.body.score.weight)
    model.head = HEAD
