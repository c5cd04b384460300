"""Rewards of users whose preferences differ: one for each group of them (MaxMin-RLHF), and ideal points (PAL)."""
