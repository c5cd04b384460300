"""Losses read as logic: preference structures, weighted model counting, and which losses are stronger than which."""
