"""Trained oracles in place of the true preference: a Bradley-Terry reward model or a general preference model (GPM).

    python benchmarks/trained_oracles.py runs  [--seeds 5] [--minutes 20]    language models, resumed where they stopped
    python benchmarks/trained_oracles.py exact [--sets 40]                   the same without language models
    python benchmarks/trained_oracles.py table [--write]                     the tables of what is finished

runs    INPO, SPPO, DNO and Nash-MD play the built-in language game against three oracles: `bt` and `gpm`, which
        `equipoise oracle train` trained on the same votes, and the panel of judges itself. The start policy writes both
        answers of a pair, the panel votes once; votes on the same two answers are one row with their share and number.
        The data, the oracles and the run have one seed. What the run calls exact is by the panel, whatever its oracle:
        `exact_win_rate` and `exploitability` (means over the 32 held-out requests, which neither an oracle nor a policy
        saw) come from the panel's table and every answer's probability; only `win_rate` is by the run's oracle.
        Seeds are the outer loop, so that a stop leaves whole seeds.
exact   one request, its 24 answers, n votes on pairs that the reference writes. Both models are fitted by maximum
        likelihood with a ridge, each method plays the fitted game in closed form, and the gaps of its last policy
        and of the equilibrium that it aims at (Nash; for INPO and Nash-MD with their KL weight) are of the true one.

Set before the first run: the claim (a general preference is the better judge) shows for a method if the 95 %
t-interval over seeds of the paired difference exploitability(bt) - exploitability(gpm) after the last round lies
above 0. Oracles' settings were chosen by their log-loss on a seed that is not among those of the runs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import HERE, command, machine, table, told, versions, write_section
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from equipoise.core.intervals import clustered_mean
from equipoise.games import gaps
from equipoise.games.preference import PreferenceGame
from equipoise.games.skew import fit_general_preference
from equipoise.games.tabular import TabularPolicy
from equipoise.methods.index import get
from equipoise.oracles.models.reward import load_oracle
from equipoise.playground import LanguageGame, pairs, reference_policy
from equipoise.playground.train import build_tokenizer
from equipoise.policy.files import write_json, write_text
from equipoise.run.oracle_training.reward_training import resolve, train_oracle
from equipoise.run.session import align
from equipoise.worlds.table.play_game import equilibrium, play_game

RUNS = Path("runs/trained-oracles")
PAGE, RESULTS = HERE / "trained_oracles.md", HERE / "results" / "trained_oracles.json"
METHODS = ("inpo", "sppo", "dno", "nash_md")
ORACLES = ("bt", "gpm", "panel")
PLAYED = [(name, oracle) for name in METHODS for oracle in ("bt", "gpm")] + [
    (name, "panel") for name in METHODS
]
VOTES = 8000
# The body of both oracles: one layer, drawn anew, whose gated MLP finds within 300 steps what fits what; the game's
# own transformer did not in 320.
BODY = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "initializer_range": 0.1}
TRAINED = {
    "data.held_out": 0.05,
    "train.lr": 3e-3,
    "train.batch": 192,
    "train.epochs": 30,
    "train.warmup": 0.1,
}
ROUNDS = 4
SHARED = {
    "play.rounds": ROUNDS,
    "play.samples": 8,
    "train.epochs": 3,
    "evaluate.every": ROUNDS,
    "evaluate.samples": 1,
}
# larger steps than on the playground, since there are fewer of them
OWN: dict[str, dict[str, Any]] = {
    "inpo": {"train.lr": 1e-3, "train.eps": 1e-3},
    "sppo": {"objective.eta": 10.0},
    "dno": {"objective.eta": 0.1},
    "nash_md": {"objective.eta": 10.0, "train.lr": 1e-3},
}

# of the part `exact`
NUMBERS, RIDGE, PLANES, STEPS = (100, 400, 1600, 6400), 1e-3, 3, 400


# --- oracles


def votes(game: LanguageGame, reference: Tensor, count: int, seed: int) -> list[dict[str, Any]]:
    """The panel's votes on answers of the start policy: a row for each two answers, with their number and share."""
    found: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for row in pairs(game, count, seed=seed, reference=reference):
        a, b = sorted((row["chosen"], row["rejected"]))
        found[row["prompt"], a, b][row["chosen"] != a] += 1
    rows = []
    for (prompt, a, b), wins in found.items():
        chosen, rejected = (a, b) if wins[0] >= wins[1] else (b, a)
        share = {"prob": max(wins) / sum(wins), "weight": sum(wins)}
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected, **share})
    return rows


