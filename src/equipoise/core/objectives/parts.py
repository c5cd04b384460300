"""Building blocks of pair losses: the margin against a reference, and the likelihood of the chosen response.

Most are `phi(margin)`, some plus a multiple of a likelihood loss. They differ in phi, in the quantity of the margin
(sums, token means, odds, the derivative of a divergence) and in that multiple.
"""

from __future__ import annotations

from equipoise.core.dims import PerComparison
from equipoise.core.scores import Scores


def margin(scores: Scores, beta: float) -> PerComparison:
    """Implicit-reward margin m = beta [ log-ratio(y0) - log-ratio(y1) ] to the anchor "reference"."""
    return beta * (scores.gap() - scores.gap("reference"))


def likelihood_loss(scores: Scores) -> PerComparison:
    """Negative log-likelihood -log pi(y0), summed over the tokens of the chosen response."""
    return -scores.logp[:, 0]


def mean_likelihood_loss(scores: Scores) -> PerComparison:
    """Cross-entropy of the chosen response -log pi(y0) / |y0|, a mean over its tokens.

    The mean is taken per response. Libraries that divide by the tokens of a whole batch weigh long responses more;
    the two agree for equal lengths.
    """
    return -scores.per_token().logp[:, 0]
