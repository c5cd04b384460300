"""Python's functions behind the commands: compare, evaluate, sample, read; the command line calls the same ones.

`equipoise.align` and `equipoise.load_run` are in `run`, which these stand on.
"""
