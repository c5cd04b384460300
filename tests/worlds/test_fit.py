"""The fit: one step is one weighted mean, however it is cut up; failures stop loudly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from equipoise.core import reduce
from equipoise.core.objectives import Dpo, Inpo, Ipo, Spac, Wpo
from equipoise.play.rows import Rows
from equipoise.policy.checkpoint import NETWORK
from equipoise.policy.scoring.anchor_store import score
from equipoise.policy.scoring.microbatch import microbatches
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.fit import Fit, PolicyScoring, Training
from equipoise.worlds.text.folder.row_files import load_rows
from several_processes import by_one_and_by_two

HERE = Path(__file__).parent


def anchors_of(policy, rows, names=("reference",)):
    pairs = [(p.ids, [r.ids for r in g]) for p, g in zip(rows.prompts, rows.responses, strict=True)]
    return dict.fromkeys(names, score(policy, pairs, 4)[0])


def fit_of(policy, rows, objective=None, anchors=None, **training):
    settings = {"lr": 1e-3, "batch": 8, "micro_batch": 8, "schedule": "constant", "warmup": 0.0} | training
    return Fit(
        PolicyScoring(policy, objective or Dpo(beta=0.5)),
        rows,
        anchors if anchors is not None else anchors_of(policy, rows),
        Training(**settings),
        Accelerator(cpu=True),
        permutation=lambda epoch: np.random.default_rng(epoch).permutation(len(rows)),
    )


def trained(policy, rows, steps=4, **training):
    fit = fit_of(policy, rows, **training)
    start = {n: p.detach().clone() for n, p in policy.parameters()}
    figures = [fit.step() for _ in range(steps)]
    after = {n: p.detach().clone() for n, p in policy.parameters()}
    with torch.no_grad():
        for n, p in policy.parameters():
            p.copy_(start[n])
    return after, figures


def test_a_token_budget_cuts_a_step_without_changing_it(policy, pairs):
    """All comparisons at once, and as few as one at a time: equal to float64's rounding. Packed and padded rows differ
    by what transformers leaves of it, which normalises in float32: 1e-6 of weights that move by 4e-4."""
    policy.model.double()
    comparisons = [(p.ids, g) for p, g in zip(pairs.prompts, pairs.responses, strict=True)]
    found, counts = {}, set()
    for reach, budgets in ((policy.scorer.max_packed_length, (4096, 100, 1)), (0, (4096, 150))):
        for budget in budgets:
            policy.scorer.max_packed_length, policy.token_budget = reach, budget
            counts.add(len(microbatches(policy, comparisons)))
            found[reach, budget] = trained(policy, pairs, micro_batch=None, lr=1e-4)[0]
    assert min(counts) == 1 < max(counts) == len(pairs) and len(counts) >= 3
    for reach, budget in found:
        for other, bound in (((reach, 4096), 1e-9), ((0, 4096), 1e-6)):
            one, two = found[reach, budget], found[other]
            assert max(float((one[n] - two[n]).abs().max()) for n in one) < bound


def test_out_of_memory_halves_the_budget_and_goes_on(policy, pairs, monkeypatch, caplog):
    """A device that holds 60 tokens at a time, told of in a CPU's words: the same step, in smaller microbatches."""
    policy.model.double()
    whole, _ = trained(policy, pairs, steps=2, micro_batch=None)
    sizes, score_batch = [], type(policy.scorer).forward

    def forward(scorer, batch, tokens=False):
        if batch.tokens > 60:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate much")
        sizes.append(batch.tokens)
        return score_batch(scorer, batch, tokens)

    fit = fit_of(policy, pairs, micro_batch=None)
    monkeypatch.setattr(type(policy.scorer), "forward", forward)
    start = {n: p.detach().clone() for n, p in policy.parameters()}
    for _ in range(2):
        fit.step()
    assert max(float((whole[n] - p.detach()).abs().max()) for n, p in policy.parameters()) < 1e-9
    assert "out of memory: retrying with" in caplog.text
    assert max(sizes) > policy.token_budget / 2  # no smaller than needed
    monkeypatch.setattr(
        type(policy.scorer), "forward", lambda *_: exec("raise RuntimeError('out of memory')")
    )
    with pytest.raises(TrainingError, match="out of memory with one comparison at a time"):
        fit.step()
    with torch.no_grad():
        for n, p in policy.parameters():
            p.copy_(start[n])


