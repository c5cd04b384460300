"""Reward models whose whole body is trained on noisy labels: held-out accuracy under flips, plain and with remedies.

    python benchmarks/reward_bodies.py develop [--data data]     settings, on pairs that no test has
    python benchmarks/reward_bodies.py train [--minutes 30]                further trainings, until the time is over
    python benchmarks/reward_bodies.py table [--write]                     of what was trained so far

The model of 260,000 parameters on hh_rlhf_harmless, of each dialogue the last question and its answers, pairs whose two
texts have at most 128 tokens. `noisy_labels.py` has many more pairs and remedies, for heads on states of a fixed body.

Set before the first training but for rate and batch, which `develop` chooses by held-out accuracy: one pass over pairs
of 129 to 192 tokens, none of which is in a test, one seed, a quarter of them held out. One pass everywhere, which is
what the time allows. Seed k of five holds out the k-th fifth of the prompts, and has flips and weights of its own;
labels of the test are as recorded. An ensemble has M = 4 models. A remedy helps, or harms, at a noise if the
95 % t-interval over seeds of its accuracy less that of plain training on the same labels lies above, or below, 0.
Trainings go on stage by stage, the cheapest remedies first, all seeds of a stage in turn.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import HERE, machine, said, table, versions, write_section

from equipoise.core.calibration import ranked_right
from equipoise.core.intervals import clustered_mean, clustered_share
from equipoise.data.reading.read import read
from equipoise.reward_models.ensemble import Ensemble
from equipoise.reward_models.fit import Fitting, Remedies, fit
from equipoise.reward_models.head import Head
from equipoise.reward_models.noise import Recipe, Strength
from equipoise.reward_models.pairs import LabelledPair, labelled
from equipoise.reward_models.read import pair_logits
from equipoise.reward_models.remedies import Contrast, ContrastiveLoss, MetaStep, remedies_of
from equipoise.reward_models.start import Beginning, begin

SEEDS, NOISES = 5, (0.0, 0.2, 0.3)
SHORT, LONG = 128, 192
ENSEMBLE = Ensemble(models=4)
RECIPES = {
    "plain": Recipe(),
    "label smoothing": Recipe(smooth=0.1),
    "flip": Recipe(flip=0.2),
    "margin": Recipe(margin=True),
    "flip + margin": Recipe(flip=0.2, margin=True),
    "soft label + margin": Recipe(smooth=0.1, smooth_on="negative", margin=True),
}
CONTRASTS = {"SimCSE on differences": Contrast(term="simcse"), "SwAV on differences": Contrast(term="swav")}
STAGES = (
    ("plain",),
    ("label smoothing", *CONTRASTS),
    ("MetaRM",),
    ("flip", "margin", "flip + margin", "soft label + margin"),
)
SETTINGS = HERE / "results" / "reward_bodies_settings.json"
TRAINED = HERE / "results" / "reward_bodies.jsonl"


def pairs_of(data: Path, above: int, most: int) -> list[LabelledPair]:
    """Pairs of the dialogues' last turns, the longer text of which has above < tokens <= most."""
    with gzip.open(data / "hh_rlhf_harmless" / "pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    with tempfile.TemporaryDirectory() as folder:
        last = Path(folder) / "last.jsonl"
        last.write_text("".join(json.dumps(row | {"prompt": row["prompt"][-1:]}) + "\n" for row in rows))
        found = labelled(read(last), started(data, 0, most).texts, Head())
    return [pair for pair in found if max(map(len, pair.tokens)) > above]


def started(data: Path, seed: int, most: int = SHORT) -> Beginning:
    return begin(data / "lm_stories260k", Head(), seed=seed, max_length=most)


def fold_of(pairs: Sequence[LabelledPair], folds: int) -> np.ndarray:
    """The fold of each pair; those of one prompt are in one fold."""
    names = np.unique([pair.group for pair in pairs], return_inverse=True)[1]
    return (np.random.default_rng(0).permutation(names.max() + 1) % folds)[names]


# --- settings


def develop(data: Path) -> None:
    pairs = pairs_of(data, SHORT, LONG)
    fold = fold_of(pairs, 4)
    train = [pair for pair, own in zip(pairs, fold, strict=True) if own]
    held = [pair for pair, own in zip(pairs, fold, strict=True) if not own]
    tried: list[dict[str, Any]] = []
    for rate in (1e-3, 3e-3):
        for batch in (16, 8):
            start, fitting = started(data, 0, LONG), fitting_of(rate, batch)
            lines: list[dict[str, Any]] = []
            fit(start.model, train, fitting=fitting, seed=0, report=lines.append)
            share = clustered_share(*right_of(pair_logits(start.model, held, fitting.tokens), held))
            tried.append(
                {
                    "rate": rate,
                    "batch": batch,
                    "training_loss": float(np.mean([line["loss"] for line in lines[len(lines) // 2 :]])),
                    "accuracy": dict(share),
                }
            )
            print(json.dumps(tried[-1]), flush=True)
    sizes = [len(train), len(held)]
    SETTINGS.write_text(json.dumps({"pairs": sizes, "tried": tried}, indent=1) + "\n")


def fitting_of(rate: float, batch: int) -> Fitting:
    return Fitting(lr=rate, epochs=1, batch=batch, tokens=2048)


def chosen() -> Fitting:
    """Of the highest accuracy that development saw; of equal ones the first."""
    tried = json.loads(SETTINGS.read_text())["tried"]
    best = max(tried, key=lambda row: row["accuracy"]["value"])
    return fitting_of(best["rate"], best["batch"])


def right_of(logits: torch.Tensor, pairs: Sequence[LabelledPair]) -> tuple[np.ndarray, list[str]]:
    prob = np.array([pair.prob[0] for pair in pairs])
    return ranked_right(logits[:, 0].numpy(), prob), [pair.group for pair in pairs]


# --- trainings


class Bench:
    """The trainings of one seed and noise, which share labels and, where a recipe reads it, an ensemble."""

    def __init__(self, data: Path, pairs: Sequence[LabelledPair], seed: int, noise: float) -> None:
        self.data, self.seed, self.fitting = data, seed, chosen()
        fold = fold_of(pairs, SEEDS)
        luck = np.random.default_rng([seed, 1]).random(len(pairs))
        self.train = [
            pair.flipped() if luck[i] < noise else pair for i, pair in enumerate(pairs) if fold[i] != seed
        ]
        self.held = [pair for i, pair in enumerate(pairs) if fold[i] == seed]
        self.strengths: Strength | None = None

    def row(self, remedy: str) -> dict[str, Any]:
        start = started(self.data, self.seed)
        fit(
            start.model,
            self.train,
            fitting=self.fitting,
            seed=self.seed,
            remedies=self.remedies(remedy, start),
        )
        logits = pair_logits(start.model, self.held, self.fitting.tokens)
        right, groups = right_of(logits, self.held)
        return {"train": len(self.train), "right": right.tolist(), "groups": groups}

    def remedies(self, remedy: str, start: Beginning) -> Remedies:
        recipe = RECIPES.get(remedy, Recipe())
        width = start.model.body.config.hidden_size
        contrast = ContrastiveLoss(CONTRASTS[remedy], width, self.seed) if remedy in CONTRASTS else None
        meta = (
            MetaStep(self.sampled(start), rate=0.1, prompts=4, seed=self.seed) if remedy == "MetaRM" else None
        )
        if recipe.reads_strength and self.strengths is None:
            self.strengths = ENSEMBLE.strength(
                lambda seed: started(self.data, seed).model,
                self.train,
                fitting=self.fitting,
                seed=1000 * (self.seed + 1),
            )
        strength = self.strengths if recipe.reads_strength else None
        return remedies_of(self.train, recipe, strength, contrast=contrast, meta=meta)

    def sampled(self, start: Beginning) -> list[list[tuple[int, ...]]]:
        """Two responses of the story model itself to each of 48 training prompts, of at most 32 tokens."""
        from transformers import AutoModelForCausalLM

        writer: Any = AutoModelForCausalLM.from_pretrained(self.data / "lm_stories260k", dtype=torch.float32)
        prompts = dict.fromkeys(tuple(start.texts.prompt(pair.prompt)) for pair in self.train)
        found = []
        torch.manual_seed(self.seed)
        for prompt in list(prompts)[:48]:
            written = writer.generate(
                torch.tensor([prompt]),
                do_sample=True,
                max_new_tokens=32,
                num_return_sequences=2,
                pad_token_id=0,
            )
            found.append([tuple(row) for row in written.tolist()])
        return [own for own in found if len(set(own)) == 2]


def stored() -> list[dict[str, Any]]:
    return [json.loads(line) for line in TRAINED.read_text().splitlines()] if TRAINED.exists() else []


def wanted(done: set[tuple[str, float, int]], stages: int) -> Iterator[tuple[int, float, list[str]]]:
    for stage in STAGES[:stages]:
        for seed in range(SEEDS):
            for noise in NOISES:
                missing = [remedy for remedy in stage if (remedy, noise, seed) not in done]
                if missing:
                    yield seed, noise, missing


def train(data: Path, minutes: float, stages: int) -> None:
    end = time.time() + 60 * minutes
    pairs = pairs_of(data, 0, SHORT)
    done = {(row["remedy"], row["noise"], row["seed"]) for row in stored()}
    for seed, noise, missing in wanted(done, stages):
        bench = Bench(data, pairs, seed, noise)
        for remedy in missing:
            if time.time() > end:
                return
            begun, used = time.time(), time.process_time()
            found = {"remedy": remedy, "noise": noise, "seed": seed, **bench.row(remedy)}
            found |= {"seconds": time.time() - begun, "processor_seconds": time.process_time() - used}
            with TRAINED.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(
                remedy, noise, seed, f"{np.mean(found['right']):.3f}", f"{found['seconds']:.0f} s", flush=True
            )


# --- yardsticks


def length_rule(train: Sequence[LabelledPair], held: Sequence[LabelledPair]) -> np.ndarray:
    """Whether the longer or the shorter response wins, whichever did among the training labels."""

    def longer(pairs: Sequence[LabelledPair]) -> np.ndarray:
        return np.array([float(len(pair.first) - len(pair.second)) for pair in pairs])

    side = np.array([np.sign(pair.prob[0] - 0.5) for pair in train])
    return longer(held) * (1 if (np.sign(longer(train)) * side).sum() >= 0 else -1)


def words_rule(train: Sequence[LabelledPair], held: Sequence[LabelledPair]) -> np.ndarray:
    """Logits of a logistic regression on which words stand in a response; the ridge is 1/2 |w|^2 on the summed loss."""

    def words(text: str) -> set[str]:
        return set(re.findall(r"\w+", text.lower()))

    counts: dict[str, int] = {}
    for pair in train:
        for word in words(pair.first) | words(pair.second):
            counts[word] = counts.get(word, 0) + 1
    place = {word: i for i, word in enumerate(sorted(w for w, n in counts.items() if n > 1))}

    def table_of(pairs: Sequence[LabelledPair]) -> torch.Tensor:
        found = torch.zeros(len(pairs), len(place), dtype=torch.float64)
        for row, pair in zip(found, pairs, strict=True):
            for text, sign in ((pair.first, 1), (pair.second, -1)):
                row[[place[word] for word in words(text) if word in place]] += sign
        return found

    seen, side = table_of(train), torch.tensor([2 * pair.prob[0] - 1 for pair in train], dtype=torch.float64)
    weight = torch.zeros(len(place), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.softplus(-side * (seen @ weight)).sum() + 0.5 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(step)
    return (table_of(held) @ weight).detach().numpy()


def yardsticks(data: Path) -> Iterator[dict[str, Any]]:
    pairs = pairs_of(data, 0, SHORT)
    for noise in NOISES:
        for seed in range(SEEDS):
            bench = Bench(data, pairs, seed, noise)
            prob = np.array([pair.prob[0] for pair in bench.held])
            for name, rule in (("length alone", length_rule), ("words, logistic regression", words_rule)):
                right = ranked_right(rule(bench.train, bench.held), prob)
                groups = [pair.group for pair in bench.held]
                yield {
                    "remedy": name,
                    "noise": noise,
                    "seed": seed,
                    "right": right.tolist(),
                    "groups": groups,
                }


# --- tables


def report(data: Path) -> str:
    trained = stored()
    runs = {(row["remedy"], row["noise"], row["seed"]): row for row in [*yardsticks(data), *trained]}
    settings, about = json.loads(SETTINGS.read_text()), machine()
    fitting = chosen()
    mean = np.mean([row["seconds"] for row in trained])
    used = np.mean([row["processor_seconds"] for row in trained])
    lines = [
        f"{about['cpu']}, one thread; {', '.join(f'{n} {v}' for n, v in versions('transformers').items())}. "
        f"`python benchmarks/reward_bodies.py develop`, `train`, `table --write`; {len(trained)} trainings of "
        f"{used:.0f} s of processor time each ({mean:.0f} s on a machine with other programs).",
        "",
        f"Development, {settings['pairs'][0]} pairs and {settings['pairs'][1]} held out, none of them in a test:",
        "",
        *table(
            ("rate", "batch", "training loss, later half", "accuracy, held out"),
            [
                (
                    f"{row['rate']:g}",
                    str(row["batch"]),
                    f"{row['training_loss']:.3f}",
                    said(row["accuracy"]),
                )
                for row in settings["tried"]
            ],
        ),
        f"Chosen: rate {fitting.lr:g}, batches of {fitting.batch}. Held-out accuracy of all prompts, each held "
        "out by one seed, with its 95 % interval clustered by prompt:",
        "",
    ]
    heads = [f"{noise:.0%} flipped" for noise in NOISES]
    names = list(dict.fromkeys(name for name, _, _ in runs))
    lines += table(("", *heads), [(name, *(whole(runs, name, noise) for noise in NOISES)) for name in names])
    lines += ["Less plain training on the same labels, mean over seeds with its 95 % t-interval:", ""]
    rest = [name for name in names if name != "plain"]
    return "\n".join(
        lines + table(("", *heads), [(n, *(apart(runs, n, noise) for noise in NOISES)) for n in rest])
    )


def seeds_of(runs: dict[tuple[str, float, int], Any], name: str, noise: float) -> list[int]:
    return [seed for seed in range(SEEDS) if (name, noise, seed) in runs and ("plain", noise, seed) in runs]


def whole(runs: dict[tuple[str, float, int], Any], name: str, noise: float) -> str:
    own = [runs[name, noise, seed] for seed in seeds_of(runs, name, noise)]
    if not own:
        return "-"
    right = [x for row in own for x in row["right"]]
    found = clustered_share(right, [group for row in own for group in row["groups"]])
    return said(found) + ("" if len(own) == SEEDS else f", {len(own)} seeds")


def apart(runs: dict[tuple[str, float, int], Any], name: str, noise: float) -> str:
    seeds = seeds_of(runs, name, noise)
    if len(seeds) < 2:
        return "-"
    gaps = [np.mean(runs[name, noise, s]["right"]) - np.mean(runs["plain", noise, s]["right"]) for s in seeds]
    found = clustered_mean(gaps, seeds)
    low, high = found["low"], found["high"]
    assert low is not None and high is not None
    verdict = " **better**" if low > 0 else " **worse**" if high < 0 else ""
    return said(found, signed=True) + verdict + ("" if len(seeds) == SEEDS else f", {len(seeds)} seeds")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("develop", "train", "table"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--stages", type=int, default=len(STAGES), help="only so many of the stages")
    parser.add_argument("--write", action="store_true", help="the table into noisy_labels.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part == "develop":
        develop(given.data)
    elif given.part == "train":
        train(given.data, given.minutes, given.stages)
    else:
        text = report(given.data)
        print(text)
        if given.write:
            write_section(text, "reward_bodies.py", HERE / "noisy_labels.md")


if __name__ == "__main__":
    main()
