"""Repeated games and adversarial decision processes: learners, adversaries, and their regret."""
