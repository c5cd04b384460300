"""Rule oracles: Python functions of a user, and the hash of everything that they read."""
