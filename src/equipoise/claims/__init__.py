"""What the papers say that can be tested, each sentence with a program that tests it on an exact game."""
