"""Claims on control: preferences between segments of motion."""
