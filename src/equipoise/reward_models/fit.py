"""Training loop of reward models: AdamW on labelled pairs, seeded, in steps of whole prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from equipoise.core import reduce
from equipoise.policy.learning_rate import Schedule, rate
from equipoise.reward_models.batches import padded
from equipoise.reward_models.losses import centring, over_attributes, preference_loss
from equipoise.reward_models.model import Read, RewardModel
from equipoise.reward_models.pairs import LabelledPair


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """Settings of the optimizer, under the names that `align` gives them.

    epochs, batch, tokens         passes over the pairs, pairs of one step, padded tokens of one forward pass
    lr, schedule, warmup          peak learning rate (None: by model size, in `train`), its course after the
                                  warm-up, share of the steps that warm up
    weight_decay, beta1, beta2, eps, clip   of AdamW, and the largest gradient norm
    precision                     "fp32" or "bf16", of the matrix products; weights stay fp32
    centring                      coefficient c of (r_1 + r_2)^2, of a bt head
    """

    epochs: int = 1
    batch: int = 64
    tokens: int = 8192
    lr: float | None = None
    schedule: Schedule = "cosine"
    warmup: float = 0.03
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    clip: float = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    centring: float = 0.0

    def rate(self, step: int, steps: int) -> float:
        """Learning rate at step `step` (0-based) of `steps`. Raises ValueError if none was decided."""
        if self.lr is None:
            raise ValueError("a fit needs a learning rate")
        return rate(step, steps, peak=self.lr, schedule=self.schedule, warmup=self.warmup)


@dataclass(frozen=True)
class Batch:
    """Part of a step that is read in one forward pass, for an extra loss.

    pairs           n pairs, with the labels that this training sees
    ids, mask       [R, T] their texts, each once
    first, second   [n] rows of the two responses; of a pairwise model both are the row of the order that is read
    read            outputs and states of the rows
    """

    pairs: Sequence[LabelledPair]
    ids: Tensor
    mask: Tensor
    first: Tensor
    second: Tensor
    read: Read


# an extra loss, [n] one number for each pair of the batch
Extra = Callable[[RewardModel, Batch], Tensor]
# (model, step) -> context within which a step's gradient is taken; whatever it changes it restores when it is left
Within = Callable[[RewardModel, int], AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True)
class Remedies:
    """What is done about noisy labels, all on the training pairs alone.

    flips      ids of pairs whose label is turned round
    smoothing  label smoothing e, one for all pairs, or by id (0 for those it does not name)
    margins    id -> margin in favour of the first response, as a model's r_1 - r_2: whatever the label
    extra      an extra loss, weighed with the pairs
    parameters that the extra loss trains in addition to the model's
    within     a context for each step's gradient
    """

    flips: Collection[str] = ()
    smoothing: float | Mapping[str, float] = 0.0
    margins: Mapping[str, float] | None = None
    extra: Extra | None = None
    parameters: Sequence[torch.nn.Parameter] = ()
    within: Within | None = None

    def smoothing_of(self, pair: LabelledPair) -> float:
        return self.smoothing.get(pair.id, 0.0) if isinstance(self.smoothing, Mapping) else self.smoothing

    def of(self, pairs: Sequence[LabelledPair]) -> list[LabelledPair]:
        """The pairs as they are trained on. Raises ValueError for an id that no pair has."""
        ids = {pair.id for pair in pairs}
        named = [
            *self.flips,
            *(self.margins or ()),
            *(self.smoothing if isinstance(self.smoothing, Mapping) else ()),
        ]
        strange = next((name for name in named if name not in ids), None)
        if strange is not None:
            raise ValueError(f"no pair has the id {strange!r}")
        flips, margins = frozenset(self.flips), self.margins or {}
        turned = [pair.flipped() if pair.id in flips else pair for pair in pairs]
        return [replace(pair, margin=pair.margin + margins.get(pair.id, 0.0)) for pair in turned]


def fit(
    model: RewardModel,
    pairs: Sequence[LabelledPair],
    *,
    fitting: Fitting,
    seed: int,
    remedies: Remedies | None = None,
    order: int | None = None,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> None:
    """Train a reward model in place on labelled pairs.

    The loss of a step is the weighted mean of `losses.preference_loss` over its pairs, whatever the memory: a step is
    divided by `tokens`, the pairs of one prompt stay together, and a text that several of them share is read once.

    order    seed of the order of prompts (and of a pairwise model's order of responses); None: the seed
    report   called with {"step", "steps", "epoch", "loss", "accuracy", "lr", "gradient"} after each step

    The same arguments train the same weights on a CPU. Raises FloatingPointError for a loss that is not finite.
    """
    remedies = remedies or Remedies()
    trained = [pair for pair in remedies.of(pairs) if pair.weight > 0]
    if not trained:
        raise ValueError("no pair has a positive weight")
    orders = seed if order is None else order
    steps = sum(len(list(_steps(trained, fitting.batch, orders, epoch))) for epoch in range(fitting.epochs))
    optimizer = torch.optim.AdamW(
        [*model.trained(), *remedies.parameters],
        lr=fitting.rate(0, steps),
        betas=(fitting.beta1, fitting.beta2),
        eps=fitting.eps,
        weight_decay=fitting.weight_decay,
    )
    model.train()
    done = 0
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for epoch in range(fitting.epochs):
            for chosen in _steps(trained, fitting.batch, orders, epoch):
                draw = np.random.default_rng([orders, epoch, done, 1])
                turned = [bool(turn) for turn in draw.random(len(chosen)) < 0.5]
                lr = fitting.rate(done, steps)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.zero_grad()
                with remedies.within(model, done) if remedies.within else nullcontext():
                    figures = _gradient(model, chosen, turned, fitting, remedies)
                norm = float(torch.nn.utils.clip_grad_norm_(model.trained(), fitting.clip))
                if not math.isfinite(figures["loss"]) or not math.isfinite(norm):
                    raise FloatingPointError(
                        f"the loss is not finite at step {done + 1}; lower train.lr, or look for broken rows"
                    )
                optimizer.step()
                done += 1
                report({"step": done, "steps": steps, "epoch": epoch, **figures, "lr": lr, "gradient": norm})
    model.eval()


def _steps(pairs: Sequence[LabelledPair], batch: int, seed: int, epoch: int) -> Iterator[list[LabelledPair]]:
    """The pairs of each step: prompts in random order, about `batch` pairs together; a larger prompt is divided."""
    groups: dict[str, list[LabelledPair]] = {}
    for pair in pairs:
        groups.setdefault(pair.group, []).append(pair)
    names = list(groups)
    chosen: list[LabelledPair] = []
    for index in np.random.default_rng([seed, epoch, 0]).permutation(len(names)):
        group = groups[names[index]]
        for begin in range(0, len(group), batch):
            part = group[begin : begin + batch]
            if chosen and len(chosen) + len(part) > batch:
                yield chosen
                chosen = []
            chosen = [*chosen, *part]
    if chosen:
        yield chosen


def _gradient(
    model: RewardModel,
    pairs: Sequence[LabelledPair],
    turned: Sequence[bool],
    fitting: Fitting,
    remedies: Remedies,
) -> dict[str, float]:
    """Accumulates a step's gradient; returns its loss and its accuracy on labels that say something."""
    total = sum(pair.weight for pair in pairs)
    loss, right, counted = 0.0, 0.0, 0.0
    for part in _parts(pairs, turned, fitting.tokens, model.head.kind == "pair"):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=fitting.precision == "bf16"):
            batch = _read(model, *part)
            weights = _prompt_weights(model, batch.pairs)
        values, hits, known = _losses(model, batch, part[1], weights, fitting, remedies)
        if remedies.extra is not None:
            values = values + remedies.extra(model, batch).to(values.dtype)
        weight = torch.tensor([pair.weight for pair in batch.pairs], dtype=values.dtype, device=values.device)
        share = reduce.mean(values, weight, total=total)
        share.backward()
        loss, right, counted = loss + float(share.detach()), right + hits, counted + known
    return {"loss": loss, "accuracy": right / counted if counted else math.nan}


