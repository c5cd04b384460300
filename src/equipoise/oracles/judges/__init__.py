"""LLM judges: a model behind a server, or the policy of the round itself."""
