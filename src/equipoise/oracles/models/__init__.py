"""Model-based oracles: reward models, preference models, density ratios and embeddings."""
