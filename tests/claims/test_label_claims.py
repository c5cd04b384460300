"""The rules of the claims about losses of labels on evidence made to break them; each program once, on two seeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from equipoise.claims.index import CLAIMS
from equipoise.claims.labels import comp_sum, continual, contrastive, dual_head, duality, ldr, p2c
from equipoise.worlds.labels.outcome import Outcome

SPREAD = np.linspace(-0.001, 0.001, 5)


def outcomes(**means: float) -> list[Outcome]:
    """Five outcomes near these figures; no two differ by the same amount."""
    return [
        Outcome(figures={name: mean + float(e) * (1 + k) for k, (name, mean) in enumerate(means.items())})
        for e in SPREAD
    ]


def test_rule_of_label_noise():
    def found(noisy: Mapping[str, float], clean: float = 0.95, spread: float = 0.0) -> str:
        def arm(accuracy: float) -> list[Outcome]:
            return outcomes(accuracy=accuracy, ece=0.1)

        on_clean = dict.fromkeys(ldr.LOSSES, clean) | {ldr.CE: 0.95}
        tables = {
            name: {loss: arm(on_clean[loss] if name == "clean" else noisy[loss]) for loss in ldr.LOSSES}
            for name in ldr.NOISES
        }
        arms = tables["class 40 %"]
        shaken = [o.figures["accuracy"] + spread * (-1) ** k for k, o in enumerate(arms[ldr.LDR])]
        arms[ldr.LDR] = [Outcome(figures={"accuracy": accuracy, "ece": 0.1}) for accuracy in shaken]
        return ldr.judge(tables).verdict

    good = {ldr.CE: 0.7, ldr.LDR: 0.8, ldr.ALDR: 0.8, ldr.SHARP: 0.7}
    assert found(good) == "holds"
    assert found(good | {ldr.ALDR: 0.7}) == "fails"
    assert found(good, spread=0.2) == "fails"  # within the interval
    assert found(good, clean=0.92) == "mixed"


def test_rule_of_the_bounds():
    good = np.full((len(comp_sum.TAUS), len(comp_sum.LABELS)), 1e-3)
    bad = good.copy()
    bad[3, 1] = -1e-6
    assert comp_sum.judge_bounds(good, good, 10).verdict == "holds"
    assert comp_sum.judge_bounds(bad, good, 10).verdict == "fails"
    assert comp_sum.judge_bounds(good, bad, 10).verdict == "mixed"


def test_rule_of_smooth_adversarial_losses():
    def found(clean: float = 0.97, robust: float = 0.7, pgd: float = 0.95, plain: float = 0.1) -> str:
        return comp_sum.judge_adversarial(
            {
                comp_sum.PLAIN: outcomes(accuracy=0.98, robust=plain),
                comp_sum.PGD: outcomes(accuracy=pgd, robust=0.6),
                comp_sum.TRADES: outcomes(accuracy=0.96, robust=0.6),
                comp_sum.SMOOTH: outcomes(accuracy=clean, robust=robust),
            }
        ).verdict

    assert found() == "holds"
    assert found(clean=0.95) == found(robust=0.59) == "fails"
    assert found(pgd=0.99) == found(plain=0.8) == "mixed"


def test_rule_of_the_temperature():
    def found(
        probes: tuple[float, ...] = (0.92, 0.94, 0.95, 0.93, 0.88), hard: float = 0.94, flat: float = 0.1
    ) -> str:
        arms = {
            name: outcomes(probe=probe, uniformity=3 - flat * k, tolerance=0.4 + flat * k)
            for k, (name, probe) in enumerate(zip(contrastive.PLAIN, probes, strict=True))
        }
        return contrastive.judge_temperature(
            arms | {contrastive.HARD: outcomes(probe=hard, uniformity=3, tolerance=0.3)}
        ).verdict

    assert found() == "holds"
    assert found(flat=0.0) == found(flat=-0.1) == "fails"
    assert found(probes=(0.96, 0.94, 0.95, 0.93, 0.88)) == found(hard=0.92) == "mixed"


def test_rule_of_own_temperatures():
    rest = contrastive.resting()

    def found(own: float = 0.95, rest: list[float] = rest) -> str:
        arms = {
            arm: outcomes(probe=probe, uniformity=3, tolerance=0.4)
            for arm, probe in ((contrastive.OWN, own), (contrastive.TUNED, 0.94), (contrastive.USUAL, 0.93))
        }
        for outcome in arms[contrastive.OWN]:
            outcome.figures["with_frequency"] = 0.1  # type: ignore[index]
        return contrastive.judge_own(arms, rest).verdict

    assert found() == "holds"
    assert found(own=0.935) == found(own=0.92) == "fails"
    assert found(rest=rest[::-1]) == "mixed"


def test_rule_of_p2c():
    def found(accuracy: float = 0.75, ece: float = 0.05, preferred: float = 0.6) -> str:
        arms = {name: outcomes(accuracy=0.7, ece=0.1, preferred=0.5) for name in p2c.ARMS}
        return p2c.judge(arms | {p2c.P2C: outcomes(accuracy=accuracy, ece=ece, preferred=preferred)}).verdict

    assert found() == "holds"
    assert found(accuracy=0.7) == "fails"
    assert found(ece=0.12) == found(preferred=0.5) == "mixed"


def test_rule_of_continual_preferences():
    def found(last: float = 1.0, lost: float = 0.4, weighted: float = 0.9, kept: float = 9) -> str:
        own = [
            Outcome(
                figures={"weighted": weighted + e, "sequential": 0.85, "sampled": 0.8, "posteriors": kept},
                curves={"first_task": (0.8 + e, 0.9, last), "second_task": (0.9 - e, 0.8, lost)},
            )
            for e in SPREAD.tolist()
        ]
        return continual.judge({continual.IBCL: own}).verdict

    assert found() == "holds"
    assert found(last=0.8) == found(lost=0.95) == "fails"
    assert found(weighted=0.84) == found(kept=16) == "mixed"


def test_rule_of_two_heads():
    def found(one: float = 0.95, labels: float = 0.94, free: float = 0.95) -> str:
        arms = {name: outcomes(accuracy=0.94, ece=0.1, teacher=0.97) for name in dual_head.ARMS}
        arms |= {
            dual_head.ONE: outcomes(accuracy=one, ece=0.1, teacher=0.97),
            dual_head.LABELS: outcomes(accuracy=labels, ece=0.1, teacher=0.97),
            dual_head.FREE: outcomes(accuracy=free, ece=0.1, teacher=0.97),
            dual_head.DUAL: outcomes(accuracy=0.96, ece=0.1, teacher=0.97, conflict=0.3),
        }
        return dual_head.judge(arms).verdict

    assert found() == "holds"
    assert found(one=0.97) == "fails"
    assert found(labels=0.97) == found(free=0.97) == "mixed"


def test_rule_of_the_identity():
    assert duality.judge(1e-16, 1e-16, 1e-16).verdict == "holds"
    assert duality.judge(1e-9, 1e-16, 1e-16).verdict == "fails"
    assert duality.judge(1e-16, 1e-9, 1e-16).verdict == "mixed"


@pytest.mark.nightly
@pytest.mark.parametrize(
    "name",
    [
        "ldr_label_noise",
        "smooth_adversarial",
        "contrastive_temperature",
        "isogclr_long_tail",
        "p2c_classification",
        "ibcl_preferences",
        "dual_head_distillation",
    ],
)
def test_programs_run_on_two_seeds(name: str):
    pytest.importorskip("sklearn")
    found = CLAIMS[name].run("quick")
    assert found.verdict in ("holds", "mixed", "fails") and found.tables[0].rows
