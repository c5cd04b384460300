"""Hybrid preferences: which comparisons people label, and which an AI judge."""
