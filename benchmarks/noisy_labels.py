"""Reward models under flipped training labels: held-out accuracy, plain and with each remedy for noisy preferences.

python benchmarks/noisy_labels.py MODEL PAIRS [--layers L] [--limit ROWS] [--tokens T] [--cache FILE] [--write]

A body is read once, as it is; what is trained is a head on its states (two layers), so that hundreds of trainings take
minutes on one core. PAIRS is a file of JSON lines (.gz or not) with prompt, chosen and rejected as chat turns.

Set before the first run: five seeds, each with a split of its own (a fifth of the prompts held out, labels as
recorded), own flips and heads; M = 10 models in an ensemble; a fifth of the labels flipped; e = 0.1; weights and
temperatures of the contrastive losses as the package has them; MetaRM's step 0.1 on four responses sampled for each
of 64 prompts (not with --layers). A remedy helps, or harms, at a noise if the 95 % t-interval over seeds of its
accuracy less that of plain training on the same labels lies above, or below, 0. Nothing was tuned.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import HERE, command, machine, table, told, versions, write_section
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from equipoise.claims.claim import interval
from equipoise.reward_models.contrastive import Swav, dropout_views, represented, simcse_loss
from equipoise.reward_models.losses import preference_loss
from equipoise.reward_models.meta import ascended, spread
from equipoise.reward_models.noise import Recipe, Strength, Treated, preference_strength

SEEDS, MODELS, FOLDS = 5, 10, 2
NOISES = (0.0, 0.2, 0.3)
EPOCHS, BATCH, RATE, DECAY, WIDTH, DROPOUT = 5, 64, 1e-3, 1e-2, 64, 0.1
CONTRAST, META, META_PROMPTS, SAMPLED, WRITTEN = 0.1, 0.1, 8, (64, 4), 32


PLAIN = Recipe()


@dataclass(frozen=True)
class Remedy:
    """A recipe for the labels, by which strengths, and what is added to the training."""

    name: str
    recipe: Recipe = PLAIN
    held_out: bool = False
    extra: str = ""


SOFT = Recipe(smooth=0.1, smooth_on="negative", margin=True)
REMEDIES = (
    Remedy("plain"),
    Remedy("label smoothing", Recipe(smooth=0.1)),
    Remedy("flip", Recipe(flip=0.2)),
    Remedy("margin", Recipe(margin=True)),
    Remedy("flip + margin", Recipe(flip=0.2, margin=True)),
    Remedy("soft label + margin", SOFT),
    Remedy("flip, held-out strengths", Recipe(flip=0.2), held_out=True),
    Remedy("flip + margin, held-out strengths", Recipe(flip=0.2, margin=True), held_out=True),
    Remedy("soft label + margin, held-out strengths", SOFT, held_out=True),
    Remedy("SimCSE on differences", extra="simcse"),
    Remedy("SwAV on differences", extra="swav"),
    Remedy("MetaRM", extra="meta"),
)


# --- states of the body


class Body:
    """A language model that gives, for each response, its last state and the mean of its states: [2 D] numbers."""

    def __init__(self, folder: str, layers: int | None, tokens: int) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.decoder, self.tokens = self.model.model, tokens
        if layers:
            self.decoder.layers, self.decoder.norm = self.decoder.layers[:layers], nn.Identity()

    def prompt(self, turns: list[dict[str, str]]) -> list[int]:
        if self.tokenizer.chat_template:
            found = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)
            return found["input_ids"]
        said = {"user": "Human", "assistant": "Assistant"}
        text = "".join(f"\n\n{said[turn['role']]}: {turn['content']}" for turn in turns)
        return self.tokenizer(f"{text}\n\nAssistant:").input_ids

    def answer(self, text: str) -> list[int]:
        if self.tokenizer.chat_template:
            return self.tokenizer(f"{text}{self.tokenizer.eos_token}", add_special_tokens=False).input_ids
        return [*self.tokenizer(f" {text}", add_special_tokens=False).input_ids, self.tokenizer.eos_token_id]

    @torch.no_grad()
    def states(self, prompt: list[int], answers: list[list[int]]) -> Tensor:
        """[K, 2 D]; of a text that is too long, the beginning of the prompt and the end of the answer are cut off."""
        answers = [answer[: self.tokens // 2] for answer in answers]
        prompt = prompt[-(self.tokens - max(map(len, answers))) :]
        past = self.decoder(torch.tensor([prompt]), use_cache=True).past_key_values
        past.batch_repeat_interleave(len(answers))
        ids = torch.zeros(len(answers), max(map(len, answers)), dtype=torch.long)
        for row, answer in zip(ids, answers, strict=True):
            row[: len(answer)] = torch.tensor(answer)
        hidden = self.decoder(ids, past_key_values=past).last_hidden_state
        ends = [len(answer) for answer in answers]
        return torch.stack(
            [torch.cat([h[n - 1], h[:n].mean(dim=0)]) for h, n in zip(hidden, ends, strict=True)]
        )

    @torch.no_grad()
    def sample(self, prompt: list[int], count: int) -> list[list[int]]:
        kept = prompt[-(self.tokens - WRITTEN) :]
        found = self.model.generate(
            torch.tensor([kept]),
            do_sample=True,
            max_new_tokens=WRITTEN,
            num_return_sequences=count,
            pad_token_id=self.tokenizer.eos_token_id,
        )[:, len(kept) :].tolist()
        end = self.tokenizer.eos_token_id
        return [[*(row[: row.index(end)] if end in row else row), end] for row in found]


def features(given: argparse.Namespace) -> dict[str, Any]:
    """pairs [N, 2, F] chosen first, prompts [N], sampled [P, k, F] or None."""
    if given.cache and given.cache.exists():
        stored = np.load(given.cache)
        return {"sampled": None, **{name: stored[name] for name in stored.files}}
    torch.manual_seed(0)
    body = Body(given.model, given.layers, given.tokens)
    opened = gzip.open if given.pairs.endswith(".gz") else open
    with opened(given.pairs, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][: given.limit]
    pairs = []
    for row in rows:
        answers = [body.answer(row[side][0]["content"]) for side in ("chosen", "rejected")]
        pairs.append(body.states(body.prompt(row["prompt"]), answers).numpy())
    found = {"pairs": np.stack(pairs), "prompts": np.array([row["prompt"][0]["content"] for row in rows])}
    if not given.layers:
        prompts = [body.prompt(row["prompt"]) for row in rows[: SAMPLED[0]]]
        found["sampled"] = np.stack([body.states(p, body.sample(p, SAMPLED[1])).numpy() for p in prompts])
    if given.cache:
        np.savez(given.cache, **found)
    return {"sampled": None, **found}


# --- heads on states


class Head(nn.Module):
    """A reward on standardised states: what stands before its last layer is what is contrasted."""

    def __init__(self, seen: Tensor) -> None:
        super().__init__()
        flat = seen.flatten(0, 1)
        self.centre, self.spread = flat.mean(dim=0), flat.std(dim=0).clamp(min=1e-6)
        self.trunk = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(flat.shape[1], WIDTH), nn.Tanh())
        self.last = nn.Linear(WIDTH, 1, bias=False)
        nn.init.normal_(self.last.weight, std=1 / (WIDTH + 1))

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Rewards [...] and representations [..., WIDTH]."""
        hidden = self.trunk((states - self.centre) / self.spread)
        return self.last(hidden).squeeze(-1), hidden


