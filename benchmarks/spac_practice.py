"""SPAC with the defaults that are shipped, round by round, beside other ways to learn from the same recorded pairs.

python benchmarks/spac_practice.py exact                 bandits, every fit minimised exactly; some minutes
python benchmarks/spac_practice.py align FOLDER          `equipoise align spac` on the playground; an hour on one core
python benchmarks/spac_practice.py --draw                the tables of README.md again, from the figures

Set before the first run, with SPAC's defaults frozen (b = sqrt(T/3), lambda = sqrt(n), T = 3, last iterate):

Families. Five bandits, n = 100, 400 and 1,600 pairs, 40 data sets each. `uniform`, `lucky` and `narrow` have one best
arm and two mediocre ones, which the data cover well, and three bad arms, which they cover as well as the others, in
about three of n pairs, or not at all; labels are Bradley-Terry. Two were invented for this table: `hasty`, where pairs
with one of five bad arms (one pair in ten) are labelled by a coin; `chain`, ten arms compared with their neighbours
only, ever more seldom away from the third best, so that errors of a reward add up along the chain. The reference is
nine parts the data's policy and one part the uniform one: an SFT policy that also writes what the data do not hold.

Methods. SPAC as `get("spac").for_comparisons(n)` gives it, after each round, and with T = 12. Greedy: the arm of the
largest maximum-likelihood reward, |r| <= 1.5, among those seen. DPO and chi-PO: the exact policies of this reward for
their best beta of BETAS; RPO: core's loss minimised for its best (beta, eta): the best on the true rewards of these
very data sets, family by family and n by n, which no user can choose. LCB: the arm of the largest lower bound
r(y) - 2 s(y), with s the standard error of r(y) - E_mu r by the Fisher information.

Rule. Loss is the true reward lost against the best arm. (1) Support: in no data set does SPAC write the arms that the
data do not hold with a probability more than 0.05 above the reference's. (2) Rounds: nowhere does the 95 % t-interval
of a round's loss less that of the round before, data set by data set, lie above 0. (3) SPAC after the last round is
better (worse) than a method where the interval of their difference lies below (above) 0; this is counted, not judged.
For `align`, six seeds for each coverage: (1) no run leaves the reference's support; (2) as above, of exact win rates.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import HERE, command, machine, table, told, versions, write_section
from scipy.special import wrightomega
from torch import Tensor

from equipoise.claims.claim import interval
from equipoise.core.objectives import Rpo, Spac
from equipoise.core.objectives.base import Objective
from equipoise.games import NotConverged, PairData, TabularPolicy, enumerate_data, minimise
from equipoise.games.spac_t import critic
from equipoise.methods.index import get

NS, SEEDS, MORE_ROUNDS = (100, 400, 1600), 40, 12
BOUND = 1.5
BETAS = (0.03, 0.1, 0.3, 1.0, 3.0)
ETAS = (0.005, 0.05, 0.5)
ALIGN_SEEDS, COVERAGES = 6, ("uniform", "lucky", "narrow")
RESULTS = HERE / "results" / "spac_practice.json"
ALIGNED = HERE / "results" / "spac_practice_align.json"


@dataclass(frozen=True)
class Family:
    """A bandit and how its pairs are recorded.

    rewards    [A].
    pairs      n -> [A, A] symmetric probabilities of an unordered pair.
    wins       [A, A] P(first preferred to second) in the labels.
    """

    name: str
    rewards: Tensor
    pairs: Callable[[int], Tensor]
    wins: Tensor


def bradley_terry(rewards: Tensor) -> Tensor:
    return torch.sigmoid(rewards[:, None] - rewards[None, :])


def independent(policy: Tensor) -> Tensor:
    """Two draws from a policy, given that they differ."""
    joint = torch.outer(policy, policy).fill_diagonal_(0)
    return joint / joint.sum()


def three_and_three(name: str, bad: Callable[[int], float]) -> Family:
    """The best arm, two mediocre and three bad ones; bad: n -> share of the data's policy on each bad arm."""
    rewards = torch.tensor([1.0, 0.5, 0.0, -0.5, -0.5, -0.5], dtype=torch.float64)

    def pairs(n: int) -> Tensor:
        share = bad(n)
        return independent(torch.tensor([(1 - 3 * share) / 3] * 3 + [share] * 3, dtype=torch.float64))

    return Family(name, rewards, pairs, bradley_terry(rewards))


