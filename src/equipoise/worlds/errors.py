"""Error types of training runs."""


class TrainingError(RuntimeError):
    """Training cannot continue; the message says where it stopped and what to try."""
