"""The error of a run that cannot go on."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to try."""
