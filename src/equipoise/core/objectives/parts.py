"""What pair losses are made of: the margin against a reference, and the likelihood of the chosen response.

Most of them are `phi(margin)`, some with a multiple of a likelihood loss beside it. They differ in phi, in what the
margin is taken of (sums, token means, odds, a derivative of a divergence) and in that multiple.
"""

from __future__ import annotations

from equipoise.core.dims import PerComparison
from equipoise.core.scores import Scores


def margin(scores: Scores, beta: float) -> PerComparison:
    """m = beta [ log-ratio(y0) - log-ratio(y1) ] to the anchor "reference", of the scores as they are given."""
    return beta * (scores.gap() - scores.gap("reference"))


def likelihood_loss(scores: Scores) -> PerComparison:
    """-log pi(y0), summed over the tokens of the chosen response."""
    return -scores.logp[:, 0]


def mean_likelihood_loss(scores: Scores) -> PerComparison:
    """-log pi(y0) / |y0|: the cross-entropy of the chosen response, a mean over its tokens.

    The mean is taken response by response. Libraries that divide by the tokens of a whole batch weigh long
    responses more; the two agree where lengths do.
    """
    return -scores.per_token().logp[:, 0]
