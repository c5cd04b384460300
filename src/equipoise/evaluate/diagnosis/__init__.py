"""Diagnosis of preference data under a model, and of what training did to them.

hidden_similarity      CHES: which pairs are likely to lose the probability of their preferred response
ideal_ranking          the ranking accuracy that exact training would reach, and pairs that training will not turn
gradient_entanglement  inner products of the gradients of both log-probs: which way one step moves each
displacement           how far both log-probs moved, and which tokens took the mass
coverage               density ratios on samples: coverage, effective sample size, estimates of the KL divergence
findings               rules that turn the figures into sentences, each with the fewest rows that it needs
"""
