"""A local page where people compare responses."""
