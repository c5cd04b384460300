"""Repeated games that a language model plays through a prompt: its text, who answers it, opponents, regret."""