def hasty() -> Family:
    rewards = torch.tensor([1.0, 0.6, 0.3, 0.0] + [-1.0] * 5, dtype=torch.float64)
    good = torch.arange(9) < 4
    careful = good[:, None] & good[None, :]
    pairs = (
        0.9 * independent(good / 4.0)
        + 0.1 * independent(torch.ones(9) / 9) * ~careful / (independent(torch.ones(9) / 9) * ~careful).sum()
    )
    return Family(
        "hasty", rewards, lambda n: pairs.double(), torch.where(careful, bradley_terry(rewards), 0.5)
    )


def chain() -> Family:
    rewards = torch.linspace(1.2, -1.2, 10, dtype=torch.float64)
    weight = 0.5 ** (torch.arange(9, dtype=torch.float64) - 1.5).abs()  # of the pair (k, k + 1)
    pairs = torch.zeros(10, 10, dtype=torch.float64)
    at = torch.arange(9)
    pairs[at, at + 1] = pairs[at + 1, at] = weight / weight.sum() / 2
    return Family("chain", rewards, lambda n: pairs, bradley_terry(rewards))


FAMILIES = (
    three_and_three("uniform", lambda n: 1 / 6),
    three_and_three("lucky", lambda n: min(1 / n, 0.1)),
    three_and_three("narrow", lambda n: 0.0),
    hasty(),
    chain(),
)


@dataclass(frozen=True)
class Drawn:
    """Data sets of one family and n: pairs, the reference [S, A], the true rewards [A]."""

    data: PairData
    reference: Tensor
    rewards: Tensor
    n: int

    def lost(self, policy: Tensor) -> np.ndarray:
        """[S] max r - E_pi r."""
        return (self.rewards.max() - policy @ self.rewards).numpy()


def draw(family: Family, n: int) -> Drawn:
    """The same family, n and seed give the same data."""
    pairs = family.pairs(n)
    labelled = (pairs * family.wins * 2).flatten()
    labelled = (labelled / labelled.sum()).numpy()
    arms = len(family.rewards)
    name = sum(family.name.encode())
    counts = [
        np.random.default_rng([name, n, seed]).multinomial(n, labelled).reshape(arms, arms)
        for seed in range(SEEDS)
    ]
    writer = pairs.sum(dim=1)
    reference = (0.9 * writer + 0.1 / arms).expand(SEEDS, arms)
    return Drawn(PairData(torch.as_tensor(np.stack(counts))), reference, family.rewards, n)


def fitted(drawn: Drawn) -> Tensor:
    """[S, A] maximum-likelihood reward in the box, of mean 0 over the arms seen, 0 for an arm never seen."""
    f = critic(drawn.data, TabularPolicy.from_probs(drawn.data.mu), lam=1.0, bound=BOUND)
    seen = drawn.data.support.double()
    return (f - (f * seen).sum(dim=1, keepdim=True) / seen.sum(dim=1, keepdim=True)) * seen


def best_of(drawn: Drawn, score: Tensor) -> Tensor:
    """All mass on the largest score among arms seen, shared by ties."""
    score = score.masked_fill(~drawn.data.support, -torch.inf)
    top = (score >= score.amax(dim=1, keepdim=True) - 1e-6).double()
    return top / top.sum(dim=1, keepdim=True)


def lower_bound(drawn: Drawn, f: Tensor, width: float = 2.0) -> Tensor:
    """r(y) - E_mu r - width s(y), with s by the Fisher information of n pairs."""
    pairs = drawn.data.counts + drawn.data.counts.mT
    win = torch.sigmoid(f[:, :, None] - f[:, None, :])
    edge = pairs * win * (1 - win)
    information = torch.diag_embed(edge.sum(dim=2)) - edge
    inverse = torch.linalg.inv(information + 1e-3 * torch.eye(f.shape[1]))
    mu = drawn.data.mu
    contrast = torch.eye(f.shape[1], dtype=f.dtype) - mu[:, None, :]
    error = torch.einsum("sya,sab,syb->sy", contrast, inverse, contrast).clamp(min=0).sqrt()
    return f - (f * mu).sum(dim=1, keepdim=True) - width * error


def chi_po(reference: Tensor, f: Tensor, beta: float) -> Tensor:
    """The policy with beta (z + log z) = f + c, z = pi/pi_ref, c so that it sums to 1 (by bisection)."""
    low, high = f.new_full((len(f), 1), -60.0), f.new_full((len(f), 1), 60.0)
    policy = reference
    for _ in range(100):
        middle = (low + high) / 2
        policy = reference * torch.from_numpy(wrightomega(((f + middle) / beta).numpy()))
        over = policy.sum(dim=1, keepdim=True) > 1
        low, high = torch.where(over, low, middle), torch.where(over, middle, high)
    return policy / policy.sum(dim=1, keepdim=True)


