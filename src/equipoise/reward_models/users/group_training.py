"""Training of one reward for each group of users to a folder: `equipoise oracle train groups` (MaxMin-RLHF)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.policy.files import whole, write_json
from equipoise.reward_models.fit import Fitting, fit
from equipoise.reward_models.folder import save
from equipoise.reward_models.head import Head
from equipoise.reward_models.pairs import LabelledPair
from equipoise.reward_models.read import last_states, pair_logits
from equipoise.reward_models.start import Beginning
from equipoise.reward_models.train import Result, automatic_rate
from equipoise.reward_models.users.groups import (
    LinearGroups,
    fit_linear_groups,
    held_out_log_loss,
    label_likelihood,
    posterior,
)
from equipoise.reward_models.users.pairs import UserPairs, held_out_figures, labels_of

MAP = "user_groups.json"


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """How users are grouped.

    counts      candidates for the number of groups; the one with the lowest held-out log-loss is taken
    starts      starts of EM, iterations of each; hard: a user belongs to one group, else to all in shares
    ridge       penalty of the linear rewards on frozen features
    rounds      rounds after that, in which body and rewards are trained on their groups and users assigned again
    """

    counts: tuple[int, ...] = (2,)
    starts: int = 5
    iterations: int = 10
    hard: bool = True
    ridge: float = 1.0
    rounds: int = 0


def train_groups(
    given: UserPairs,
    *,
    grouping: Grouping,
    fitting: Fitting,
    about: Mapping[str, Any] | None = None,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Result:
    """Fit one reward for each group of users on a decoder's states, and write a reward model of K attributes.

    EM runs on frozen states with linear rewards, for each candidate K; then `rounds` of training of the whole body.
    The folder loads as an oracle whose scores are `group_1`, `group_2`, ..., largest group first; user_groups.json says
    who belongs to which.
    """
    out = given.out
    beginning, train, held = given.beginning, given.train, given.held
    users, user, held_user = given.users, given.user, given.held_user
    seen, unseen = (differences(beginning, pairs, fitting.tokens) for pairs in (train, held))
    prob, weight = labels_of(train)
    held_prob, _ = labels_of(held)
    found: dict[int, LinearGroups] = {}
    losses: dict[int, float] = {}
    for count in sorted(set(grouping.counts)):
        found[count] = fit_linear_groups(
            seen,
            prob,
            weight,
            user,
            count,
            starts=grouping.starts,
            iterations=grouping.iterations,
            hard=grouping.hard,
            ridge=grouping.ridge,
            seed=given.seed,
        )
        shares = found[count].mixture.shares
        losses[count] = float(
            held_out_log_loss(found[count].logits(unseen), held_prob, held_user, shares).mean()
        )
        report({"groups": count, "held_out_log_loss": losses[count], "history": found[count].mixture.history})
    count = min(losses, key=lambda k: losses[k])
    order = found[count].mixture.shares.sum(dim=0).argsort(descending=True, stable=True)
    shares = found[count].mixture.shares[:, order]
    _give_heads(beginning, found[count].weights[order])
    steps = 0
    if grouping.rounds:
        rate = automatic_rate(beginning) if fitting.lr is None else fitting.lr
        fitting = replace(fitting, lr=rate)
    for number in range(grouping.rounds if count > 1 else 0):
        assigned = [_of_group(pair, shares[users[pair.user]]) for pair in train]

        def stepped(line: dict[str, Any]) -> None:
            nonlocal steps
            steps += 1
            report(line)

        fit(beginning.model, assigned, fitting=fitting, seed=given.seed + number, report=stepped)
        logp = weight[:, None] * label_likelihood(pair_logits(beginning.model, train, fitting.tokens), prob)
        shares, _ = posterior(logp, user, shares.mean(dim=0).clamp(min=1e-12), hard=grouping.hard)
    figures = _figures(pair_logits(beginning.model, held, fitting.tokens), held, held_user, shares)
    figures |= {"groups": count, "log_loss_by_groups": {str(k): loss for k, loss in losses.items()}}
    figures["users_per_group"] = torch.bincount(shares.argmax(dim=1), minlength=count).tolist()
    with whole(out) as draft:
        draft.mkdir()
        members = {name: shares[number].tolist() for name, number in users.items()}
        write_json(draft / MAP, {"groups": list(beginning.model.head.attributes), "users": members})
        write_json(draft / "ledger.json", ledger := given.dataset.ledger.as_json())
        settings = {
            "model": given.path,
            "seed": given.seed,
            "grouping": asdict(grouping),
            "fitting": asdict(fitting),
        }
        write_json(draft / "training.json", settings | {"held_out": figures, **(about or {})})
        save(beginning.model, beginning.texts, draft)
    return Result(folder=out, steps=steps, trained=len(train), figures=figures, ledger=ledger)


def differences(beginning: Beginning, pairs: Sequence[LabelledPair], tokens: int) -> Tensor:
    """[N, D] state at the end of the first response less that at the end of the second."""
    first, second = (
        last_states(beginning.model, [pair.tokens[side] for pair in pairs], tokens) for side in (0, 1)
    )
    return first - second


def _give_heads(beginning: Beginning, weights: Tensor) -> None:
    """Replaces the model's one reward by K linear ones."""
    model = beginning.model
    old = model.body.score
    score = nn.Linear(
        weights.shape[1], len(weights), bias=False, device=old.weight.device, dtype=old.weight.dtype
    )
    with torch.no_grad():
        score.weight.copy_(weights)
    model.body.score = score
    model.body.num_labels = model.body.config.num_labels = len(weights)
    model.head = Head(attributes=tuple(f"group_{k + 1}" for k in range(len(weights))))


def _of_group(pair: LabelledPair, shares: Tensor) -> LabelledPair:
    """The pair as a label of its user's group alone."""
    group = int(shares.argmax())
    return replace(pair, prob=tuple(pair.prob[0] if k == group else float("nan") for k in range(len(shares))))


def _figures(logits: Tensor, held: Sequence[LabelledPair], user: Tensor, shares: Tensor) -> dict[str, Any]:
    """Held-out accuracy and log-loss of each user's own group."""
    own = logits[torch.arange(len(held)), shares[user].argmax(dim=1)]
    prob, _ = labels_of(held)
    return held_out_figures(own, -label_likelihood(own[:, None], prob)[:, 0], held)
