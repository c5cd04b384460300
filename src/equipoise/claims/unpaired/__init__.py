"""Unpaired feedback: single responses with a thumb up or down, or dispreferred ones alone.

The programs share no games; they train the log-linear policies of `claims.small_models`.
"""