def body(seed: int) -> Path:
    """A decoder of the game's words that was never trained, the same for both oracles of a seed."""
    folder = RUNS / f"seed-{seed}" / "body"
    if not (folder / "config.json").exists():
        torch.manual_seed(seed)
        tokenizer = build_tokenizer()
        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        config = LlamaConfig(
            **BODY, **ids, vocab_size=len(tokenizer), num_attention_heads=4, max_position_embeddings=64
        )
        tokenizer.save_pretrained(folder)
        LlamaForCausalLM(config).float().save_pretrained(folder)
    return folder


def trained(kind: str, seed: int) -> Path:
    """The folder of an oracle, trained if it is not there."""
    folder = RUNS / f"seed-{seed}" / kind
    if not folder.exists():
        data = folder.with_name("votes.jsonl")
        data.parent.mkdir(parents=True, exist_ok=True)
        rows = votes(LanguageGame(), reference_policy(), VOTES, seed)
        write_text(data, "".join(json.dumps(row) + "\n" for row in rows))
        settings = resolve({"seed": seed, "data.path": [str(data)], **TRAINED})
        began = time.process_time()
        train_oracle(kind, str(body(seed)), settings, folder)  # type: ignore[arg-type]
        figures = on_held_out(folder) | {"seconds": time.process_time() - began}
        write_json(folder.with_name(f"{kind}.json"), figures)
        print(f"seed {seed}  {kind}: {figures}", flush=True)
    return folder


def on_held_out(folder: Path) -> dict[str, float]:
    """An oracle beside the panel on the held-out requests, in expectation over pairs of the reference and votes.

    log_loss, accuracy  of a vote; `least_log_loss` and `best_accuracy` are those of the panel's own probabilities
    cycles              share of the requests whose three fitting answers beat each other in the panel's circle
    """
    game, reference = LanguageGame(), reference_policy()
    unseen, answers = game.held_out, len(game.responses)
    grid = [(x, a, b) for x in unseen for a in range(answers) for b in range(answers)]
    asked = load_oracle(folder).compare(
        [game.prompts[x] for x, _, _ in grid],
        [game.responses[a] for _, a, _ in grid],
        [game.responses[b] for _, _, b in grid],
    )
    said, true = asked.view(len(unseen), answers, answers), game.preference[unseen]
    ref = reference[unseen]
    weight = ref[:, :, None] * ref[:, None, :] * (1 - torch.eye(answers))
    weight = weight / weight.sum()

    def loss(prob: Tensor) -> float:
        return float(-(weight * (true * prob.log() + (1 - true) * (1 - prob).log())).sum())

    def right(prob: Tensor) -> float:
        return float((weight * torch.where(prob > 0.5, true, 1 - true)).sum())

    fitting = PreferenceGame(true, ref)
    best = torch.stack([_fitting(table) for table in fitting.preference])
    circle = torch.stack([said[i][own][:, own] > 0.5 for i, own in enumerate(best)])
    wanted = torch.stack([true[i][own][:, own] > 0.5 for i, own in enumerate(best)])
    off = ~torch.eye(3, dtype=torch.bool)
    return {
        "log_loss": loss(said),
        "least_log_loss": loss(true),
        "accuracy": right(said),
        "best_accuracy": right(true),
        "cycles": float(((circle == wanted) | ~off).all(dim=(1, 2)).double().mean()),
    }


def _fitting(preference: Tensor) -> Tensor:
    """The three answers that fit in all but the style: they win most on average."""
    return preference.mean(dim=1).topk(3).indices.sort().values


# --- runs


def settings_of(name: str) -> dict[str, Any]:
    return SHARED | OWN[name]


def runs(seeds: int, minutes: float) -> None:
    """Oracles, then runs, seed by seed, until the time is up."""
    until = time.monotonic() + 60 * minutes
    for seed in range(seeds):
        for name, oracle in PLAYED:
            folder = RUNS / f"seed-{seed}" / f"{name}-{oracle}"
            if (folder / "summary.json").exists():
                continue
            if time.monotonic() > until:
                return
            spec = None if oracle == "panel" else str(trained(oracle, seed))
            began, clock = time.process_time(), time.monotonic()
            align(name, out=folder, seed=seed, oracle=spec, settings=settings_of(name), quiet=True)
            figures = {key: f"{value:.3f}" for key, value in read(folder)[-1].items()}
            spent = f"{time.process_time() - began:.0f} s of a core, {time.monotonic() - clock:.0f} s"
            print(f"seed {seed}  {name:8} {oracle:6} {figures}  {spent}", flush=True)


def read(folder: Path) -> list[dict[str, float]]:
    """First and last evaluation of a run: by the panel, and the win rate by its own oracle."""
    lines = [json.loads(line) for line in (folder / "evaluation.jsonl").read_text().splitlines()]
    exact = ("exploitability", "exploitability_train", "exact_win_rate", "exact_kl", "outside")
    return [
        {key: line[key] for key in exact} | {"by_oracle": line["win_rate"]["value"]}
        for line in (lines[0], lines[-1])
    ]


