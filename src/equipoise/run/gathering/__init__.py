"""Parts of a run's materials: records of its data, its oracle, prompts with goals, and its size."""
