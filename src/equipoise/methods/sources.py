"""Where defaults come from, in the words that methods share."""

OURS = "ours"
NOT_RECOVERED = "ours; the paper's was not recovered"
CODE = "authors' code"
PAPER = "paper's text"
SECOND_HAND = "paper, at second hand"


def of(source: str, names: str) -> dict[str, str]:
    """One source for several names, which stand in one string."""
    return dict.fromkeys(names.split(), source)


# short rounds of a few gradient steps
SHORT_ROUNDS = {"rate": "ours; exact games only", **of(OURS, "rounds batch schedule warmup")}