# --- tables


def paired(name: str, seeds: Sequence[int], key: str) -> Any:
    """Mean over seeds, with its 95 % t-interval, of bt less gpm after the last round."""
    ends = {o: [read(RUNS / f"seed-{s}" / f"{name}-{o}")[-1][key] for s in seeds] for o in ("bt", "gpm")}
    return clustered_mean([b - g for b, g in zip(ends["bt"], ends["gpm"], strict=True)], list(seeds))


def whole_seeds() -> list[int]:
    """Seeds all of whose runs are finished."""
    names = [f"{name}-{oracle}" for name, oracle in PLAYED]
    folders = sorted(RUNS.glob("seed-*"), key=lambda folder: int(folder.name.split("-")[1]))
    return [
        int(folder.name.split("-")[1])
        for folder in folders
        if all((folder / name / "summary.json").exists() for name in names)
    ]


def found() -> dict[str, Any]:
    """All figures of the whole seeds."""
    seeds = whole_seeds()
    ends = {
        f"{name}-{oracle}": [read(RUNS / f"seed-{seed}" / f"{name}-{oracle}") for seed in seeds]
        for name in METHODS
        for oracle in ORACLES
    }
    oracles = {
        kind: [json.loads((RUNS / f"seed-{seed}" / f"{kind}.json").read_text()) for seed in seeds]
        for kind in ("bt", "gpm")
    }
    differences = {
        name: {key: paired(name, seeds, key) for key in ("exploitability", "exact_win_rate")}
        for name in METHODS
    }
    return {"seeds": seeds, "runs": ends, "oracles": oracles, "differences": differences}


def between(interval: Any, form: str = "+.3f") -> str:
    if interval["low"] is None:
        return f"{interval['value']:{form}}"
    return f"{interval['value']:{form}} [{interval['low']:{form}}, {interval['high']:{form}}]"


def shown(figures: dict[str, Any]) -> list[str]:
    """Tables of oracles and runs, as Markdown."""

    def mean(rows: Sequence[dict[str, float]], key: str) -> float:
        return float(np.mean([row[key] for row in rows]))

    keys = ("log_loss", "accuracy", "cycles")
    oracles = figures["oracles"]
    rows = [[kind, *(f"{mean(own, key):.3f}" for key in keys)] for kind, own in oracles.items()]
    first = oracles["bt"]
    rows.append(
        ["panel", f"{mean(first, 'least_log_loss'):.3f}", f"{mean(first, 'best_accuracy'):.3f}", "1.000"]
    )
    lines = table(("oracle", "log-loss", "accuracy", "cycles"), rows)
    rows = []
    for name in METHODS:
        for oracle in ORACLES:
            runs = figures["runs"][f"{name}-{oracle}"]
            last = [run[-1] for run in runs]
            gap = clustered_mean([end["exploitability"] for end in last], figures["seeds"])
            rows.append(
                [
                    f"{name}, {oracle}",
                    f"{mean([run[0] for run in runs], 'exploitability'):.3f}",
                    between(gap, ".3f"),
                    f"{mean(last, 'exact_win_rate'):.1%}",
                    f"{mean(last, 'by_oracle'):.1%}",
                    f"{mean(last, 'exact_kl'):.2f}",
                    f"{mean(last, 'outside'):.1%}",
                ]
            )
    header = ("method, oracle", "first", "exploitability", "win rate", "by its oracle", "KL", "outside")
    lines += table(header, rows)
    rows = []
    for name, own in figures["differences"].items():
        low = own["exploitability"]["low"]
        verdict = "shows" if low is not None and low > 0 else "does not show"
        rows.append([name, between(own["exploitability"]), between(own["exact_win_rate"]), verdict])
    return lines + table(("bt less gpm", "exploitability", "win rate", "the claim"), rows)


# --- the same without language models


