"""The report of an oracle check: what `equipoise oracle check` prints, and its page.

run       files read, oracles asked and measured: a Report
findings  what the figures say, in words; tables: the figures; figures: pictures of them
text      the report on a terminal; page: as one HTML file
"""