def minimised(objective: Objective, drawn: Drawn, start: Tensor, *, own: bool, anchor: str) -> Tensor:
    """Probabilities of the exact minimiser, from `start` as the anchor."""
    rows = enumerate_data(drawn.data.share, start if own else None)
    return minimise(objective, *rows, start=start.log(), anchors={anchor: start.log()}, tolerance=1e-7).exp()


def fitted_rpo(beta: float, eta: float, drawn: Drawn) -> Tensor:
    """RPO's minimiser, or where Newton's steps end: an arm that only won is all but unbounded where eta is tiny."""
    try:
        return minimised(Rpo(beta=beta, eta=eta), drawn, drawn.reference, own=False, anchor="reference")
    except NotConverged as end:
        return end.best.exp()


def spac(drawn: Drawn, rounds: int) -> list[Tensor]:
    """The policy after each round, with the shipped defaults."""
    method = replace(get("spac"), rounds=rounds).with_parameters(get("spac").defaults())
    objective = method.for_comparisons(drawn.n).objective
    assert isinstance(objective, Spac)
    policies = [drawn.reference]
    for _ in range(rounds):
        policies.append(minimised(objective, drawn, policies[-1], own=True, anchor="previous"))
    return policies[1:]


def tuned(drawn: Drawn, policies: Iterator[Tensor]) -> np.ndarray:
    """Losses of the policy with the least mean loss."""
    return min((drawn.lost(policy) for policy in policies), key=lambda lost: lost.mean())


def losses(drawn: Drawn) -> tuple[dict[str, np.ndarray], float]:
    """Losses [S] of every method, and the most that SPAC writes unseen arms above the reference."""
    f, reference = fitted(drawn), drawn.reference
    played = spac(drawn, get("spac").rounds)
    more = spac(drawn, MORE_ROUNDS)
    unseen = ~drawn.data.support
    left = max(float(((policy - reference) * unseen).sum(dim=1).max()) for policy in (*played, *more))
    rpo = (fitted_rpo(beta, eta, drawn) for beta in BETAS for eta in ETAS)
    found = {f"SPAC, round {t}": drawn.lost(policy) for t, policy in enumerate(played, 1)}
    found[f"SPAC, T = {MORE_ROUNDS}"] = drawn.lost(more[-1])
    found["reference"] = drawn.lost(reference)
    found["greedy"] = drawn.lost(best_of(drawn, f))
    found["DPO, tuned"] = tuned(drawn, ((reference.log() + f / b).softmax(dim=1) for b in BETAS))
    found["chi-PO, tuned"] = tuned(drawn, (chi_po(reference, f, b) for b in BETAS))
    found["RPO, tuned"] = tuned(drawn, rpo)
    found["LCB"] = drawn.lost(best_of(drawn, lower_bound(drawn, f)))
    return found, left


def middle(values: np.ndarray) -> tuple[float, float, float]:
    """The median and its 95 % interval, by order statistics."""
    from scipy.stats import binom

    rank = int(binom.ppf(0.025, len(values), 0.5))
    ordered = np.sort(values)
    return float(np.median(values)), float(ordered[max(rank - 1, 0)]), float(ordered[-max(rank, 1)])