def drawn(table_: Tensor, reference: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """[A, A] wins of `count` votes on two different answers of the reference."""
    answers = len(reference)
    weight = reference[:, None] * reference[None, :] * (1 - torch.eye(answers))
    pair = torch.multinomial(weight.flatten(), count, replacement=True, generator=draw)
    a, b = pair // answers, pair % answers
    first = torch.rand(count, generator=draw, dtype=torch.float64) < table_[a, b]
    wins = torch.zeros(answers, answers, dtype=torch.float64)
    return wins.index_put(
        (torch.where(first, a, b), torch.where(first, b, a)), torch.ones(count).double(), True
    )


def fitted_bt(wins: Tensor, ridge: float) -> Tensor:
    """P(y > y') of the scores that maximise the mean log-likelihood of the wins less ridge |r|^2 / 2."""
    share = wins / wins.sum()
    r = torch.zeros(len(wins), dtype=torch.float64)
    for _ in range(100):
        prob = torch.sigmoid(r[:, None] - r[None, :])
        miss = share * (1 - prob)
        slope = miss.sum(1) - miss.sum(0) - ridge * r
        curve = (share + share.T) * prob * (1 - prob)
        step = torch.linalg.solve(torch.diag(curve.sum(1) + ridge) - curve, slope)
        r = r + step
        if float(step.abs().max()) < 1e-12:
            break
    return torch.sigmoid(r[:, None] - r[None, :])


def exact(sets: int) -> dict[str, Any]:
    """Gaps in the true game of one request, by method, oracle and number of votes; mean over data sets."""
    game, request = LanguageGame(), LanguageGame().held_out[0]
    true, reference = game.preference[request], reference_policy()[request].double()
    reference = reference / reference.sum()

    def ends(name: str, preference: Tensor) -> dict[str, list[float]]:
        """Gaps in the true game of the last policy and of the equilibrium in each fitted one, [sets, A, A]."""
        many = len(preference)
        judged = PreferenceGame(preference, reference.expand(many, -1))
        world = PreferenceGame(true.expand(many, -1, -1), reference.expand(many, -1))
        fixed = equilibrium(judged, get(name).exact.get("tau"))
        method = get(name).with_parameters(get(name).exact)
        last = play_game(judged, method, rounds=STEPS, exact=True, target=fixed)["policy"]
        played = TabularPolicy.from_probs(torch.tensor(last, dtype=torch.float64).clamp(min=1e-300))
        return {"equilibrium": gaps.gap0(world, fixed).tolist(), "last": gaps.gap0(world, played).tolist()}

    lines: dict[str, Any] = {}
    for count in NUMBERS:
        draw = torch.Generator().manual_seed(count)
        wins = [drawn(true, reference, count, draw) for _ in range(sets)]
        fits = {
            "bt": torch.stack([fitted_bt(own, RIDGE) for own in wins]),
            "gpm": torch.stack(
                [fit_general_preference(own, PLANES, ridge=RIDGE, tolerance=1e-5).prob() for own in wins]
            ),
        }
        lines[str(count)] = {
            name: compared({o: ends(name, fit) for o, fit in fits.items()}) for name in METHODS
        }
        print(count, lines[str(count)], flush=True)
    truth = {name: {end: gap[0] for end, gap in ends(name, true[None]).items()} for name in METHODS}
    return {"sets": sets, "votes": lines, "panel": truth}


def compared(gaps_of: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Means by end and oracle over data sets, and bt less gpm on the same data."""
    found: dict[str, Any] = {}
    for end in ("equilibrium", "last"):
        bt, gpm = (np.array(gaps_of[oracle][end]) for oracle in ("bt", "gpm"))
        means = {"bt": float(bt.mean()), "gpm": float(gpm.mean())}
        found[end] = means | {"difference": clustered_mean(bt - gpm, list(range(len(bt))))}
    return found


def shown_exact(figures: dict[str, Any]) -> list[str]:
    lines = []
    for end, words in (("equilibrium", "equilibrium it aims at"), ("last", f"policy after {STEPS} rounds")):
        rows = [
            [f"{name}, {count} votes", f"{own['bt']:.3f}", f"{own['gpm']:.3f}", between(own["difference"])]
            for name in METHODS
            for count, by in figures["votes"].items()
            for own in [by[name][end]]
        ]
        rows += [
            [f"{name}, the panel itself", *[f"{gap[end]:.3f}"] * 2, ""]
            for name, gap in figures["panel"].items()
        ]
        lines += table((words, "bt", "gpm", "bt less gpm"), rows)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("runs", "exact", "table"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=25, help="no run is begun after so long")
    parser.add_argument("--sets", type=int, default=40)
    parser.add_argument("--write", action="store_true", help="write the tables into trained_oracles.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    about = {
        "command": command("trained_oracles.py"),
        "machine": machine(),
        "versions": versions("transformers"),
    }
    if options.part == "runs":
        runs(options.seeds, options.minutes)
    if options.part == "exact":
        stored["exact"] = about | exact(options.sets)
    elif whole_seeds():
        settings = {"oracles": TRAINED, "body": BODY, "votes": VOTES}
        stored["runs"] = about | found() | {"settings": settings | {n: settings_of(n) for n in METHODS}}
    write_json(RESULTS, stored)
    for part, show in (("runs", shown), ("exact", shown_exact)):
        if part in stored:
            text = "\n".join([told(stored[part]), "", *show(stored[part])]).rstrip()
            print(text)
            if options.write:
                write_section(text, f"trained_oracles {part}", PAGE)


if __name__ == "__main__":
    main()
