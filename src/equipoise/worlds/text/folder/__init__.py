"""The run folder: stages and logs, what was written, and the gates that a run passes."""
