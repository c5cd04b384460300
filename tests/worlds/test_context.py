"""Statistics of the whole step: a step is one step, however it is cut up, also where its losses speak of each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from equipoise.core.objectives import Aot, ApoZeroUnpaired, Bco, Kto
from equipoise.methods.index import get
from equipoise.play.round import play
from equipoise.play.rows import Rows
from equipoise.policy import checkpoint
from equipoise.policy.scoring.anchor_store import AnchorStore, score
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text import fit as fitting
from equipoise.worlds.text.fit import Fit, PolicyScoring, Training
from equipoise.worlds.text.training import Trainer
from equipoise.worlds.text.world import TextWorld

BETA = 0.5


def thumbs(pairs: Rows, *, unrelated: bool) -> Rows:
    """The first responses with labels, some soft, and the second ones as unrelated responses beside them."""
    label = np.array([1, 0, 0.3, 1, 0, 1, 0.9, 0])
    columns = pairs.columns([np.zeros(8, int), *([np.ones(8, int)] if unrelated else [])])
    reward = np.zeros(columns.responses.shape)
    reward[:, 0] = label
    return Rows(**(vars(columns) | {"reward": reward}))


def shifted(policy, rows: Rows) -> dict[str, torch.Tensor]:
    """Anchors some way from the policy, differently for each response."""
    own = score(policy, [(p.ids, list(g)) for p, g in zip(rows.prompts, rows.responses, strict=True)], 4)[0]
    away = torch.randn(own.shape, generator=torch.Generator().manual_seed(4), dtype=own.dtype)
    return {"reference": own - 1 + 2 * away}


def fit_of(policy, rows, objective, anchors, **training) -> Fit:
    settings = {"lr": 1e-4, "batch": 8, "micro_batch": 8, "schedule": "constant", "warmup": 0.0} | training
    return Fit(
        PolicyScoring(policy, objective),
        rows,
        anchors,
        Training(**settings),
        Accelerator(cpu=True),
        permutation=lambda epoch: np.random.default_rng(epoch).permutation(len(rows)),
    )


CASES = {
    "kto": (Kto(beta=BETA, desirable=1.2), True),
    "bco": (Bco(beta=BETA), False),
    "bco, pooled": (Bco(beta=BETA, shift="pooled"), False),
    "bco, balanced": (Bco(beta=BETA, shift="balanced"), False),
    "aot": (Aot(beta=BETA), None),
}


def rows_for(pairs: Rows, unrelated: bool | None) -> Rows:
    if unrelated is None:
        return Rows(**(vars(pairs) | {"prob": np.maximum(pairs.prob, 0.7)}))
    return thumbs(pairs, unrelated=unrelated)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_one_times_eight_is_eight_times_one(policy, pairs, name):
    """Three steps with 8, 3 (uneven) and 1 comparisons at a time: equal to float64's rounding."""
    policy.model.double()
    objective, unrelated = CASES[name]
    rows = rows_for(pairs, unrelated)
    anchors = shifted(policy, rows)
    start = {n: p.detach().clone() for n, p in policy.parameters()}
    results = []
    for micro in (8, 3, 1):
        fit = fit_of(policy, rows, objective, anchors, micro_batch=micro)
        figures = [fit.step() for _ in range(3)]
        results.append((figures, {n: p.detach().clone() for n, p in policy.parameters()}))
        with torch.no_grad():
            for n, p in policy.parameters():
                p.copy_(start[n])
    figures, whole = results[0]
    for others, again in results[1:]:
        assert max(float((whole[n] - again[n]).abs().max()) for n in whole) < 1e-9
        for a, b in zip(figures, others, strict=True):
            assert a == pytest.approx(b, rel=1e-7, abs=1e-9)
    assert max(float((whole[n] - start[n]).abs().max()) for n in start) > 1e-4


def gradients(policy, fit: Fit, logged: dict[str, float] | None = None) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}
    fit.optimizer.step = lambda: seen.update({n: p.grad.clone() for n, p in policy.parameters()})
    figures = fit.step()
    if logged is not None:
        logged.update(figures)
    return seen


def test_ktos_gradient_is_that_of_the_formula_written_out(policy, pairs):
    policy.model.double()
    rows = thumbs(pairs, unrelated=True)
    anchors = shifted(policy, rows)
    seen = gradients(policy, fit_of(policy, rows, Kto(beta=BETA), anchors, micro_batch=3, clip=1e9))
    batch = fit_of(policy, rows, Kto(beta=BETA), anchors)
    ratio = batch.scores(np.arange(8), [0, 1]).log_ratio("reference")
    w, label = torch.from_numpy(rows.weight), torch.from_numpy(rows.reward[:, 0])
    z0 = ((w * ratio[:, 1]).sum() / w.sum()).clamp(min=0).detach()
    assert z0 > 0.1
    up, down = 1 - torch.sigmoid(BETA * (ratio[:, 0] - z0)), 1 - torch.sigmoid(BETA * (z0 - ratio[:, 0]))
    loss = (w * (label * up + (1 - label) * down)).sum() / w.sum()
    by_hand = torch.autograd.grad(loss, [q for _, q in policy.parameters()])
    for (name, _), g in zip(policy.parameters(), by_hand, strict=True):
        assert torch.allclose(seen[name], g, rtol=1e-6, atol=1e-9), name