def test_one_times_eight_is_eight_times_one(policy, pairs):
    """Same steps with 8, 3 (uneven), and 1 comparisons at a time: equal to float64's rounding."""
    policy.model.double()
    whole, figures = trained(policy, pairs, micro_batch=8, lr=1e-4)
    for micro in (3, 1):
        again, others = trained(policy, pairs, micro_batch=micro, lr=1e-4)
        assert max(float((whole[n] - again[n]).abs().max()) for n in whole) < 1e-9
        for a, b in zip(figures, others, strict=True):
            assert a == pytest.approx(b, rel=1e-7, abs=1e-9)
    assert max(float((whole[n] - p).detach().abs().max()) for n, p in policy.parameters()) > 1e-4


@pytest.mark.parametrize("objective", [Dpo(beta=0.3), Ipo(tau=0.2)])
def test_a_steps_loss_is_the_weighted_mean_by_hand(policy, pairs, objective):
    figures = fit_of(policy, pairs, objective=objective, micro_batch=3).step()
    # at the anchors every margin is 0, whatever the label
    expected = math.log(2) if isinstance(objective, type(Dpo())) else 0.25 / objective.tau**2
    assert figures["loss"] == pytest.approx(expected, rel=1e-5)
    assert figures["chosen_log_ratio"] == pytest.approx(0, abs=1e-4)
    assert figures["saturated"] == 0  # not even the tie, which never pulled in the first place


def test_saturated_is_the_weight_of_pairs_that_have_stopped_pulling(policy, pairs):
    anchors = anchors_of(policy, pairs)
    anchors["reference"] = anchors["reference"].clone()
    anchors["reference"][0] += torch.tensor([-200.0, 200.0])  # its margin is far beyond what a label asks for
    figures = fit_of(policy, pairs, anchors=anchors, objective=Dpo(beta=0.3)).step()
    assert pairs.prob[0] == 1
    assert figures["saturated"] == pytest.approx(pairs.weight[0] / pairs.weight.sum())


def test_the_gradient_is_that_of_the_weighted_mean_with_soft_labels(policy, pairs):
    """The accumulated gradient against the loss written out here."""
    policy.model.double()
    anchors = anchors_of(policy, pairs)
    anchors["reference"] = anchors["reference"] + torch.linspace(-1, 1, 16, dtype=torch.float64).view(8, 2)
    beta = 0.5
    fit = fit_of(policy, pairs, anchors=anchors, micro_batch=3, clip=1e9)
    seen = {}
    fit.optimizer.step = lambda: seen.update({n: p.grad.clone() for n, p in policy.parameters()})
    fit.step()

    logp = fit.scores(np.arange(8)).logp
    m = beta * ((logp - anchors["reference"])[:, 0] - (logp - anchors["reference"])[:, 1])
    p, w = torch.from_numpy(pairs.prob), torch.from_numpy(pairs.weight)
    loss = -(w * (p * torch.sigmoid(m).log() + (1 - p) * torch.sigmoid(-m).log())).sum() / w.sum()
    by_hand = torch.autograd.grad(loss, [q for _, q in policy.parameters()])
    for (name, _), g in zip(policy.parameters(), by_hand, strict=True):
        assert torch.allclose(seen[name], g, rtol=1e-6, atol=1e-9), name


