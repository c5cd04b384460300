"""Rewards, explicit or implicit: how labels, samples and estimators determine what a policy is optimised for.

The programs share no games; most train the log-linear policies and fitted rewards of `claims.small_models`.
"""
