"""Generators of the pages that are made from the package: settings, gates, methods, published systems."""
