"""Screen of a run: live on a terminal, plain lines elsewhere; both are callbacks of its progress."""
