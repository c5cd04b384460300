"""A small world of code: one-line functions, their tests, and a tiny model that writes both with mistakes."""
