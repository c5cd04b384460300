"""Rendering of records as token ids: templates probed and bounded, and what is scored proved row by row."""