@pytest.mark.parametrize("sign", [1, -1])
def test_the_reference_point_is_logged_as_the_whole_steps_mean_or_0(policy, pairs, sign):
    """Unrelated responses whose log-ratios are set: z0 is their mean over all eight, or nothing and KTO is APO-zero."""
    policy.model.double()
    rows = thumbs(pairs, unrelated=True)
    anchors = shifted(policy, rows)
    drifts = sign * torch.tensor([4.0, -1.0, 0.0, 2.0, 3.0, -0.5, 1.0, 8.0], dtype=torch.float64)
    own = fit_of(policy, rows, Kto(), anchors).scores(np.arange(8), [1]).logp.detach()[:, 0]
    anchors["reference"][:, 1] = own - drifts
    assert rows.weight.tolist() == [1, 2, 0.5, 1, 1, 3, 1, 0.25]
    mean = sign * (4 - 2 + 0 + 2 + 3 - 1.5 + 1 + 2) / 9.75
    fit = fit_of(policy, rows, Kto(beta=BETA), anchors, micro_batch=3, clip=1e9)
    logged: dict[str, float] = {}
    kto = gradients(policy, fit, logged)
    assert logged["baseline"] == pytest.approx(max(mean, 0), rel=1e-6)
    alone, first = thumbs(pairs, unrelated=False), {"reference": anchors["reference"][:, :1]}
    apo = gradients(policy, fit_of(policy, alone, ApoZeroUnpaired(beta=BETA), first, micro_batch=3, clip=1e9))
    same = all(torch.allclose(kto[n], apo[n], rtol=1e-9, atol=1e-12) for n in kto)
    assert same == (sign < 0)


def test_aots_gradient_is_that_of_the_formula_written_out(policy, pairs):
    policy.model.double()
    rows = Rows(**(vars(pairs) | {"prob": np.ones(8), "weight": np.ones(8)}))
    anchors = shifted(policy, rows)
    seen = gradients(policy, fit_of(policy, rows, Aot(beta=BETA), anchors, micro_batch=2, clip=1e9))
    scores = fit_of(policy, rows, Aot(beta=BETA), anchors).scores(np.arange(8))
    m = BETA * (scores.gap().sort().values - scores.gap("reference").sort().values)
    by_hand = torch.autograd.grad(-torch.sigmoid(m).log().mean(), [q for _, q in policy.parameters()])
    for (name, _), g in zip(policy.parameters(), by_hand, strict=True):
        assert torch.allclose(seen[name], g, rtol=1e-6, atol=1e-9), name


def test_only_what_is_read_is_scored_and_only_what_is_descended_has_a_gradient(policy, pairs, monkeypatch):
    asked = []
    real = fitting.Fit.scores

    def scores(self, chosen, columns=None, context=None):
        found = real(self, chosen, columns, context)
        asked.append((found.logp.shape, found.logp.requires_grad))
        return found

    monkeypatch.setattr(fitting.Fit, "scores", scores)
    rows = thumbs(pairs, unrelated=True)
    fit_of(policy, rows, Kto(), shifted(policy, rows), micro_batch=4).step()
    assert asked == [((4, 1), False)] * 2 + [((4, 1), True)] * 2
    asked.clear()
    rows = thumbs(pairs, unrelated=False)
    fit_of(policy, rows, Bco(shift="none"), shifted(policy, rows), micro_batch=4).step()
    assert asked == [((4, 1), True)] * 2  # no context, no pass for it


def test_figures_of_both_kinds_are_means_over_their_own(policy, pairs):
    rows = thumbs(pairs, unrelated=False)
    anchors = shifted(policy, rows)
    figures = fit_of(policy, rows, Bco(), anchors, micro_batch=3, lr=0.0).step()
    with torch.no_grad():
        drift = fit_of(policy, rows, Bco(), anchors).scores(np.arange(8)).log_ratio("reference")[:, 0].numpy()
    label, weight = rows.reward[:, 0], rows.weight
    assert figures["desirable"] == pytest.approx((weight * label).sum() / weight.sum())
    for name, share in (("chosen_log_ratio", label), ("rejected_log_ratio", 1 - label)):
        assert figures[name] == pytest.approx(np.average(drift, weights=weight * share), rel=1e-5)
    only = Rows(**(vars(rows) | {"reward": np.ones((8, 1))}))
    assert "rejected_log_ratio" not in fit_of(policy, only, Bco(), anchors).step()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kto", "bco", "aot", "aot_unpaired"])
def test_interrupted_in_mid_run_and_taken_up_it_is_the_same_to_the_bit(
    make_world, policy, tmp_path, monkeypatch, name
):
    """Stopped after step 3 with the position of step 2 saved: what comes next is measured over whole steps again."""
    method = get(name)

    def world(run: str) -> TextWorld:
        return make_world(
            journal=Journal(tmp_path / run),
            store=AnchorStore(tmp_path / run / "anchors"),
            training=Training(lr=1e-3, batch=4, micro_batch=3, epochs=2, save_every=2),
        )

    def played(run: str) -> None:
        here = world(run)
        play(method, here, here.begin(method.update.memory))

    real = Trainer._record

    def record(self, round, step, name, figures):
        if step == 4:
            raise KeyboardInterrupt
        real(self, round, step, name, figures)

    initial = tmp_path / "initial"
    checkpoint.save(policy, initial)
    played("whole")
    checkpoint.load_into(policy, initial)
    monkeypatch.setattr(Trainer, "_record", record)
    with pytest.raises(KeyboardInterrupt):
        played("cut")
    assert checkpoint.progress_of(Journal(tmp_path / "cut").progress)["step"] == 2
    monkeypatch.setattr(Trainer, "_record", real)
    checkpoint.load_into(policy, initial)
    played("cut")
    whole, cut = (Journal(tmp_path / run) for run in ("whole", "cut"))
    assert list(whole.lines("metrics.jsonl")) == list(cut.lines("metrics.jsonl"))
    assert len(list(whole.lines("metrics.jsonl"))) >= 4
    one, two = ((j.checkpoint(1) / "model.safetensors").read_bytes() for j in (whole, cut))
    assert one == two != (initial / "model.safetensors").read_bytes()
