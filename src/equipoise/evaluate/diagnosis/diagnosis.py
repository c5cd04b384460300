"""Everything that is known of preference pairs under a model, and under what was trained from it, in plain values."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from equipoise.core.calibration import bins, confidences, ece
from equipoise.core.intervals import clustered_mean, clustered_share, jackknife
from equipoise.data.reading.read import Dataset
from equipoise.evaluate.diagnosis.coverage import concentrability, effective_samples, kl_estimates
from equipoise.evaluate.diagnosis.displacement import next_token_mass
from equipoise.evaluate.diagnosis.gradient_entanglement import gradients, kinds
from equipoise.evaluate.diagnosis.hidden_similarity import ches, summed_states
from equipoise.evaluate.diagnosis.ideal_ranking import BETAS, ideal_ranking, out_of_reach
from equipoise.evaluate.oracle_check.calibration import ece_of_noise
from equipoise.evaluate.oracle_check.length import finite
from equipoise.evaluate.writer import Writer, divergence, ranking_accuracy, sampled
from equipoise.models.errors import ModelError
from equipoise.play.state import Floats
from equipoise.policy.protocol import Decoding
from equipoise.policy.scoring.anchor_store import score
from equipoise.policy.scoring.microbatch import Comparison

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SHOWN = 12  # tokens that gained, and as many that lost
LEAST_MASS = 5e-5  # of a token that is named
MASS_PAIRS = 256  # pairs over which the mass of tokens is averaged
PROMPTS = 64  # that are sampled


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked of a diagnosis.

    beta       of the margin beta (log pi - log pi_ref): for calibration and the loss that a pair needs.
    gradients  pairs whose gradients are taken; 0: none.
    samples    answers to each of at most PROMPTS prompts, of both policies; 0: none.

    Raises ValueError for a beta that is not positive and for a negative number.
    """

    beta: float = 0.1
    gradients: int = 32
    samples: int = 0
    max_new_tokens: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf:
            raise ValueError(f"beta must be a positive number, got {self.beta}")
        for name in ("gradients", "samples"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")


@dataclass(frozen=True)
class Diagnosed:
    """Figures of a diagnosis, and the score by which pairs may be filtered.

    figures    plain values, as JSON holds them.
    records    the pairs that the model could read, in order.     similarity    [N] their length-normalised CHES.
    """

    figures: dict[str, Any]
    records: Sequence[Any]
    similarity: Floats


def diagnosis(
    reference: Writer,
    trained: Writer | None,
    pairs: Dataset,
    wanted: Wanted,
    tell: Callable[[str], None] = lambda line: None,
) -> Diagnosed:
    """Diagnose pairs, preferred response first, under the model before training, and after it where it is given.

    Raises ModelError for two models of different vocabularies, and for data without a pair that the model can read.
    """
    if trained is not None and trained.words() != reference.words():
        raise ModelError(f"{trained.name} and {reference.name} have different vocabularies")
    rendered, comparisons = reference.comparisons(pairs)
    if not rendered:
        raise ModelError(f"{reference.name} can read none of the pairs: too long, or refused by its template")
    prompts = [item.record.group for item in rendered]
    share = np.array([max(item.record.prob, 1 - item.record.prob) for item in rendered])
    tell(f"scoring {len(rendered):,} pairs")
    before, length = (x.double().numpy() for x in score(reference.policy, comparisons))
    raw, normalised = ches(summed_states(reference.policy, comparisons))
    found: dict[str, Any] = {
        "model": reference.name,
        "trained": trained.name if trained else None,
        "pairs": len(rendered),
        "prompts": len(set(prompts)),
        "beta": wanted.beta,
        "ranking": _ranking(before, length, share, prompts, wanted),
        "similarity": {
            "normalised": np.quantile(normalised, QUANTILES).tolist(),
            "summed": np.quantile(raw, QUANTILES).tolist(),
        },
    }
    if wanted.gradients:
        some = _drawn(len(rendered), wanted.gradients, wanted.seed)
        tell(f"taking gradients of {len(some)} pairs")
        found["entanglement"] = _entanglement(
            reference, [comparisons[i] for i in some], [prompts[i] for i in some]
        )
    if trained is not None:
        after = score(trained.policy, comparisons)[0].double().numpy()
        found["ranking"]["trained"] = clustered_share(ranking_accuracy(after, length)[0], prompts)
        found["displacement"] = _displacement(after - before, normalised, prompts)
        found["calibration"] = _calibration(after - before, share, prompts, wanted)
        some = _drawn(len(rendered), MASS_PAIRS, wanted.seed)
        tell(f"reading the next-token distributions of {len(some)} preferred responses")
        found["tokens"] = _tokens(reference, trained, [comparisons[i] for i in some])
        if wanted.samples:
            found["samples"] = _samples(reference, trained, pairs, wanted, tell)
    return Diagnosed(found, [item.record for item in rendered], normalised)


def _drawn(count: int, most: int, seed: int) -> Sequence[int]:
    if count <= most:
        return range(count)
    return sorted(np.random.default_rng(seed).choice(count, most, replace=False).tolist())


def _ranking(
    logp: Floats, length: Floats, share: Floats, prompts: Sequence[Hashable], wanted: Wanted
) -> dict[str, Any]:
    gap = logp[:, 0] - logp[:, 1]
    return {
        "reference": clustered_share(ranking_accuracy(logp, length)[0], prompts),
        "ideal": {f"{beta:g}": clustered_share(ideal_ranking(gap, share, beta), prompts) for beta in BETAS},
        "ideal_at_beta": clustered_share(ideal_ranking(gap, share, wanted.beta), prompts),
        "out_of_reach": clustered_share(out_of_reach(gap, wanted.beta), prompts),
    }


def _entanglement(
    writer: Writer, comparisons: Sequence[Comparison], prompts: Sequence[Hashable]
) -> dict[str, Any]:
    found = gradients(writer.policy, comparisons)
    return {
        "pairs": len(comparisons),
        "cosine": clustered_mean(np.clip(found.cosine, -1, 1), prompts, bounds=(-1.0, 1.0)),
        **{name: clustered_share(values, prompts) for name, values in kinds(found).items()},
    }


def _displacement(moved: Floats, similarity: Floats, prompts: Sequence[Hashable]) -> dict[str, Any]:
    better, worse = moved.T
    return {
        "chosen": clustered_mean(better, prompts),
        "rejected": clustered_mean(worse, prompts),
        "margin": clustered_mean(better - worse, prompts),
        "chosen_fell": clustered_share((better < 0).astype(float), prompts),
        "displaced": clustered_share(((better < 0) & (better > worse)).astype(float), prompts),
        # negative where similar pairs are the ones that fall
        "rank_correlation": finite(
            jackknife(
                lambda rows: _rank_correlation(similarity[rows], better[rows]), prompts, bounds=(-1.0, 1.0)
            )
        ),
    }


def _rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation; nan where either is constant."""
    ranks = rankdata(a), rankdata(b)
    if min(map(np.ptp, ranks)) == 0:
        return math.nan
    return float(np.clip(np.corrcoef(*ranks)[0, 1], -1.0, 1.0))


def _calibration(moved: Floats, share: Floats, prompts: Sequence[Hashable], wanted: Wanted) -> dict[str, Any]:
    margin = wanted.beta * (moved[:, 0] - moved[:, 1])
    prob = 1 / (1 + np.exp(-np.clip(margin, -500, 500)))
    confidence, agreement = confidences(prob, share)
    return {
        "ece": ece(confidence, agreement),
        "ece_of_noise": ece_of_noise(confidence, wanted.seed),
        "bins": bins(confidence, agreement),
        "accuracy": clustered_share(agreement, prompts),
    }


def _tokens(reference: Writer, trained: Writer, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    change = (
        next_token_mass(trained.policy, comparisons) - next_token_mass(reference.policy, comparisons)
    ).numpy()
    order = np.argsort(change, kind="stable")
    tokenizer = reference.renderer.codec.tokenizer

    def said(ids: Sequence[int]) -> list[dict[str, Any]]:
        return [{"token": tokenizer.decode([int(i)]), "change": float(change[i])} for i in ids]

    return {
        "pairs": len(comparisons),
        "gained": said([i for i in order[::-1][:SHOWN] if change[i] > LEAST_MASS]),
        "lost": said([i for i in order[:SHOWN] if change[i] < -LEAST_MASS]),
    }


def _samples(
    reference: Writer, trained: Writer, pairs: Dataset, wanted: Wanted, tell: Callable[[str], None]
) -> dict[str, Any]:
    asked = reference.prompts(pairs)
    asked = [asked[i] for i in _drawn(len(asked), PROMPTS, wanted.seed)]
    decoding = Decoding(max_new_tokens=wanted.max_new_tokens)
    ratios = {}
    for writer in (trained, reference):
        tell(f"sampling {wanted.samples * len(asked)} answers of {writer.name}")
        written = sampled(writer, asked, wanted.samples, decoding, seed=wanted.seed)
        flat = [(key, answer) for key, group in written.by.items() for answer in group]
        other = (reference if writer is trained else trained).logps([answer for _, answer in flat])
        ratios[writer.name] = (divergence([answer for _, answer in flat], other), [key for key, _ in flat])
    (own, groups), (theirs, their_groups) = ratios[trained.name], ratios[reference.name]
    return {
        "prompts": len(asked),
        "answers": len(own),
        "kl": kl_estimates(own, groups),
        "coverage": concentrability(own),
        # log pi - log pi_ref on the reference's own answers
        "unseen": clustered_mean(-theirs, their_groups),
        "effective": effective_samples(-theirs),
    }
