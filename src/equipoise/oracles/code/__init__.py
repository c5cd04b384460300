"""Code tests as an oracle: programming problems, and the sandbox in which responses run."""
