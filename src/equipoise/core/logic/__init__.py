"""What a preference loss says: formulas about valid responses, their counts, and the order among losses."""
