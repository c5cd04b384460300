"""Claims about losses of labels and representations, on scikit-learn's small data sets or on exact distributions."""