def train(pairs: Tensor, treated: Treated, seed: int, extra: str = "", sampled: Tensor | None = None) -> Head:
    """A head trained on these pairs [N, 2, F] and labels."""
    torch.manual_seed(seed)
    head = Head(pairs)
    swav = Swav(WIDTH) if extra == "swav" else None
    contrast: Callable[[Tensor, Tensor], Tensor] | None = simcse_loss if extra == "simcse" else swav
    parameters = [*head.parameters(), *(swav.parameters() if swav else ())]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(pairs)).split(BATCH):
            chosen = None if sampled is None else sampled[torch.randperm(len(sampled))[:META_PROMPTS]]
            ahead = (
                nullcontext()
                if chosen is None
                else ascended(parameters, lambda s=chosen: spread(head(s)[0]), META)
            )
            optimizer.zero_grad()
            with ahead:
                step_loss(head, pairs[rows], treated, rows, contrast).backward()
            optimizer.step()
    return head.eval()


def step_loss(
    head: Head,
    pairs: Tensor,
    treated: Treated,
    rows: Tensor,
    contrast: Callable[[Tensor, Tensor], Tensor] | None,
) -> Tensor:
    reward, hidden = head(pairs)
    prob, margin, smoothing = (x[rows].float() for x in (treated.prob, treated.margin, treated.smoothing))
    loss = preference_loss(reward[:, 0] - reward[:, 1], prob, margin=margin, smoothing=smoothing).mean()
    if contrast is None:
        return loss
    won = (prob >= 0.5)[:, None]
    first, second = hidden.unbind(dim=1)
    rows_of = represented(torch.where(won, first, second), torch.where(won, second, first), "difference")
    return loss + CONTRAST * contrast(*dropout_views(rows_of, DROPOUT))


@torch.no_grad()
def logits(head: Head, pairs: Tensor) -> Tensor:
    reward, _ = head(pairs)
    return reward[:, 0] - reward[:, 1]


def accuracy(head: Head, pairs: Tensor) -> float:
    """On pairs whose first response is the chosen one."""
    return float((logits(head, pairs) > 0).double().mean())