def _parts(
    pairs: Sequence[LabelledPair], turned: Sequence[bool], tokens: int, one: bool
) -> Iterator[tuple[list[LabelledPair], list[bool]]]:
    """A step's pairs in parts of at most so many padded tokens, short ones first, those of a prompt in sequence."""
    longest: dict[str, int] = {}
    for pair in pairs:
        size = max(map(len, (*pair.tokens, pair.opening)))
        longest[pair.group] = max(longest.get(pair.group, 0), size)
    order = sorted(range(len(pairs)), key=lambda i: (longest[pairs[i].group], pairs[i].group))
    chosen: list[int] = []
    texts: set[tuple[int, ...]] = set()
    for index in order:
        pair = pairs[index]
        own = {pair.tokens[turned[index]]} if one else set(pair.tokens)
        if chosen and len(texts | own) * longest[pair.group] > tokens:
            yield [pairs[i] for i in chosen], [turned[i] for i in chosen]
            chosen, texts = [], set()
        chosen, texts = [*chosen, index], texts | own
    yield [pairs[i] for i in chosen], [turned[i] for i in chosen]


def _read(model: RewardModel, pairs: Sequence[LabelledPair], turned: Sequence[bool]) -> Batch:
    if model.head.kind == "pair":
        sides = [(pair.tokens[turn],) * 2 for pair, turn in zip(pairs, turned, strict=True)]
    else:
        sides = [pair.tokens for pair in pairs]
    places: dict[tuple[int, ...], int] = {}
    rows = [[places.setdefault(text, len(places)) for text in both] for both in sides]
    ids, mask = (t.to(model.device) for t in padded(list(places), model.pad))
    first, second = torch.tensor(rows, device=model.device).unbind(dim=1)
    return Batch(pairs, ids, mask, first, second, model.read(ids, mask, states=True))


