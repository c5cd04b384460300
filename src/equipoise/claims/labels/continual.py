"""IBCL (2305.14782): models for any preference over tasks from the posteriors of a sequence, without training."""

from __future__ import annotations

import numpy as np

from equipoise.claims.claim import Claim, Evidence, Panel, Scale, verdict
from equipoise.claims.labels.ldr import split
from equipoise.claims.labels.runs import curve, figure, gain, over_seeds, table, told
from equipoise.claims.small_models import line
from equipoise.worlds.labels.continual import Ibcl
from equipoise.worlds.labels.outcome import Outcome

IBCL = "IBCL"


def preferences(scale: Scale) -> Evidence:
    return judge(over_seeds({IBCL: Ibcl()}, split, {"quick": 2, "full": 5}[scale]))


def judge(found: dict[str, list[Outcome]]) -> Evidence:
    """The verdict on the outcomes of IBCL."""
    own = found[IBCL]
    first, second = curve(own, "first_task"), curve(own, "second_task")
    trades = gain(first[:, -1], first[:, 0]), gain(second[:, 0], second[:, -1])
    over = gain(figure(own, "weighted"), figure(own, "sequential"))
    kept = figure(own, "posteriors")
    shares = np.linspace(0, 1, first.shape[1]).tolist()
    return Evidence(
        verdict=verdict(trades[0][1] > 0 and trades[1][1] > 0, (over[1] > 0, bool((kept <= 15).all()))),
        summary=f"As the weight moves to the first task its accuracy rises by {told(trades[0])} and the second's falls "
        f"by {told(trades[1])}; accuracy weighted by 200 preferences, over the last posterior of the sequence: "
        f"{told(over)}; {kept.mean():.1f} of 15 posteriors are kept.",
        tables=(
            table(
                f"five tasks of two digits, {len(own)} seeds",
                found,
                {
                    "weighted": "weighted accuracy",
                    "sampled": "of sampled models",
                    "sequential": "of the last posterior",
                    "posteriors": "posteriors kept",
                },
                IBCL,
            ),
        ),
        panels=(
            Panel(
                "a preference between two tasks",
                "weight of the first task",
                "accuracy",
                (line("first task", shares, first), line("second task", shares, second)),
                log_x=False,
                log_y=False,
            ),
        ),
    )


PREFERENCES = Claim(
    name="ibcl_preferences",
    sentence="From the posteriors of tasks learnt in sequence, models for any preference over the tasks follow without "
    "training, and trade the tasks' accuracies better than a model learnt in sequence.",
    paper="2305.14782",
    rule="Digits in five tasks of two classes, Bayesian logistic regression on pixels and random features, three "
    "priors; 95 % intervals of paired differences over seeds. Heart: as the preference moves from the second task to "
    "the first, the accuracy of the zero-shot model's mean on the first rises and on the second falls. Also: averaged "
    "over 200 preferences, weighted accuracy is above that of the last task's posterior; at most 15 posteriors are "
    "kept.",
    program=preferences,
    set="the step size of the variational fits was settled on another seed, where the second condition had failed.",
)
