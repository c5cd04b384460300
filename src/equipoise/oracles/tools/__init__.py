"""Tool calls as an oracle: calls read from hostile text, signatures, and their comparison with the calls that are right."""
