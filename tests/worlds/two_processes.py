"""Three steps in float64 on seven comparisons (an uneven share), by however many processes run this, for each CASE.

    python two_processes.py FILE CASE...

A CASE is "dpo", "aot" or "kto" (which reads labels of the first responses and a mean over the second ones), and
"-few": three, three and one at a time, so that the last step is smaller than two processes are many;
"-short": the second process, if there is one, has room for 24 tokens at a time, and after the three steps for none.
"""

import os
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from equipoise.core.objectives import Aot, Dpo, Kto
from equipoise.data.collate import Prompt, Response
from equipoise.data.pack import Batch
from equipoise.data.rendering.render import load_tokenizer
from equipoise.play.rows import Rows, objects
from equipoise.playground import model_path
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scorer import Scorer
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.text.fit import Fit, PolicyScoring, Training

accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == int(os.environ.get("WORLD_SIZE", "1"))
OBJECTIVES = {"dpo": Dpo(beta=0.1), "aot": Aot(beta=0.1), "kto": Kto(beta=0.1)}
forward = Scorer.forward


def drawn(name: str, draw: np.random.Generator) -> Rows:
    def ids(length: int) -> tuple[int, ...]:
        return tuple(int(i) for i in draw.integers(3, 31, length))

    rows = Rows(
        prompts=objects([Prompt((1, *ids(4)), "", "") for _ in range(7)]),
        responses=objects(
            [[Response((*ids(2 + i), 2), ""), Response((*ids(5), 2), "")] for i in range(7)], width=2
        ),
        weight=draw.random(7) + 0.5,
        writers=("recorded", "recorded"),
        prob=draw.random(7),
    )
    return replace(rows, prob=None, reward=draw.random((7, 2))) if name == "kto" else rows


def within(room: int) -> Any:
    def of(scorer: Scorer, batch: Batch, tokens: bool = False) -> tuple[torch.Tensor, ...]:
        if batch.tokens > room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(scorer, batch, tokens)

    return of


def weights(policy: CausalPolicy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.parameters()}


def steps(case: str) -> dict[str, Any]:
    name, *how = case.split("-")
    policy = CausalPolicy.load(model_path(), load_tokenizer(str(model_path())), device="cpu")
    policy.model.double()
    start, draw, error = weights(policy), np.random.default_rng(0), ""
    rows = drawn(name, draw)
    anchors = {"reference": torch.from_numpy(-10 * draw.random((7, 2)))}
    training = Training(batch=3 if how == ["few"] else 7, micro_batch=2, lr=1e-4, epochs=4)
    scoring = PolicyScoring(policy, OBJECTIVES[name])
    fit = Fit(scoring, rows, anchors, training, accelerator, lambda epoch: np.arange(7))
    if how == ["short"]:
        policy.token_budget = 256
        Scorer.forward = within(24 if accelerator.process_index else 10**6)
    figures = [value for _ in range(3) for value in fit.step().values()]
    found = {"figures": figures, "weights": weights(policy), "start": start}
    found["budgets"] = accelerator.gather(torch.tensor([policy.token_budget])).tolist()
    if how == ["short"]:
        Scorer.forward = within(0 if accelerator.process_index else 10**6)
        try:
            fit.step()
        except TrainingError as raised:
            error = str(raised)
        Scorer.forward = forward
    return found | {"error": error}


found = {case: steps(case) for case in sys.argv[2:]}
if accelerator.is_main_process:
    torch.save(found, sys.argv[1])
accelerator.end_training()
