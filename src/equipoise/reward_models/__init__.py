"""Reward and preference models: a language model's body with a head that scores responses, loaded and trained."""
