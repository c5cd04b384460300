"""Offline learning from data that cover some responses well and others hardly or not at all.

`coverage_games` holds the finite games with single-policy coverage of SPAC, RPO and VPO, `srpo_games` those of SRPO.
"""
