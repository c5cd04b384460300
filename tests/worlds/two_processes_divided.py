"""Three steps on seven comparisons, of weights that are divided among however many processes run this.

    python two_processes_divided.py FILE CASE...

A CASE is "dpo", "kto" (a batch statistic), "critic" (values, with a head), in float64 but for the head, or "lora"
(adapters on a bfloat16 base), and
"-few": three, three and one comparison at a time, so that the last step is smaller than two processes are many;
"-uneven": the second process has more micro-batches than the first;
"-recomputed": activation checkpointing;
"-watched": after every step log-probs are read without a gradient and the policy is saved, in the middle of the fit;
"-again": after two steps the fit is saved, begun anew with other weights in memory, and resumed;
"-from": it is resumed from what "-again" saved with the other number of processes.
One process divides nothing.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from equipoise.core.objectives import Dpo, Kto
from equipoise.core.value_loss import ClippedValue
from equipoise.data.collate import Prompt, Response
from equipoise.data.rendering.render import load_tokenizer
from equipoise.play.rows import Rows, objects
from equipoise.playground import model_path
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.critic import ValueHead, value_head, values_of
from equipoise.worlds.text.fit import Fit, PolicyScoring, Training

out = Path(sys.argv[1])
base = out.with_name("base")
accelerator = Accelerator(cpu=True)
ranks, first = accelerator.num_processes, accelerator.is_main_process
OBJECTIVES = {"dpo": Dpo(beta=0.1), "kto": Kto(beta=0.1), "critic": ClippedValue(), "lora": Dpo(beta=0.1)}


def drawn(name: str) -> tuple[Rows, dict[str, torch.Tensor]]:
    draw, wide = np.random.default_rng(0), 1 if name == "critic" else 2

    def response(length: int) -> Response:
        return Response((*(int(i) for i in draw.integers(3, 31, length)), 2), "")

    rows = Rows(
        prompts=objects([Prompt((1, *response(4).ids[:-1]), "", "") for _ in range(7)]),
        responses=objects([[response(2 + i), response(5)][:wide] for i in range(7)], width=wide),
        weight=draw.random(7) + 0.5,
        writers=("recorded",) * wide,
        prob=None if name in ("kto", "critic") else draw.random(7),
        reward={"kto": draw.random((7, 2)), "critic": draw.random((7, 1, 9))}.get(name),
    )
    anchors = torch.from_numpy(-10 * draw.random((7, 2)))
    if name == "critic":
        anchors = torch.from_numpy(draw.random((7, 1, 9)))
        for row, (group,) in enumerate(rows.responses):
            anchors[row, :, len(group.ids) :] = 0
    return rows, dict.fromkeys(OBJECTIVES[name].anchors, anchors)


def loaded(name: str) -> CausalPolicy:
    lora = name == "lora"
    policy = CausalPolicy.load(
        base if lora else model_path(),
        load_tokenizer(str(model_path())),
        device="cpu",
        lora_rank=4 if lora else 0,
    )
    assert not lora or {p.dtype for p in policy.model.parameters()} == {torch.bfloat16, torch.float32}
    return policy if lora else _double(policy)


def _double(policy: CausalPolicy) -> CausalPolicy:
    policy.model.double()
    return policy


def begun(policy: CausalPolicy, name: str, how: list[str]) -> Fit:
    policy.network = None
    if name == "critic":
        policy.network = value_head(policy, base)
        with torch.no_grad():  # at 0 it would pass no gradient on
            policy.network.linear.weight.copy_(torch.linspace(-1, 1, policy.network.linear.in_features))
    policy.recompute("recomputed" in how)
    if ranks > 1:
        policy.divide(ranks)
    values = partial(values_of, policy, policy.network) if isinstance(policy.network, ValueHead) else None
    rows, anchors = drawn(name)
    micro = 1 if "uneven" in how and accelerator.process_index else 2
    return Fit(
        PolicyScoring(policy, OBJECTIVES[name], values),
        rows,
        anchors,
        Training(batch=3 if "few" in how else 7, micro_batch=micro, lr=1e-4, epochs=4, eps=1e-4),
        accelerator,
        lambda epoch: np.arange(7),
    )


def steps(case: str) -> dict[str, Any]:
    name, *how = case.split("-")
    policy = loaded(name)
    start = {n: p.detach().clone() for n, p in policy.parameters()}
    saved = {word: out.with_name(f"{name}-{count}.position") for word, count in _files().items()}
    figures, fit = [], begun(policy, name, how)
    while fit.position < 3:
        if "from" in how and not figures:
            assert saved["from"].exists()
            fit.position = checkpoint.load_progress(saved["from"], policy, fit.optimizer)["position"]
        figures += fit.step().values()
        if "watched" in how:
            with torch.no_grad():
                fit.scores(np.arange(7))
            with policy.joined():
                if first:
                    checkpoint.save(policy, out.with_name(f"{case}-{ranks}-{fit.position}"))
                accelerator.wait_for_everyone()
        if "again" in how and fit.position == 2:
            with torch.no_grad():  # which leaves embeddings and head gathered
                fit.scores(np.arange(7))
            path = saved["again"] if first else None
            checkpoint.save_progress(path, policy, fit.optimizer, {"position": fit.position})
            accelerator.wait_for_everyone()
            policy.join()
            with torch.no_grad():
                for parameter in policy.model.parameters():
                    parameter.add_(1)
            frozen = loaded(name)  # of an adapter's base nothing is saved
            for p, q in zip(policy.model.parameters(), frozen.model.parameters(), strict=True):
                p.data = p.data if p.requires_grad else q.data
            fit = begun(policy, name, how)
            fit.position = checkpoint.load_progress(saved["again"], policy, fit.optimizer)["position"]
    moments = fit.optimizer
    policy.join()
    if first:
        checkpoint.save(policy, out.with_name(f"{case}-{ranks}"), moments)
    else:
        checkpoint.give_moments(policy, moments)
    accelerator.wait_for_everyone()
    return {"figures": figures, "weights": {n: p.detach() for n, p in policy.trained()}, "start": start}


def _files() -> dict[str, int]:
    return {"again": ranks, "from": 3 - ranks}


if first and not base.exists():
    given = CausalPolicy.load(model_path(), load_tokenizer(str(model_path())), device="cpu")
    given.model.to(torch.bfloat16).save_pretrained(base)
accelerator.wait_for_everyone()
found = {case: steps(case) for case in sys.argv[2:]}
if first:
    torch.save(found, out)
accelerator.end_training()
