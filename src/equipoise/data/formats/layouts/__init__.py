"""Layouts of preference data, by what a row holds; each turns a row into the fields of a record."""
