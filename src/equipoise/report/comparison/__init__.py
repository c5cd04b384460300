"""Comparison of runs: what they share, their figures and paired differences, as text and as a page."""
