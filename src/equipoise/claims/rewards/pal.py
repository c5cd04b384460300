"""PAL (2406.08469): users as mixtures of prototypes, and how many labels a new user needs.

Users' true ideal points are mixtures of three hidden points of a latent space that a linear map of the features gives;
labels are Bradley-Terry in the distances. PAL with three prototypes is compared with PAL with one, which is one common
reward of the same form, on users that neither was trained on: PAL fits the new user's three weights to `few` labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Cell, Claim, Evidence, Scale, Table, interval, verdict
from equipoise.claims.draws import moved_seed, numpy_draws
from equipoise.reward_models.users.ideal_points import Pal, PalSettings, fit_pal, fit_user

FEATURES, LATENT, POINTS = 12, 4, 3
USERS, PAIRS = 30, 60  # training users, labels of each
NEW, UNSEEN = 20, 200  # new users, held-out labels of each
FEW = (0, 5, 10, 40)
SHARPNESS = 2.0


@dataclass(frozen=True)
class World:
    """A linear map into the latent space and the three hidden points."""

    project: Tensor
    points: Tensor

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> World:
        project = rng.normal(size=(FEATURES, LATENT)) / FEATURES**0.5
        return cls(torch.from_numpy(project), torch.from_numpy(1.5 * rng.normal(size=(POINTS, LATENT))))

    def user(self, rng: np.random.Generator) -> Tensor:
        """The ideal point of a new user: Dirichlet(0.3) weights, so most users are near one of the points."""
        return torch.from_numpy(rng.dirichlet(np.full(POINTS, 0.3))) @ self.points

    def labels(self, ideal: Tensor, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(features [count, 2, F], labels [count]) of one user."""
        features = torch.from_numpy(rng.normal(size=(count, 2, FEATURES)))
        reward = -SHARPNESS * (features @ self.project - ideal).norm(dim=2)
        wins = torch.from_numpy(rng.random(count)) < torch.sigmoid(reward[:, 0] - reward[:, 1])
        return features, wins.double()


def run_of(seed: int) -> Array:
    """[1 + FEW, NEW] held-out accuracy on new users: one common reward, then PAL after so many labels."""
    rng = numpy_draws(seed)
    world = World.drawn(rng)
    drawn = [world.labels(world.user(rng), PAIRS, rng) for _ in range(USERS)]
    pairs, prob = torch.cat([d[0] for d in drawn]), torch.cat([d[1] for d in drawn])
    user = torch.arange(USERS).repeat_interleave(PAIRS)
    weight, prompts = torch.ones_like(prob), torch.zeros(len(pairs), FEATURES, dtype=torch.float64)
    models = [
        fit_pal(
            pairs, prompts, user, prob, weight, PalSettings(prototypes=k, latent=8), seed=moved_seed(seed)
        )
        for k in (1, POINTS)
    ]
    found = []
    for _ in range(NEW):
        ideal = world.user(rng)
        shown, said = world.labels(ideal, max(FEW), rng)
        unseen, truth = world.labels(ideal, UNSEEN, rng)
        accuracies = [accuracy(models[0], torch.ones(1, dtype=torch.float64), unseen, truth)]
        for few in FEW:
            weights = fit_user(models[1], shown[:few], prompts[:few], said[:few])
            accuracies.append(accuracy(models[1], weights, unseen, truth))
        found.append(accuracies)
    return np.array(found).T


def accuracy(model: Pal, weights: Tensor, pairs: Tensor, truth: Tensor) -> float:
    prompts = torch.zeros(len(pairs), FEATURES, dtype=torch.float64)
    logits = model.logits(pairs, prompts, weights.expand(len(pairs), -1))
    return float(((logits > 0).double() == truth).double().mean())


def new_users(scale: Scale) -> Evidence:
    seeds = {"quick": 6, "full": 30}[scale]
    return judge(np.array([run_of(seed).mean(axis=1) for seed in range(seeds)]))


def judge(figures: Array) -> Evidence:
    """The verdict on figures [seeds, 1 + FEW]: mean accuracy on new users."""
    gains = interval(figures[:, 1:] - figures[:, :1])
    ten, most = FEW.index(10), FEW.index(max(FEW))
    grows = interval(figures[:, 1 + most] - figures[:, 1 + ten])
    rows: list[tuple[Cell, ...]] = [("one common reward", 0, float(figures[:, 0].mean()), "")]
    for k, few in enumerate(FEW):
        gain = f"{gains[0][k]:+.3f} [{gains[1][k]:+.3f}, {gains[2][k]:+.3f}]"
        rows.append((f"PAL, {POINTS} prototypes", few, float(figures[:, 1 + k].mean()), gain))
    return Evidence(
        verdict=verdict(bool(gains[1][ten] > 0), (bool(gains[1][most] > 0), bool(grows[1] > 0))),
        summary=f"On users never seen, 10 labels bring PAL {gains[0][ten]:+.3f} [{gains[1][ten]:+.3f}, "
        f"{gains[2][ten]:+.3f}] accuracy over one common reward ({figures[:, 0].mean():.3f}), {max(FEW)} labels "
        f"{gains[0][most]:+.3f} [{gains[1][most]:+.3f}, {gains[2][most]:+.3f}].",
        tables=(
            Table(
                f"{len(figures)} worlds, {NEW} new users each: accuracy on {UNSEEN} held-out labels",
                ("reward", "labels of the new user", "accuracy", "gain over one common reward"),
                tuple(rows),
            ),
        ),
    )


NEW_USERS = Claim(
    name="pal_new_users",
    sentence="Rewards that are mixtures of a few shared ideal points generalise to new users from few of their labels, "
    "where one common reward cannot.",
    paper="2406.08469",
    rule="Users are mixtures of three hidden ideal points; 30 users with 60 labels each train the models, 20 others "
    "are new. 95 % intervals over worlds. Heart: fitted to 10 labels of a new user, three prototypes predict "
    "held-out ones better than one common reward of the same form. Also: so they do with 40 labels, and better with "
    "40 than with 10.",
    program=new_users,
)
