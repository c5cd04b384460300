"""No-regret sequence models, trained on the regret-loss without supervised plays (2403.16843).

A model maps losses [S, T, A] to scores [S, T + 1, A], row t from the losses before round t only. A `Domain`
turns scores into plays: a trained model is a learner like those of `regret`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equipoise.core.dims import PerPrompt
from equipoise.games.repeated.regret import Learner, Losses, Plays, known, paid, project_simplex

Draw: TypeAlias = Callable[[int, torch.Generator], Losses]


class Domain(NamedTuple):
    """A domain of plays.

    project    scores -> the nearest play
    extend     scores -> the nearest point of the domain's affine hull: smooth, and used by the theorem
    least      L -> min_p <L, p>, the cost of the best fixed play for total losses L
    """

    project: Callable[[Tensor], Tensor]
    extend: Callable[[Tensor], Tensor]
    least: Callable[[Tensor], Tensor]

    def regret(self, losses: Losses, plays: Plays) -> PerPrompt:
        """External regret Reg_T = sum_t <l_t, p_t> - min_p <l_1 + ... + l_T, p>, [S]."""
        return paid(losses, plays)[:, -1] - self.least(losses.sum(dim=1))


SIMPLEX = Domain(
    project=project_simplex,
    extend=lambda x: x - x.mean(dim=-1, keepdim=True) + 1 / x.shape[-1],
    least=lambda total: total.amin(dim=-1),
)
BALL = Domain(
    project=lambda x: x / x.norm(dim=-1, keepdim=True).clamp(min=1),
    extend=lambda x: x,
    least=lambda total: -total.norm(dim=-1),
)


class LinearAttention(nn.Module):
    """One layer of linear self-attention with a constant query q: sum_{s<t} (V l_s + v) <K l_s + k, q>.

    spread      standard deviation of the normal initialisation of V, v, K, k and q.
    counting    add the first unit vector to k and q, so that the layer initially weighs all rounds about equally.
                Without it about half of the initialisations end at a worse solution of rank one, v (K^T q)^T,
                with <k, q> V = 0: measured by the claim `regret_loss`.
    """

    def __init__(self, actions: int, *, seed: int = 0, spread: float = 0.1, counting: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return spread * torch.randn(*shape, generator=generator, dtype=torch.float64)

        unit = counting * torch.eye(actions, dtype=torch.float64)[0]
        self.value, self.value_bias = nn.Parameter(normal(actions, actions)), nn.Parameter(normal(actions))
        self.key, self.key_bias = nn.Parameter(normal(actions, actions)), nn.Parameter(normal(actions) + unit)
        self.query = nn.Parameter(normal(actions) + unit)

    def forward(self, losses: Losses) -> Plays:
        weight = (losses @ self.key.T + self.key_bias) @ self.query
        return known(((losses @ self.value.T + self.value_bias) * weight.unsqueeze(2)).cumsum(dim=1))

    def linear(self) -> Float[Tensor, "A A"]:
        """Effective linear map on the sum of losses, <k, q> V + v (K^T q)^T; -eta I in FTRL with L2."""
        plain = (self.key_bias @ self.query) * self.value
        return (plain + torch.outer(self.value_bias, self.query @ self.key)).detach()


class Transformer(nn.Module):
    """One causal softmax-attention layer over a start token and the losses so far, without position embeddings."""

    def __init__(self, actions: int, *, seed: int = 0, width: int = 16) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Linear(actions + 1, width)
            self.layer = nn.TransformerEncoderLayer(
                width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            self.head = nn.Linear(width, actions)
        self.double()

    def forward(self, losses: Losses) -> Plays:
        tokens = known(nn.functional.pad(losses, (0, 1)))
        tokens[:, 0, -1] = 1
        future = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], dtype=tokens.dtype)
        return self.head(self.layer(self.embed(tokens), src_mask=future, is_causal=True))


def learner(model: nn.Module, domain: Domain = SIMPLEX, start: Tensor | None = None) -> Learner:
    """Learner with plays p_t = project(scores_t + start); start [A] or [S, A] is the first play without a bias."""

    def play(losses: Losses) -> Plays:
        with torch.no_grad():
            scores = model(losses)
            return domain.project(scores if start is None else scores + start.unsqueeze(-2))

    return play


# --- training


def regret_loss(regret: Float[Tensor, "G N"], k: float) -> Float[Tensor, ""]:
    """Regret-loss E[ sum_j h(Reg_j) f(Reg_j; k) / sum_j f(Reg_j; k) ] over groups of N, h(x) = x^2, f(x; k) = exp(k x).

    N = 1 or k = 0 gives the mean of h; k, N -> infinity the worst case. Source: Park et al. 2024
    (2403.16843); its h and f range over families, of which these members are RECALLED.
    """
    return (regret.square() * (k * regret).softmax(dim=1)).sum(dim=1).mean()


def train(
    model: nn.Module,
    draw: Draw,
    *,
    domain: Domain = SIMPLEX,
    projected: bool = True,
    groups: int = 16,
    size: int = 16,
    k: float = 1.0,
    steps: int = 600,
    rate: float = 0.01,
    seed: int = 0,
) -> None:
    """Train in place on the regret-loss over fresh sequences: Adam with a learning rate falling linearly to 0.

    draw         (number of sequences, generator) -> losses [S, T, A].
    projected    train the projected plays; else those in the affine hull, as the theorem does.
    groups, size, k    groups per step, sequences per group (N), and the sharpness of the maximum.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    falling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    output = domain.project if projected else domain.extend
    for _ in range(steps):
        losses = draw(groups * size, generator)
        regret = domain.regret(losses, output(model(losses)))
        optimiser.zero_grad()
        regret_loss(regret.view(groups, size), k).backward()
        optimiser.step()
        falling.step()


def clipped_normal(rounds: int, actions: int, bound: float = 2.0) -> Draw:
    """Independent standard normal losses, clipped to [-bound, bound]."""

    def draw(sequences: int, generator: torch.Generator) -> Losses:
        losses = torch.randn(sequences, rounds, actions, generator=generator, dtype=torch.float64)
        return losses.clamp(-bound, bound)

    return draw


def best_step(losses: Losses, domain: Domain) -> float:
    """Optimal step size eta of unprojected FTRL with L2: it minimises E Reg^2 over the given sequences.

    Reg = eta a + b is linear in eta, so eta = -E[a b]/E[a^2]. On the unit ball a = -sum_t <l_t, L_{t-1}> and
    b = |L_T|. By the theorem of 2403.16843 this is the global minimum of linear attention for N = 1 and
    independent symmetric losses of isotropic covariance. Closed form DERIVED.
    """
    rest = domain.extend(torch.zeros_like(losses))
    b = domain.regret(losses, rest)
    a = domain.regret(losses, domain.extend(-known(losses.cumsum(dim=1)))) - b
    return -float((a * b).mean() / a.square().mean())


def nearest_ftrl(linear: Float[Tensor, "A A"]) -> tuple[float, float]:
    """Nearest FTRL learner: (eta, relative Frobenius distance) of the -eta C nearest to C M, for plays on the simplex.

    C = I - 1 1^T/A removes the constants that the projection ignores.
    """
    centred = torch.eye(len(linear), dtype=linear.dtype) - 1 / len(linear)
    eta = -float((centred * linear).sum()) / (len(linear) - 1)
    distance = (centred @ linear + eta * centred).norm() / (abs(eta) * centred.norm())
    return eta, float(distance)
