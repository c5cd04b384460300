"""FSPO (2502.19312): a policy that reads a user's labelled pairs, trained by IPO on episodes, on users never seen.

A user's taste is a direction in the space of the responses' features, drawn for every user; labels are
Bradley-Terry. The policy is a small network: each shot's two answers are embedded, the embeddings averaged (so that
the order of the shots changes nothing), and the result scores the responses to a prompt, log pi = log softmax of these.
It is trained by `core`'s IPO on episodes of training users, and compared with the same policy that sees no shots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.claims.claim import Array, Cell, Claim, Evidence, Scale, Table, interval, verdict
from equipoise.claims.draws import moved_seed, torch_draws
from equipoise.core.objectives import Ipo
from equipoise.core.scores import Scores

FEATURES, RESPONSES, WIDTH = 4, 8, 48
TASTE, TAU = 4.0, 0.1  # nats of a user's reward for one unit of a feature; IPO's target is 1/(2 tau)
STEPS, BATCH, RATE = 500, 256, 3e-3
SHOTS, TESTED, UNSEEN = 4, (0, 1, 2, 4, 8), 4000


@dataclass(frozen=True)
class Episodes:
    """N episodes, each of another user: shots [N, S, 2, F], preferred answer first; the query's responses [N, A, F] and
    its pair, columns 0 and 1, the preferred one first."""

    shots: Tensor
    responses: Tensor

    @classmethod
    def drawn(cls, count: int, shots: int, draw: torch.Generator) -> Episodes:
        taste = nn.functional.normalize(torch.randn(count, FEATURES, generator=draw), dim=1) * TASTE
        pairs = torch.randn(count, shots, 2, FEATURES, generator=draw)
        responses = torch.randn(count, RESPONSES, FEATURES, generator=draw)
        asked = _labelled(responses[:, None, :2], taste, draw)[:, 0]
        return cls(_labelled(pairs, taste, draw), torch.cat([asked, responses[:, 2:]], dim=1))


def _labelled(pairs: Tensor, taste: Tensor, draw: torch.Generator) -> Tensor:
    """Pairs [N, S, 2, F], preferred answer first by a draw of the user's label."""
    reward = torch.einsum("nspf,nf->nsp", pairs, taste)
    wins = torch.rand(reward.shape[:2], generator=draw) < torch.sigmoid(reward[..., 0] - reward[..., 1])
    return torch.where(wins[..., None, None], pairs, pairs.flip(2))


class Policy(nn.Module):
    """log pi(y | x, shots) = log softmax_y phi(y) . h(shots); without shots h is a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.Linear(2 * FEATURES, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.taste = nn.Sequential(nn.Linear(WIDTH + 1, WIDTH), nn.ReLU(), nn.Linear(WIDTH, FEATURES))

    def forward(self, shots: Tensor, responses: Tensor) -> Tensor:
        count = shots.shape[1]
        seen = self.read(shots.flatten(2)).sum(dim=1) / max(count, 1)
        known = torch.full((len(shots), 1), count / SHOTS)
        scores = torch.einsum("naf,nf->na", responses, self.taste(torch.cat([seen, known], dim=1)))
        return scores.log_softmax(dim=1)


def trained(shots: int, seed: int) -> Policy:
    """The policy after IPO on episodes with so many shots, a new user in each."""
    torch.manual_seed(moved_seed(seed))
    draw = torch_draws(seed)
    policy, objective = Policy(), Ipo(tau=TAU)
    optimizer = torch.optim.Adam(policy.parameters(), lr=RATE)
    uniform = torch.full((BATCH, 2), -float(np.log(RESPONSES)))
    for _ in range(STEPS):
        episodes = Episodes.drawn(BATCH, shots, draw)
        logp = policy(episodes.shots, episodes.responses)[:, :2]
        loss = objective(Scores(logp=logp, anchors={"reference": uniform})).value.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy


@torch.no_grad()
def accuracy(policy: Policy, shots: Tensor, responses: Tensor) -> float:
    logp = policy(shots, responses)
    return float((logp[:, 0] > logp[:, 1]).double().mean())


@torch.no_grad()
def run_of(seed: int) -> list[float]:
    """Accuracies on unseen users: no shots at all, then TESTED shots; flipped shots; share of answers that flip."""
    with torch.random.fork_rng(devices=[]):
        with torch.enable_grad():
            few, none = trained(SHOTS, seed), trained(0, seed)
        new = Episodes.drawn(UNSEEN, max(TESTED), torch_draws(10_000 + seed))
    found = [accuracy(none, new.shots[:, :0], new.responses)]
    found += [accuracy(few, new.shots[:, :count], new.responses) for count in TESTED]
    shots = new.shots[:, :SHOTS]
    margins = [few(shown, new.responses) for shown in (shots, shots.flip(2))]
    first, second = (logp[:, 0] > logp[:, 1] for logp in margins)
    return [*found, float((first != second).double().mean())]


def unseen_users(scale: Scale) -> Evidence:
    seeds = {"quick": 5, "full": 20}[scale]
    return judge(np.array([run_of(seed) for seed in range(seeds)]))


def judge(figures: Array) -> Evidence:
    """The verdict on figures [seeds, 1 + TESTED + 1] of `run_of`."""
    gain = interval(figures[:, 1:-1] - figures[:, :1])
    flips = interval(figures[:, -1])
    at, fewer = TESTED.index(SHOTS), TESTED.index(2)
    more = interval(figures[:, 1 + at] - figures[:, 1 + fewer])
    rows: list[tuple[Cell, ...]] = [("IPO without shots", 0, float(figures[:, 0].mean()), "")]
    for k, count in enumerate(TESTED):
        said = f"{gain[0][k]:+.3f} [{gain[1][k]:+.3f}, {gain[2][k]:+.3f}]"
        rows.append((f"FSPO, trained with {SHOTS}", count, float(figures[:, 1 + k].mean()), said))
    return Evidence(
        verdict=verdict(bool(gain[1][at] > 0), (bool(flips[1] > 0.5), bool(more[1] > 0))),
        summary=f"On users never seen, {SHOTS} labelled pairs in context bring {gain[0][at]:+.3f} [{gain[1][at]:+.3f}, "
        f"{gain[2][at]:+.3f}] accuracy over IPO without them ({figures[:, 0].mean():.3f}). Turning the shots' labels "
        f"round turns {flips[0]:.1%} of the preferences.",
        tables=(
            Table(
                f"{len(figures)} seeds, {UNSEEN:,} unseen users each: accuracy on a held-out pair",
                ("policy", "shots", "accuracy", "gain over IPO without shots"),
                tuple(rows),
            ),
        ),
    )


UNSEEN_USERS = Claim(
    name="fspo_unseen_users",
    sentence="A policy trained on few-shot episodes of many users adapts to a new user from a few of their preferences "
    "in its context.",
    paper="2502.19312",
    rule="Synthetic users with a random direction of taste each, a small network as the policy, IPO on 128,000 "
    "episodes of four shots. 95 % intervals over seeds. Heart: with four shots the policy predicts a held-out pair of "
    "users never seen better than one trained by IPO without shots. Also: with the shots' labels turned round more "
    "than half of its preferences turn; four shots are better than two.",
    program=unseen_users,
)