def test_wpo_descends_on_the_pairs_weighed_by_what_the_policy_would_write(policy, pairs):
    """The accumulated gradient against weights from the whole laws of the tokens, taken as numbers."""
    policy.model.double()
    shift = torch.linspace(-1, 1, 16, dtype=torch.float64).view(8, 2)
    anchors = {"reference": anchors_of(policy, pairs)["reference"] + shift}
    fit = fit_of(policy, pairs, Wpo(base=Dpo(beta=0.5)), anchors, micro_batch=3, clip=1e9)
    seen = {}
    fit.optimizer.step = lambda: seen.update({n: p.grad.clone() for n, p in policy.parameters()})
    figures = fit.step()
    logp, weight = torch.empty(8, 2, dtype=torch.float64), torch.empty(8, 2, dtype=torch.float64)
    for b, (prompt, group) in enumerate(zip(pairs.prompts, pairs.responses, strict=True)):
        for k, response in enumerate(group):
            ids, n = torch.tensor([*prompt.ids, *response.ids]), len(response.ids)
            law = policy.model(input_ids=ids[None]).logits[0, -n - 1 : -1].softmax(dim=1)
            own = law[torch.arange(n), ids[-n:]].log()
            logp[b, k] = own.sum()
            weight[b, k] = (own - law.square().sum(dim=1).log()).mean().exp().detach()
    m = 0.5 * (logp - anchors["reference"]) @ torch.tensor([1.0, -1.0], dtype=torch.float64)
    p, w = torch.from_numpy(pairs.prob), torch.from_numpy(pairs.weight)
    both = weight.prod(dim=1)
    loss = -(w * both * (p * torch.sigmoid(m).log() + (1 - p) * torch.sigmoid(-m).log())).sum() / w.sum()
    assert figures["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert figures["weight"] == pytest.approx(float((w * both).sum() / w.sum()), rel=1e-6)
    by_hand = torch.autograd.grad(loss, [q for _, q in policy.parameters()])
    for (name, _), g in zip(policy.parameters(), by_hand, strict=True):
        assert torch.allclose(seen[name], g, rtol=1e-5, atol=1e-9), name


def test_saturation_counts_pairs_that_pull_a_hundredth(policy, pairs):
    anchors = anchors_of(policy, pairs)
    anchors["reference"][:, 1] += torch.tensor([100.0] * 4 + [0.0] * 4, dtype=torch.float64)
    certain = Rows(**(vars(pairs) | {"prob": np.ones(8), "weight": np.ones(8)}))
    assert fit_of(policy, certain, anchors=anchors).step()["saturated"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "constant", "warmup": 0.0}, [1, 1, 1, 1, 1, 1, 1, 1]),
        ({"schedule": "linear", "warmup": 0.0}, [1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ({"schedule": "linear", "warmup": 0.25}, [0.5, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        (
            {"schedule": "cosine", "warmup": 0.5},
            [0.25, 0.5, 0.75, 1, 1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5],
        ),
        ({"schedule": "constant", "warmup": 0.01}, [1] * 8),
    ],
)
def test_learning_rate_by_hand(settings, expected):
    training = Training(lr=2.0, **settings)
    assert [training.rate(i, 8) / 2 for i in range(8)] == pytest.approx(expected)


def test_the_rate_is_applied(policy, pairs):
    fit = fit_of(policy, pairs, schedule="linear", epochs=2, batch=4)
    rates = [fit.step()["lr"] for _ in range(fit.steps)]
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])
    assert fit.optimizer.param_groups[0]["lr"] == rates[-1]


def test_nan_loss_stops_before_the_weights_are_touched(policy, pairs):
    anchors = anchors_of(policy, pairs)
    anchors["reference"][5, 0] = float("nan")
    before = [p.detach().clone() for _, p in policy.parameters()]
    with pytest.raises(TrainingError, match=r"the loss became nan at step 1 of 1; lower train\.lr"):
        fit_of(policy, pairs, anchors=anchors).step()
    assert all(torch.equal(a, p) for a, (_, p) in zip(before, policy.parameters(), strict=True))


def test_infinite_gradient_stops_before_the_weights_are_touched(policy, pairs):
    before = [p.detach().clone() for _, p in policy.parameters()]
    hook = next(p for _, p in policy.parameters()).register_hook(lambda g: g * float("inf"))
    with pytest.raises(TrainingError, match="the gradient became"):
        fit_of(policy, pairs).step()
    hook.remove()
    assert all(torch.equal(a, p) for a, (_, p) in zip(before, policy.parameters(), strict=True))


def test_wrong_number_of_responses(policy, pairs):
    with pytest.raises(TrainingError, match="Spac reads 3 responses per prompt, the comparisons have 2"):
        fit_of(policy, pairs, objective=Spac())


def test_clipping(policy, pairs):
    """AdamW does not see the gradient's size, so the norm is read where it is clipped."""
    fit = fit_of(
        policy,
        pairs,
        objective=Inpo(),
        anchors=anchors_of(policy, pairs, ("reference", "previous")),
        clip=0.5,
    )
    norms = []
    fit.optimizer.step = lambda: norms.append(
        math.sqrt(sum(float(p.grad.square().sum()) for _, p in policy.parameters()))
    )
    assert fit.step()["grad_norm"] > 0.5
    assert norms == pytest.approx([0.5], rel=1e-4)


