"""Likelihood displacement: what losses do to the log-probabilities of chosen, rejected and unseen responses.

`likelihoods` trains one log-linear policy per data set and follows these along training.
"""
