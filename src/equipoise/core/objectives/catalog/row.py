"""Catalogue rows: an objective, its data and its claimed properties."""

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
Data = Literal["pairs", "unpaired", "lists", "rewards"]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A setting under which the objective is another of the catalogue; the contract suite evaluates both.

        loss here = factor * loss there (+ a constant, if `up_to_constant`),    the same for the gradient

    parameters      parameters of this objective; if the limit is illegal, a value close to it, with a `tolerance`.
    is_             the other objective's name in the catalogue.
    other           its parameters; one that is not given takes the value of the parameter of that name here.
    anchors         the other's anchor -> the corresponding anchor here; by default of the same name.
    words           wording of `parameters` in the guide, such as "tau = eta" or "beta -> 0".
    times           wording of `factor` if it depends on a parameter, such as "beta/2".
    where           the premise on the scores, in words, and
    given           the transformation that enforces it.
    tolerance       relative to the largest entry compared.
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
    """Catalogue row: an objective and its claimed properties.

    build       constructs the objective; its keywords are the paper's parameters.
    variants    further legal settings, in addition to the defaults, under which every claim must hold.
    at_anchor   loss of a comparison if the policy equals all its anchors, for objectives with anchors; for unpaired
                responses (loss of an undesirable one, loss of a desirable one).
    at_equal    for objectives without: (objective, mean token log-prob a, tokens n) -> loss of a comparison of two
                responses of n tokens with log-prob a n each; for unpaired responses both classes as above.
    exempt      claim -> why it does not apply. The claims: "at_anchor"; "margin", the metric of that name changes sign
                when the pair is swapped; "first_order", the gradient at the anchors (without any: at equal
                scores) raises the chosen (or desirable) response and lowers the other; "divergences", the gradient in
                the divergences is that of the value; "repetition", a weight of 2 is the comparison twice.
    shift_invariant          whether adding c(x) to all scores of a prompt (policy or any anchor) changes nothing.
    length_invariant         whether responses k times as long, with the same mean token log-probs under every policy,
                             change nothing.
    reward_shift_invariant   whether adding c(x) to the rewards changes nothing; for objectives that read them.
    estimates   for surrogates: the function whose gradient the expected gradient is.
    own         for surrogates: index of the first candidate sampled from the policy; earlier ones are data.

    For the guide (`equipoise methods`), sentences without a full stop:

    data        contents of a comparison: "pairs" with a label, "unpaired" responses labelled desirable or undesirable,
                ranked "lists", or sampled responses with "rewards".
    bounded     bounds, and on which side. Bounds of the loss ("loss >= 0", "not bounded below") are checked by the
                contract suite at random and at extreme scores; a "best margin", which minimises the loss, is derived
                in the objective's docstring and tested by the tests in `evidence`.
    divergence  how it measures the distance to its anchors, for objectives with anchors.
    limits      settings under which it equals another objective of the catalogue.
    deviations  differences of libraries from the formula here.
    evidence    tests ("tests/core/test_logistic.py", or one of them after "::"), and claims by name.
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
    divergence: str = "reverse KL"
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
