"""Testable sentences of the papers, each with a program that tests it on an exact game or a tiny model.

A folder per kind of claim; its `__init__` says what its programs share. `claim` holds the frame of all of them
(claim, evidence, verdict, fitted powers, intervals), `draws` its random numbers, `grades` what each verdict is
worth, `index` the table by name, and `small_models` the log-linear policies and fitted rewards that programs in
several folders train.
"""
