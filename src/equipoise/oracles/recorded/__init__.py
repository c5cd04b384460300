"""Recorded judgements as oracles: preference matrices, votes, and files of verdicts."""