def test_zero_weight_rows_do_not_count(policy, pairs):
    weight = pairs.weight * [1, 1, 1, 1, 0, 0, 0, 0]
    muted = Rows(**(vars(pairs) | {"weight": weight}))
    anchors = anchors_of(policy, pairs)
    anchors["reference"][:, 0] += torch.arange(8.0, dtype=torch.float64)
    a = fit_of(policy, muted, anchors=anchors, lr=0.0).step()
    b = fit_of(
        policy, muted.take(np.arange(4)), anchors={"reference": anchors["reference"][:4]}, lr=0.0
    ).step()
    assert a == pytest.approx(b, rel=1e-6, abs=1e-6)
    with pytest.raises(ValueError, match="sum to zero"):
        reduce.mean(torch.zeros(2), torch.zeros(2))


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    """The same steps by one process and by two (gloo, CPU): equal to float64's rounding.

    With the mean over pairs, with figures of a whole step, with fewer comparisons than processes, and where the second
    process is short of memory, then hopelessly so: the steps of one process, then one error.
    """
    cases = ("dpo", "kto", "aot", "dpo-few", "kto-few", "dpo-short")
    by_one_and_by_two(HERE / "two_processes.py", tmp_path, *cases)
    alone, together = (torch.load(tmp_path / count, weights_only=True) for count in ("1", "2"))
    for case in cases:
        one, two = alone[case], together[case]
        assert one["figures"] == pytest.approx(two["figures"], rel=1e-7, abs=1e-9), case
        worst = max(float((one["weights"][n] - two["weights"][n]).abs().max()) for n in one["weights"])
        moved = max(float((one["weights"][n] - one["start"][n]).abs().max()) for n in one["weights"])
        assert worst < 1e-9 < 1e-4 < moved, case
    one, two = alone["dpo-short"], together["dpo-short"]
    assert one["budgets"] == [256] and two["budgets"][0] == two["budgets"][1] < 256
    assert "one comparison at a time" in two["error"] and not one["error"]


@pytest.mark.slow
def test_two_processes_play_a_round_as_one_does(tmp_path):
    """Two gradients (egpo), two fits (onpo), a fit and a combination (apo), weights from a classifier of prompts
    (bco_udm), a network trained beside the policy (sparse_po): the same comparisons, the same policies."""
    methods = ("egpo", "onpo", "apo", "bco_udm", "sparse_po")
    by_one_and_by_two(HERE / "two_processes_rounds.py", tmp_path, *methods)
    for method in methods:
        one, two = (tmp_path / count / method for count in ("1", "2"))
        left = [{str(f.relative_to(run)) for f in run.rglob("*") if f.is_file()} for run in (one, two)]
        anchors = [{name for name in names if name.startswith("anchors/")} for names in left]
        assert left[0] - anchors[0] == left[1] - anchors[1]
        assert len(anchors[0]) == len(anchors[1])  # named by the weights, down to their last bit
        stages = [name for name in left[0] if name.endswith(".parquet")]
        assert stages and all(
            load_rows(one / name).responses.tolist() == load_rows(two / name).responses.tolist()
            for name in stages
        )
        folders = {Path(name).parent for name in left[0] if name.endswith("model.safetensors")}
        assert len(folders) == {"onpo": 3, "apo": 3}.get(method, 2), "initial, and what is kept"
        initial = load_file(one / "checkpoints" / "initial" / "model.safetensors")
        for folder in folders - {Path("checkpoints/initial")}:
            a, b = (load_file(run / folder / "model.safetensors") for run in (one, two))
            assert max(float((a[n] - b[n]).abs().max()) for n in a) < 1e-9, folder
            assert max(float((a[n] - initial[n]).abs().max()) for n in a) > 1e-4, folder
            assert (one / folder / NETWORK).exists() == (method == "sparse_po")
            if (one / folder / NETWORK).exists():
                a, b = (load_file(run / folder / NETWORK) for run in (one, two))
                assert max(float((a[n] - b[n]).abs().max()) for n in a) < 1e-6, folder
        figures = [list(Journal(run).lines("metrics.jsonl")) for run in (one, two)]
        assert len(figures[0]) == len(figures[1]) > 2
        for here, there in zip(*figures, strict=True):
            assert here.pop("fit", "") == there.pop("fit", "")
            if max(abs(here[f"{side}_log_ratio"]) for side in ("chosen", "rejected")) < 1e-12:
                # the first step: the signs of its margins are those of rounding
                here.pop("accuracy", None), there.pop("accuracy", None)
            assert here == pytest.approx(there, rel=1e-6, abs=1e-9)