def strengths(pairs: Tensor, prob: Tensor, groups: Tensor, folds: int, seed: int) -> Strength:
    """Of an ensemble that judges what it saw (one fold), or what it did not see (several)."""
    labels = Recipe().treat(prob, None)
    found = torch.zeros(MODELS, len(pairs), dtype=torch.float64)
    for model in range(MODELS):
        for fold in range(folds):
            judged = groups % folds == fold
            seen = judged if folds == 1 else ~judged
            kept = replace(
                labels, **{name: getattr(labels, name)[seen] for name in labels.__dataclass_fields__}
            )
            found[model, judged] = logits(
                train(pairs[seen], kept, 1000 * seed + model), pairs[judged]
            ).double()
    return preference_strength(found)


# --- the benchmark


def one_seed(
    found: dict[str, Any], seed: int
) -> tuple[dict[tuple[str, float], float], dict[tuple[str, float], float]]:
    """(remedy, noise) -> held-out accuracy; (figure, noise) -> what the strengths know of flips."""
    pairs, names = torch.from_numpy(found["pairs"]), np.unique(found["prompts"], return_inverse=True)[1]
    sampled = None if found["sampled"] is None else torch.from_numpy(found["sampled"])
    draw = np.random.default_rng(seed)
    place = torch.from_numpy(draw.permutation(names.max() + 1)[names])
    held = place < (names.max() + 1) // 5
    train_pairs, test_pairs, groups = pairs[~held], pairs[held], place[~held]
    luck = torch.from_numpy(draw.random(len(train_pairs)))
    right: dict[tuple[str, float], float] = {}
    known: dict[tuple[str, float], float] = {}
    for noise in NOISES:
        flipped = luck < noise
        prob = 1 - flipped.double()
        of = {
            held_out: strengths(train_pairs, prob, groups, FOLDS if held_out else 1, seed)
            for held_out in (False, True)
        }
        for held_out, strength in of.items():
            said = "held out" if held_out else "seen"
            turned = Recipe(flip=0.2).treat(prob, strength).flipped
            known[f"label denied, {said}", noise] = float(
                ((2 * prob - 1) * strength.mean < 0).double().mean()
            )
            known[f"flips among the lowest fifth, {said}", noise] = float(flipped[turned].double().mean())
        for remedy in REMEDIES:
            if remedy.extra == "meta" and sampled is None:
                continue
            treated = remedy.recipe.treat(prob, of[remedy.held_out])
            extra = "" if remedy.extra == "meta" else remedy.extra
            head = train(train_pairs, treated, seed, extra, sampled if remedy.extra == "meta" else None)
            right[remedy.name, noise] = accuracy(head, test_pairs)
    return right, known


def said(values: np.ndarray, signed: bool = False) -> str:
    mean, low, high = (float(x[0]) for x in interval(values[:, None]))
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" if signed else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def report(given: argparse.Namespace, found: dict[str, Any], runs: list[Any], took: float) -> str:
    right = {key: np.array([run[0][key] for run in runs]) for key in runs[0][0]}
    known = {key: np.array([run[1][key] for run in runs]) for key in runs[0][1]}
    about = {
        "machine": machine(),
        "versions": versions("transformers"),
        "command": command("noisy_labels.py"),
    }
    body = f"the first {given.layers} layers of " if given.layers else ""
    lines = [
        told(about),
        f"{len(found['pairs'])} pairs, {len(set(found['prompts'].tolist()))} first questions; states of {body}"
        f"`{Path(given.model).name}`, of at most {given.tokens} tokens; {SEEDS} seeds; "
        f"{took:.0f} s with the states stored.",
        "",
        "Held-out accuracy, mean over seeds with its 95 % interval:",
        "",
    ]
    names = [r.name for r in REMEDIES if (r.name, 0.0) in right]
    heads = [f"{noise:.0%} flipped" for noise in NOISES]
    lines += table(("remedy", *heads), [(name, *(said(right[name, n]) for n in NOISES)) for name in names])
    lines += ["Less plain training on the same labels:", ""]
    rows = []
    for name in names[1:]:
        gaps = [right[name, n] - right["plain", n] for n in NOISES]
        rows.append((name, *(said(gap, signed=True) + _verdict(gap) for gap in gaps)))
    lines += table(("remedy", *heads), rows)
    lines += ["What the ensemble's strengths know, share of labels:", ""]
    figures = dict.fromkeys(name for name, _ in known)
    lines += table(
        ("figure", *heads), [(name, *(f"{known[name, n].mean():.3f}" for n in NOISES)) for name in figures]
    )
    return "\n".join(lines)


def _verdict(gap: np.ndarray) -> str:
    _, low, high = interval(gap[:, None])
    return " **helps**" if low[0] > 0 else " **harms**" if high[0] < 0 else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("pairs")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--write", action="store_true", help="into noisy_labels.md, under the model's name")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = features(given)
    begin = time.time()
    text = report(given, found, [one_seed(found, seed) for seed in range(SEEDS)], time.time() - begin)
    print(text)
    if given.write:
        write_section(text, Path(given.model).name, HERE / "noisy_labels.md")


if __name__ == "__main__":
    main()
