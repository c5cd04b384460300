"""SparsePO (2410.05102) and TDPO (2404.11999): what masks of tokens and token-level divergences buy.

Responses of six words whose true score depends on the third alone; pairs are labelled by Bradley-Terry. What a policy
changes in the other words costs KL and gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.claims.claim import Array, Cell, Claim, Evidence, Panel, Scale, Table, interval, verdict
from equipoise.claims.draws import numpy_draws, torch_draws
from equipoise.claims.tokens.frontier import Climb, ahead, climb, curve
from equipoise.core.auxiliary_heads import SparseMasks
from equipoise.core.objectives import Dpo, Objective, SparsePo, Tdpo1, Tdpo2
from equipoise.core.scores import Scores, TokenScores
from equipoise.games import TokenPolicy, TokenTree

TREE = TokenTree(words=("a", "b"), length=6)
MATTERS, WORTH = 2, 2.0  # the place that the score reads, and what an "a" there is worth
BETA, PAIRS, SIZES = 0.1, 200, (50, 200, 800)
TARGET = 0.8  # P("a" at the place that matters) at which the KLs are compared; the reference has 0.5
LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 41))
EXACT = 1e-12
DPO, TDPO1, TDPO2, GIVEN, LEARNT = "DPO", "TDPO1", "TDPO2", "SparsePO, true mask", "SparsePO, learnt mask"
LOSSES = (DPO, TDPO1, TDPO2, GIVEN, LEARNT)


@dataclass(frozen=True, eq=False)
class Pairs:
    """responses [seeds, N, 2], the preferred one first, both drawn evenly."""

    responses: Tensor


def truth() -> Tensor:
    """[A] 1 where the place that matters says "a"."""
    return (torch.tensor(TREE.responses)[:, MATTERS] == 0).double()


def draw(seeds: int, pairs: int) -> Pairs:
    rng = numpy_draws(pairs)
    both = rng.integers(len(TREE.responses), size=(seeds, pairs, 2))
    score = WORTH * truth().numpy()[both]
    first = rng.random((seeds, pairs)) < 1 / (1 + np.exp(score[..., 1] - score[..., 0]))
    return Pairs(torch.from_numpy(np.where(first[..., None], both, both[..., ::-1])))


def reference(seeds: int) -> TokenPolicy:
    return TokenPolicy(TREE, torch.zeros(seeds, *TREE.child.shape, dtype=torch.float64))


class Masks(nn.Module):
    """The masks of SparsePO's own network, one per seed; the state after a prefix is one-hot."""

    def __init__(self, seeds: int) -> None:
        super().__init__()
        width = len(TREE.prefixes)
        self.states = torch.eye(width, dtype=torch.float64)[None]
        self.masks = nn.ModuleList(SparseMasks().build(width, 1).double() for _ in range(seeds))

    def forward(self) -> Tensor:
        """[seeds, A, L]."""
        by_prefix = torch.stack([mask(self.states)["utility"] for mask in self.masks])
        return TREE.along(by_prefix[:, :, None].expand(-1, -1, len(TREE.words)))


def objective(name: str) -> Objective:
    """As the methods set them; a mask that is given has no norm to pay."""
    plain: dict[str, Callable[..., Objective]] = {DPO: Dpo, TDPO1: Tdpo1, TDPO2: Tdpo2}
    if name in plain:
        return plain[name](beta=BETA)
    norm = 0.0 if name == GIVEN else 0.0005
    return SparsePo(beta=BETA, l1_u=norm, l1_d=norm)


def scores(policy: TokenPolicy, base: TokenPolicy, pairs: Pairs, mask: Tensor) -> Scores:
    """All pairs of all seeds; mask [seeds, A, L] weighs both log-ratios and divergences."""
    at = (torch.arange(len(pairs.responses))[:, None, None], pairs.responses)
    reference_logp, own = base.conditional(), policy.conditional()
    drift = (reference_logp.exp() * (reference_logp - own)).sum(dim=2, keepdim=True).expand_as(reference_logp)
    own_tokens, base_tokens, drifts, masks = (
        x[at].flatten(0, 1) for x in (TREE.along(own), TREE.along(reference_logp), TREE.along(drift), mask)
    )
    return Scores.of_tokens(
        TokenScores(
            logp=own_tokens,
            mask=torch.ones_like(base_tokens, dtype=torch.bool),
            anchors={"reference": base_tokens},
            weights={"utility": masks, "divergence": masks},
            divergences={"reference": drifts},
        )
    )


def true_mask(seeds: int) -> Tensor:
    """1 at the place that matters, else 0."""
    return (torch.arange(TREE.length) == MATTERS).double().expand(seeds, len(TREE.responses), -1)


@dataclass(frozen=True, eq=False)
class Learnt:
    """A climb, and [seeds, L] the mean mask at each place at its end; None where there is none to learn."""

    path: Climb
    mask: Array | None = None


def learn(pairs: Pairs, name: str, steps: int, rate: float = 0.02) -> Learnt:
    seeds, form = len(pairs.responses), objective(name)
    base, fixed = reference(seeds), true_mask(seeds)
    auxiliary = Masks(seeds) if name == LEARNT else None

    def loss(policy: TokenPolicy) -> Tensor:
        found = scores(policy, base, pairs, fixed if auxiliary is None else auxiliary())
        return form(found).value.view(seeds, -1).mean(dim=1)

    path = climb(loss, base, truth().expand(seeds, -1), steps=steps, rate=rate, auxiliary=auxiliary)
    return Learnt(path, None if auxiliary is None else auxiliary().detach().mean(dim=1).numpy())


