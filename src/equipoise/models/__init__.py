"""Model folders, checked before anything loads them: configuration, weight files, adapters, tokenizer size."""
