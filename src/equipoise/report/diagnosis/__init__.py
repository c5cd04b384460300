"""Diagnosis of preference data under a model: findings, tables, page and terminal."""
