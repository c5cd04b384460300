"""Scores that a language model trains on: stored ones, a live reference, values, token weights."""
