"""The store of anchor log-probs: asked once, keyed by everything that matters, equal to the live policy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from equipoise.policy import checkpoint
from equipoise.policy.scoring.anchor_store import AnchorStore, score

PAIRS = [
    ((1, 5, 6), [(8, 2), (9, 10, 11, 2)]),
    ((1, 7), [(3, 4, 5, 6, 7, 8, 2), (2,)]),
    ((1, 9, 10), [(20, 2), (21, 22)]),
]


def test_cached_is_live_and_computed_once(tiny, tmp_path):
    policy, calls = tiny(), []
    store = AnchorStore(tmp_path)
    fingerprint = checkpoint.fingerprint(policy)

    def make():
        calls.append(1)
        return score(policy, PAIRS, batch=2)

    first = store.get(fingerprint, PAIRS, make)
    again = AnchorStore(tmp_path).get(fingerprint, PAIRS, make)
    assert len(calls) == 1
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    live, length = score(policy, PAIRS, batch=1)
    assert torch.equal(first[1], length)
    # one row at a time has other matrix shapes: equal to float32's rounding, far below the step-zero bound
    assert float(((live - first[0]).abs() / length).max()) < 1e-5


def test_every_change_changes_the_key(tmp_path):
    store = AnchorStore(tmp_path)
    (prompt, (a, b)), *rest = PAIRS
    variants = [
        PAIRS,
        PAIRS[::-1],
        PAIRS[:2],
        [((1, 5, 7), [a, b]), *rest],
        [(prompt, [b, a]), *rest],
        [(prompt, [a]), *rest],
        [(prompt[:2], [(6, *a), b]), *rest],  # the same tokens, another end of the prompt
        [(prompt, [a + b[:1], b[1:]]), *rest],
    ]
    keys = {store.key("f", variant) for variant in variants}
    assert len(keys) == len(variants)
    assert store.key("g", PAIRS) not in keys
    assert store.key("f", [(tuple(p), list(r)) for p, r in PAIRS]) in keys


def test_order_and_ticks(tiny):
    policy, ticks = tiny("gpt2"), []
    whole = score(policy, PAIRS, batch=3, tick=ticks.append)[0]
    turned = score(policy, PAIRS[::-1], batch=2, tick=ticks.append)[0].flip(0)
    assert ticks == [3, 2, 1]
    torch.testing.assert_close(whole, turned, rtol=1e-5, atol=1e-4)
    assert not whole.requires_grad


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say what is resident")
def test_stored_anchors_are_mapped_from_their_file_and_only_read_rows_take_memory(tmp_path):
    """64 MiB of token log-probs: what a fit reads of a batch is in memory, and the rest is in the file."""

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def make():
        return torch.ones(1024, 4, 4096), torch.ones(1024, 4)

    store, comparisons = AnchorStore(tmp_path), [((1, 2), [(3,), (4,)])]
    store.get("policy", comparisons, make)
    before = resident()
    logp, _ = store.get("policy", comparisons, make)
    assert float(logp[torch.tensor([3, 700])].sum()) == 2 * 4 * 4096
    assert resident() - before < logp.nbytes / 4
