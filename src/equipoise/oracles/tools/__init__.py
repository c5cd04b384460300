"""Tool calls as an oracle: calls read from hostile text, and compared with those that are right."""
