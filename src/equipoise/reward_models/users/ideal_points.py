"""Ideal-point rewards of many users (PAL): each user is a mixture of K prototypes, and a new one takes K numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

Features: TypeAlias = Float[Tensor, "*N F"]
Simplex: TypeAlias = Float[Tensor, "*N K"]
UserOf: TypeAlias = Int[Tensor, " N"]
PerPair: TypeAlias = Float[Tensor, " N"]
LARGEST_SCALE = 100.0  # of the angle's reward


@dataclass(frozen=True, kw_only=True)
class PalSettings:
    """Shape and training of ideal-point rewards.

    form         "a": the ideal point is a mixture of prototypes; "b": of functions of the prompt
    distance     of form "a": "l2", r = -||f - a||; "angle", r = scale cos(f, a)
    prototypes   K                           latent   width of f
    loss         of a pair's logit z: "logistic", -log s(z); "hinge", max(1 - z, 0), whose z is a margin and no log-odds
    steps, pairs optimizer steps (Adam), pairs of one step
    rate, user_rate   learning rates of f and of prototypes and user weights
    penalty      of prototypes longer than 4: penalty sum_k max(||p_k|| - 4, 0)
    prior        of the weights' logits, ridge/2 ||w||^2 of a new user: without labels all prototypes count equally
    """

    form: Literal["a", "b"] = "a"
    distance: Literal["l2", "angle"] = "l2"
    loss: Literal["logistic", "hinge"] = "logistic"
    prototypes: int = 2
    latent: int = 16
    steps: int = 600
    pairs: int = 256
    rate: float = 3e-3
    user_rate: float = 2e-2
    penalty: float = 1.0
    prior: float = 0.1

    def __post_init__(self) -> None:
        """Raises ValueError for a form, distance or loss that is none of those."""
        for name, known in (("form", ("a", "b")), ("distance", ("l2", "angle")), ("loss", tuple(LOSSES))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")


class Pal(nn.Module):
    """PAL's reward model on frozen features.

        form a    r_u(x, y) = -|| f(x, y) - a_u ||  or  scale cos(f(x, y), a_u),    a_u = sum_k W_uk p_k
        form b    r_u(x, y) = < f(x, y), sum_k W_uk g_k(x) >

    f          a linear map of standardised features of a prompt with its response, [F] -> [latent]
    p_k        prototypes, [K, latent]           g_k   linear maps of the prompt's features
    W_u        softmax of the user's K logits: on the simplex, so a_u lies in the convex hull of the prototypes

    P(1 > 2) = s( r_u(1) - r_u(2) ). One prototype is one reward for everyone. A common rotation of f and p changes no
    reward. Source: Chen et al. 2024 (2406.08469); losses, penalty and forms as in the authors' code.
    """

    centre: Tensor
    spread: Tensor
    prompt_centre: Tensor
    prompt_spread: Tensor

    def __init__(self, inputs: int, users: int, settings: PalSettings) -> None:
        super().__init__()
        self.settings = settings
        for name in ("centre", "prompt_centre"):
            self.register_buffer(name, torch.zeros(inputs, dtype=torch.float64))
        for name in ("spread", "prompt_spread"):
            self.register_buffer(name, torch.ones(inputs, dtype=torch.float64))
        self.project = nn.Linear(inputs, settings.latent).double()
        shape = (settings.prototypes, settings.latent)
        self.prototypes = nn.Parameter(torch.randn(shape, dtype=torch.float64) / settings.latent**0.5)
        self.users = nn.Parameter(0.1 * torch.randn(users, settings.prototypes, dtype=torch.float64))
        self.scale = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
        self.of_prompt = nn.Linear(inputs, settings.prototypes * settings.latent).double()

    def standardise(self, features: Tensor, prompts: Tensor) -> None:
        """Take centre and spread of the training features, [M, F] of responses and of prompts."""
        for values, centre, spread in (
            (features, self.centre, self.spread),
            (prompts, self.prompt_centre, self.prompt_spread),
        ):
            centre.copy_(values.mean(dim=0))
            found = values.std(dim=0, correction=0)
            spread.copy_(torch.where(found > 1e-6, found, 1.0))

    def weights(self) -> Simplex:
        """[U, K] mixture weights of the training users."""
        return self.users.softmax(dim=1)

    def forward(self, features: Features, prompts: Features, weights: Simplex) -> Tensor:
        """Rewards [*N]: features [*N, F] of responses, prompts [*N, F], weights [*N, K] of whose reward it is."""
        latent = self.project((features - self.centre) / self.spread)
        if self.settings.form == "b":
            maps = self.of_prompt((prompts - self.prompt_centre) / self.prompt_spread)
            own = (weights[..., None] * maps.unflatten(-1, self.prototypes.shape)).sum(dim=-2)
            return (latent * own).sum(dim=-1) / self.settings.latent**0.5
        ideal = weights @ self.prototypes
        if self.settings.distance == "angle":
            cosine = (normalize(latent, dim=-1) * normalize(ideal, dim=-1)).sum(dim=-1)
            return self.scale.clamp(max=LARGEST_SCALE) * cosine
        return -(latent - ideal).square().sum(dim=-1).clamp(min=1e-12).sqrt()

    def logits(self, pairs: Float[Tensor, "N 2 F"], prompts: Features, weights: Simplex) -> PerPair:
        """Logit that the first response wins: pairs [N, 2, F], prompts [N, F], weights [N, K]."""
        both = torch.stack([prompts, prompts], dim=1)
        rewards = self(pairs, both, torch.stack([weights, weights], dim=1))
        return rewards[:, 0] - rewards[:, 1]


def logistic_loss(logits: PerPair, prob: PerPair) -> PerPair:
    """Logistic loss of soft labels."""
    return -prob * logsigmoid(logits) - (1 - prob) * logsigmoid(-logits)


def hinge_loss(logits: PerPair, prob: PerPair) -> PerPair:
    """Hinge loss of soft labels."""
    return prob * (1 - logits).clamp(min=0) + (1 - prob) * (1 + logits).clamp(min=0)


LOSSES = {"logistic": logistic_loss, "hinge": hinge_loss}


def fit_pal(
    pairs: Float[Tensor, "N 2 F"],
    prompts: Features,
    user: UserOf,
    prob: PerPair,
    weight: PerPair,
    settings: PalSettings,
    *,
    seed: int = 0,
) -> Pal:
    """Fits projection, prototypes and the users' weights together, by Adam on the weighted loss.

    The same arguments give the same tensors. Raises ValueError for settings out of range.
    """
    if settings.prototypes < 1 or settings.latent < 1 or settings.steps < 1:
        raise ValueError("prototypes, latent and steps must be at least 1")
    pair_loss = LOSSES[settings.loss]
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Pal(pairs.shape[-1], int(user.max()) + 1, settings)
    model.standardise(pairs.flatten(0, 1), prompts)
    own = {"params": [model.prototypes, model.users, model.scale], "lr": settings.user_rate}
    maps = {"params": [*model.project.parameters(), *model.of_prompt.parameters()], "lr": settings.rate}
    optimizer = torch.optim.Adam([own, maps])
    size = min(settings.pairs, len(pairs))
    for _ in range(settings.steps):
        at = torch.randint(len(pairs), (size,), generator=draw)
        logits = model.logits(pairs[at], prompts[at], model.weights()[user[at]])
        loss = (weight[at] * pair_loss(logits, prob[at])).sum() / weight[at].sum().clamp(min=1e-12)
        longer = (model.prototypes.norm(dim=1) - 4).clamp(min=0).sum()
        optimizer.zero_grad()
        (loss + settings.penalty * longer).backward()
        optimizer.step()
    return model.requires_grad_(False)


def fit_user(
    model: Pal,
    pairs: Float[Tensor, "N 2 F"],
    prompts: Features,
    prob: PerPair,
    weight: PerPair | None = None,
) -> Float[Tensor, " K"]:
    """Mixture weights [K] of a new user from few labels; nothing else changes.

        min_w  sum_i weight_i L_i( softmax(w) ) + prior/2 ||w||^2

    The penalty is ours: a handful of labels would else push the weights to a corner.
    """
    w = torch.zeros(model.settings.prototypes, dtype=torch.float64, requires_grad=True)
    importance = torch.ones_like(prob) if weight is None else weight
    optimizer = torch.optim.LBFGS([w], max_iter=100, line_search_fn="strong_wolfe")

    pair_loss = LOSSES[model.settings.loss]

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = model.logits(pairs, prompts, w.softmax(dim=0).expand(len(pairs), -1))
        loss = (importance * pair_loss(logits, prob)).sum() + model.settings.prior / 2 * w.square().sum()
        loss.backward()
        return loss

    if len(pairs) and len(w) > 1:
        optimizer.step(closure)
    return w.detach().softmax(dim=0)
