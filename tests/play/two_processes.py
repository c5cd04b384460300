"""Three steps in float64 on seven comparisons (an uneven share), by however many processes run this.

    python two_processes.py FILE [OBJECTIVE]

OBJECTIVE is "dpo" unless it is given; "kto" reads labels of the first responses and a mean over the second ones.
"""

import os
import sys
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator

from equipoise.core.objectives import Aot, Dpo, Kto
from equipoise.data.collate import Prompt, Response
from equipoise.data.render import load_tokenizer
from equipoise.play.fit import Fit, Training
from equipoise.play.rows import Rows
from equipoise.play.state import objects
from equipoise.playground import model_path
from equipoise.policy.causal import CausalPolicy

accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == int(os.environ.get("WORLD_SIZE", "1"))
draw = np.random.default_rng(0)
policy = CausalPolicy.load(model_path(), load_tokenizer(str(model_path())), device="cpu")
policy.model.double()
start = {name: p.detach().clone() for name, p in policy.parameters()}


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
name = sys.argv[2] if len(sys.argv) > 2 else "dpo"
if name == "kto":
    rows = replace(rows, prob=None, reward=draw.random((7, 2)))
objective = {"dpo": Dpo(beta=0.1), "aot": Aot(beta=0.1), "kto": Kto(beta=0.1)}[name]
anchors = {"reference": torch.from_numpy(-10 * draw.random((7, 2)))}
training = Training(batch=7, micro_batch=2, lr=1e-4, epochs=3)
fit = Fit(policy, rows, anchors, objective, training, accelerator, lambda epoch: np.arange(7))
figures = [value for _ in range(3) for value in fit.step().values()]
if accelerator.is_main_process:
    weights = {name: p.detach() for name, p in policy.parameters()}
    torch.save({"figures": figures, "weights": weights, "start": start}, sys.argv[1])
accelerator.end_training()
