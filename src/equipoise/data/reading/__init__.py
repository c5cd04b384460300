"""Reading of data files into records: rows, formats decided, duplicates left out, every row accounted for."""
