"""One row of the catalogue: an objective, what it reads, and what is claimed of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import exp, log1p
from typing import Any, Literal

from torch import Tensor

from equipoise.core.objectives.base import Objective
from equipoise.core.objectives.estimates import Arms
from equipoise.core.scores import Scores

Confidence = Literal["verified in code", "paper's text", "recalled", "derived"]
Claim = Literal["at_anchor", "margin", "first_order", "divergences", "repetition"]
Data = Literal["pairs", "unary", "lists", "rewards"]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A setting under which the objective is another of the catalogue; the contract suite evaluates both.

        loss here = factor * loss there (+ a constant, if `up_to_constant`),    the same for the gradient

    parameters      what to set here. Where the limit itself is no legal value, one close to it, with a `tolerance`.
    is_             the other objective's name in the catalogue.
    other           its parameters; one that is not given, and has the name of a parameter here, takes its value.
    anchors         the other's anchor -> the anchor here that stands for it; of the same name unless said.
    words           how the guide says `parameters`, such as "tau = eta" or "beta -> 0".
    times           how it says `factor` where that depends on a parameter, such as "beta/2".
    where           what must hold of the scores, in words, and
    given           how any scores are made to satisfy it.
    tolerance       relative to the largest entry of what is compared.
    """

    parameters: Mapping[str, object]
    is_: str
    other: Mapping[str, object] = field(default_factory=dict)
    anchors: Mapping[str, str] = field(default_factory=dict)
    factor: float = 1.0
    up_to_constant: bool = False
    words: str = ""
    times: str = ""
    where: str = ""
    given: Callable[[Scores], Scores] = lambda scores: scores
    tolerance: float = 1e-12

    def __str__(self) -> str:
        set_to = self.words or ", ".join(
            f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
            for name, value in self.parameters.items()
        )
        condition = " and ".join(part for part in (set_to, self.where) if part)
        times = self.times or (f"{self.factor:g}" if self.factor != 1 else "")
        constant = " up to a constant" if self.up_to_constant else ""
        return f"with {condition} it is {times + ' times ' if times else ''}{self.is_}{constant}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One objective and what is claimed of it.

    build       makes the objective; its keywords are the paper's parameters.
    variants    further legal settings, beside the defaults, under which every claim must hold too.
    at_anchor   loss of one comparison where the policy equals all its anchors, for objectives that have anchors; of a
                labelled response two, that of an undesirable and that of a desirable one.
    at_equal    for those that have none: (objective, mean token log-prob a, tokens n) -> loss of one comparison of two
                responses of n tokens with the log-prob a n each; or of labelled responses, both kinds as above.
    exempt      claim -> why it is not made. The claims: "at_anchor"; "margin", the metric of that name changes sign
                when the pair is swapped; "first_order", the gradient at the anchors (without any: at equal
                scores) raises the chosen (or desirable) response and lowers the other; "divergences", the gradient in
                the divergences is that of the value; "repetition", a weight of 2 is the comparison twice.
    shift_invariant          whether adding c(x) to all scores of a prompt (policy or any anchor) changes nothing.
    length_invariant         whether responses k times as long, with the same mean token log-probs under every policy,
                             change nothing.
    reward_shift_invariant   whether adding c(x) to the rewards changes nothing; for objectives that read them.
    estimates   for surrogates: the function whose gradient the expected gradient is.
    own         for surrogates: the first candidate that is a sample of the policy itself; those before are data.

    For the guide (`equipoise methods`), sentences without a full stop:

    data        what one comparison holds: "pairs" with a label, "unary" responses with a thumb up or down, ranked
                "lists", or responses with "rewards" that somebody gives when they have been written.
    bounded     what is bounded, and on which side. What it says of the loss ("loss >= 0", "not bounded below") is
                checked by the contract suite at drawn and at extreme scores; a "best margin", where the loss is
                least, is derived in the objective's docstring and tested by the tests in `evidence`.
    limits      settings under which it is another objective of the catalogue.
    deviations  where libraries differ from the formula here.
    evidence    what proves it: tests ("tests/core/test_logistic.py", or one of them after "::"), and claims by name.
    """

    build: Callable[..., Objective]
    title: str
    paper: str
    confidence: Confidence
    variants: tuple[Mapping[str, object], ...] = ()
    at_anchor: Callable[[Any], float | tuple[float, float]] | None = None
    at_equal: Callable[[Any, float, int], float | tuple[float, float]] | None = None
    exempt: Mapping[Claim, str] = field(default_factory=dict)
    shift_invariant: Callable[[Any], bool] = lambda _: True
    length_invariant: Callable[[Any], bool] = lambda _: False
    reward_shift_invariant: bool | None = None
    estimates: Callable[[Any, Arms], Tensor] | None = None
    own: int = 0
    data: Data = "pairs"
    bounded: str = ""
    limits: tuple[Limit, ...] = ()
    deviations: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()


LOG2 = 0.6931471805599453

NO_LABEL: Mapping[Claim, str] = {
    "at_anchor": "the value there depends on the rewards",
    "margin": "reads rewards: no pair has a label",
    "first_order": "reads rewards: no response is the preferred one",
}


def never(_: Objective) -> bool:
    return False


def always(_: Objective) -> bool:
    return True


def softplus(x: float) -> float:
    return log1p(exp(-abs(x))) + max(x, 0.0)
