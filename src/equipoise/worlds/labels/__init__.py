"""A world of labelled examples: classifiers and representations trained by the losses of `core`, without any text."""
