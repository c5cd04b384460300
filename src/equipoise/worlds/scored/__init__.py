"""A world whose responses are stored examples (segments, images) that a small module scores; nothing is a token."""