def _prompt_weights(model: RewardModel, pairs: Sequence[LabelledPair]) -> Tensor | None:
    """[n, k] what the prompts alone say: strengths of planes."""
    if model.prompt_head is None:
        return None
    places: dict[tuple[int, ...], int] = {}
    rows = torch.tensor([places.setdefault(pair.opening, len(places)) for pair in pairs], device=model.device)
    states = model.read(*padded(list(places), model.pad), states=True).states
    return model.prompt_head(states)[rows]


def _losses(
    model: RewardModel,
    batch: Batch,
    turned: Sequence[bool],
    weights: Tensor | None,
    fitting: Fitting,
    remedies: Remedies,
) -> tuple[Tensor, float, float]:
    """(losses [n], labels that the model agrees with, labels that say something)."""
    values = batch.read.values.float()
    about: dict[str, Any] = {"dtype": values.dtype, "device": values.device}
    prob = torch.tensor([pair.prob for pair in batch.pairs], **about)
    margin = torch.tensor([pair.margin for pair in batch.pairs], **about)[:, None]
    smoothing = torch.tensor([remedies.smoothing_of(pair) for pair in batch.pairs], **about)[:, None]
    first, second = values[batch.first], values[batch.second]
    if model.head.kind == "pair":
        swapped = torch.tensor(turned, device=values.device)[:, None]
        logit = first
        prob, margin = torch.where(swapped, 1 - prob, prob), torch.where(swapped, -margin, margin)
    else:
        logit = model.logits(first, second, None if weights is None else weights.float())
    known = ~prob.isnan()
    loss = preference_loss(logit, prob.nan_to_num(0.5), margin=margin, smoothing=smoothing)
    if fitting.centring and model.head.kind == "bt":
        loss = loss + fitting.centring * centring(first, second)
    said = prob - 0.5
    telling = known & (said != 0)
    agreed = torch.where(logit.detach() == 0, 0.5, (logit.detach().sign() == said.sign()).double())
    return over_attributes(loss, known), float(agreed[telling].sum()), float(telling.sum())