def difference(now: Sequence[float], before: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the paired difference, with its 95 % interval."""
    mean, low, high = interval(np.subtract(now, before)[:, None])
    return float(mean[0]), float(low[0]), float(high[0])


def exact() -> dict[str, Any]:
    found = []
    for family in FAMILIES:
        for n in NS:
            by_method, left = losses(draw(family, n))
            found.append(
                {
                    "family": family.name,
                    "n": n,
                    "left": left,
                    "lost": {k: np.round(v, 6).tolist() for k, v in by_method.items()},
                }
            )
            print(
                family.name,
                n,
                f"{left:.3f}",
                {k: round(float(np.median(v)), 3) for k, v in by_method.items()},
            )
    return about() | {"found": found}


def about() -> dict[str, Any]:
    return {
        "machine": machine(),
        "versions": versions("numpy", "scipy"),
        "command": command("spac_practice.py"),
    }


def rounds_of(lost: Mapping[str, Sequence[float]]) -> list[str]:
    return [name for name in lost if name.startswith("SPAC, round")]


def drawn_exact(results: dict[str, Any]) -> str:
    found = results["found"]
    lines = [
        told(results),
        "",
        "Reward lost over 40 data sets, the median with its 95 % interval, and the mean:",
        "",
    ]
    names = list(found[0]["lost"])

    def shown(values: list[float]) -> str:
        at, low, high = middle(np.array(values))
        return f"{at:.3f} ({low:.3f} to {high:.3f}), {np.mean(values):.3f}"

    for n in NS:
        rows = [r for r in found if r["n"] == n]
        lines += [f"n = {n:,}:", ""]
        lines += table(
            ("method", *(r["family"] for r in rows)),
            [(name, *(shown(r["lost"][name]) for r in rows)) for name in names],
        )
        lines.append("")
    worse, beaten = [], {name: [0, 0] for name in names if not name.startswith("SPAC")}
    for r in found:
        names_of_rounds = rounds_of(r["lost"])
        for before, now in pairwise(names_of_rounds):
            mean, low, _ = difference(r["lost"][now], r["lost"][before])
            if low > 0:
                worse.append(f"{r['family']}, n = {r['n']:,}, {now.split(', ')[1]} (+{mean:.3f})")
        for name, counted in beaten.items():
            _, low, high = difference(r["lost"][names_of_rounds[-1]], r["lost"][name])
            counted[0] += high < 0
            counted[1] += low > 0
    left = max(r["left"] for r in found)
    counted = ", ".join(f"{name} {better}/{bad}" for name, (better, bad) in beaten.items())
    lines += [
        f"Support: at most {left:.3f} above the reference on arms that the data do not hold; the rule allows 0.05.",
        f"Rounds worse than the one before, of {2 * len(found)}: {'; '.join(worse) or 'none'}.",
        f"SPAC after round 3 is better/worse, beyond the interval, of {len(found)} families and n, than: {counted}.",
    ]
    return "\n".join(lines)


def align(folder: Path) -> dict[str, Any]:
    import equipoise as eq

    found = []
    for seed in range(ALIGN_SEEDS):
        for coverage in COVERAGES:
            run = eq.align(
                "spac",
                out=folder / f"spac-{coverage}-{seed}",
                seed=seed,
                settings={"data.coverage": coverage},
                quiet=True,
            )
            lines = [json.loads(line) for line in (run.folder / "evaluation.jsonl").read_text().splitlines()]
            kept = (
                "round",
                "exact_win_rate",
                "exploitability",
                "exact_kl",
                "outside",
                "surprisal",
                "finished",
            )
            found.append(
                {
                    "coverage": coverage,
                    "seed": seed,
                    "delivered": run.summary["delivered"],
                    "left_support": run.summary.get("left_support"),
                    "rounds": [{name: line[name] for name in kept} for line in lines],
                }
            )
            print(coverage, seed, [round(line["exact_win_rate"], 3) for line in lines])
    return about() | {"found": found}


def drawn_align(results: dict[str, Any]) -> str:
    found = results["found"]
    lines = [
        told(results),
        "",
        "Exact win rate against the reference after each round, the median of six seeds (least to most); the most mass "
        "outside the grammar of any seed and round:",
        "",
    ]
    rows, worse = [], []
    for coverage in COVERAGES:
        mine = [r for r in found if r["coverage"] == coverage]
        last = max(len(r["rounds"]) for r in mine)
        whole = [r for r in mine if len(r["rounds"]) == last]
        rate = np.array([[line["exact_win_rate"] for line in r["rounds"]] for r in whole])
        gap = np.array([r["rounds"][r["delivered"]]["exploitability"] for r in mine])
        outside = max(line["outside"] for r in mine for line in r["rounds"])
        rows.append(
            (
                coverage,
                *(spread(rate[:, t], 100) for t in range(1, last)),
                spread(gap, 1, 3),
                f"{outside:.2%}",
                str(sum(r["left_support"] is not None for r in mine)),
            )
        )
        for t in range(2, last):
            mean, _, high = difference(rate[:, t], rate[:, t - 1])
            if high < 0:
                worse.append(f"{coverage}, round {t} ({100 * mean:+.1f} points)")
    rounds = max(len(r["rounds"]) for r in found)
    header = ("coverage", *(f"round {t}, %" for t in range(1, rounds)), "exploitability", "outside", "left")
    lines += table(header, rows)
    lines += ["", f"Rounds worse than the one before: {'; '.join(worse) or 'none'}."]
    return "\n".join(lines)


def spread(values: np.ndarray, scale: float, digits: int = 1) -> str:
    low, at, high = (scale * f(values) for f in (np.min, np.median, np.max))
    return f"{at:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("exact", "align"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/spac_practice"))
    parser.add_argument("--draw", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "exact":
        RESULTS.write_text(json.dumps(exact(), indent=1) + "\n")
    if given.what == "align":
        ALIGNED.write_text(json.dumps(align(given.folder), indent=1) + "\n")
    if RESULTS.exists():
        write_section(drawn_exact(json.loads(RESULTS.read_text())), "spac_practice.py exact")
    if ALIGNED.exists():
        write_section(drawn_align(json.loads(ALIGNED.read_text())), "spac_practice.py align")


if __name__ == "__main__":
    main()
