"""Unpaired feedback: single responses labelled desirable or undesirable, or dispreferred ones alone.

The programs share no games; they train the log-linear policies of `claims.small_models`.
"""
