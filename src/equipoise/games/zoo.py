"""Named preference games with known equilibria: `zoo.make("brps")`, `zoo.parse("random:10:3")`.

A batch of games is one game with the single games as its prompts: `zoo.parse("random:10:0x64")` has seeds 0 to 63.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from equipoise.games.preference import PreferenceGame

SKEWED = (0.7, 0.2, 0.1)


def rps(reference: Sequence[float] = SKEWED) -> PreferenceGame:
    """Rock, paper, scissors with deterministic wins. Nash (1/3, 1/3, 1/3)."""
    return PreferenceGame(
        [[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]], reference, names=("rock", "scissors", "paper")
    )


def brps(reference: Sequence[float] = SKEWED) -> PreferenceGame:
    """Biased, noisy rock-paper-scissors. Nash (3/9, 2/9, 4/9).

    A 3-cycle a > b > c > a with win margins m_ab, m_bc, m_ca has the Nash policy (m_bc, m_ca, m_ab)/sum.
    """
    return PreferenceGame(
        [[0.5, 0.9, 0.3], [0.1, 0.5, 0.8], [0.7, 0.2, 0.5]], reference, names=("a", "b", "c")
    )


def transitive(size: int = 5, spacing: float = 1.0) -> PreferenceGame:
    """Bradley-Terry with rewards 0, spacing, 2 spacing, ...; Nash: all mass on the last response."""
    return bradley_terry(torch.arange(size, dtype=torch.float64) * spacing)


def bradley_terry(rewards: Any, reference: Any = None) -> PreferenceGame:
    """P(y > y') = sigma(r(y) - r(y')) for rewards [A] or [X, A]. Nash: all mass on the largest reward."""
    r = torch.atleast_2d(torch.as_tensor(rewards, dtype=torch.float64))
    return PreferenceGame(torch.sigmoid(r.unsqueeze(2) - r.unsqueeze(1)), reference)


def random(size: int = 10, seed: int = 0, spread: float = 1.0) -> PreferenceGame:
    """Random game: P(i > j) ~ U(0, 1) for i > j, reference logits ~ N(0, spread^2); 0 gives the uniform reference.

    With spread 1 the random games of the EGPO simulations (2503.08942: ten of size 10, "random:10:0x10").
    Nash: by LP; almost surely unique, its support of odd size.
    """
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.uniform(size=(size, size)), -1)
    table = lower + np.triu(1 - lower.T, 1) + 0.5 * np.eye(size)
    return PreferenceGame(table, torch.as_tensor(spread * rng.normal(size=size)).softmax(dim=0))


def cyclic(size: int = 5, win: float = 1.0) -> PreferenceGame:
    """Cyclic game, rock-paper-scissors of odd size: i beats the (size - 1)/2 responses after it with probability `win`.

    Nash: uniform, because every row has the same mean; for win = 1 a tournament, hence unique.
    """
    if size < 3 or size % 2 == 0:
        raise ValueError(f"a cyclic game needs an odd size >= 3, got {size}")
    ahead = (np.arange(size)[None, :] - np.arange(size)[:, None]) % size
    table = np.where(ahead == 0, 0.5, np.where(ahead <= size // 2, win, 1 - win))
    return PreferenceGame(table)


def dominated(share: float = 0.9) -> PreferenceGame:
    """The cycle of `brps` and a dominated response d, which loses to each other with probability `share` > 1/2.

    The reference gives d the largest probability. Nash (3/9, 2/9, 4/9, 0).
    """
    table = np.full((4, 4), 0.5)
    table[:3, :3] = brps().preference[0].numpy()
    table[:3, 3], table[3, :3] = share, 1 - share
    return PreferenceGame(table, (0.2, 0.15, 0.05, 0.6), names=("a", "b", "c", "d"))


def prompts(count: int = 6, size: int = 3, seed: int = 0) -> PreferenceGame:
    """Prompts of unequal weight: cyclic, transitive and random games of one size in turn. Nash: by LP."""
    odd = size if size % 2 else None
    rng = np.random.default_rng(seed)
    tables, references = [], []
    for x in range(count):
        made = (
            cyclic(size, 0.8) if odd else random(size, seed + x),
            transitive(size),
            random(size, seed + x),
        )
        tables.append(made[x % 3].preference[0])
        references.append(random(size, seed + count + x).reference[0])
    return PreferenceGame(
        torch.stack(tables), torch.stack(references), prompt_weight=rng.dirichlet(np.ones(count))
    )


def lucky() -> PreferenceGame:
    """Bradley-Terry over a > b > c with P(a > b) = 0.6, P(a > c) = 0.8, for data with a rare, poor arm c.

    Data with c once or twice may show it winning every time, and the maximum-likelihood reward then ranks it first.
    Nash: a. Use `offline.rarely` for the data.
    """
    logit = np.log([0.6 / 0.4, 0.8 / 0.2])
    game = bradley_terry([0.0, -logit[0], -logit[1]], (0.4, 0.4, 0.2))
    return PreferenceGame(game.preference, game.reference, names=("a", "b", "c"))


_ZOO: dict[str, Callable[..., PreferenceGame]] = {
    "brps": brps,
    "cyclic": cyclic,
    "dominated": dominated,
    "lucky": lucky,
    "prompts": prompts,
    "random": random,
    "rps": rps,
    "transitive": transitive,
}


def names() -> list[str]:
    """Known names of `make` and `parse`."""
    return sorted(_ZOO)


def make(name: str, **params: Any) -> PreferenceGame:
    """The named game. Raises ValueError for an unknown game or parameter, with the nearest known one."""
    if name not in _ZOO:
        raise ValueError(f"no game {name!r}{_nearest(name, names())}")
    known = list(inspect.signature(_ZOO[name]).parameters)
    for key in params:
        if key not in known:
            raise ValueError(f"game {name!r} has no parameter {key!r}{_nearest(key, known)}")
    return _ZOO[name](**params)


def parse(text: str) -> PreferenceGame:
    """`name[:value[:value]]`: values fill the parameters in order, as in "cyclic:5:0.8" or "random:10:3".

    A seed may be FIRSTxCOUNT, as in "random:10:0x64": the `batch` of games with COUNT seeds from FIRST on.
    """
    name, *values = text.split(":")
    if name not in _ZOO:
        raise ValueError(f"no game {name!r}{_nearest(name, names())}")
    parameters = [
        p for p in inspect.signature(_ZOO[name]).parameters.values() if isinstance(p.default, (int, float))
    ]
    if len(values) > len(parameters):
        usage = ":".join([name, *(p.name for p in parameters)])
        raise ValueError(f"{text!r} has too many values; expected {usage}")
    given = {p.name: _value(text, p, value) for p, value in zip(parameters, values, strict=False)}
    seeds = given.get("seed")
    if not isinstance(seeds, range):
        return make(name, **given)
    games = [make(name, **(given | {"seed": seed})) for seed in seeds]
    return batch(games, [f"seed {seed}" for seed in seeds])


def _value(text: str, parameter: inspect.Parameter, value: str) -> int | float | range:
    """Parse a value as its parameter's type; several seeds as a range."""
    kind, several = type(parameter.default), parameter.name == "seed"
    try:
        if several and "x" in value:
            first, count = map(int, value.split("x"))
            if count > 0:
                return range(first, first + count)
        return kind(value)
    except ValueError:
        wanted = f"{kind.__name__}, or FIRSTxCOUNT for several," if several else f"{kind.__name__},"
        raise ValueError(f"{text!r}: {parameter.name} must be {wanted} got {value!r}") from None


def batch(games: Sequence[PreferenceGame], titles: Sequence[str]) -> PreferenceGame:
    """Batch of games of one size: the prompts of one game, each game of equal weight.

    titles    one per game: the name of its prompt, or a prefix to the names of its prompts.
    """
    return PreferenceGame(
        torch.cat([game.preference for game in games]),
        torch.cat([game.reference for game in games]),
        prompt_weight=torch.cat([game.prompt_weight for game in games]) / len(games),
        names=[names for game in games for names in game.names],
        prompt_names=[
            title if game.prompts == 1 else f"{title}, prompt {prompt}"
            for game, title in zip(games, titles, strict=True)
            for prompt in game.prompt_names
        ],
    )


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
