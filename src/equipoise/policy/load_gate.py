"""Load gate: the policy in memory gives the log-probs that plain transformers and PEFT read from the same folder.

The second way shares nothing with the first but the files: transformers' and PEFT's own loaders, eager attention, one
row at a time, on the CPU. Where memory would not hold a second model, every weight in memory is compared with the files
instead (`policy.weights_check`), and the plain forward runs on the weights in memory.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from equipoise.data.collate import Ids
from equipoise.models.adapters import Chain, chain
from equipoise.models.errors import ModelError, first_line
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.held_weights.frozen_base import Base, read_record
from equipoise.policy.protocol import Measured
from equipoise.policy.weights_check import largest_difference

LIMIT = {"fp32": 1e-3, "bf16": 1.0}  # nats per token
MEMORY_SHARE = 0.7  # of what is available, for a second model


def as_given(policy: CausalPolicy, *, second: bool = True) -> Measured:
    """Compare a policy just loaded with the folder it was loaded from, in fp32 whatever its precision.

    second    whether a second model may be in memory, if there is room.

    Raises ModelError if it was not loaded from a folder.
    """
    if policy.start is None:
        raise ModelError(
            "this policy was not loaded from a folder, so that there is nothing to compare it with"
        )
    return _agreement(
        policy,
        policy.start.chain,
        "load_gate",
        f"the policy that was given ({policy.start.chain.top})",
        merged=bool(policy.start.merged),
        second=second,
    )


def as_saved(policy: CausalPolicy, folder: Path, *, second: bool = True) -> Measured:
    """Compare the policy in memory with a checkpoint of it, as a plain user would read that."""
    what = f"its checkpoint {folder.name}"
    return _agreement(policy, chain(folder), "checkpoint_gate", what, second=second)


def rounding(policy: CausalPolicy) -> Measured:
    """Compare the policy in its own precision with the same weights in fp32: what bf16 products cost."""
    rows = probe_rows(policy)
    with torch.no_grad():
        ours, exact = _ours(policy, rows), _ours(policy, rows, fp32=True)
    return _judged(
        "load_gate", ours, exact, policy.precision, f"in {policy.precision} and in fp32 the policy"
    )


def probe_rows(policy: CausalPolicy) -> list[tuple[Ids, Ids]]:
    """Three (prompt, response) rows of token ids that any model takes, of unequal length."""
    rows = policy.model.get_input_embeddings().weight.shape[0]
    longest = min(policy.max_positions, 24)
    ids = [(7919 * i + 11) % rows for i in range(3 * longest)]
    lengths = [(longest // 2, longest // 2), (longest // 4, longest // 2), (3, 2)]
    return [
        (tuple(ids[at : at + p]), tuple(ids[at + p : at + p + r]))
        for at, (p, r) in zip((0, longest, 2 * longest), lengths, strict=True)
    ]


def plain_model(found: Chain, base: Base | None = None, merged: Base | None = None) -> Any:
    """A folder's policy read by transformers and PEFT alone, in fp32 on the CPU. Raises ModelError.

    base      how the policy holds the weights of the full model, to which they are rounded; None: as its adapter says.
    merged    how it holds what its adapters are merged into.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(found.base.path),
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            attn_implementation="eager",
        )
        base = base or (read_record(found.adapters[-1].path) if found.adapters else None)
        if base is not None:
            base.rounded(model)
        for adapter in found.adapters:
            if hasattr(model, "merge_and_unload"):
                model = model.merge_and_unload()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = PeftModel.from_pretrained(model, str(adapter.path))
        if merged is not None:
            model = model.merge_and_unload()
            merged.rounded(model)
    except Exception as error:  # noqa: BLE001 - foreign loaders may raise anything
        raise ModelError(f"cannot read {found.top} a second time: {first_line(error)}") from None
    return model.eval()


@torch.no_grad()
def _agreement(
    policy: CausalPolicy,
    found: Chain,
    name: str,
    what: str,
    *,
    merged: bool = False,
    second: bool = True,
) -> Measured:
    """merged: the policy stands on what the chain's adapters were merged into."""
    rows = probe_rows(policy)
    try:
        ours = _ours(policy, rows, fp32=True)
    except Exception as error:
        raise ModelError(
            f"{found.top}: the model does not run on a few tokens: {first_line(error)}"
        ) from error
    if second and memory_holds(found.base.size):
        own = None if policy.start is None else policy.start.base
        plain = plain_model(found, None, own) if merged else plain_model(found, own)
        return _judged(name, ours, [_plain(plain, row) for row in rows], "fp32", f"the policy and {what}")
    weight, difference = largest_difference(policy, found)
    if difference > LIMIT["fp32"]:
        return Measured(
            name=name,
            measured=difference,
            limit=LIMIT["fp32"],
            passed=False,
            sentence=f"the weight {weight} differs from {what} by {difference:.1e} of its size",
        )
    again = [_plain(policy.model, row) for row in rows]
    return _judged(
        name, ours, again, "fp32", f"the weights are those of {found.top}; two ways to score with them"
    )


def _judged(
    name: str, ours: Sequence[torch.Tensor], other: Sequence[torch.Tensor], precision: str, what: str
) -> Measured:
    measured = max(float((a - b).abs().max()) for a, b in zip(ours, other, strict=True))
    limit = LIMIT[precision]
    return Measured(
        name=name,
        measured=measured,
        limit=limit,
        passed=measured <= limit,  # not a number: closed
        sentence=f"{what} differ by {measured:.1e} nats in a token's log-prob (limit {limit:g})",
    )


def _ours(policy: CausalPolicy, rows: Sequence[tuple[Ids, Ids]], *, fp32: bool = False) -> list[torch.Tensor]:
    """Token log-probs of each row's response, through the path that training scores with."""
    batch = policy.batch([p for p, _ in rows], [[r] for _, r in rows])
    precision = policy.scorer.precision
    policy.scorer.precision = "fp32" if fp32 else precision
    try:
        logps, mask = policy.token_logprobs(batch)
    finally:
        policy.scorer.precision = precision
    return [logps[i, 0][mask[i, 0]].double().cpu() for i in range(len(rows))]


def _plain(model: Any, row: tuple[Ids, Ids]) -> torch.Tensor:
    """Token log-probs of a row's response by the model's own logits, one row without padding."""
    prompt, response = row
    ids = torch.tensor([[*prompt, *response]], device=next(model.parameters()).device)
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].double()
    return logits.log_softmax(dim=-1).gather(1, ids[0, len(prompt) :, None])[:, 0].cpu()


def memory_holds(parameters: int) -> bool:
    """Whether a second model in fp32 fits into the memory that is available now."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return 4 * parameters <= MEMORY_SHARE * available
