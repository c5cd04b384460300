"""Data check before any compute is spent: what `equipoise data check` reads, counts and shows.

check       the files, read and rendered exactly as a run would: a Report
statistics  figures in one pass: lengths, length bias, labels, conversations
views       single rows: which of their tokens are read, which are scored
text        the report on a terminal; page: as one HTML file
"""
