"""Errors of labelling, each one sentence that says what to do."""

from __future__ import annotations


class LabelError(ValueError):
    """Nothing can be labelled, or a votes file cannot be used; the message names the file, and what to do."""
