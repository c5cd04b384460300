"""Rewards learned in a run: from frozen features of the policy and its own answers."""
