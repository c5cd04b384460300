"""Recorded preference pairs from the language game, with chosen coverage and label noise."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from equipoise.playground.language import USERS
from equipoise.playground.language import Enumerated as Game

Coverage = Literal["reference", "uniform", "narrow", "lucky"]

NARROW = 6  # answers per prompt that "narrow" data contain
LUCKY_SHARE = 0.02  # share of pairs with the lucky style


def pairs(
    game: Game,
    n: int,
    *,
    coverage: Coverage = "reference",
    noise: float = 0.0,
    seed: int = 0,
    reference: Float[Tensor, "X A"],
    rationales: bool = False,
) -> list[dict[str, Any]]:
    """Samples n pairs {"prompt", "chosen", "rejected", "meta"} on the training prompts; deterministic.

    A prompt is drawn uniformly, then two answers i.i.d. from the coverage's distribution, redrawn until they
    differ, then the label: the first answer is chosen with probability P(first beats second | prompt). Finally
    the label is flipped with probability `noise`.

    coverage   "reference": the reference policy, [X, A] probabilities.
               "uniform": every answer with equal probability.
               "narrow": the reference restricted to its 6 likeliest answers to each prompt.
               "lucky": the style that does worst against the reference for that prompt is excluded, except in
               2 % of the pairs (at least one), where an answer of that style is compared with another one and
               wins regardless of P: luck that a learner without pessimism takes for merit.
    noise      in [0, 1/2].
    rationales adds a column "rationale": what fits the request in the chosen answer and not in the rejected one.
    In the variant "groups" each pair is labelled by a user drawn at random, named in a column "user_id".
    meta       "prob": P(chosen beats rejected), before any noise; "flipped": by the noise; "lucky"; "coverage".

    Raises ValueError for an unknown coverage, noise out of range, n < 1 or a reference of the wrong shape.
    """
    _check(game, n, coverage, noise, reference)
    draw = torch.Generator().manual_seed(seed)
    x = torch.tensor(game.train)[torch.randint(len(game.train), (n,), generator=draw)]
    weight, lucky = _coverage(game, coverage, reference.double())
    a, b = _two_answers(weight[x], draw)
    forced = torch.zeros(n, dtype=torch.bool)
    if coverage == "lucky":
        forced[: max(1, round(LUCKY_SHARE * n))] = True
        forced = forced[torch.randperm(n, generator=draw)]
        a[forced] = torch.multinomial(lucky[x[forced]], 1, generator=draw)[:, 0]
    prefers, users = game.prefers(x, a, b), None
    if game.groups:
        users = torch.randint(USERS, (n,), generator=torch.Generator().manual_seed(seed + 1))
        group = torch.tensor([game.group_of(user) for user in users.tolist()])
        prefers = torch.sigmoid(game.group_rewards[group, x, a] - game.group_rewards[group, x, b])
    wins = (torch.rand(n, generator=draw, dtype=torch.float64) < prefers) | forced
    flipped = torch.rand(n, generator=draw, dtype=torch.float64) < noise
    first = wins ^ flipped
    chosen, rejected = torch.where(first, a, b), torch.where(first, b, a)
    prob = game.prefers(x, chosen, rejected)
    return [
        {
            "prompt": game.prompts[x[i]],
            "chosen": game.responses[chosen[i]],
            "rejected": game.responses[rejected[i]],
            **({} if users is None else {"user_id": f"guest-{int(users[i]):02d}"}),
            **(
                {"rationale": game.rationale(int(x[i]), int(chosen[i]), int(rejected[i]))}
                if rationales
                else {}
            ),
            "meta": {
                "prob": float(prob[i]),
                "flipped": bool(flipped[i]),
                "lucky": bool(forced[i]),
                "coverage": coverage,
            },
        }
        for i in range(n)
    ]


def lists(
    game: Game, n: int, *, size: int = 5, seed: int = 0, reference: Float[Tensor, "X A"]
) -> list[dict[str, Any]]:
    """Samples n lists {"prompt", "responses", "rewards"} on the training prompts: `size` different answers each.

    Answers are sampled from the reference without replacement; an answer's reward is its win rate against the
    reference, P(y > pi_ref). Raises ValueError for n < 1 or a size outside 2 .. A.
    """
    if n < 1 or not 2 <= size <= len(game.responses):
        raise ValueError(f"need n >= 1 lists of 2 to {len(game.responses)} answers, got {n} of {size}")
    draw = torch.Generator().manual_seed(seed)
    x = torch.tensor(game.train)[torch.randint(len(game.train), (n,), generator=draw)]
    answers = torch.multinomial(reference.double()[x], size, generator=draw)
    rates = game.win_rates(reference.double())
    return [
        {
            "prompt": game.prompts[prompt],
            "responses": [game.responses[a] for a in group],
            "rewards": rates[prompt, group].tolist(),
        }
        for prompt, group in zip(x.tolist(), answers.tolist(), strict=True)
    ]


def write_lists(path: str | Path, game: Game, n: int, **options: Any) -> Path:
    """Writes `lists(game, n, **options)` as JSON lines; the file is written whole or not at all."""
    return _written(Path(path), lists(game, n, **options))


def write_pairs(path: str | Path, game: Game, n: int, **options: Any) -> Path:
    """Writes `pairs(game, n, **options)` as JSON lines, UTF-8; the file is written whole or not at all."""
    return _written(Path(path), pairs(game, n, **options))


def _written(path: Path, rows: list[dict[str, Any]]) -> Path:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    part.replace(path)
    return path


def lucky_style(game: Game, reference: Float[Tensor, "X A"]) -> list[str]:
    """The style of each prompt whose answers do worst on average against the reference."""
    win, styles = game.win_rates(reference.double()), game.styles()
    by_style = torch.stack([win[:, having].mean(1) for having in styles.values()], dim=1)
    return [list(styles)[index] for index in by_style.argmin(1)]


def _coverage(game: Game, coverage: Coverage, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Unnormalised weights [X, A] of the ordinary answers, and of the lucky ones."""
    nothing = torch.zeros_like(reference)
    if coverage == "uniform":
        return torch.ones_like(reference), nothing
    if coverage == "narrow":
        top = reference.topk(NARROW, dim=1).indices
        return nothing.scatter(1, top, reference.gather(1, top)), nothing
    if coverage == "lucky":
        styles = game.styles()
        lucky = torch.stack([styles[style] for style in lucky_style(game, reference)])
        return reference * ~lucky, reference * lucky
    return reference, nothing


def _two_answers(weight: Float[Tensor, "N A"], draw: Generator) -> tuple[Tensor, Tensor]:
    """Two i.i.d. draws per row, given that they differ."""
    a, b = torch.multinomial(weight, 2, replacement=True, generator=draw).unbind(1)
    while bool((same := a == b).any()):
        again = torch.multinomial(weight[same], 2, replacement=True, generator=draw)
        a, b = a.clone(), b.clone()
        a[same], b[same] = again.unbind(1)
    return a, b


def _check(game: Game, n: int, coverage: str, noise: float, reference: Tensor) -> None:
    if coverage not in get_args(Coverage):
        raise ValueError(f"coverage must be one of {get_args(Coverage)}, got {coverage!r}")
    if not 0 <= noise <= 0.5:
        raise ValueError(f"noise must lie in [0, 0.5], got {noise!r}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n!r}")
    shape = (len(game.prompts), len(game.responses))
    if reference.shape != shape:
        raise ValueError(f"the reference must have shape {shape}, got {tuple(reference.shape)}")
