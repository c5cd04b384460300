"""Online exploration: whether a method finds good responses that its reference rarely writes.

`rare_arm` holds the bandit and the loop of online learning on growing data; VPO's claim under `coverage` plays it too.
"""
