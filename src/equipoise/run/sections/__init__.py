"""Sections of a run's settings, one file for each."""
