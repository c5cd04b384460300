"""Oracles of single questions: asked concurrently, with retries and quotas, their verdicts stored."""