def leak(pairs: Pairs) -> tuple[float, float]:
    """Largest |gradient| under the true mask in (logits of other places, logits of its own), away from the start."""
    generator = torch_draws(0)
    base = reference(len(pairs.responses))
    logits = torch.randn(base.logits.shape, generator=generator, dtype=torch.float64).requires_grad_(True)
    found = scores(TokenPolicy(TREE, logits), base, pairs, true_mask(len(pairs.responses)))
    gradient = torch.autograd.grad(objective(GIVEN)(found).value.sum(), logits)[0].abs().amax(dim=(0, 2))
    own = torch.zeros(len(TREE.prefixes), dtype=torch.bool)
    own[TREE.levels[MATTERS]] = True
    return float(gradient[~own].max()), float(gradient[own].max())


def run(scale: Scale) -> Evidence:
    seeds, steps = {"quick": (12, 80), "full": (40, 200)}[scale]
    sizes = {"quick": (PAIRS,), "full": SIZES}[scale]
    found: dict[tuple[str, int], Learnt] = {}
    for count in sizes:
        pairs = draw(seeds, count)
        found |= {(name, count): learn(pairs, name, steps) for name in LOSSES}
    return judge(found, leak(draw(seeds, PAIRS)))


def judge(found: Mapping[tuple[str, int], Learnt], leaked: tuple[float, float]) -> Evidence:
    """found: (loss, pairs) -> what was learnt; leaked: as `leak` says."""
    at = {key: one.path.kl_at(TARGET) for key, one in found.items()}
    saved = {name: ahead(at[DPO, PAIRS], at[name, PAIRS]) for name in LOSSES[1:]}
    mask = found[LEARNT, PAIRS].mask
    assert mask is not None, "the learnt mask"
    aside = np.delete(mask, MATTERS, axis=1).mean(axis=1)
    finds = ahead(mask[:, MATTERS], aside)
    sizes = sorted({count for _, count in found})
    told = ", ".join(f"{name} {at[name, PAIRS].mean():.3f}" for name in LOSSES)
    return Evidence(
        verdict=verdict(
            leaked[0] <= EXACT < leaked[1] and saved[LEARNT][1] > 0,
            (saved[GIVEN][1] > 0, saved[TDPO1][1] > 0, saved[TDPO2][1] > 0, finds[1] > 0),
        ),
        summary=f"Where a mask is 0 the largest gradient is {leaked[0]:.1g}, where it is 1 {leaked[1]:.2g}. KL that a "
        f"score of {TARGET:g} costs after {PAIRS} pairs, in nats: {told}. The learnt mask ends at "
        f"{mask[:, MATTERS].mean():.2f} on the word that matters and at {aside.mean():.2f} on the others.",
        tables=(
            Table(
                f"KL(pi || ref) in nats where the policy's score reaches {TARGET:g}; none: some never do",
                ("pairs", "loss", "KL", "from", "to", "DPO's less it", "from", "to", "score at the end"),
                tuple(row(name, count, at, found[name, count].path) for count in sizes for name in LOSSES),
            ),
            Table(
                "learnt masks at the end, by place",
                ("pairs", *(f"word {k + 1}" for k in range(TREE.length))),
                tuple(
                    (count, *map(float, one.mask.mean(axis=0)))
                    for (_, count), one in found.items()
                    if one.mask is not None
                ),
            ),
        ),
        panels=tuple(
            Panel(
                f"{count} pairs",
                "KL(pi || ref), nats",
                "score",
                tuple(curve(name, found[name, count].path, LEVELS) for name in LOSSES),
                log_x=False,
                log_y=False,
            )
            for count in sizes
        ),
    )


def row(name: str, count: int, at: Mapping[tuple[str, int], Array], path: Climb) -> tuple[Cell, ...]:
    mean, low, high = interval(at[name, count][:, None])
    figures = (mean[0], low[0], high[0], *ahead(at[DPO, count], at[name, count]))
    return (
        count,
        name,
        *(None if np.isnan(x) else float(x) for x in figures),
        float(path.value[:, -1].mean()),
    )


MASKS = Claim(
    name="sparse_po_masks",
    sentence="Masks on tokens confine what preferences change to the tokens that matter, so that SparsePO buys the "
    "same reward for less KL than DPO; token-level divergences (TDPO) keep it lower as well.",
    paper="2410.05102",
    rule=f"On responses of six words of which one decides the score, from {PAIRS} labelled pairs, the same for every "
    f"loss; KL from the reference where the policy's score, the probability of the better word, reaches {TARGET:g}. "
    f"Heart: where a mask is 0 no logit has a gradient above {EXACT:g}, where it is 1 one has; and SparsePO with a "
    "learnt mask needs less KL than DPO, beyond the 95 % interval of the paired difference. Also: so do SparsePO with "
    "the true mask, TDPO1 and TDPO2; and the learnt mask ends larger on the word that decides than on the others, "
    "likewise. Other numbers of pairs are shown and do not count. A loss that does not get that far does not meet the "
    "rule.",
    program=run,
)
