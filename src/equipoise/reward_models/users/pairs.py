"""Labelled pairs of named users, and a decoder on whose states rewards of these users are fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.core.calibration import ranked_right
from equipoise.core.intervals import POSITIVE, clustered_mean, clustered_share
from equipoise.data.errors import DataError
from equipoise.data.reading.read import Dataset
from equipoise.models.errors import ModelError
from equipoise.reward_models.folder import check_new
from equipoise.reward_models.head import Head
from equipoise.reward_models.pairs import LabelledPair
from equipoise.reward_models.start import Beginning, begin
from equipoise.reward_models.train import parts
from equipoise.reward_models.users.groups import numbered


@dataclass(frozen=True)
class UserPairs:
    """A decoder with training and held-out pairs of the same users, numbered.

    path, seed, dataset   what it was read from.     out   the folder to write
    users    name -> number         user, held_user   [N] number of each pair's user
    """

    path: str
    seed: int
    dataset: Dataset
    out: Path
    beginning: Beginning
    train: Sequence[LabelledPair]
    held: Sequence[LabelledPair]
    users: Mapping[str, int]
    user: Tensor
    held_user: Tensor


def begin_users(
    path: str | Path,
    dataset: Dataset,
    out: Path,
    *,
    held_out_share: float = 0.1,
    evaluation: Dataset | None = None,
    allow_overlap: bool = False,
    max_length: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> UserPairs:
    """Read a decoder and split the pairs by prompt; held-out pairs of users without training pairs are left out.

    Raises ModelError or DataError for what cannot be used, and if `out` exists.
    """
    check_new(out)
    beginning = begin(path, Head(), seed=seed, max_length=max_length)
    if not hasattr(beginning.model.body, "score"):
        raise ModelError(f"{path} is no decoder; rewards of users are read from a decoder's last state")
    train, held = parts(
        beginning,
        dataset,
        share=held_out_share,
        evaluation=evaluation,
        allow_overlap=allow_overlap,
        seed=seed,
    )
    users, user = numbered(named_users(train))
    held = [pair for pair in held if pair.user in users]
    if not held:
        raise DataError("no held-out pair is by a user of the training pairs", hint="hold out more prompts")
    beginning.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    held_user = torch.tensor([users[pair.user] for pair in held])
    return UserPairs(str(path), seed, dataset, out, beginning, train, held, users, user, held_user)


def labels_of(pairs: Sequence[LabelledPair]) -> tuple[Tensor, Tensor]:
    """(P(first beats second) [N], weight [N])."""
    values = [[pair.prob[0], pair.weight] for pair in pairs]
    prob, weight = torch.tensor(values, dtype=torch.float64).unbind(dim=1)
    return prob, weight


def named_users(pairs: Sequence[LabelledPair]) -> list[str]:
    """Each pair's user. Raises DataError for a pair without one."""
    nameless = next((pair for pair in pairs if not pair.user), None)
    if nameless is not None:
        raise DataError(
            f"row {nameless.id} names no annotator, and rewards are fitted for annotators",
            hint="give every row a column `user_id` (docs/data.md)",
        )
    return [pair.user for pair in pairs]


def held_out_figures(logits: Tensor, loss: Tensor, held: Sequence[LabelledPair]) -> dict[str, Any]:
    """Accuracy and mean loss [N] of held-out pairs under each user's own reward, with intervals clustered by prompt."""
    prob, _ = labels_of(held)
    clusters = [pair.group for pair in held]
    telling = (prob != 0.5).numpy()
    among = [group for group, kept in zip(clusters, telling, strict=True) if kept]
    right = ranked_right(logits.numpy()[telling], prob.numpy()[telling])
    return {
        "pairs": len(held),
        "prompts": len(set(clusters)),
        "accuracy": clustered_share(right, among) if among else None,
        "log_loss": clustered_mean(loss.numpy(), clusters, bounds=POSITIVE),
        "calibration": None,
    }
